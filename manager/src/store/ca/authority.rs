//! What signs at one moment, and whom its certificates are trusted by. Holds no clock and does no I/O.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::limits::CERTIFICATE_BACKDATE;
use lattice_protocol::spiffe::{SpiffeId, TrustDomain};
use lattice_protocol::tls::{self, CaBundle, CaPin, Credentials, MANAGER_SERVER_NAME, Serial};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::keyring::{BRIDGES_MAX, Key, Keyring, Pair};
use super::signer::{Safe, Signer, SignerError, Signing};
use super::{Error, SigningRequest};

/// Life of the CA's own certificate. It is replaced by rotation, not by expiry.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Signs the certificates of one fleet. `Debug` never shows its key.
pub struct CertificateAuthority {
    fleet: TrustDomain,
    lifetime: Duration,
    issuer: Issuer<'static, Signing>,
    bundle_pem: String,
    bundle: CaBundle,
    pin: CaPin,
    bridges: Vec<CertificateDer<'static>>,
    replica_secret: Zeroizing<Vec<u8>>,
    /// The key is not in this process.
    elsewhere: bool,
}

/// A certificate that was just signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The chain, leaf first, without the root.
    pub chain_pem: String,
    /// Serial number of the leaf.
    pub serial: Serial,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Pin of the CA that signed it.
    pub issuer: CaPin,
}

/// Makes the certificate of a new CA, PEM.
pub(super) fn root(fleet: &TrustDomain, key: &Signing, now: Timestamp) -> Result<String, Error> {
    Ok(ca_params(fleet, now).self_signed(key).map_err(Error::Unusable)?.pem())
}

/// Certifies the next CA's key by the one that signs now, PEM.
pub(super) fn bridge(
    fleet: &TrustDomain,
    safe: Option<&dyn Safe>,
    signing: &Pair,
    next: &Pair,
    now: Timestamp,
) -> Result<String, Error> {
    let issuer = Issuer::from_ca_cert_pem(&signing.certificate, signing.key.signer(safe)?).map_err(Error::Unusable)?;
    Ok(ca_params(fleet, now).signed_by(&next.key.signer(safe)?, &issuer).map_err(Error::Unusable)?.pem())
}

/// Does what may wait for a signer's answer: apart from the threads that serve everybody, where the signer is elsewhere.
pub(super) async fn apart<T: Send + 'static>(
    elsewhere: bool,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if !elsewhere {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(SignerError("it was not asked to the end".to_owned()).into()),
    }
}

/// Bridges are CAs below the first, so a path may have as many as there are bridges.
fn ca_params(fleet: &TrustDomain, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(fleet.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(u8::try_from(BRIDGES_MAX).unwrap_or(u8::MAX)));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(random_serial());
    (params.not_before, params.not_after) = validity(now, CA_LIFETIME);
    params
}

impl CertificateAuthority {
    /// Signs by a key that is kept elsewhere. `trusted` are the certificates of the bundle, PEM, the signer's first.
    ///
    /// # Errors
    /// [`Error::OtherFleet`], or [`Error::Unusable`] when certificate and key do not fit.
    pub fn with_signer(
        fleet: &TrustDomain,
        trusted: &[&str],
        bridges: &[String],
        signer: Arc<dyn Signer>,
        lifetime: Duration,
    ) -> Result<Self, Error> {
        let bundle_pem = trusted.concat();
        let bundle = CaBundle::from_pem(bundle_pem.as_bytes())?;
        let certificate = bundle.certificates()[0].clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, Signing(signer)).map_err(Error::Unusable)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| Error::Unusable(rcgen::Error::CouldNotParseCertificate))?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        if name != Some(fleet.as_str()) {
            return Err(Error::OtherFleet(fleet.clone()));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != issuer.key().der_bytes() {
            return Err(Error::Unusable(rcgen::Error::CouldNotParseKeyPair));
        }
        let bridges = bridges.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()));
        let bridges = bridges.collect::<Result<_, _>>().map_err(|source| tls::Error::Pem { what: "bridge", source })?;
        let pin = CaPin::of(&certificate)?;
        let (fleet, replica_secret) = (fleet.clone(), Zeroizing::new(Vec::new()));
        Ok(Self { fleet, lifetime, issuer, bundle_pem, bundle, pin, bridges, replica_secret, elsewhere: true })
    }

    pub(super) fn of(
        fleet: &TrustDomain,
        ring: &Keyring,
        safe: Option<&dyn Safe>,
        lifetime: Duration,
    ) -> Result<Self, Error> {
        let Signing(signer) = ring.signing.key.signer(safe)?;
        let mut made = Self::with_signer(fleet, &ring.trusted(), &ring.bridges, signer, lifetime)?;
        made.replica_secret = ring.replica_secret()?;
        made.elsewhere = matches!(ring.signing.key, Key::Elsewhere(_));
        Ok(made)
    }

    /// Whether signing asks somebody else, and may wait.
    pub fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// As [`Self::issue_agent`]; an answer of a signer elsewhere is not waited for on a thread that serves others.
    ///
    /// # Errors
    /// As there, and [`Error::Signer`].
    pub async fn certify_agent(
        self: &Arc<Self>,
        request: &SigningRequest,
        id: SpiffeId,
        now: Timestamp,
    ) -> Result<Issued, Error> {
        let (own, request) = (Arc::clone(self), request.clone());
        apart(self.elsewhere, move || own.issue_agent(&request, &id, now)).await
    }

    /// The fleet that it signs for.
    pub fn fleet(&self) -> &TrustDomain {
        &self.fleet
    }

    /// Life of what it signs.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// What agents and clients trust, as PEM.
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// SHA-256 of that text, by which an agent says what it holds.
    pub fn bundle_sha256(&self) -> String {
        tls::hex(&Sha256::digest(self.bundle_pem.as_bytes()))
    }

    /// What agents and clients trust.
    pub fn bundle(&self) -> &CaBundle {
        &self.bundle
    }

    /// The pin of its key, which agents compare.
    pub fn pin(&self) -> &CaPin {
        &self.pin
    }

    /// A secret that every replica of the manager has and nobody else.
    pub fn replica_secret(&self) -> &[u8] {
        &self.replica_secret
    }

    /// Signs an agent's certificate: client authentication only, the cluster's SPIFFE id and nothing of what the request
    /// asked for.
    ///
    /// # Errors
    /// [`Error::Sign`].
    pub fn issue_agent(&self, request: &SigningRequest, id: &SpiffeId, now: Timestamp) -> Result<Issued, Error> {
        let mut params = self.leaf(id, now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, request.public_key(), id)
    }

    /// Makes a key and signs the manager's own certificate for it: server authentication only, our SPIFFE id, the
    /// names and addresses that clients dial, and [`MANAGER_SERVER_NAME`]. The chain has the bridges from older CAs.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that is none, [`Error::Sign`].
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<Credentials, Error> {
        let id = self.fleet.manager();
        let mut params = self.leaf(&id, now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names.iter().map(String::as_str).chain([MANAGER_SERVER_NAME]) {
            let name = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.try_into().map_err(|_| Error::Name(name.to_owned()))?),
            };
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        let failed = |source| Error::Sign { id: id.clone(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let issued = self.sign(params, &key, &id)?;
        let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes())
            .map_err(|_| failed(rcgen::Error::CouldNotParseCertificate))?;
        let chain = std::iter::once(leaf).chain(self.bridges.iter().cloned()).collect();
        Ok(Credentials::new(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())?)
    }

    /// As [`Self::issue_server`]; waits for a signer elsewhere as [`Self::certify_agent`] does.
    ///
    /// # Errors
    /// As there, and [`Error::Signer`].
    pub async fn certify_server(self: &Arc<Self>, names: &[String], now: Timestamp) -> Result<Credentials, Error> {
        let (own, names) = (Arc::clone(self), names.to_vec());
        apart(self.elsewhere, move || own.issue_server(&names, now)).await
    }

    fn sign(&self, params: CertificateParams, key: &impl PublicKeyData, id: &SpiffeId) -> Result<Issued, Error> {
        let failed = |source| Error::Sign { id: id.clone(), source };
        let certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        let identity = tls::Identity::of(certificate.der()).map_err(tls::Error::from)?;
        let (serial, not_after) = (identity.serial, identity.not_after);
        Ok(Issued { chain_pem: certificate.pem(), serial, not_after, issuer: self.pin })
    }

    /// What every leaf has in common.
    fn leaf(&self, id: &SpiffeId, now: Timestamp) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(if id.cluster().is_some() { "lattice-agent" } else { MANAGER_SERVER_NAME });
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(random_serial());
        (params.not_before, params.not_after) = validity(now, self.lifetime);
        let uri = id.to_string();
        let uri = uri.as_str().try_into().map_err(|source| Error::Sign { id: id.clone(), source })?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        Ok(params)
    }
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "lattice");
    subject.push(DnType::CommonName, name);
    subject
}

/// A serial of 128 random bits, the highest clear (a serial is positive) and the next one set (it has one length).
fn random_serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn validity(now: Timestamp, lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let at = OffsetDateTime::from_unix_timestamp(now.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    (at - CERTIFICATE_BACKDATE, at + lifetime)
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("fleet", &self.fleet)
            .field("pin", &self.pin)
            .field("trusted", &self.bundle.certificates().len())
            .finish_non_exhaustive()
    }
}
