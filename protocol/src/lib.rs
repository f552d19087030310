//! What both daemons must agree on: wire messages, ids, identity, TLS settings, transport, limits, reasons, and the
//! helpers that keep their tasks and telemetry alike.
//!
//! Nothing here knows what a cluster needs or how it is made; that is the manager's.

pub mod claims;
pub mod clock;
pub mod ending;
pub mod ids;
pub mod limits;
pub mod reason;
pub mod recovery;
pub mod renewal;
pub mod spiffe;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod transport;
pub mod version;

/// Messages and services of package `lattice.v1`, generated from `protocol/proto`.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code; its docs are in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("lattice.v1");
}
