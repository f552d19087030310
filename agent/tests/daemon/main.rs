//! The whole agent against a parent of the tests' own and the embedded API server: enrolment, session, health, bundles,
//! gates, drift, restarts, and the proxy.

#[cfg(test)]
mod child;
#[cfg(test)]
mod components;
#[cfg(test)]
mod parent;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod session;
