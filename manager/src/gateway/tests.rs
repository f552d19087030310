//! The whole of it over loopback: enrol, connect, call, proxy; and everybody who is turned away.

mod draining;
mod enrolment;
mod fairness;
mod people;
mod proxying;
mod rotation;
mod sessions;
mod wire;
mod world;
