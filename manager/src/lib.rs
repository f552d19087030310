//! Turns `LatticeCluster` objects into running clusters.
//!
//! Data flows one way: object or agent event → message → decide → effects → perform → outcome → message. The rooms and
//! who may use whom: `docs/ARCHITECTURE.md`; `tests/tests/tidy.rs` holds it.

pub mod actor;
pub mod api;
pub mod app;
pub mod chart;
pub mod gateway;
pub mod lifecycle;
pub mod metrics;
pub mod perform;
pub mod render;
pub mod store;
pub mod watch;
