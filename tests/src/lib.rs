//! What the end-to-end tests share: a sandbox of built binaries, looked at the way a user does, and a small trace collector.

pub mod cluster;
pub mod collector;
pub mod pki;
pub mod sandbox;
pub mod tunnel;
