//! One look at a cluster: facts in, the decision being made out of it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lattice_protocol::clock;

use super::decision::{Decision, EventKind, EventNote, Move};
use super::effect::{Effect, EffectKind};
use super::facts::Facts;
use super::log::{Due, State};
use super::mirror::World;
use crate::api::condition::cut;
use crate::api::{
    ConditionStatus, Conditions, LatticeCluster, LatticeClusterSpec, LatticeClusterStatus, Operation, Phase, Reason,
};

/// Longest note of an Event, bytes; the API server refuses more than 1,024.
const NOTE_BYTES_MAX: usize = 1_000;

/// Longest sentence of `status.message`, bytes.
const SENTENCE_BYTES_MAX: usize = 1_024;

/// One look at a cluster.
pub(super) struct Look<'a> {
    pub(super) facts: &'a Facts,
    pub(super) now: Timestamp,
    pub(super) world: World,
    /// The status as it was stored.
    pub(super) stored: LatticeClusterStatus,
    pub(super) state: State,
    pub(super) status: LatticeClusterStatus,
    pub(super) conditions: Conditions,
    pub(super) effects: Vec<Effect>,
    pub(super) events: Vec<EventNote>,
    pub(super) moved: Option<Move>,
    pub(super) finished: Option<Operation>,
    wanted: BTreeSet<EffectKind>,
    wake: Option<Timestamp>,
    /// Effects may be started.
    active: bool,
}

impl<'a> Look<'a> {
    pub(super) fn new(state: &State, facts: &'a Facts, now: Timestamp) -> Self {
        let stored = facts.cluster.status.clone().unwrap_or_default();
        let objects = facts.objects.known().map(Vec::as_slice).unwrap_or_default();
        let mut state = state.clone();
        state.resume(stored.last_error.as_ref());
        let deleting = facts.cluster.metadata.deletion_timestamp.is_some();
        let active = !facts.cluster.spec.paused && (facts.quarantine.is_none() || deleting);
        Self {
            facts,
            now,
            world: World::read(objects),
            conditions: Conditions::from_stored(&stored.conditions),
            status: stored.clone(),
            stored,
            state,
            effects: Vec::new(),
            events: Vec::new(),
            moved: None,
            finished: None,
            wanted: BTreeSet::new(),
            wake: None,
            active,
        }
    }

    pub(super) fn object(&self) -> &'a LatticeCluster {
        &self.facts.cluster
    }

    pub(super) fn spec(&self) -> &'a LatticeClusterSpec {
        &self.facts.cluster.spec
    }

    pub(super) fn name(&self) -> &'a str {
        self.facts.cluster.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &'a str {
        self.facts.cluster.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn generation(&self) -> i64 {
        self.facts.cluster.metadata.generation.unwrap_or_default()
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        self.status.phase
    }

    /// Whether effects may be started: not when paused or quarantined.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// The present time, as a status carries it.
    pub(super) fn time(&self) -> Time {
        Time(clock::to_seconds(self.now))
    }

    /// Starts an effect whose result the facts do not show yet, when it is due.
    pub(super) fn want(&mut self, kind: EffectKind) {
        if !self.active {
            return;
        }
        let generation = self.generation();
        match self.state.due(&kind, generation, self.now) {
            Due::Now => {
                self.state.start(kind.clone(), generation);
                self.effects.push(Effect { kind: kind.clone(), generation });
            }
            Due::Running => {}
            Due::At(at) => self.wake_at(at),
        }
        self.wanted.insert(kind);
    }

    /// Has an effect without visible result done once for this generation; tells whether it is.
    pub(super) fn done_once(&mut self, kind: EffectKind) -> bool {
        if self.state.is_done(&kind, self.generation()) {
            self.wanted.insert(kind);
            return true;
        }
        self.want(kind);
        false
    }

    pub(super) fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn set(&mut self, type_: &str, status: ConditionStatus, reason: Reason, message: impl Into<String>) {
        self.conditions.set(type_, status, reason, message, Some(self.generation()), self.now);
    }

    /// Sets the one sentence of the status.
    pub(super) fn say(&mut self, sentence: impl Into<String>) {
        self.status.message = Some(cut(sentence.into(), SENTENCE_BYTES_MAX));
    }

    pub(super) fn tell(&mut self, kind: EventKind, reason: Reason, action: impl Into<String>, note: impl Into<String>) {
        let note = cut(note.into(), NOTE_BYTES_MAX);
        self.events.push(EventNote { kind, reason, action: action.into(), note });
    }

    /// Moves to another phase.
    ///
    /// # Panics
    ///
    /// When the move is not legal: a mistake of ours, and going on would hide it.
    pub(super) fn go(&mut self, to: Phase, why: impl Into<String>) {
        let from = self.status.phase;
        assert!(super::phase::is_legal(from, to), "illegal move from {from:?} to {to:?}");
        let why = why.into();
        self.status.phase = Some(to);
        self.moved = Some(Move { from, to, why });
    }

    /// Forgets what came of effects that nobody wants any more: what they were to do is so.
    pub(super) fn forget(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        self.state.retain(|kind| wanted.contains(kind));
    }

    /// Ends the look.
    pub(super) fn decide(self) -> Decision {
        let carried = self.stored.last_error.clone();
        let status = LatticeClusterStatus {
            last_error: self.state.last_error(carried),
            conditions: self.conditions.into_stored(),
            ..self.status
        };
        let requeue = if self.moved.is_some() {
            Some(Duration::ZERO)
        } else {
            self.wake.map(|at| Duration::try_from(at.duration_since(self.now)).unwrap_or(Duration::ZERO))
        };
        Decision {
            state: self.state,
            status,
            effects: self.effects,
            requeue,
            events: self.events,
            moved: self.moved,
            finished: self.finished,
        }
    }
}
