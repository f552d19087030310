//! A simulated Cluster API: ordinary controllers on an ordinary Kubernetes API.
//!
//! They write what the real controllers of Cluster API write, in the same order, and know nothing of whoever made the
//! objects. A workload cluster is reached only through its kubeconfig Secret; machines are made by a [`Machines`].
//!
//! - **Guarantee**: in steady state nothing is written.
//! - **Guarantee**: everything is derived from the API and from [`Machines`]; a restart changes nothing.
//! - **Caveat**: no ClusterClass, MachinePools, remediation or in-place updates; see each controller for the rest.

mod bootstrap;
mod cache;
mod clones;
mod cluster;
mod conditions;
mod control_plane;
pub mod crds;
mod deployment;
mod engine;
mod health_check;
mod infra_cluster;
mod infra_machine;
mod kind;
mod machine;
mod machines;
mod object;
mod plan;
mod queue;
mod remote;
mod set;
mod userdata;
mod view;

pub use engine::{Capi, Config};
pub use machines::{Boot, Machines, Power};
