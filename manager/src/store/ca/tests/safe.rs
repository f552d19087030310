//! Keys that are kept elsewhere: what comes back over the socket, and the way from the Secret to a safe and home again.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{PublicKeyData as _, SigningKey as _};

use super::super::rotation::{Phase, Standing, Step};
use super::super::signer::{Safe, Signer, SignerError, SocketSafe};
use super::*;

/// Keys in the test's own memory.
#[derive(Debug, Default)]
struct Drawer(Mutex<BTreeMap<String, Arc<Kept>>>);

struct Kept(KeyPair);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Safe for Drawer {
    fn make(&self) -> Result<String, SignerError> {
        let mut keys = self.0.lock().unwrap();
        let name = format!("key-{}", keys.len());
        keys.insert(name.clone(), Arc::new(Kept(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())));
        Ok(name)
    }

    fn find(&self, name: &str) -> Result<Arc<dyn Signer>, SignerError> {
        let key = self.0.lock().unwrap().get(name).cloned();
        key.map(|key| key as _).ok_or_else(|| SignerError(format!("no key {name}")))
    }
}

impl Signer for Kept {
    fn public_point(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(message).unwrap())
    }
}

async fn open_with(vault: &Arc<MemoryVault>, safe: Option<&Arc<Drawer>>) -> Result<Arc<Authorities>, Error> {
    let (vault, safe) = (Arc::clone(vault) as _, safe.map(|safe| Arc::clone(safe) as _));
    Authorities::open_with(vault, safe, &fleet(), CERTIFICATE_LIFETIME, now()).await
}

async fn rotate(authorities: &Authorities, begin: Timestamp) {
    for (step, hours) in [(Step::Publish, 0), (Step::Sign, 1), (Step::Retire, 2)] {
        let at = begin + jiff::SignedDuration::from_hours(hours);
        authorities.step(step, &Standing::default(), false, at).await.unwrap();
    }
}

async fn keys_in_the_secret(vault: &MemoryVault) -> bool {
    let entry = vault.read(SECRET_NAME).await.unwrap().unwrap();
    entry.contents.data.values().any(|value| String::from_utf8_lossy(value).contains("PRIVATE"))
}

async fn signs(authorities: &Authorities) {
    let csr = SigningRequest::parse(&request(CertificateParams::default()).pem().unwrap()).unwrap();
    let authority = authorities.present();
    let issued = authority.certify_agent(&csr, agent(), now()).await.unwrap();
    let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let (_, ca) = x509_parser::parse_x509_certificate(&authority.bundle().certificates()[0]).unwrap();
    leaf.verify_signature(Some(ca.public_key())).unwrap();
    authority.certify_server(&[], now()).await.unwrap();
}

#[tokio::test]
async fn a_parent_moves_its_keys_to_a_safe_and_back_by_a_rotation_each() {
    let (vault, safe) = (Arc::new(MemoryVault::default()), Arc::new(Drawer::default()));
    open(&vault).await.unwrap();
    assert!(keys_in_the_secret(&vault).await);
    let authorities = open_with(&vault, Some(&safe)).await.unwrap();
    assert!(!authorities.present().is_elsewhere(), "nothing changes before the next rotation");
    rotate(&authorities, now()).await;
    signs(&authorities).await;
    assert!(authorities.present().is_elsewhere() && !keys_in_the_secret(&vault).await);
    let secret = authorities.present().replica_secret().to_vec();
    let again = open_with(&vault, Some(&safe)).await.unwrap();
    assert_eq!(again.present().replica_secret(), secret, "every replica has the same one");
    assert!(secret.len() == 32 && secret.iter().any(|byte| *byte != 0));
    rotate(&again, now() + jiff::SignedDuration::from_hours(9)).await;
    signs(&again).await;
    assert_eq!(safe.0.lock().unwrap().len(), 2);

    let error = open(&vault).await.unwrap_err();
    assert!(matches!(error, Error::SignerUnknown), "{error}");
    assert!(error.to_string().contains("--ca-signer"));
    // Home again: the safe is there for its own key only.
    let leaving = open_with(&vault, Some(&safe)).await.unwrap();
    let entry = vault.read(SECRET_NAME).await.unwrap().unwrap();
    let ring = Keyring::read(&entry.contents).unwrap();
    let home = ring.after(&fleet(), None, Step::Publish, Phase::Published, now()).unwrap();
    vault.replace(SECRET_NAME, entry.version, home.contents()).await.unwrap();
    leaving.refresh().await.unwrap();
    leaving.step(Step::Sign, &Standing::default(), true, now()).await.unwrap();
    leaving.step(Step::Retire, &Standing::default(), true, now()).await.unwrap();
    signs(&open(&vault).await.unwrap()).await;
}

/// A program that answers each line by `answer`.
fn program(answer: impl Fn(serde_json::Value) -> String + Send + 'static) -> (tempfile::TempDir, SocketSafe) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (mut line, mut stream) = (String::new(), BufReader::new(stream));
            let _ = stream.read_line(&mut line);
            let _ = writeln!(stream.get_mut(), "{}", answer(serde_json::from_str(&line).unwrap_or_default()));
        }
    });
    (folder, SocketSafe::new(path))
}

#[test]
fn a_program_makes_finds_and_signs_over_its_socket() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let point = key.der_bytes().to_vec();
    let (_folder, safe) = program(move |asked| {
        let message = STANDARD.decode(asked["message"].as_str().unwrap_or_default()).unwrap();
        match (asked["do"].as_str(), asked["key"].as_str()) {
            (Some("make"), None) => serde_json::json!({"key": "a"}),
            (Some("find"), Some("a")) => serde_json::json!({"point": STANDARD.encode(key.der_bytes())}),
            (Some("sign"), Some("a")) => serde_json::json!({"signature": STANDARD.encode(key.sign(&message).unwrap())}),
            _ => serde_json::json!({"error": "no such key"}),
        }
        .to_string()
    });
    assert_eq!(safe.make().as_deref(), Ok("a"));
    let signer = safe.find("a").unwrap();
    assert_eq!(signer.public_point(), point);
    assert!(!signer.sign(b"message").unwrap().is_empty());
    assert_eq!(safe.find("b").unwrap_err().to_string(), "the CA's signer: it refused: no such key");
}

#[test]
fn a_program_that_answers_nonsense_is_no_safe() {
    for answer in ["", "{}", "null", "{\"key\":\"\"}", "{\"key\":\"a\\nb\"}", "{\"point\":\"AAAA\"}", "{\"key\":7}"] {
        let (_folder, safe) = program(move |_| answer.to_owned());
        assert!(safe.make().is_err() && safe.find("a").is_err(), "{answer}");
    }
    let (_folder, safe) = program(|_| "x".repeat(1 << 20));
    assert!(safe.make().is_err(), "however long it is");
    let gone = SocketSafe::new("/nonexistent/socket".into());
    assert!(gone.make().unwrap_err().to_string().contains("cannot connect to the socket /nonexistent/socket"));
}
