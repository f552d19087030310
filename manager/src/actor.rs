//! Fleet, cluster and component actors, and their supervision.
//!
//! The fleet's actor has one cluster actor per `LatticeCluster`, each with one component actor per component. A panic
//! costs one cluster half a second, never its neighbours. Handlers never wait: what takes time runs as a task on the
//! multi-thread runtime and comes back as a message.

mod agents;
mod catalog;
mod cluster;
mod component;
mod crew;
mod facts;
mod fleet;
mod leash;
mod provider;
mod restart;
mod stage;
mod trace;
mod tunnel;

pub use agents::Agents;
pub use crew::Crew;
pub use fleet::{Fleet, LookAt, Wardens};
pub use provider::follow as follow_providers;
pub use restart::{PANIC_WINDOW, PANICS_MAX, Panics, RESTART_DELAY_FIRST, Verdict};
pub use stage::{Error as StageError, Exit, Stage, Started};
pub use tunnel::Tunnel;
