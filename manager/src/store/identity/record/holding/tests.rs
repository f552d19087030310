//! Months of one identity in virtual time: renewals, sleeps, lost answers, restarts, rotations of the CA; and clones.

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::*;
use crate::store::identity::TokenStanding;

const KUBE_SYSTEM: &str = "11111111-2222-3333-4444-555555555555";
const LIFE: SignedDuration = SignedDuration::from_hours(24);

/// The agent as its Secret keeps it.
#[derive(Clone)]
struct Agent {
    bound: String,
    sequence: u64,
    certificate: Option<(Serial, Timestamp, String)>,
    pending: Option<SigningRequest>,
}

struct World {
    record: Record,
    now: Timestamp,
    issuer: String,
    signed: u32,
    random: StdRng,
}

fn request() -> SigningRequest {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    SigningRequest::parse(&CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()).unwrap()
}

fn pin(of: u8) -> String {
    format!("sha256:{}", format!("{of:02x}").repeat(32))
}

impl World {
    fn new(seed: u64) -> Self {
        let (name, uid) = ("backend".parse().unwrap(), "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().unwrap());
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let random = StdRng::seed_from_u64(seed);
        Self { record: Record::new(&name, &uid), now, issuer: pin(1), signed: 0, random }
    }

    fn issue(&mut self) -> Issued {
        self.signed += 1;
        let serial: Serial = format!("4{:07x}", self.signed).parse().unwrap();
        let (not_after, issuer) = (self.now + LIFE, self.issuer.parse().unwrap());
        Issued { chain_pem: format!("certificate {serial}"), serial, not_after, issuer }
    }

    fn enrol(&mut self, token: &JoinToken) -> Agent {
        let request = request();
        assert_eq!(self.record.admit(token, &request, KUBE_SYSTEM, self.now), Ok(Admission::Sign));
        let issued = self.issue();
        let given = self.record.settle(&request, &issued).unwrap();
        let certificate = Some((given.serial, given.not_after, self.issuer.clone()));
        Agent { bound: request.key_sha256(), sequence: given.sequence, certificate, pending: None }
    }

    fn enrolled(seed: u64) -> (Self, Agent) {
        let mut world = Self::new(seed);
        let TokenStanding::Minted(token) = world.record.ensure_token(None, world.now).unwrap() else {
            panic!("minted")
        };
        let agent = world.enrol(&token);
        (world, agent)
    }

    /// As a manager that was killed and started: nothing but what is stored counts.
    fn restart(&mut self) {
        self.record = serde_json::from_slice(&serde_json::to_vec(&self.record).unwrap()).unwrap();
    }

    /// Anything may be lost, anybody may die, at any step.
    fn fails(&mut self) -> bool {
        if self.random.random_ratio(1, 8) {
            self.restart();
        }
        self.random.random_ratio(1, 5)
    }

    fn connects(&mut self, agent: &Agent) -> bool {
        let Some((serial, not_after, issuer)) = &agent.certificate else { return false };
        let trusted = *issuer == self.issuer && self.now < *not_after;
        if !trusted || self.record.pinned(serial).is_err() {
            return false;
        }
        if !self.fails() {
            self.record.shown(serial);
        }
        true
    }

    fn take(agent: &mut Agent, given: Certificate, issuer: &str) {
        agent.certificate = Some((given.serial, given.not_after, issuer.to_owned()));
        agent.sequence = given.sequence;
        agent.pending = None;
    }

    /// One try of a renewal; each message may be lost.
    fn renew(&mut self, agent: &mut Agent) -> Result<(), Refusal> {
        let Some((serial, ..)) = agent.certificate.clone() else { return Ok(()) };
        let asked = agent.pending.get_or_insert_with(request).clone();
        if self.fails() {
            return Ok(());
        }
        let issuer = self.issuer.clone();
        let given = match self.record.renew(&serial, agent.sequence, &asked, &issuer, self.now)? {
            Admission::Again(given) => given,
            Admission::Sign => {
                let issued = self.issue();
                self.record.grant(&asked, &issued)
            }
        };
        if !self.fails() {
            Self::take(agent, given, &issuer);
        }
        Ok(())
    }

    fn recover(&mut self, agent: &mut Agent) -> Result<(), Refusal> {
        let asked = agent.pending.get_or_insert_with(request).clone();
        if self.fails() {
            return Ok(());
        }
        let (issuer, bound, sequence) = (self.issuer.clone(), agent.bound.clone(), agent.sequence);
        let recovery = Recovery { key_sha256: &bound, sequence, kube_system_uid: KUBE_SYSTEM, from: "192.0.2.1" };
        let given = match self.record.recover(&recovery, &asked, &issuer, self.now)? {
            Admission::Again(given) => given,
            Admission::Sign => {
                let issued = self.issue();
                self.record.count_recovery(self.now);
                self.record.grant(&asked, &issued)
            }
        };
        if !self.fails() {
            Self::take(agent, given, &issuer);
        }
        Ok(())
    }

    /// What an agent does until it is connected; a bounded number of tries.
    fn come_back(&mut self, agent: &mut Agent) -> Result<(), Refusal> {
        for _ in 0..200 {
            if self.connects(agent) {
                return Ok(());
            }
            self.recover(agent)?;
            self.now += SignedDuration::from_secs(5);
        }
        panic!("the agent did not come back");
    }
}

#[test]
fn months_of_renewals_sleeps_rotations_and_restarts_need_nobody() {
    for seed in 0..12 {
        let (mut world, mut agent) = World::enrolled(seed);
        let (mut renewals, mut rotations) = (0, 0_u8);
        while renewals < 200 {
            world.come_back(&mut agent).unwrap_or_else(|refusal| panic!("seed {seed}, renewal {renewals}: {refusal}"));
            let before = agent.sequence;
            // Due at 60 to 72 % of a life.
            world.now += SignedDuration::from_secs(world.random.random_range(51_840..62_208));
            for _ in 0..world.random.random_range(1..4) {
                world.renew(&mut agent).unwrap_or_else(|refusal| panic!("seed {seed}: {refusal}"));
            }
            renewals += u32::from(agent.sequence > before);
            if rotations < 3 && renewals / 50 > u32::from(rotations) {
                // The CA is replaced while the agent is away: whatever it holds, or was promised, is of no use.
                rotations += 1;
                world.issuer = pin(1 + rotations);
            }
            let sleep = [0, 0, 0, 0, 0, 0, 1, 25, 60 * 24][world.random.random_range(0..9)];
            world.now += SignedDuration::from_hours(sleep);
        }
        assert_eq!(rotations, 3);
        assert_eq!(world.record.lock(), None);
    }
}

#[test]
fn a_clone_is_noticed_at_its_next_word_and_both_are_out() {
    for seed in 0..40 {
        let (mut world, mut agent) = World::enrolled(seed);
        let mut clone = agent.clone();
        // One of them gets a new certificate and shows it.
        let before = world.record.sequence();
        while world.record.sequence() == before {
            world.come_back(&mut clone).unwrap();
            world.renew(&mut clone).unwrap();
        }
        // The other one holds a certificate that is not in force any more, asks for its way back, and is noticed.
        let mut noticed = world.come_back(&mut agent);
        for _ in 0..50 {
            noticed = noticed.and_then(|()| world.recover(&mut agent));
        }
        assert_eq!(noticed, Err(Refusal::Locked), "seed {seed}");
        world.restart();
        assert!(world.record.lock().is_some(), "and it stays so");
        let serial = clone.certificate.as_ref().unwrap().0.clone();
        assert_eq!(world.record.pinned(&serial), Err(super::super::Unpinned::Locked));
        assert_eq!(world.come_back(&mut clone), Err(Refusal::Locked));
    }
}

#[test]
fn two_holders_of_one_certificate_that_both_renew_are_noticed() {
    let (mut world, agent) = World::enrolled(1);
    let serial = agent.certificate.unwrap().0;
    let issuer = world.issuer.clone();
    let one = request();
    assert_eq!(world.record.renew(&serial, 1, &one, &issuer, world.now), Ok(Admission::Sign));
    let issued = world.issue();
    world.record.grant(&one, &issued);
    assert!(matches!(world.record.renew(&serial, 1, &one, &issuer, world.now), Ok(Admission::Again(_))));
    assert_eq!(world.record.renew(&serial, 1, &request(), &issuer, world.now), Err(Refusal::Locked));
}

#[test]
fn a_wiped_agent_is_let_in_by_a_person_only_and_the_old_key_is_out_then() {
    let (mut world, mut old) = World::enrolled(2);
    let mut wiped = Agent { bound: request().key_sha256(), sequence: 1, certificate: None, pending: None };
    while world.recover(&mut wiped).is_ok() {}
    assert_eq!(world.recover_surely(&mut wiped), Err(Refusal::BoundKey));
    let token = world.record.let_in(world.now).unwrap();
    assert!(matches!(world.record.ensure_token(None, world.now), Ok(TokenStanding::Spent)), "not through the Secret");
    world.come_back(&mut old).expect("until the token is used nothing changes");
    let mut new = world.enrol(&token);
    world.come_back(&mut new).unwrap();
    assert_eq!(world.recover_surely(&mut old), Err(Refusal::BoundKey));
    assert_eq!(world.record.lock(), None, "whoever was let out on purpose locks nobody");
    assert_eq!(world.record.admit(&token, &request(), KUBE_SYSTEM, world.now), Err(Refusal::Replay));
}

#[test]
fn a_locked_identity_is_opened_by_a_person() {
    let (mut world, mut agent) = World::enrolled(3);
    let mut clone = agent.clone();
    clone.sequence = 0;
    assert_eq!(world.recover_surely(&mut clone), Err(Refusal::Locked));
    assert_eq!(world.come_back(&mut agent), Err(Refusal::Locked));
    let token = world.record.let_in(world.now).unwrap();
    let mut new = world.enrol(&token);
    world.come_back(&mut new).unwrap();
}

#[test]
fn recoveries_are_counted_and_the_count_forgets() {
    let (mut world, mut agent) = World::enrolled(4);
    let mut granted = 0;
    let refused = loop {
        agent.pending = None;
        match world.recover_surely(&mut agent) {
            Ok(()) => granted += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((granted, refused), (RECOVERIES_MAX, Refusal::RecoveryLimit));
    world.now += SignedDuration::from_hours(31 * 24);
    world.recover_surely(&mut agent).unwrap();
}

#[test]
fn a_parent_that_was_restored_from_a_backup_takes_its_agents_back() {
    let (mut world, mut agent) = World::enrolled(5);
    let backup = world.record.clone();
    for _ in 0..20 {
        world.come_back(&mut agent).unwrap();
        world.renew(&mut agent).unwrap();
    }
    assert!(agent.sequence > 2);
    world.record = backup;
    world.come_back(&mut agent).unwrap();
    assert_eq!(world.record.lock(), None);
}

impl World {
    /// As [`World::recover`] on a good day.
    fn recover_surely(&mut self, agent: &mut Agent) -> Result<(), Refusal> {
        let asked = agent.pending.get_or_insert_with(request).clone();
        let (issuer, bound) = (self.issuer.clone(), agent.bound.clone());
        let recovery =
            Recovery { key_sha256: &bound, sequence: agent.sequence, kube_system_uid: KUBE_SYSTEM, from: "192.0.2.1" };
        let given = match self.record.recover(&recovery, &asked, &issuer, self.now)? {
            Admission::Again(given) => given,
            Admission::Sign => {
                let issued = self.issue();
                self.record.count_recovery(self.now);
                self.record.grant(&asked, &issued)
            }
        };
        Self::take(agent, given, &issuer);
        Ok(())
    }
}

#[test]
fn a_recovery_that_later_ones_have_overtaken_is_no_clones() {
    let (mut world, mut agent) = World::enrolled(8);
    agent.pending = Some(request());
    let mut late = agent.clone();
    for _ in 0..3 {
        world.recover_surely(&mut agent).unwrap();
    }
    assert!(world.record.sequence() > late.sequence + 1, "it was overtaken twice");
    assert_eq!(world.recover_surely(&mut late), Err(Refusal::NotInForce));
    world.come_back(&mut agent).unwrap();
    assert_eq!(world.record.lock(), None);
    // Another request with that count is.
    late.pending = None;
    assert_eq!(world.recover_surely(&mut late), Err(Refusal::Locked));
}

#[test]
fn a_count_that_no_agent_reaches_is_refused_and_changes_nothing() {
    let (mut world, agent) = World::enrolled(7);
    let before = world.record.clone();
    for sequence in [u64::MAX, u64::MAX - 1, agent.sequence + AHEAD_MAX + 1] {
        let asked = Recovery { key_sha256: &agent.bound, sequence, kube_system_uid: KUBE_SYSTEM, from: "192.0.2.1" };
        let refused = world.record.recover(&asked, &request(), &world.issuer, world.now);
        assert_eq!((refused, &world.record), (Err(Refusal::NotInForce), &before), "count {sequence}");
    }
}
