//! The certificate authority of this parent: Secret `lattice-system/lattice-ca`, made once, and what it signs.
//!
//! **Guarantees**: the key leaves the Secret only into this process's memory; every certificate's content is ours, a
//! request gives its public key and nothing else. **Invariant**: no clock and no I/O here but in [`load_or_create`].

mod csr;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::limits::{CERTIFICATE_BACKDATE, CERTIFICATE_LIFETIME};
use lattice_protocol::spiffe::{SpiffeId, TrustDomain};
use lattice_protocol::tls::{self, CaBundle, CaPin, Credentials, MANAGER_SERVER_NAME, Serial};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

pub use self::csr::{CsrRefused, SigningRequest};
use super::vault::{Contents, LABEL_HOLDS, Vault};

/// Secret that holds the CA, in `lattice-system`.
pub const SECRET_NAME: &str = "lattice-ca";
const KEY_CERTIFICATE: &str = "tls.crt";
const KEY_PRIVATE: &str = "tls.key";

/// Life of the CA's own certificate. It is replaced by rotation, not by expiry.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How often a lost race for the Secret is read again before it counts as failed.
const RACES_MAX: usize = 5;

/// Why the CA could not be had, or did not sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret cannot be read or made.
    #[error(transparent)]
    Store(#[from] super::Error),
    /// The Secret exists and lacks something.
    #[error("secret {SECRET_NAME} lacks {0}")]
    Missing(&'static str),
    /// The Secret's certificate or key cannot be used.
    #[error("secret {SECRET_NAME} holds no CA that can be used")]
    Unusable(#[source] rcgen::Error),
    /// Certificate and TLS settings do not fit.
    #[error("the CA certificate cannot be used")]
    Tls(#[from] tls::Error),
    /// The Secret holds a CA of another fleet.
    #[error("secret {SECRET_NAME} holds the CA of another trust domain than {0}")]
    OtherFleet(TrustDomain),
    /// A certificate could not be signed.
    #[error("cannot sign a certificate for {id}")]
    Sign {
        /// Whom it was for.
        id: SpiffeId,
        /// The library's words.
        #[source]
        source: rcgen::Error,
    },
    /// A name for a server certificate is neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
}

/// Signs the certificates of one fleet. `Debug` never shows its key.
pub struct CertificateAuthority {
    fleet: TrustDomain,
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    bundle: CaBundle,
    pin: CaPin,
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
}

/// Reads the CA, or makes it when there is none yet. Of several managers that start at once, all get the same CA.
///
/// # Errors
/// [`Error::Store`]; [`Error::Missing`], [`Error::Unusable`] or [`Error::OtherFleet`] for a Secret that is not ours.
pub async fn load_or_create(
    vault: &dyn Vault,
    fleet: &TrustDomain,
    now: Timestamp,
) -> Result<Arc<CertificateAuthority>, Error> {
    let mut conflict = None;
    for _ in 0..RACES_MAX {
        if let Some(entry) = vault.read(SECRET_NAME).await? {
            return CertificateAuthority::from_contents(fleet, &entry.contents).map(Arc::new);
        }
        let made = CertificateAuthority::generate(fleet, now)?;
        match vault.create(SECRET_NAME, made.contents()).await {
            Ok(_) => {
                tracing::info!(ca.pin = %made.pin, "certificate authority made");
                return Ok(Arc::new(made));
            }
            Err(error) if error.is_conflict() => conflict = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(conflict.map_or(Error::Missing(KEY_CERTIFICATE), Error::Store))
}

impl CertificateAuthority {
    /// Makes a new CA with a P-256 key.
    ///
    /// # Errors
    /// [`Error::Unusable`] when the library cannot make one.
    pub fn generate(fleet: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Unusable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(fleet.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(random_serial());
        (params.not_before, params.not_after) = validity(now, CA_LIFETIME);
        let pem = params.self_signed(&key).map_err(Error::Unusable)?.pem();
        Self::new(fleet, pem, key)
    }

    fn from_contents(fleet: &TrustDomain, contents: &Contents) -> Result<Self, Error> {
        let text = |key: &'static str| {
            let bytes = contents.data.get(key).ok_or(Error::Missing(key))?;
            std::str::from_utf8(bytes).map_err(|_| Error::Missing(key))
        };
        let key = KeyPair::from_pem(text(KEY_PRIVATE)?).map_err(Error::Unusable)?;
        Self::new(fleet, text(KEY_CERTIFICATE)?.to_owned(), key)
    }

    fn new(fleet: &TrustDomain, certificate_pem: String, key: KeyPair) -> Result<Self, Error> {
        let bundle = CaBundle::from_pem(certificate_pem.as_bytes())?;
        let certificate = bundle.certificates()[0].clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(Error::Unusable)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| Error::Unusable(rcgen::Error::CouldNotParseCertificate))?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        if name != Some(fleet.as_str()) {
            return Err(Error::OtherFleet(fleet.clone()));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != issuer.key().public_key_raw() {
            return Err(Error::Unusable(rcgen::Error::CouldNotParseKeyPair));
        }
        let pin = CaPin::of(&certificate)?;
        Ok(Self { fleet: fleet.clone(), certificate_pem, certificate, issuer, bundle, pin })
    }

    fn contents(&self) -> Contents {
        Contents {
            labels: BTreeMap::from([(LABEL_HOLDS.to_owned(), "ca".to_owned())]),
            data: BTreeMap::from([
                (KEY_CERTIFICATE.to_owned(), self.certificate_pem.clone().into_bytes()),
                (KEY_PRIVATE.to_owned(), self.issuer.key().serialize_pem().into_bytes()),
            ]),
        }
    }

    /// The fleet that it signs for.
    pub fn fleet(&self) -> &TrustDomain {
        &self.fleet
    }

    /// What agents and clients trust, as PEM.
    pub fn bundle_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What agents and clients trust.
    pub fn bundle(&self) -> &CaBundle {
        &self.bundle
    }

    /// The pin of its key, which agents compare.
    pub fn pin(&self) -> &CaPin {
        &self.pin
    }

    /// A secret that every replica of the manager can derive and nobody else.
    pub fn replica_secret(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.issuer.key().serialize_der())
    }

    /// Signs an agent's certificate: 24 hours, client authentication only, the cluster's SPIFFE id and nothing of what
    /// the request asked for.
    ///
    /// # Errors
    /// [`Error::Sign`].
    pub fn issue_agent(&self, request: &SigningRequest, id: &SpiffeId, now: Timestamp) -> Result<Issued, Error> {
        let mut params = leaf(id, now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, request.public_key(), id)
    }

    /// Makes a key and signs the manager's own certificate for it: server authentication only, our SPIFFE id, the
    /// names and addresses that clients dial, and [`MANAGER_SERVER_NAME`].
    ///
    /// # Errors
    /// [`Error::Name`] for a name that is none, [`Error::Sign`].
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<Credentials, Error> {
        let id = self.fleet.manager();
        let mut params = leaf(&id, now)?;
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
        let chain = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes())
            .map_err(|_| failed(rcgen::Error::CouldNotParseCertificate))?;
        Ok(Credentials::new(vec![chain], PrivatePkcs8KeyDer::from(key.serialize_der()).into())?)
    }

    fn sign(&self, params: CertificateParams, key: &impl PublicKeyData, id: &SpiffeId) -> Result<Issued, Error> {
        let failed = |source| Error::Sign { id: id.clone(), source };
        let certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        let identity = tls::Identity::of(certificate.der()).map_err(tls::Error::from)?;
        Ok(Issued { chain_pem: certificate.pem(), serial: identity.serial, not_after: identity.not_after })
    }
}

/// What every leaf has in common.
fn leaf(id: &SpiffeId, now: Timestamp) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(if id.cluster().is_some() { "lattice-agent" } else { MANAGER_SERVER_NAME });
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(random_serial());
    (params.not_before, params.not_after) = validity(now, CERTIFICATE_LIFETIME);
    let uri = id.to_string();
    let uri = uri.as_str().try_into().map_err(|source| Error::Sign { id: id.clone(), source })?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
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
            .field("certificate_bytes", &self.certificate.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
