//! Component bundles: applied, kept applied, and removed.
//!
//! Each component has one worker ([`worker`]). What a component should be is recorded on the child before the parent is
//! answered ([`record`]), so a restarted agent goes on without the parent. Objects are written by server-side apply with
//! one field manager per component, in stages ([`stage`]); a watch over everything that we applied ([`guard`]) wakes the
//! worker when something was changed or deleted, and it puts that back ([`drift`]).
//!
//! **Guarantees**: only what a component's own inventory names is ever deleted, and never a Namespace, CRD or PVC without
//! being told; an unchanged bundle writes nothing, after a restart too. **Invariant**: the pure parts ([`bundle`],
//! [`drift`], [`prune`], [`stage`]) do no I/O.

mod board;
pub mod bundle;
pub mod drift;
mod engine;
mod guard;
mod ledger;
pub mod object;
pub mod prune;
mod record;
pub mod stage;
mod worker;
mod write;

pub use board::{Board, Posted};
pub use engine::{Context, Engine, Refusal};

/// Why a component could not be applied, recorded or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The child's API refused or failed.
    #[error("{what}")]
    Api {
        /// What was tried: the verb and the object.
        what: String,
        /// The API server's words.
        #[source]
        source: Box<kube::Error>,
    },
    /// The child's API did not answer in time.
    #[error("{0}: no answer in time")]
    Timeout(String),
    /// The child's API does not serve the kind.
    #[error("{0}: its kind is not served by the cluster")]
    UnknownKind(Box<object::Key>),
    /// A namespaced object names no namespace, or the reverse.
    #[error("{0}: {1}")]
    Scope(Box<object::Key>, &'static str),
    /// A CRD did not become established.
    #[error("{0}: not established in time")]
    NotEstablished(String),
    /// What is recorded on the child cannot be read.
    #[error("the record of component {component} cannot be read: {why}")]
    Record {
        /// The component.
        component: String,
        /// What is wrong.
        why: String,
    },
}
