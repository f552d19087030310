//! Certificates of a manager and an agent, made here.

use std::sync::Arc;

use anyhow::Result;
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::tls::{self, CaBundle, Credentials, ServerCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// TLS settings of both sides.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The manager's.
    pub server: Arc<rustls::ServerConfig>,
    /// The agent's.
    pub client: Arc<rustls::ClientConfig>,
}

impl Pki {
    /// Makes a CA with `ca_key`, and a certificate for each side.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn new(fleet: &TrustDomain, ca_key: &KeyPair) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(ca_key)?;
        let issuer = Issuer::from_ca_cert_der(ca.der(), KeyPair::from_pem(&ca_key.serialize_pem())?)?;
        let sign = |id: String, usage| -> Result<Credentials> {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &issuer)?;
            Ok(Credentials::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?)
        };
        let bundle = CaBundle::from_pem(ca.pem().as_bytes())?;
        let uid = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse()?;
        let agent = sign(fleet.agent(&uid).to_string(), ExtendedKeyUsagePurpose::ClientAuth)?;
        let manager = sign(fleet.manager().to_string(), ExtendedKeyUsagePurpose::ServerAuth)?;
        let manager = ServerCertificate::new(&manager)?;
        Ok(Self {
            server: Arc::new(tls::tunnel_server(manager, &bundle, fleet)?),
            client: Arc::new(tls::tunnel_client(&agent, &bundle, fleet)?),
        })
    }
}
