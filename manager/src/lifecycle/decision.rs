//! What a decision says: the new state, the status to write, what to start, what to tell.

use std::time::Duration;

use super::effect::Effect;
use super::log::State;
use crate::api::{LatticeClusterStatus, Operation, Phase, Reason};

/// What to do next for a cluster.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What the actor remembers until the next decision. Effects in `effects` count as started in it.
    pub state: State,
    /// The status to write, when it differs from the stored one.
    pub status: LatticeClusterStatus,
    /// What to start now.
    pub effects: Vec<Effect>,
    /// When to look again although nothing changed; zero after a move.
    pub requeue: Option<Duration>,
    /// What to tell as Kubernetes Events.
    pub events: Vec<EventNote>,
    /// The move from one phase to another, when there was one.
    pub moved: Option<Move>,
    /// The operation that ended: its root span is exported from this, before the status is written.
    pub finished: Option<Operation>,
}

/// A move from one phase to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Phase before; none for an object that is new.
    pub from: Option<Phase>,
    /// Phase after.
    pub to: Phase,
    /// Why, one sentence.
    pub why: String,
}

/// Something to tell as a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// Normal or Warning.
    pub kind: EventKind,
    /// One of the closed list.
    pub reason: Reason,
    /// What was being done, one word: the phase or the effect.
    pub action: String,
    /// For a person; at most 1,000 bytes.
    pub note: String,
}

/// How loud an Event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It goes as it should.
    Normal,
    /// A person may have to act.
    Warning,
}
