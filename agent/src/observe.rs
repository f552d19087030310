//! What the agent knows of its cluster: nodes, workloads, pods, kinds; kept by watches and told on change.
//!
//! Each kind is watched once, and only while a gate or the health report needs it. Objects are cut down to [`facts`] as
//! they arrive: the agent's memory holds what it decides on and nothing else.
//!
//! **Invariant**: nothing here decides; a kind that was not listed yet is `Unknown`, never empty.

mod api;
pub mod facts;
pub mod objects;
mod watches;
mod world;

pub use api::{Api, Kinds, Resource};
pub use watches::{Observed, Observer};
pub use world::{Kind, Scope, Table, World};
