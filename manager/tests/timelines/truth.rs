//! What is true, judged by other objects than those that the manager reads it from: the provider's machines, the
//! control plane's own status.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kube::api::DynamicObject;
use lattice_manager::api::ConditionStatus;
use lattice_manager::lifecycle::infrastructure::{self, Asked};
use serde_json::Value;

use super::recording::Objects;

/// What the manager would claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) infrastructure: bool,
    pub(crate) infrastructure_reason: &'static str,
    pub(crate) infrastructure_message: String,
    pub(crate) control_plane: bool,
    pub(crate) nodes_ready: bool,
    pub(crate) nodes_message: String,
    pub(crate) summary: String,
    /// Ready and up to date by group; the control plane is the empty name.
    pub(crate) groups: BTreeMap<String, (u32, u32, u32)>,
    pub(crate) first_machine: Option<String>,
}

/// What was true at some time so far.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    infrastructure: bool,
    initialized: bool,
    /// Machines that got infrastructure.
    up: BTreeSet<String>,
}

/// What the manager would claim of these objects, were it asked for what they ask for.
pub(crate) fn claims(objects: &Objects) -> Claims {
    let world = objects.world();
    let infrastructure = infrastructure::infrastructure_ready(&world);
    let control_plane = infrastructure::control_plane_initialized(&world);
    let nodes = infrastructure::count(&world, &asked(objects), None);
    let nodes_ready = infrastructure::nodes_ready(&nodes);
    let (ready, desired) = nodes.totals();
    let mut groups: BTreeMap<String, (u32, u32, u32)> = BTreeMap::new();
    let counts = |c: &lattice_manager::api::NodeCounts| (c.desired, c.ready, c.up_to_date);
    groups.insert(String::new(), counts(&nodes.control_plane));
    groups.extend(nodes.pools.iter().map(|(name, c)| (name.clone(), counts(c))));
    Claims {
        infrastructure: infrastructure.status == ConditionStatus::True,
        infrastructure_reason: infrastructure.reason.as_str(),
        infrastructure_message: infrastructure.message,
        control_plane: control_plane.status == ConditionStatus::True,
        nodes_ready: nodes_ready.status == ConditionStatus::True,
        nodes_message: nodes_ready.message,
        summary: format!("{ready}/{desired}"),
        groups,
        first_machine: world.first_machine_up().map(|machine| machine.name.clone()),
    }
}

/// What a person asks for who wrote these objects.
pub(crate) fn asked(objects: &Objects) -> Asked {
    let control_plane = objects.one("KubeadmControlPlane", "demo-cp");
    let pools = objects.of("MachineDeployment").filter(|object| object.metadata.deletion_timestamp.is_none());
    Asked {
        cluster: "demo".to_owned(),
        control_plane: control_plane.map_or(1, |object| number(object, "/spec/replicas")),
        pools: pools
            .map(|object| (object.name_any().trim_start_matches("demo-").to_owned(), number(object, "/spec/replicas")))
            .collect(),
        version: control_plane.and_then(|object| object.data.pointer("/spec/version")?.as_str().map(str::to_owned)),
    }
}

impl Truth {
    /// Notes what became true.
    pub(crate) fn learn(&mut self, objects: &Objects) {
        self.infrastructure |=
            objects.of("DevCluster").any(|object| flag(object, "/status/initialization/provisioned"));
        self.initialized |= objects
            .of("KubeadmControlPlane")
            .any(|object| flag(object, "/status/initialization/controlPlaneInitialized"));
        let up = objects.of("DevMachine").filter(|object| flag(object, "/status/initialization/provisioned"));
        self.up.extend(up.map(ResourceExt::name_any));
    }

    /// Checks every claim.
    pub(crate) fn check(&self, objects: &Objects, at: &str) {
        self.check_lasting(objects, at);
        let claims = claims(objects);
        for (group, (desired, ready, up_to_date)) in &claims.groups {
            let machines: Vec<&DynamicObject> =
                objects.of("Machine").filter(|machine| in_group(machine, group)).collect();
            let joined = machines.iter().filter(|machine| has_ready_node(machine, objects)).count();
            assert!(*ready as usize <= joined, "{at}: {ready} nodes of {group:?} are claimed, {joined} are there");
            let current = machines.iter().filter(|machine| machine.metadata.deletion_timestamp.is_none()).count();
            assert!(*up_to_date as usize <= current, "{at}: {up_to_date} of {group:?} up to date, {current} are there");
            if claims.nodes_ready {
                assert!(joined >= *desired as usize, "{at}: NodesReady, and {group:?} has {joined} of {desired}");
            }
        }
        if claims.nodes_ready && !claims.nodes_message.contains("leaving") {
            let unready = objects.of("Machine").find(|machine| !has_ready_node(machine, objects));
            assert!(unready.is_none(), "{at}: NodesReady, and {:?} is not", unready.map(ResourceExt::name_any));
        }
    }

    /// Checks what stays true once it was, whichever watch is behind.
    pub(crate) fn check_lasting(&self, objects: &Objects, at: &str) {
        let claims = claims(objects);
        let first_up = self.up.iter().any(|name| name.starts_with("demo-cp-"));
        assert!(!claims.infrastructure || (self.infrastructure && first_up), "{at}: {}", claims.infrastructure_message);
        assert!(!claims.control_plane || self.initialized, "{at}: the control plane is not initialised");
        if let Some(machine) = claims.first_machine {
            assert!(self.up.contains(&machine), "{at}: {machine} is not up");
        }
    }
}

fn in_group(machine: &DynamicObject, group: &str) -> bool {
    let label = |key: &str| machine.labels().get(key);
    if group.is_empty() {
        return label("cluster.x-k8s.io/control-plane").is_some();
    }
    label("cluster.x-k8s.io/deployment-name").is_some_and(|name| *name == format!("demo-{group}"))
}

/// A Machine that stays, whose Node is there and which the provider has finished.
fn has_ready_node(machine: &DynamicObject, objects: &Objects) -> bool {
    let provider = objects.one("DevMachine", &machine.name_any());
    let conditions = machine.data.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().any(|c| c["type"] == "NodeReady" && c["status"] == "True");
    machine.metadata.deletion_timestamp.is_none()
        && machine.data.pointer("/status/nodeRef/name").is_some()
        && provider.is_some_and(|object| flag(object, "/status/initialization/provisioned"))
        && ready
}

fn flag(object: &DynamicObject, pointer: &str) -> bool {
    object.data.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

fn number(object: &DynamicObject, pointer: &str) -> u32 {
    object.data.pointer(pointer).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(1)
}
