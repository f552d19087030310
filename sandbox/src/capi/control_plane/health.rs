//! Health of the control plane: conditions on its Machines, and what they make of the control plane itself.
//!
//! Etcd and the static pods are simulated: they are healthy as soon as the Node is seen through the workload API.

use std::sync::Arc;

use kube::api::DynamicObject;

use super::super::cluster::machines as sum_machines;
use super::super::conditions::{Condition, Status, entry};
use super::super::kind::Kind;
use super::super::object::Look as _;
use super::super::plan::Step;
use super::super::view::View;
use super::replicas;

/// Conditions that a control-plane Machine needs to be Ready.
pub(super) const GATES: [&str; 6] = [
    "NodeKubeadmLabelsAndTaintsSet",
    "APIServerPodHealthy",
    "ControllerManagerPodHealthy",
    "SchedulerPodHealthy",
    "EtcdPodHealthy",
    "EtcdMemberHealthy",
];

/// Conditions that this controller writes on its Machines.
pub(super) fn machine_conditions(machines: &[Arc<DynamicObject>], initialized: bool, view: &View<'_>) -> Vec<Step> {
    let of = |machine: &Arc<DynamicObject>| {
        let mut list = vec![Condition::yes("UpToDate", "UpToDate")];
        list.extend(GATES.iter().map(|name| gate(name, machine, initialized, view)));
        Step::Conditions(Kind::Machine, Arc::clone(machine), list)
    };
    let adopted = machines.iter().filter(|machine| machine.has_finalizer(super::super::machine::FINALIZER));
    adopted.map(of).collect()
}

fn gate(name: &str, machine: &DynamicObject, initialized: bool, view: &View<'_>) -> Condition {
    let seen = machine.text("/status/nodeRef/name").is_some();
    if machine.deleting() && initialized && name != GATES[0] {
        return Condition::no(name, "Deleting", "Machine is deleting");
    }
    if !initialized {
        return Condition::unknown(name, "InspectionFailed", "Waiting for Cluster control plane to be initialized");
    }
    if !view.remote.connected
        && let Some(old) = machine.condition(name)
    {
        return Condition::read(old);
    }
    if !seen {
        return Condition::unknown(name, "InspectionFailed", "Waiting for a Node with the Machine's providerID");
    }
    let reason = match name {
        "NodeKubeadmLabelsAndTaintsSet" => "Set",
        "EtcdMemberHealthy" => "Healthy",
        _ => "Running",
    };
    Condition::yes(name, reason)
}

/// All conditions but `CertificatesAvailable`, `Paused` and `Deleting`.
pub(super) fn conditions(
    plane: &DynamicObject,
    machines: &[Arc<DynamicObject>],
    infrastructure: bool,
    initialized: bool,
    was_initialized: bool,
    view: &View<'_>,
) -> Vec<Condition> {
    let waiting = match (infrastructure, was_initialized) {
        (false, _) => Some("Waiting for Cluster status.infrastructureReady to be true"),
        (true, false) => Some("Waiting for Cluster control plane to be initialized"),
        (true, true) => None,
    };
    let etcd = part("EtcdClusterHealthy", &["EtcdMemberHealthy"], machines, waiting);
    let components = part("ControlPlaneComponentsHealthy", &GATES[1..5], machines, waiting);
    let (wanted, have) = (replicas(plane), i64::try_from(machines.len()).unwrap_or(i64::MAX));
    let wanted = if plane.deleting() { 0 } else { wanted };
    vec![
        available(plane, initialized, &etcd, &components, view),
        Condition {
            reason: if initialized { "Initialized" } else { "NotInitialized" }.to_owned(),
            ..Condition::flag("Initialized", initialized, "")
        },
        etcd,
        components,
        Condition::flag("RollingOut", false, ""),
        Condition::flag("Remediating", false, ""),
        Condition::flag("ScalingDown", have > wanted, format!("Scaling down from {have} to {wanted} replicas")),
        Condition::flag("ScalingUp", have < wanted, format!("Scaling up from {have} to {wanted} replicas")),
        sum_machines("MachinesReady", "Ready", machines),
        sum_machines("MachinesUpToDate", "UpToDate", machines),
    ]
}

/// Sums up conditions of the Machines.
fn part(name: &str, of: &[&str], machines: &[Arc<DynamicObject>], waiting: Option<&str>) -> Condition {
    if let Some(waiting) = waiting {
        return Condition::unknown(name, "InspectionFailed", waiting);
    }
    let (mut bad, mut unknown) = (Vec::new(), Vec::new());
    for machine in machines {
        for gate in of {
            let title = format!("Machine {}", machine.name());
            match machine.condition(gate).map(Condition::read) {
                Some(condition) if condition.status == Status::True => {}
                Some(condition) if condition.status == Status::False => {
                    bad.push(entry(&title, &entry(gate, &condition.message)));
                }
                _ => unknown.push(entry(&title, &format!("* {gate}: not yet reported"))),
            }
        }
    }
    if !bad.is_empty() {
        Condition::no(name, "NotHealthy", bad.join("\n"))
    } else if unknown.is_empty() {
        Condition::yes(name, "Healthy")
    } else {
        Condition::unknown(name, "HealthUnknown", unknown.join("\n"))
    }
}

fn available(
    plane: &DynamicObject,
    initialized: bool,
    etcd: &Condition,
    components: &Condition,
    view: &View<'_>,
) -> Condition {
    let name = "Available";
    if !initialized {
        return Condition::no(name, "NotAvailable", "Control plane not yet initialized");
    }
    if plane.deleting() {
        return Condition::no(name, "NotAvailable", "* Control plane metadata.deletionTimestamp is set");
    }
    if !view.remote.connected && view.remote.lost {
        return Condition::unknown(name, "InspectionFailed", "Failed to get etcd members");
    }
    if etcd.status == Status::True && components.status == Status::True {
        return Condition::yes(name, "Available");
    }
    Condition::no(name, "NotAvailable", "Waiting for etcd to report the list of members")
}
