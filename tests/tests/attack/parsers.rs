//! Whatever arrives, the parsers of what strangers send answer and do not fall over.
//!
//! One fuzz target for each of them, with seeds that are kept in `seeds/`: an input that once broke something goes there.
//! What a parser takes is held against a second opinion: its grammar as a pattern, the signature checked by another hand.
//! Every seed and some hundred spoiled forms of it are tried in each run; `LATTICE_FUZZ_ROUNDS=1000000` tries more.

use std::path::Path;
use std::sync::LazyLock;

use lattice_manager::store::ca::SigningRequest;
use lattice_protocol::limits::CSR_BYTES_MAX;
use lattice_protocol::recovery::RecoverRequest;
use lattice_protocol::spiffe::SpiffeId;
use lattice_protocol::tls::{CaBundle, CaPin, Identity, hex};
use lattice_protocol::token::JoinToken;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use regex::Regex;
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};

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
        let _ = text.parse::<CaPin>();
        let _ = SigningRequest::parse(&text);
        let _ = CaBundle::from_pem(text.as_bytes());
        let _ = Identity::of(&CertificateDer::from(bytes.clone()));
        let _ = CaBundle::from_pem(&bytes);
        if let Ok(request) = serde_json::from_slice::<RecoverRequest>(&bytes) {
            let _ = request.check();
        }
        for target in [token, spiffe] {
            target(text.as_bytes());
        }
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

/// A fuzz target: takes any bytes, and fails when what is taken is not what a second opinion takes.
type Target = fn(&[u8]);

/// The grammar of a token, written down a second time. Of the last character two bits mean nothing, and are zero.
static TOKENS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\Altj1\.[a-z0-9]{10}\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\z").expect("a pattern"));

/// The same of a SPIFFE id.
static IDS: LazyLock<Regex> = LazyLock::new(|| {
    let uid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    Regex::new(&format!(r"\Aspiffe://[a-z0-9._-]{{1,255}}/(?:manager|cluster/{uid}/agent)\z")).expect("a pattern")
});

fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (parsed, text) = (JoinToken::parse(text), text.trim_ascii());
    assert_eq!(parsed.is_ok(), TOKENS.is_match(text), "{text:?}");
    if let Ok(token) = parsed {
        assert_eq!(token.expose().as_str(), text, "a token has one form");
    }
}

fn spiffe(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let parsed = text.parse::<SpiffeId>();
    assert_eq!(parsed.is_ok(), IDS.is_match(text), "{text:?}");
    if let Ok(id) = parsed {
        assert_eq!(id.to_string(), text, "an id reads back as itself");
    }
}

/// The first element of some DER, with its head, and what comes after it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let first = usize::from(*der.get(1)?);
    let more = first.saturating_sub(0x80);
    let length = if more == 0 {
        first
    } else {
        der.get(2..2 + more)?.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte))
    };
    let (whole, rest) = der.split_at_checked(length.checked_add(2 + more)?)?;
    Some((whole, &whole[2 + more..], rest))
}

/// What comes before the 65 bytes of a P-256 key in a `SubjectPublicKeyInfo` (RFC 5480).
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Hash of the key that a request proves to have (RFC 2986), when that is a P-256 one.
fn proven(der: &[u8]) -> Option<String> {
    let (_, request, _) = element(der)?;
    let (signed, told, rest) = element(request)?;
    let (_, _, rest) = element(rest)?;
    let (_, signature, _) = element(rest)?;
    // A version and a subject come before the key.
    let (_, _, told) = element(told)?;
    let (_, _, told) = element(told)?;
    let (key, _, _) = element(told)?;
    let point = key.strip_prefix(&P256_HEAD)?;
    let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
    verifier.verify(signed, signature.strip_prefix(&[0])?).ok()?;
    Some(hex(digest(&SHA256, key).as_ref()))
}

fn csr(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(request) = SigningRequest::parse(text) {
        assert!(text.len() <= CSR_BYTES_MAX);
        let der = CertificateSigningRequestDer::from_pem_slice(input).expect("what was taken is PEM");
        assert_eq!(Some(request.key_sha256()), proven(&der), "the key is the one that signed: {text}");
    }
}

fn certificate(input: &[u8]) {
    for der in
        [Some(input.to_vec()), CertificateDer::from_pem_slice(input).ok().map(|der| der.to_vec())].into_iter().flatten()
    {
        let Ok(identity) = Identity::of(&CertificateDer::from(der.clone())) else { continue };
        let id = identity.id.to_string();
        spiffe(id.as_bytes());
        // A URI among the names (RFC 5280, 4.2.1.6), and no other.
        let uris = der.windows(11).filter(|at| at[0] == 0x86 && at[2..] == *b"spiffe://").count();
        let whole = [&[0x86, u8::try_from(id.len()).expect("short")], id.as_bytes()].concat();
        assert!(uris == 1 && der.windows(whole.len()).any(|at| at == whole), "{id} of {uris} in {der:x?}");
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
        assert!(files.iter().any(|file| file.file_stem().is_some_and(|stem| stem == "good") && taken(name, file)));
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

/// Whether a parser takes what is in a file.
fn taken(name: &str, file: &Path) -> bool {
    let text = std::fs::read_to_string(file).expect("a seed");
    match name {
        "token" => JoinToken::parse(&text).is_ok(),
        "spiffe" => text.parse::<SpiffeId>().is_ok(),
        "csr" => SigningRequest::parse(&text).is_ok(),
        _ => CertificateDer::from_pem_slice(text.as_bytes()).is_ok_and(|der| Identity::of(&der).is_ok()),
    }
}
