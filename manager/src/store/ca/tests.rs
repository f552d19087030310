//! What is signed, and what never is.

use std::sync::Arc;

use jiff::Timestamp;
use lattice_protocol::ids::ClusterUid;
use lattice_protocol::limits::{CERTIFICATE_BACKDATE, CERTIFICATE_LIFETIME};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequest, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::X509Certificate;

use super::keyring::{Key, Keyring};
use super::*;
use crate::store::vault::Vault;
use crate::store::vault::memory::MemoryVault;

mod safe;

fn fleet() -> TrustDomain {
    "test.example".parse().unwrap()
}

fn agent() -> SpiffeId {
    let uid: ClusterUid = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().unwrap();
    fleet().agent(&uid)
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::of(&fleet(), &Keyring::generate(&fleet(), None, now()).unwrap(), None, CERTIFICATE_LIFETIME)
        .unwrap()
}

async fn open(vault: &Arc<MemoryVault>) -> Result<Arc<Authorities>, Error> {
    let vault: Arc<dyn Vault> = Arc::clone(vault) as _;
    Authorities::open(vault, &fleet(), CERTIFICATE_LIFETIME, now()).await
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn request(params: CertificateParams) -> CertificateSigningRequest {
    params.serialize_request(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()).unwrap()
}

fn parsed<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    look(&certificate)
}

#[test]
fn an_agents_certificate_is_what_we_say_whatever_it_asks_for() {
    let mut greedy = CertificateParams::new(vec!["parent.example.org".to_owned()]).unwrap();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    greedy.subject_alt_names.push(SanType::URI("spiffe://test.example/manager".try_into().unwrap()));
    let csr = SigningRequest::parse(&request(greedy).pem().unwrap()).unwrap();
    let issued = authority().issue_agent(&csr, &agent(), now()).unwrap();
    parsed(&issued.chain_pem, |certificate| {
        let identity =
            tls::Identity::of(&CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap()).unwrap();
        assert_eq!(identity.id, agent());
        assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        assert!(!certificate.is_ca());
        assert_eq!(identity.not_before, now() - CERTIFICATE_BACKDATE);
        assert_eq!(identity.not_after, now() + CERTIFICATE_LIFETIME);
        assert_eq!(certificate.raw_serial().len(), 16);
    });
}

#[test]
fn serials_differ() {
    let (authority, csr) = (authority(), SigningRequest::parse(&request(CertificateParams::default()).pem().unwrap()));
    let csr = csr.unwrap();
    let [one, two] = [(); 2].map(|()| authority.issue_agent(&csr, &agent(), now()).unwrap().serial);
    assert_ne!(one, two);
}

#[track_caller]
fn refused(pem: &str, why: CsrRefused) {
    assert_eq!(SigningRequest::parse(pem).err(), Some(why), "{}", &pem[..pem.len().min(60)]);
}

#[test]
fn a_request_proves_that_its_key_is_held() {
    let good = request(CertificateParams::default());
    let mut bytes = good.der().to_vec();
    // The last byte belongs to the signature.
    *bytes.last_mut().unwrap() ^= 1;
    let spoiled = rustls_pki_types::CertificateSigningRequestDer::from(bytes);
    let pem = good.pem().unwrap();
    let line = pem.lines().rev().nth(1).unwrap().to_owned();
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(&spoiled);
    refused(
        &format!("-----BEGIN CERTIFICATE REQUEST-----\n{encoded}\n-----END CERTIFICATE REQUEST-----\n"),
        CsrRefused::NoProof,
    );
    refused("", CsrRefused::Malformed);
    refused(&pem.replace(&line, ""), CsrRefused::Malformed);
    refused(&"x".repeat(1 << 20), CsrRefused::TooLong);
    refused(&KeyPair::generate().unwrap().serialize_pem(), CsrRefused::Malformed);
}

#[test]
fn other_kinds_of_keys_are_refused() {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    refused(&csr.pem().unwrap(), CsrRefused::KeyKind);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    refused(&csr.pem().unwrap(), CsrRefused::KeyKind);
}

#[tokio::test]
async fn managers_that_start_at_once_share_one_authority() {
    let vault = Arc::new(MemoryVault::default());
    let made = futures::future::join_all((0..8).map(|_| {
        let vault = Arc::clone(&vault);
        async move { open(&vault).await.unwrap().present().bundle_pem().to_owned() }
    }))
    .await;
    assert!(made.iter().all(|pem| *pem == made[0]));
    assert_eq!(vault.writes(), 1);
    let signer = open(&vault).await.unwrap().present();
    assert_eq!(signer.bundle_pem(), made[0], "and keep it over restarts");
    signer.issue_server(&["parent.example.org".to_owned(), "192.0.2.1".to_owned()], now()).unwrap();
}

#[tokio::test]
async fn another_fleets_authority_is_not_used() {
    let vault = Arc::new(MemoryVault::default());
    open(&vault).await.unwrap();
    let other = Authorities::open(vault, &"other.example".parse().unwrap(), CERTIFICATE_LIFETIME, now()).await;
    assert!(matches!(other, Err(Error::OtherFleet(_))));
}

#[test]
fn a_name_that_is_none_is_said() {
    let error = authority().issue_server(&["not a name\u{e9}".to_owned()], now()).unwrap_err();
    assert!(matches!(error, Error::Name(_)), "{error}");
}

#[test]
fn no_key_shows_in_debug() {
    let ring = Keyring::generate(&fleet(), None, now()).unwrap();
    let authority = CertificateAuthority::of(&fleet(), &ring, None, CERTIFICATE_LIFETIME).unwrap();
    let shown = format!("{authority:?} {ring:?} {:?}", ring.contents());
    let Key::Here(key) = ring.signing.key.clone() else { panic!("it is in the Secret") };
    assert!(!shown.contains("PRIVATE") && !shown.contains(key.lines().nth(1).unwrap()), "{shown}");
}
