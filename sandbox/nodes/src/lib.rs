//! Simulated scheduler, workload controllers and kubelets for one Kubernetes API.
//!
//! [`Nodes`] takes a [`kube::Client`] and plays what a cluster's control loops and machines would
//! do: it schedules pods, turns Deployments, DaemonSets, StatefulSets and Jobs into pods with true
//! status, and runs one kubelet per joined node. Containers are simulated, except those that a
//! [`Runtime`] claims: those become real processes.
//!
//! - **Guarantee**: in steady state nothing is written; a write happens only when a field changed.
//! - **Guarantee**: everything is rebuilt from the API after a restart. Running pods stay running;
//!   real processes are started again and count as a restart.
//! - **Assumption**: one `Nodes` per API. Two would fight over the same pods.
//! - **Caveat**: no network between pods exists; addresses of pods are names only.

mod cache;
pub mod config;
mod engine;
mod events;
pub mod faults;
mod kubelet;
mod meta;
mod node;
pub mod nodes;
mod op;
mod pace;
mod queue;
pub mod runtime;
mod scheduler;
pub mod streams;
#[cfg(test)]
mod testing;
mod workloads;

pub use config::{CniRule, NodeSpec, NodesConfig};
pub use faults::{Fault, Faults, WorkloadRef};
pub use nodes::Nodes;
pub use runtime::{ContainerRun, Exit, Runtime, Stop};
pub use streams::{PodCall, Streams};
