//! The whole agent against a parent of the tests' own and the embedded API server: enrolment, session, health, bundles,
//! gates, drift, restarts, and the proxy.

mod child;
mod components;
mod parent;
mod session;
