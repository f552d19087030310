//! Simulated machines: a folder each, an address each, cloud-init that is really executed, and the workload clusters
//! that come up on them.

pub(crate) mod address;
pub(crate) mod agents;
pub(crate) mod child;
pub(crate) mod cloud_init;
pub(crate) mod folder;
pub(crate) mod hypervisor;
pub(crate) mod kubeadm;
pub(crate) mod paths;
pub(crate) mod relay;
