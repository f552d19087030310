//! What came of the effects so far: bookkeeping of attempts, as data.
//!
//! Lives in memory only. A manager that was killed starts with an empty log, and at worst repeats one idempotent effect.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lattice_protocol::clock;

use super::effect::{Effect, EffectKind, Failure, Outcome};
use crate::api::{ErrorClass, LastError};

/// How long an effect that is done may stay invisible in the facts before it is tried again. Longer delays repair,
/// shorter repeats effects while a watch is behind.
const VISIBLE_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// What a cluster's actor remembers between decisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    entries: BTreeMap<EffectKind, Entry>,
    /// An effect has ended since this manager took the cluster on.
    ended: bool,
    /// The first look was taken; `carried` is what the status said then.
    resumed: bool,
    carried: Option<LastError>,
    /// Number of the last incident that was told.
    told: u64,
}

/// What came of one effect last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) generation: i64,
    pub(super) run: Run,
    /// Failed attempts in a row.
    pub(super) attempts: u32,
    /// When the row began.
    pub(super) failing_since: Option<Timestamp>,
    /// The last failure, kept while the next attempt runs.
    pub(super) failure: Option<Failure>,
}

/// Where an effect is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Run {
    Running,
    Done { at: Timestamp },
    Failed { next: Timestamp },
}

/// What to do about an effect that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Start it.
    Now,
    /// It runs; its end is a reason to look again.
    Running,
    /// Not before this time.
    At(Timestamp),
}

impl State {
    /// Takes over the failure that the status names, so that a restart does not reset its count.
    pub(super) fn resume(&mut self, stored: Option<&LastError>) {
        if !self.resumed {
            self.resumed = true;
            self.carried = stored.cloned();
        }
    }

    /// Whether incident `number` was not told yet; it counts as told from here on.
    pub(super) fn is_news(&mut self, number: u64) -> bool {
        let news = number > self.told;
        self.told = self.told.max(number);
        news
    }

    /// Records how an effect ended.
    pub fn finish(&mut self, effect: &Effect, outcome: Outcome, now: Timestamp) {
        self.ended = true;
        let entry = self.entries.entry(effect.kind.clone()).or_insert_with(|| Entry::new(effect.generation));
        match outcome {
            Outcome::Done => *entry = Entry { run: Run::Done { at: now }, ..Entry::new(effect.generation) },
            Outcome::Failed(failure) => {
                entry.attempts = entry.attempts.saturating_add(1);
                entry.failing_since.get_or_insert(now);
                let wait = backoff(&failure, entry.attempts, &effect.kind);
                entry.run = Run::Failed { next: now.saturating_add(wait).unwrap_or(Timestamp::MAX) };
                entry.failure = Some(failure);
            }
        }
    }

    /// Whether any effect is running.
    pub fn is_busy(&self) -> bool {
        self.entries.values().any(|entry| entry.run == Run::Running)
    }

    pub(super) fn start(&mut self, kind: EffectKind, generation: i64) {
        let entry = self.entries.entry(kind).or_insert_with(|| Entry::new(generation));
        if entry.generation != generation {
            *entry = Entry::new(generation);
        }
        entry.run = Run::Running;
    }

    pub(super) fn is_running(&self, kind: &EffectKind) -> bool {
        self.entries.get(kind).is_some_and(|entry| entry.run == Run::Running)
    }

    /// Whether anything came of an effect yet, or is about to.
    pub(super) fn is_known(&self, kind: &EffectKind) -> bool {
        self.entries.contains_key(kind)
    }

    /// Whether an effect with no visible trace was done for this generation.
    pub(super) fn is_done(&self, kind: &EffectKind, generation: i64) -> bool {
        self.entries
            .get(kind)
            .is_some_and(|entry| entry.generation == generation && matches!(entry.run, Run::Done { .. }))
    }

    /// When an effect whose result the facts do not show is to be started.
    pub(super) fn due(&self, kind: &EffectKind, generation: i64, now: Timestamp) -> Due {
        let Some(entry) = self.entries.get(kind) else { return Due::Now };
        let at = match entry.run {
            Run::Running => return Due::Running,
            Run::Done { .. } | Run::Failed { .. } if entry.generation != generation => return Due::Now,
            Run::Done { at } => at.saturating_add(VISIBLE_AFTER).unwrap_or(Timestamp::MAX),
            Run::Failed { next } => next,
        };
        if at <= now { Due::Now } else { Due::At(at) }
    }

    /// Forgets what is kept of effects that nobody wants any more, running ones apart.
    pub(super) fn retain(&mut self, wanted: impl Fn(&EffectKind) -> bool) {
        self.entries.retain(|kind, entry| entry.run == Run::Running || wanted(kind));
    }

    /// The failure that a person should see first: the one that began first.
    ///
    /// `stored` is what the status says; it stands until the first effect of this manager has ended.
    pub(super) fn last_error(&self, stored: Option<LastError>) -> Option<LastError> {
        let failing =
            self.entries.values().filter_map(|entry| Some((entry.failing_since?, entry, entry.failure.as_ref()?)));
        let Some((since, entry, failure)) = failing.min_by_key(|(since, ..)| *since) else {
            return stored.filter(|_| !self.ended && !self.entries.is_empty());
        };
        let carried = self.carried.as_ref().filter(|carried| carried.reason == failure.reason.as_str());
        let next_attempt = match entry.run {
            Run::Failed { next } => Some(time(next)),
            // The next attempt runs: what was said of it before stands.
            Run::Running | Run::Done { .. } => stored.and_then(|stored| stored.next_attempt),
        };
        Some(LastError {
            class: failure.class,
            reason: failure.reason.as_str().to_owned(),
            message: failure.message.clone(),
            since: carried.map_or_else(|| time(since), |carried| carried.since.clone()),
            attempts: carried.map_or(0, |carried| carried.attempts).saturating_add(entry.attempts),
            next_attempt,
        })
    }
}

impl Entry {
    fn new(generation: i64) -> Self {
        Self { generation, run: Run::Running, attempts: 0, failing_since: None, failure: None }
    }
}

fn time(at: Timestamp) -> Time {
    Time(clock::to_seconds(at))
}

/// First and longest wait between two attempts of a class.
fn pace(class: ErrorClass) -> (Duration, Duration) {
    let (first, longest) = match class {
        ErrorClass::Throttled => (5_000, 120_000),
        ErrorClass::Transient => (500, 30_000),
        ErrorClass::Dependency => (1_000, 30_000),
        ErrorClass::Auth | ErrorClass::Misconfigured => (5_000, 60_000),
        ErrorClass::Unknown => (1_000, 60_000),
    };
    (Duration::from_millis(first), Duration::from_millis(longest))
}

/// Waits longer after each failure in a row, spread by effect so that clusters do not retry in step.
fn backoff(failure: &Failure, attempts: u32, kind: &EffectKind) -> SignedDuration {
    let (first, longest) = pace(failure.class);
    let doubled = first.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
    let wait = doubled.min(longest);
    // Up to a fifth, and the same for the same attempt: a decision has no randomness.
    let spread =
        kind.to_string().bytes().fold(attempts, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 200;
    let wait = wait + wait.saturating_mul(spread) / 1_000;
    SignedDuration::try_from(wait.max(failure.retry_after.unwrap_or_default())).unwrap_or(SignedDuration::MAX)
}
