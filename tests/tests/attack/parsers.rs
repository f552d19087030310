//! Whatever arrives, the parsers of what strangers send answer and do not fall over.
//!
//! One fuzz target for each of them, with seeds that are kept in `seeds/`: an input that once broke something goes there.
//! Every seed and some hundred spoiled forms of it are tried in each run; `LATTICE_FUZZ_ROUNDS=1000000` tries more.

use std::path::Path;

use lattice_manager::store::ca::SigningRequest;
use lattice_protocol::recovery::RecoverRequest;
use lattice_protocol::spiffe::SpiffeId;
use lattice_protocol::tls::{CaBundle, CaPin, Identity};
use lattice_protocol::token::JoinToken;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

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

/// A fuzz target: takes any bytes, and fails when what holds for every input does not.
type Target = fn(&[u8]);

fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(token) = JoinToken::parse(text) {
        assert_eq!(token.expose().as_str(), text.trim_ascii(), "a token has one form");
    }
}

fn spiffe(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    assert!(SpiffeId::from_str_is_canonical(text), "{text:?}");
}

fn csr(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(request) = SigningRequest::parse(text) {
        assert_eq!(request.key_sha256().len(), 64);
    }
}

fn certificate(input: &[u8]) {
    for der in
        [Some(input.to_vec()), CertificateDer::from_pem_slice(input).ok().map(|der| der.to_vec())].into_iter().flatten()
    {
        if let Ok(identity) = Identity::of(&CertificateDer::from(der)) {
            assert!(SpiffeId::from_str_is_canonical(&identity.id.to_string()));
        }
    }
    let _ = CaBundle::from_pem(input);
}

/// Spoils an input: flips, cuts, doubles, puts in.
fn spoil(input: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..4) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 => input.truncate(at),
            2 => {
                let tail = input[at..].to_vec();
                input.extend(tail);
            }
            _ => input.insert(at, random.random()),
        }
    }
}

#[test]
fn attack_20_every_kept_seed_and_what_is_near_it_is_answered() {
    let rounds =
        std::env::var_os("LATTICE_FUZZ_ROUNDS").and_then(|rounds| rounds.to_str()?.parse().ok()).unwrap_or(300);
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attack/seeds");
    let targets: [(&str, Target); 4] =
        [("token", token), ("spiffe", spiffe), ("csr", csr), ("certificate", certificate)];
    let mut random = StdRng::seed_from_u64(20);
    for (name, target) in targets {
        let mut files: Vec<_> = std::fs::read_dir(seeds.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has seeds");
        for seed in files.iter().map(|file| std::fs::read(file).unwrap()) {
            target(&seed);
            for _ in 0..rounds {
                let mut input = seed.clone();
                spoil(&mut input, &mut random);
                target(&input);
            }
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
