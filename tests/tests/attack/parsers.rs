//! Whatever arrives, the parsers of what strangers send answer and do not fall over.

use lattice_manager::store::ca::SigningRequest;
use lattice_protocol::recovery::RecoverRequest;
use lattice_protocol::spiffe::SpiffeId;
use lattice_protocol::tls::{CaBundle, CaPin, Identity};
use lattice_protocol::token::JoinToken;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;

/// A good certificate and a good request, to be spoiled.
fn good() -> (Vec<u8>, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let params = CertificateParams::default();
    let certificate = params.self_signed(&key).expect("a certificate").der().to_vec();
    (certificate, params.serialize_request(&key).expect("a request").pem().expect("PEM"))
}

proptest! {
    #[test]
    fn attack_20_any_text_is_answered(text in ".{0,400}", bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = JoinToken::parse(&text);
        let _ = text.parse::<SpiffeId>();
        let _ = text.parse::<CaPin>();
        let _ = SigningRequest::parse(&text);
        let _ = CaBundle::from_pem(text.as_bytes());
        let _ = Identity::of(&CertificateDer::from(bytes.clone()));
        let _ = CaBundle::from_pem(&bytes);
        if let Ok(request) = serde_json::from_slice::<RecoverRequest>(&bytes) {
            let _ = request.check();
        }
        prop_assert!(SpiffeId::from_str_is_canonical(&text));
    }

    #[test]
    fn attack_20_a_spoiled_request_or_certificate_is_answered(at in 0usize..400, bit in 0u8..8) {
        let (mut certificate, request) = good();
        let at_certificate = at % certificate.len();
        certificate[at_certificate] ^= 1 << bit;
        let _ = Identity::of(&CertificateDer::from(certificate));
        let mut spoiled = request.into_bytes();
        let at_request = at % spoiled.len();
        spoiled[at_request] ^= 1 << bit;
        if let Ok(text) = String::from_utf8(spoiled) {
            let _ = SigningRequest::parse(&text);
        }
    }
}

/// A text that is an id reads back as itself.
trait Canonical {
    fn from_str_is_canonical(text: &str) -> bool;
}

impl Canonical for SpiffeId {
    fn from_str_is_canonical(text: &str) -> bool {
        text.parse::<SpiffeId>().map_or(true, |id| id.to_string() == text)
    }
}
