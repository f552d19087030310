//! Attacks on identity, against the built manager over an embedded parent API: each is refused with a typed error.

mod enrolment;
mod handshake;
mod holding;
mod parsers;
mod rig;
mod rotation;
