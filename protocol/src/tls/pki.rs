//! A small CA for tests, which also signs what a real one would not.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::{Duration, OffsetDateTime};

use super::{CaBundle, Credentials};
use crate::spiffe::TrustDomain;

pub(crate) const UID: &str = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab";

/// A CA and the fleet that it signs for.
pub(crate) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) bundle: CaBundle,
    pub(crate) fleet: TrustDomain,
}

/// What a leaf says; start from [`Leaf::agent`] or [`Leaf::manager`] and spoil it.
pub(crate) struct Leaf {
    pub(crate) uris: Vec<String>,
    pub(crate) usage: ExtendedKeyUsagePurpose,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let bundle = CaBundle::new(vec![certificate.der().clone()]).unwrap();
        Self { issuer: Issuer::new(params, key), bundle, fleet: "test.example".parse().unwrap() }
    }

    pub(crate) fn sign(&self, leaf: &Leaf) -> Credentials {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::from_unix_timestamp(crate::clock::now().as_second()).unwrap();
        params.not_before = now + leaf.from;
        params.not_after = now + leaf.until;
        params.extended_key_usages = vec![leaf.usage.clone()];
        params.serial_number = Some(SerialNumber::from_slice(&[0x4a, 0, 7]));
        params.subject_alt_names = leaf.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Credentials::new(vec![certificate.der().clone()], key).unwrap()
    }

    pub(crate) fn agent(&self) -> Credentials {
        self.sign(&Leaf::agent(self))
    }

    pub(crate) fn manager(&self) -> Credentials {
        self.sign(&Leaf::manager(self))
    }
}

impl Leaf {
    pub(crate) fn agent(pki: &Pki) -> Self {
        Self {
            uris: vec![pki.fleet.agent(&UID.parse().unwrap()).to_string()],
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            from: Duration::minutes(-5),
            until: Duration::hours(1),
        }
    }

    pub(crate) fn manager(pki: &Pki) -> Self {
        Self {
            uris: vec![pki.fleet.manager().to_string()],
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            ..Self::agent(pki)
        }
    }
}
