//! The tunnel and the Kubernetes API through it, as its users meet them: people with kubectl, and programs that must never
//! be told an untruth while something is killed.

mod cluster_api;
mod copies;
mod enter;
mod floods;
mod garbage;
mod kubeconfig;
mod namespaces;
mod outage;
mod pair;
mod people;
mod proxied;
mod streams;
mod versions;
mod virtual_time;
mod without_udp;
