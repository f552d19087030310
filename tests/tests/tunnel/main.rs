//! The tunnel and the Kubernetes API through it, as its users meet them: people with kubectl, and programs that must never
//! be told an untruth while something is killed.

mod outage;
mod people;
mod streams;
mod versions;
