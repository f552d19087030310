//! Runs on each workload cluster and dials its parent.
//!
//! The agent is a server that dials: it opens one connection, and on it the parent makes calls. It applies component
//! bundles and keeps them applied, also while the parent is away; it reports the cluster's health; it lends the parent
//! the cluster's Kubernetes API.

pub mod app;
pub mod apply;
pub mod backoff;
pub mod child;
pub mod cli;
pub mod dial;
pub mod gate;
pub mod identity;
pub mod monitor;
pub mod notice;
pub mod observe;
pub mod serve;
