//! Attacks on identity, against the built manager over an embedded parent API: each is refused with a typed error, and
//! where a person should know, an Event says it.
//!
//! All of them are part of every run; most share one parent, each from an address of its own. `LATTICE_MONTHS=1` lets the
//! life of one built agent go through 200 renewals, three rotations and long sleeps in real time ([`rotation`]).

mod agent;
mod asking;
mod clocks;
mod enrolment;
mod family;
mod flood;
mod handshake;
mod holding;
mod liar;
mod own;
mod parsers;
mod programs;
mod rig;
mod rotation;
mod signer;
mod sleep;
mod story;
mod wait;
