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
pub(crate) mod record;
pub(crate) mod relay;

use lattice_apiserver::ApiServer;
use lattice_nodes::{Nodes, PodCall};

/// Lets the simulated kubelets answer for the pods of a server: logs, commands, ports.
pub(crate) fn answer_for_pods(server: &ApiServer, nodes: &Nodes) {
    let streams = nodes.streams();
    server.set_kubelets(move |call, request| {
        let streams = streams.clone();
        let call = PodCall { namespace: call.namespace, pod: call.pod, subresource: call.subresource };
        async move { streams.answer(call, request).await }
    });
}
