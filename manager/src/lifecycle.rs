//! What to do next for a cluster: pure functions of facts, without I/O, clock, log or randomness.
//!
//! An actor gathers [`Facts`], calls [`decide`], writes the status that it returns when it differs from the stored
//! one, starts the effects, and hands each outcome to [`State::finish`]; then it looks again. Facts are level-triggered:
//! nothing here depends on having seen a change, so a manager that was killed resumes from the stored status and the
//! objects alone.
#![deny(clippy::wildcard_enum_match_arm)]

mod agent;
mod component;
mod decide;
mod decision;
mod deleting;
mod effect;
mod ensure;
mod facts;
pub mod graph;
pub mod history;
mod identity;
pub mod infrastructure;
mod log;
mod look;
pub mod mirror;
mod operation;
pub mod phase;
mod precondition;
pub mod provider;
mod summary;

pub use agent::GRACE;
pub use decide::decide;
pub use decision::{Decision, EventKind, EventNote, Move};
pub use effect::{Certainty, Effect, EffectKind, Failure, Outcome, Stage};
pub use ensure::spec_digest;
pub use facts::{
    AgentFacts, Catalog, Component, Facts, Health, Incident, NamespaceFacts, Need, NodeFacts, Observed, ParentFacts,
    Quarantine, Report, ReportState, SecretFacts, SecretsFacts, Seen, Session, Sighting,
};
pub use log::State;

#[cfg(test)]
mod tests;
