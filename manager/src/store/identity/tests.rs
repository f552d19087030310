//! Join tokens and pins, with races, crashes and lost answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lattice_protocol::limits::{CERTIFICATE_LIFETIME, JOIN_TOKEN_LIFETIME};
use lattice_protocol::tls;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::*;
use crate::store::ca::{Signer, SignerError};
use crate::store::vault::memory::MemoryVault;

mod months;

const KUBE_SYSTEM: &str = "11111111-2222-3333-4444-555555555555";

struct World {
    vault: Arc<MemoryVault>,
    store: IdentityStore,
    name: ClusterName,
    uid: ClusterUid,
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn csr() -> SigningRequest {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    SigningRequest::parse(&CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()).unwrap()
}

impl World {
    async fn new() -> Self {
        let vault = Arc::new(MemoryVault::default());
        let store = Self::open(&vault).await;
        let uid = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().unwrap();
        Self { vault, store, name: "backend".parse().unwrap(), uid }
    }

    async fn open(vault: &Arc<MemoryVault>) -> IdentityStore {
        let vault: Arc<dyn Vault> = Arc::clone(vault) as _;
        let fleet = "test.example".parse().unwrap();
        let ca = Authorities::open(Arc::clone(&vault), &fleet, CERTIFICATE_LIFETIME, now()).await.unwrap();
        IdentityStore::open(vault, ca).await.unwrap()
    }

    /// As a restarted manager.
    async fn restart(&mut self) {
        self.store = Self::open(&self.vault).await;
    }

    async fn token(&self) -> JoinToken {
        match self.store.ensure_token(&self.name, &self.uid, None, now()).await.unwrap() {
            TokenStanding::Minted(token) => token,
            other => panic!("{other:?}"),
        }
    }

    async fn enrol(&self, token: &JoinToken, csr: &SigningRequest) -> Result<Enrolled, Error> {
        self.store.enrol(&self.name, token, csr, KUBE_SYSTEM, now()).await
    }
}

fn identity(enrolled: &Enrolled) -> Identity {
    Identity::of(&CertificateDer::from_pem_slice(enrolled.chain_pem.as_bytes()).unwrap()).unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, expected: Refusal) {
    match result {
        Err(Error::Refused(refusal)) => assert_eq!(refusal, expected),
        other => panic!("{other:?} instead of {expected:?}"),
    }
}

#[tokio::test]
async fn a_token_gives_one_certificate_again_and_again() {
    let mut world = World::new().await;
    let (token, csr) = (world.token().await, csr());
    let first = world.enrol(&token, &csr).await.unwrap();
    assert!(!first.repeated);
    world.restart().await;
    let again = world.enrol(&token, &csr).await.unwrap();
    assert_eq!((again.repeated, &again.chain_pem), (true, &first.chain_pem));
    assert_eq!(world.store.pinned(&identity(&first)).unwrap(), (world.uid.clone(), world.name.clone()));
}

#[tokio::test]
async fn another_request_with_a_used_token_is_refused() {
    let world = World::new().await;
    let token = world.token().await;
    world.enrol(&token, &csr()).await.unwrap();
    refused(world.enrol(&token, &csr()).await, Refusal::Replay);
}

#[tokio::test]
async fn of_a_hundred_requests_at_once_one_is_honoured() {
    let world = World::new().await;
    let token = world.token().await;
    let answers = futures::future::join_all((0..100).map(|_| {
        let (world, token) = (&world, &token);
        async move { world.enrol(token, &csr()).await }
    }))
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        refused(answer, Refusal::Replay);
    }
}

#[tokio::test]
async fn two_managers_that_both_believe_to_lead_sign_one_certificate() {
    let world = World::new().await;
    let token = world.token().await;
    let other = World::open(&world.vault).await;
    let (one, two) = (csr(), csr());
    let (a, b) = tokio::join!(world.enrol(&token, &one), other.enrol(&world.name, &token, &two, KUBE_SYSTEM, now()));
    assert_eq!(u8::from(a.is_ok()) + u8::from(b.is_ok()), 1, "{a:?} {b:?}");
}

#[tokio::test]
async fn the_same_request_to_two_managers_gets_one_certificate() {
    let world = World::new().await;
    let (token, csr) = (world.token().await, csr());
    let other = World::open(&world.vault).await;
    let (a, b) = tokio::join!(world.enrol(&token, &csr), other.enrol(&world.name, &token, &csr, KUBE_SYSTEM, now()));
    assert_eq!(a.unwrap().chain_pem, b.unwrap().chain_pem);
}

#[tokio::test]
async fn a_lost_answer_at_any_write_locks_nobody_out() {
    // Writes: the token, the lease, the settlement.
    for lost in 0..3 {
        let mut world = World::new().await;
        let csr = csr();
        let mut token = None;
        for write in 0..3 {
            world.vault.lose_answers.store(u32::from(write == lost), Ordering::Relaxed);
            match (&token, write) {
                (None, _) => {
                    let first = world.store.ensure_token(&world.name, &world.uid, None, now()).await;
                    assert_eq!(first.is_err(), lost == 0);
                    token = match first {
                        Ok(TokenStanding::Minted(token)) => Some(token),
                        _ => Some(world.token().await),
                    };
                }
                (Some(token), 1) => {
                    world.vault.lose_answers.store(0, Ordering::Relaxed);
                    if lost > 0 {
                        world.vault.lose_answers.store(u32::from(lost == 1), Ordering::Relaxed);
                    }
                    let first = world.enrol(token, &csr).await;
                    assert_eq!(first.is_err(), lost == 1, "{first:?}");
                }
                (Some(token), _) => {
                    world.vault.lose_answers.store(0, Ordering::Relaxed);
                    let enrolled = world.enrol(token, &csr).await.unwrap();
                    assert!(world.store.pinned(&identity(&enrolled)).is_ok());
                    world.restart().await;
                    assert_eq!(world.enrol(token, &csr).await.unwrap().chain_pem, enrolled.chain_pem);
                }
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_a_wrong_and_an_expired_token_sound_alike() {
    let world = World::new().await;
    let token = world.token().await;
    let nobody: ClusterName = "nobody".parse().unwrap();
    let unknown = world.store.enrol(&nobody, &token, &csr(), KUBE_SYSTEM, now()).await.unwrap_err();
    let wrong = world.enrol(&JoinToken::generate(), &csr()).await.unwrap_err();
    let late = now() + JOIN_TOKEN_LIFETIME;
    let expired = world.store.enrol(&world.name, &token, &csr(), KUBE_SYSTEM, late).await.unwrap_err();
    assert_eq!(unknown.to_string(), wrong.to_string());
    assert_eq!(wrong.to_string(), expired.to_string());
    assert!(world.store.check_token(&world.name, &token, now()).is_ok());
    assert_eq!(world.store.check_token(&world.name, &token, late), Err(Refusal::Token));
}

#[tokio::test]
async fn a_token_is_kept_until_it_is_used_or_out_of_date() {
    let mut world = World::new().await;
    let token = world.token().await;
    let writes = world.vault.writes();
    world.restart().await;
    let standing = world.store.ensure_token(&world.name, &world.uid, Some(&token), now()).await.unwrap();
    assert!(matches!(standing, TokenStanding::Kept));
    assert_eq!(world.vault.writes(), writes, "keeping writes nothing");

    let stray = JoinToken::generate();
    let standing = world.store.ensure_token(&world.name, &world.uid, Some(&stray), now()).await.unwrap();
    let TokenStanding::Minted(token) = standing else { panic!("a delivered token that is not stored is replaced") };

    let late = now() + JOIN_TOKEN_LIFETIME + Duration::from_secs(1);
    let standing = world.store.ensure_token(&world.name, &world.uid, Some(&token), late).await.unwrap();
    assert!(matches!(standing, TokenStanding::Minted(_)), "one out of date is replaced");

    let token = world.token().await;
    world.enrol(&token, &csr()).await.unwrap();
    let standing = world.store.ensure_token(&world.name, &world.uid, Some(&token), now()).await.unwrap();
    assert!(matches!(standing, TokenStanding::Spent));
}

#[tokio::test]
async fn a_token_works_for_one_child_only() {
    let world = World::new().await;
    let (token, csr) = (world.token().await, csr());
    world.enrol(&token, &csr).await.unwrap();
    let elsewhere = world.store.enrol(&world.name, &token, &csr, "another", now()).await;
    refused(elsewhere, Refusal::OtherCluster);
    refused(world.store.enrol(&world.name, &token, &csr, "", now()).await, Refusal::KubeSystemUid);
}

#[tokio::test]
async fn a_recreated_cluster_has_nothing_of_the_old_one() {
    let world = World::new().await;
    let old_token = world.token().await;
    let old = world.enrol(&old_token, &csr()).await.unwrap();
    world.store.revoke(&world.uid, now()).await.unwrap();

    let new_uid: ClusterUid = "ffffffff-9f00-4c8e-8a77-0123456789ab".parse().unwrap();
    let standing = world.store.ensure_token(&world.name, &new_uid, Some(&old_token), now()).await.unwrap();
    let TokenStanding::Minted(new_token) = standing else { panic!("a new cluster gets a token of its own") };
    refused(world.enrol(&old_token, &csr()).await, Refusal::Token);
    let new = world.enrol(&new_token, &csr()).await.unwrap();
    assert_eq!(new.uid, new_uid);
    assert_eq!(world.store.pinned(&identity(&old)), Err(Unpinned::Revoked));
    assert!(world.store.pinned(&identity(&new)).is_ok());
}

#[tokio::test]
async fn a_revoked_identity_stays_revoked() {
    let mut world = World::new().await;
    let token = world.token().await;
    let enrolled = world.enrol(&token, &csr()).await.unwrap();
    world.vault.lose_answers.store(1, Ordering::Relaxed);
    assert!(world.store.revoke(&world.uid, now()).await.is_err());
    assert_eq!(
        world.store.pinned(&identity(&enrolled)),
        Err(Unpinned::Revoked),
        "even when the write came back unsure"
    );
    world.store.revoke(&world.uid, now()).await.unwrap();
    world.restart().await;
    assert_eq!(world.store.pinned(&identity(&enrolled)), Err(Unpinned::Revoked));
    refused(world.store.ensure_token(&world.name, &world.uid, None, now()).await, Refusal::Revoked);
    world.store.forget(&world.uid).await.unwrap();
    assert_eq!(world.store.pinned(&identity(&enrolled)), Err(Unpinned::UnknownCluster));
    world.store.revoke(&world.uid, now()).await.unwrap();
    world.store.forget(&world.uid).await.unwrap();
}

#[tokio::test]
async fn only_the_certificate_issued_last_is_in_force() {
    let world = World::new().await;
    let (token, csr) = (world.token().await, csr());
    world.enrol(&token, &csr).await.unwrap();
    let (vault, fleet) = (Arc::clone(&world.vault), "test.example".parse().unwrap());
    let ca = Authorities::open(vault, &fleet, CERTIFICATE_LIFETIME, now()).await.unwrap().present();
    let other = ca.issue_agent(&csr, &ca.fleet().agent(&world.uid), now()).unwrap();
    let leaf = CertificateDer::from_pem_slice(other.chain_pem.as_bytes()).unwrap();
    let same_authority_other_serial = Identity::of(&leaf).map_err(tls::Error::from).unwrap();
    assert_eq!(world.store.pinned(&same_authority_other_serial), Err(Unpinned::Replaced));
}

#[tokio::test]
async fn the_store_keeps_no_token() {
    let world = World::new().await;
    let token = world.token().await;
    let entries = world.vault.list(HOLDS).await.unwrap();
    let secret = token.expose();
    let secret = secret.rsplit('.').next().unwrap();
    for entry in &entries {
        let text = String::from_utf8(entry.contents.data[KEY_RECORD].clone()).unwrap();
        assert!(!text.contains(secret));
        assert!(!format!("{entry:?}").contains(&token.hash().to_hex()));
    }
    assert_eq!(entries.len(), 1);
}

/// Keeps the CA's key and counts what it signs.
struct Counted {
    key: KeyPair,
    signed: AtomicU32,
}

#[derive(Debug)]
struct Safe(Arc<Counted>);

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

impl Signer for Counted {
    fn public_point(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.signed.fetch_add(1, Ordering::Relaxed);
        Ok(self.key.sign(message).unwrap())
    }
}

impl ca::Safe for Safe {
    fn make(&self) -> Result<String, SignerError> {
        Ok("key".to_owned())
    }

    fn find(&self, _: &str) -> Result<Arc<dyn Signer>, SignerError> {
        Ok(Arc::clone(&self.0) as _)
    }
}

#[tokio::test]
async fn whoever_is_refused_or_was_answered_before_costs_no_signature() {
    let mut world = World::new().await;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let counted = Arc::new(Counted { key, signed: AtomicU32::new(0) });
    world.vault = Arc::new(MemoryVault::default());
    let (vault, safe): (Arc<dyn Vault>, Arc<dyn ca::Safe>) =
        (Arc::clone(&world.vault) as _, Arc::new(Safe(Arc::clone(&counted))));
    let fleet = "test.example".parse().unwrap();
    let ca = Authorities::open_with(Arc::clone(&vault), Some(safe), &fleet, CERTIFICATE_LIFETIME, now()).await.unwrap();
    world.store = IdentityStore::open(vault, ca).await.unwrap();
    let (token, first, next) = (world.token().await, csr(), csr());
    world.enrol(&token, &first).await.unwrap();
    let before = counted.signed.load(Ordering::Relaxed);
    let asked = |key: &SigningRequest, sequence| Asked {
        key_sha256: key.key_sha256(),
        sequence,
        kube_system_uid: KUBE_SYSTEM.to_owned(),
        from: "192.0.2.1".to_owned(),
    };
    let thief = csr();
    let stranger = world.store.recover(&world.uid, &asked(&thief, 1), &thief, now()).await;
    assert!(matches!(stranger, Err(Error::Refused(Refusal::BoundKey))), "{stranger:?}");
    assert_eq!(counted.signed.load(Ordering::Relaxed), before, "a stranger's request is not signed");
    for repeated in [false, true] {
        let renewed = world.store.recover(&world.uid, &asked(&first, 1), &next, now()).await.unwrap();
        assert_eq!((renewed.repeated, counted.signed.load(Ordering::Relaxed)), (repeated, before + 1));
    }
    let clone = world.store.recover(&world.uid, &asked(&first, 1), &csr(), now()).await;
    assert!(matches!(clone, Err(Error::Refused(Refusal::Locked))), "{clone:?}");
    assert_eq!(counted.signed.load(Ordering::Relaxed), before + 1);
    world.store = IdentityStore::open(Arc::clone(&world.vault) as _, Arc::clone(&world.store.ca)).await.unwrap();
    assert!(world.store.identified(&world.uid).unwrap().locked.is_some(), "and yet the lock is written down");
}
