//! The server's certificate authority: one for its own certificate and for those of its clients.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use crate::error::Error;

/// How long certificates hold, in days. A sandbox that is resumed after longer needs a new state folder.
const CERTIFICATE_DAYS: i64 = 365;

/// A certificate authority with its key.
pub(crate) struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    key_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority([redacted])")
    }
}

/// A certificate with its key, PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    /// Makes an authority, or reads the one of the state folder.
    pub(crate) fn load_or_new(state: Option<&Path>, now: jiff::Timestamp) -> Result<Self, Error> {
        let Some(folder) = state else { return Self::generate(now) };
        let (ca, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        if let (Ok(pem), Ok(key_pem)) = (std::fs::read_to_string(&ca), std::fs::read_to_string(&key)) {
            let der = der_of(&pem)?;
            return Ok(Self { pem, der, key_pem });
        }
        let made = Self::generate(now)?;
        crate::state::write_private(&ca, made.pem.as_bytes())?;
        crate::state::write_private(&key, made.key_pem.as_bytes())?;
        Ok(made)
    }

    fn generate(now: jiff::Timestamp) -> Result<Self, Error> {
        let fail = |source| Error::Certificate { name: "ca".into(), source };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(fail)?;
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params, now);
        let certificate = params.self_signed(&key).map_err(fail)?;
        Ok(Self { pem: certificate.pem(), der: certificate.der().clone(), key_pem: key.serialize_pem() })
    }

    /// Returns the authority's certificate, PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a client certificate for a user with groups.
    pub(crate) fn client(&self, user: &str, groups: &[&str], now: jiff::Timestamp) -> Result<Pair, Error> {
        self.issue(user, groups, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth, now)
    }

    fn issue(
        &self,
        name: &str,
        groups: &[&str],
        alt_names: Vec<String>,
        usage: ExtendedKeyUsagePurpose,
        now: jiff::Timestamp,
    ) -> Result<Pair, Error> {
        let fail = |source| Error::Certificate { name: name.into(), source };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::new(alt_names).map_err(fail)?;
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        validity(&mut params, now);
        let ca_key = KeyPair::from_pem(&self.key_pem).map_err(fail)?;
        let issuer = Issuer::from_ca_cert_der(&self.der, ca_key).map_err(fail)?;
        let certificate = params.signed_by(&key, &issuer).map_err(fail)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        })
    }

    /// Makes the TLS settings of a listener: own certificate, and client certificates where a client has one.
    pub(crate) fn tls(&self, alt_names: Vec<String>, now: jiff::Timestamp) -> Result<Arc<rustls::ServerConfig>, Error> {
        let pair = self.issue("kube-apiserver", &[], alt_names, ExtendedKeyUsagePurpose::ServerAuth, now)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).map_err(Error::Tls)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::Tls(rustls::Error::General(error.to_string())))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.key_der));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![pair.der, self.der.clone()], key)
            .map_err(Error::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn validity(params: &mut CertificateParams, now: jiff::Timestamp) {
    let now = OffsetDateTime::from_unix_timestamp(now.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(CERTIFICATE_DAYS);
}

fn der_of(pem: &str) -> Result<CertificateDer<'static>, Error> {
    use rustls_pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| Error::Certificate { name: "ca".into(), source: rcgen::Error::CouldNotParseCertificate })
}
