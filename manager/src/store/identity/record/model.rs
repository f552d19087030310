//! The token store as a model: every interleaving of two askers, two managers, crashes, lost and late messages.
//!
//! What decides is the real [`Record`]; the model has only what is around it: messages that are on their way for as long
//! as they like, tasks of a manager that read, judge and write by compare-and-swap, and a manager that dies. The honest
//! agent (0) and whoever has read its join token (1) ask. Two variants that must fail show that the model can see.
//!
//! A short walk is part of every run, with both of the variants that must fail. `LATTICE_MODEL=1` lets more messages be on
//! their way, `LATTICE_MODEL=deep` still more; that takes minutes.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;

const KUBE_SYSTEM: &str = "11111111-2222-3333-4444-555555555555";
const ISSUER: &str = "sha256:0101010101010101010101010101010101010101010101010101010101010101";
/// Messages that each asker sends, repetitions included: enough for a lost answer, and for a certificate after the first.
const ASKS_BRIEF: [u8; 2] = [2, 1];
/// The same with `LATTICE_MODEL=1`: enough for a repetition that is late.
const ASKS: [u8; 2] = [3, 1];
/// The same with `LATTICE_MODEL=deep`.
const ASKS_DEEP: [u8; 2] = [4, 2];
/// Managers that die.
const CRASHES: u8 = 1;

static NOW: LazyLock<Timestamp> = LazyLock::new(|| "2026-11-24T12:00:00Z".parse().expect("a time"));
static TOKEN: LazyLock<JoinToken> = LazyLock::new(JoinToken::generate);
/// The request of asker 0 for its n-th certificate, then the one of asker 1.
static REQUESTS: LazyLock<[SigningRequest; 4]> = LazyLock::new(|| std::array::from_fn(|_| request()));

fn request() -> SigningRequest {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let pem = CertificateParams::default().serialize_request(&key).and_then(|csr| csr.pem()).expect("a request");
    SigningRequest::parse(&pem).expect("a good request")
}

/// A record that can be a part of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored(Record);

impl Hash for Stored {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        serde_json::to_vec(&self.0).expect("a record is data").hash(hasher);
    }
}

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// On its way, or read and not judged yet.
    Arrived,
    /// Judged by what was read at `version`; to be written.
    Writing { next: Box<Stored>, version: u8, then: Then },
    /// Its lease is written; to be signed and settled.
    Leased,
    /// The answer is on its way.
    Answered { serial: u8, sequence: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Then {
    Sign,
    Answer { serial: u8, sequence: u64 },
}

/// A request and who asks: `count` of its certificates, 0 with the join token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Task {
    asker: usize,
    count: u64,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    stored: Stored,
    version: u8,
    tasks: Vec<Task>,
    asked: [u8; 2],
    /// Serial and count of the certificate that the honest agent holds.
    holds: Option<(u8, u64)>,
    signed: u8,
    /// Who was ever answered with a certificate.
    answered: BTreeSet<usize>,
    crashes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Ask(usize),
    Step(usize),
    Lose(usize),
    Connect,
    Crash,
}

/// What is left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Whole,
    /// Writes win whatever was read.
    BlindWrites,
    /// The answer leaves before it is settled.
    AnswerFirst,
}

struct TokenStore {
    variant: Variant,
    asks: [u8; 2],
}

fn serial(number: u8) -> Serial {
    format!("4{number:07x}").parse().expect("a serial")
}

fn number(serial: &Serial) -> u8 {
    u8::from_str_radix(&serial.as_str()[1..], 16).expect("one of ours")
}

fn csr(asker: usize, count: u64) -> &'static SigningRequest {
    let at = if asker == 1 { 3 } else { usize::try_from(count).expect("small").min(2) };
    &REQUESTS[at]
}

fn issue(world: &mut World) -> Issued {
    world.signed += 1;
    let serial = serial(world.signed);
    let issuer = ISSUER.parse().expect("a pin");
    Issued {
        chain_pem: format!("{}", world.signed),
        serial,
        not_after: *NOW + std::time::Duration::from_hours(24),
        issuer,
    }
}

impl TokenStore {
    /// One step of a request, as `IdentityStore` takes it. None: it ends, refused.
    fn step(&self, world: &mut World, mut task: Task) -> Option<Task> {
        let request = csr(task.asker, task.count);
        let mut next = world.stored.0.clone();
        let answer = |given: &Certificate| Then::Answer { serial: number(&given.serial), sequence: given.sequence };
        task.stage = match task.stage {
            Stage::Arrived if task.count == 0 => match next.admit(&TOKEN, request, KUBE_SYSTEM, *NOW).ok()? {
                Admission::Sign => {
                    Stage::Writing { next: Box::new(Stored(next)), version: world.version, then: Then::Sign }
                }
                Admission::Again(given) => Stage::Answered { serial: number(&given.serial), sequence: given.sequence },
            },
            Stage::Arrived => {
                let key_sha256 = csr(0, 0).key_sha256();
                let asked =
                    Recovery { key_sha256: &key_sha256, sequence: task.count, kube_system_uid: KUBE_SYSTEM, from: "a" };
                let then = match next.recover(&asked, request, ISSUER, *NOW) {
                    Ok(Admission::Sign) => answer(&next.grant(request, &issue(world))),
                    Ok(Admission::Again(given)) => answer(&given),
                    // A lock is written down as well.
                    Err(Refusal::Locked) => {
                        world.stored = Stored(next);
                        return None;
                    }
                    Err(_) => return None,
                };
                Stage::Writing { next: Box::new(Stored(next)), version: world.version, then }
            }
            Stage::Leased => {
                let issued = issue(world);
                let then = answer(&next.settle(request, &issued).ok()?);
                if self.variant == Variant::AnswerFirst {
                    let Then::Answer { serial, sequence } = then else { return None };
                    world.answered.insert(task.asker);
                    Stage::Answered { serial, sequence }
                } else {
                    Stage::Writing { next: Box::new(Stored(next)), version: world.version, then }
                }
            }
            Stage::Writing { next, version, then } => {
                let same = *next == world.stored;
                if version != world.version && self.variant != Variant::BlindWrites && !same {
                    // A lost race is read again.
                    if matches!(then, Then::Sign) || task.count > 0 { Stage::Arrived } else { Stage::Leased }
                } else {
                    if !same {
                        (world.stored, world.version) = (*next, world.version + 1);
                    }
                    match then {
                        Then::Sign => Stage::Leased,
                        Then::Answer { serial, sequence } => {
                            world.answered.insert(task.asker);
                            Stage::Answered { serial, sequence }
                        }
                    }
                }
            }
            Stage::Answered { serial, sequence } => {
                world.answered.insert(task.asker);
                if task.asker == 0 && world.holds.is_none_or(|(_, held)| sequence > held) {
                    world.holds = Some((serial, sequence));
                }
                return None;
            }
        };
        Some(task)
    }
}

impl Model for TokenStore {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let uid = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().expect("a uid");
        let mut record = Record::new(&"backend".parse().expect("a name"), &uid);
        record.token = Some(Token::new(&TOKEN, *NOW, false));
        let (stored, tasks, answered) = (Stored(record), Vec::new(), BTreeSet::new());
        vec![World { stored, version: 0, tasks, asked: [0; 2], holds: None, signed: 0, answered, crashes: 0 }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend((0..2).filter(|asker| world.asked[*asker] < self.asks[*asker]).map(Action::Ask));
        actions.extend((0..world.tasks.len()).map(Action::Step));
        let answered = |task: &Task| matches!(task.stage, Stage::Answered { .. });
        actions.extend((0..world.tasks.len()).filter(|at| answered(&world.tasks[*at])).map(Action::Lose));
        if world.holds.is_some() {
            actions.push(Action::Connect);
        }
        if world.crashes < CRASHES && !world.tasks.is_empty() {
            actions.push(Action::Crash);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Ask(asker) => {
                next.asked[asker] += 1;
                let count = if asker == 0 { next.holds.map_or(0, |(_, count)| count) } else { 0 };
                if count > 2 {
                    return None;
                }
                next.tasks.push(Task { asker, count, stage: Stage::Arrived });
            }
            Action::Step(at) => {
                let task = next.tasks.remove(at);
                if let Some(task) = self.step(&mut next, task) {
                    next.tasks.push(task);
                }
            }
            Action::Lose(at) => drop(next.tasks.remove(at)),
            Action::Connect => next.stored.0.shown(&serial(next.holds?.0)),
            Action::Crash => {
                // What is on its way stays on its way.
                next.tasks.retain(|task| matches!(task.stage, Stage::Arrived | Stage::Answered { .. }));
                next.crashes += 1;
            }
        }
        if next.stored != world.stored && next.version == world.version {
            next.version += 1;
        }
        // The order of tasks means nothing.
        next.tasks.sort_by_key(|task| format!("{task:?}"));
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one key holds the identity", |_, world: &World| world.answered.len() <= 1),
            Property::always("an honest agent locks nobody", |_, world: &World| world.stored.0.lock().is_none()),
            Property::always("whoever was promised something may come again", |_, world: &World| {
                let admitted = |asker| world.stored.0.clone().admit(&TOKEN, csr(asker, 0), KUBE_SYSTEM, *NOW).is_ok();
                admitted(0) || admitted(1)
            }),
            Property::always("a lost answer locks the honest agent out of nothing", |_, world: &World| {
                let Some((held, count)) = world.holds else {
                    // Until the other one is promised the identity, the honest one gets it.
                    let mut record = world.stored.0.clone();
                    return record.admit(&TOKEN, csr(0, 0), KUBE_SYSTEM, *NOW).is_ok()
                        || world.stored.0.clone().admit(&TOKEN, csr(1, 0), KUBE_SYSTEM, *NOW).is_ok();
                };
                let key_sha256 = csr(0, 0).key_sha256();
                let asked =
                    Recovery { key_sha256: &key_sha256, sequence: count, kube_system_uid: KUBE_SYSTEM, from: "a" };
                let comes_back = world.stored.0.clone().recover(&asked, csr(0, count), ISSUER, *NOW).is_ok();
                world.stored.0.pinned(&serial(held)).is_ok() || comes_back
            }),
            Property::sometimes(
                "the honest agent has all certificates that it can have",
                |model: &Self, world: &World| {
                    world.holds.is_some_and(|(_, count)| count == u64::from(model.asks[0].min(3)))
                },
            ),
            Property::sometimes("the other one was faster", |_, world: &World| world.answered.contains(&1)),
            Property::sometimes("a manager died after it had signed", |_, world: &World| {
                world.crashes == 1 && world.signed == 2 && world.answered.contains(&0)
            }),
        ]
    }
}

/// How far to walk.
fn asks() -> [u8; 2] {
    match std::env::var_os("LATTICE_MODEL") {
        None => ASKS_BRIEF,
        Some(how) if how == "deep" => ASKS_DEEP,
        Some(_) => ASKS,
    }
}

#[test]
fn no_interleaving_gives_two_keys_one_identity_or_locks_an_honest_agent_out() {
    let checked = TokenStore { variant: Variant::Whole, asks: asks() }.checker().threads(2).spawn_bfs().join();
    checked.assert_properties();
    assert!(checked.is_done(), "every state was seen");
}

/// Walks through a store that lacks something until it fails.
fn fails(variant: Variant, at: &'static str) {
    let store = TokenStore { variant, asks: ASKS_BRIEF };
    let checked = store.checker().threads(2).finish_when(HasDiscoveries::AnyOf([at].into())).spawn_bfs().join();
    assert!(checked.discovery(at).is_some(), "{variant:?} breaks nothing: {:?}", checked.discoveries().keys());
}

#[test]
fn a_store_without_compare_and_swap_is_caught() {
    fails(Variant::BlindWrites, "at most one key holds the identity");
}

#[test]
fn an_answer_before_its_settlement_is_caught() {
    fails(Variant::AnswerFirst, "a lost answer locks the honest agent out of nothing");
}
