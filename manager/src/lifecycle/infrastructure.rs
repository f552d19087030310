//! Conditions about infrastructure, control plane and nodes: Cluster API's word, checked, and the agent's.

use std::collections::BTreeMap;

use super::agent;
use super::ensure;
use super::facts::{NodeFacts, Observed};
use super::look::Look;
use super::mirror::{MachineView, Word, World};
use crate::api::condition::{CONTROL_PLANE_INITIALIZED, INFRASTRUCTURE_READY, NODES_READY};
use crate::api::{ConditionStatus, KubernetesVersion, NodeCounts, NodesStatus, Phase, Reason};

/// Most nodes that a message names.
const NAMED_MAX: usize = 5;

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One of the closed list.
    pub reason: Reason,
    /// The numbers and names.
    pub message: String,
}

/// Counts of nodes and what is wrong with those that are not ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// Control plane.
    pub control_plane: NodeCounts,
    /// Pools by name.
    pub pools: BTreeMap<String, NodeCounts>,
    /// `name (why)` of each machine that is not ready.
    pub not_ready: Vec<String>,
}

/// What is asked for of nodes: control plane, and pools by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Name of the cluster.
    pub cluster: String,
    /// Machines of the control plane.
    pub control_plane: u32,
    /// Machines of each pool.
    pub pools: BTreeMap<String, u32>,
    /// Version, as Cluster API writes it; no node is up to date while it is unknown.
    pub version: Option<String>,
}

/// Says whether the cluster's infrastructure and its first machine are up.
pub fn infrastructure_ready(world: &World) -> Said {
    let not = |reason, message| Said { status: ConditionStatus::False, reason, message };
    let Some(cluster) = &world.cluster else {
        return not(Reason::InfrastructureProvisioning, "the objects of Cluster API are not there yet".to_owned());
    };
    let object = world
        .infrastructure
        .as_ref()
        .map_or_else(|| "the infrastructure".to_owned(), |i| format!("{} {}", i.kind, i.name));
    if !cluster.infrastructure_provisioned {
        let own = world.infrastructure.as_ref().and_then(|i| i.trouble.as_ref());
        let word = own.or(cluster.infrastructure_ready.as_ref()).filter(|word| word.status != "True");
        return match word {
            Some(word) => {
                not(Reason::InfrastructureProvisioning, format!("{object} is not provisioned: {}", words(word)))
            }
            None => not(
                Reason::InfrastructureUnknown,
                format!("{object} is not provisioned, and nobody has reported on it yet"),
            ),
        };
    }
    if let Some(word) = cluster.infrastructure_ready.as_ref().filter(|word| word.status == "False") {
        return not(Reason::InfrastructureFailed, format!("{object}: {}", words(word)));
    }
    if world.first_machine_up().is_some() || cluster.control_plane_initialized {
        let message = format!("{object} is provisioned, the first control-plane machine is up");
        return Said { status: ConditionStatus::True, reason: Reason::AsExpected, message };
    }
    let first = world.machines.values().find(|machine| machine.control_plane);
    let message = match first {
        None => format!("{object} is provisioned; the first control-plane Machine is not there yet"),
        Some(machine) => {
            format!("{object} is provisioned; Machine {} is not up: {}", machine.name, why_not_up(machine))
        }
    };
    not(Reason::WaitingForFirstMachine, message)
}

/// Says whether Cluster API has seen the control plane initialised.
pub fn control_plane_initialized(world: &World) -> Said {
    match &world.cluster {
        Some(cluster) if cluster.control_plane_initialized => Said {
            status: ConditionStatus::True,
            reason: Reason::AsExpected,
            message: "Cluster API has seen the control plane initialised".to_owned(),
        },
        Some(cluster) => {
            let word = cluster.control_plane_word.as_ref().filter(|word| word.status != "True");
            let words = word.map_or_else(|| "Cluster API has not reported on it yet".to_owned(), words);
            Said { status: ConditionStatus::False, reason: Reason::ControlPlaneNotInitialized, message: words }
        }
        None => Said {
            status: ConditionStatus::False,
            reason: Reason::WaitingForEarlierStep,
            message: "the objects of Cluster API are not there yet".to_owned(),
        },
    }
}

/// Counts nodes. With the agent's word (`live`) a node is ready when the agent says so, else when Cluster API does.
pub fn count(world: &World, asked: &Asked, live: Option<&[NodeFacts]>) -> Nodes {
    let mut nodes = Nodes {
        control_plane: NodeCounts { desired: asked.control_plane, ..NodeCounts::default() },
        pools: asked
            .pools
            .iter()
            .map(|(name, desired)| (name.clone(), NodeCounts { desired: *desired, ..NodeCounts::default() }))
            .collect(),
        not_ready: Vec::new(),
    };
    for machine in world.machines.values() {
        let prefix = format!("{}-", asked.cluster);
        let pool = machine.deployment.as_deref().map(|name| name.strip_prefix(&prefix).unwrap_or(name));
        let counts = match pool {
            None if machine.control_plane => &mut nodes.control_plane,
            None => continue,
            Some(pool) => nodes.pools.entry(pool.to_owned()).or_default(),
        };
        if !machine.deleting
            && machine.up_to_date == Some(true)
            && machine.version.is_some()
            && machine.version == asked.version
        {
            counts.up_to_date += 1;
        }
        match why_not_ready(machine, live) {
            None => counts.ready += 1,
            Some(why) => nodes.not_ready.push(format!("{} ({why})", machine.name)),
        }
    }
    nodes.pools.retain(|name, counts| asked.pools.contains_key(name) || counts.ready > 0 || counts.up_to_date > 0);
    nodes
}

/// Says whether every node is there and ready.
pub fn nodes_ready(nodes: &Nodes) -> Said {
    let (ready, desired) = nodes.totals();
    let short: Vec<String> = std::iter::once(("control plane", &nodes.control_plane))
        .chain(nodes.pools.iter().map(|(name, counts)| (name.as_str(), counts)))
        .filter(|(_, counts)| counts.ready < counts.desired)
        .map(|(name, counts)| format!("{name} {}/{}", counts.ready, counts.desired))
        .collect();
    if short.is_empty() && nodes.not_ready.is_empty() {
        let message = format!("{ready}/{desired} nodes ready");
        return Said { status: ConditionStatus::True, reason: Reason::AsExpected, message };
    }
    let mut message = format!("{ready}/{desired} nodes ready: {}", short.join(", "));
    if short.is_empty() {
        message = format!("{ready}/{desired} nodes ready, more on their way or leaving");
    }
    if !nodes.not_ready.is_empty() {
        let named: Vec<&str> = nodes.not_ready.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = nodes.not_ready.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        message = format!("{message}; not ready: {}{more}", named.join(", "));
    }
    // A surplus machine on its way in or out takes nothing from what was asked for.
    let status = if short.is_empty() { ConditionStatus::True } else { ConditionStatus::False };
    let reason = if short.is_empty() { Reason::AsExpected } else { Reason::NodesNotReady };
    Said { status, reason, message }
}

/// Mirrors all of it into the conditions and counts.
pub(super) fn show(look: &mut Look<'_>) {
    if look.facts.objects.is_unknown() {
        return;
    }
    let infrastructure = infrastructure_ready(&look.world);
    let control_plane = control_plane_initialized(&look.world);
    put(look, INFRASTRUCTURE_READY, infrastructure);
    put(look, CONTROL_PLANE_INITIALIZED, control_plane);
    if let Some((host, port)) = look.world.cluster.as_ref().and_then(|cluster| cluster.endpoint.clone()) {
        look.status.endpoint = Some(format!("https://{host}:{port}"));
    }
    show_nodes(look);
}

fn show_nodes(look: &mut Look<'_>) {
    let live = match (&look.facts.agent.session, &look.facts.agent.health) {
        (Some(_), Observed::Known(health)) => health.nodes.as_deref(),
        (Some(_), Observed::Absent | Observed::Unknown) | (None, _) => None,
    };
    let was_connected = look.stored.agent.is_some();
    if live.is_none() && was_connected {
        // The agent's word is the better one; without it the last counts stand.
        let summary = look.status.nodes.as_ref().map(|nodes| nodes.summary.clone()).unwrap_or_default();
        if look.facts.agent.session.is_none() && !agent::in_grace(look) {
            let message = format!("the agent is away; last seen: {summary} nodes ready");
            look.set(NODES_READY, ConditionStatus::Unknown, Reason::AgentAway, message);
        }
        return;
    }
    let nodes = count(&look.world, &asked(look), live);
    let said = nodes_ready(&nodes);
    let before_machines = match look.phase() {
        None | Some(Phase::Pending | Phase::Provisioning) => true,
        Some(Phase::Bootstrapping | Phase::Ready | Phase::Scaling | Phase::Upgrading | Phase::Deleting) => false,
    };
    let said = if before_machines && said.status == ConditionStatus::False {
        Said { reason: Reason::WaitingForEarlierStep, ..said }
    } else {
        said
    };
    put(look, NODES_READY, said);
    let (ready, desired) = nodes.totals();
    look.status.nodes = Some(NodesStatus {
        summary: format!("{ready}/{desired}"),
        control_plane: nodes.control_plane,
        worker_pools: nodes.pools,
    });
    if let Some(live) = live {
        look.status.kubernetes_version = versions(live);
    }
}

/// What nodes are measured against: the spec, or, while an edit of it is not taken over, what the machines run.
fn asked(look: &Look<'_>) -> Asked {
    let spec = look.spec();
    let name = look.name();
    if ensure::edits_wait(look) {
        let control_plane = look.world.control_plane.as_ref();
        let prefix = format!("{name}-");
        let pool = |deployment: &str| deployment.strip_prefix(&prefix).unwrap_or(deployment).to_owned();
        return Asked {
            cluster: name.to_owned(),
            control_plane: control_plane.and_then(|group| group.replicas).unwrap_or(spec.nodes.control_plane.replicas),
            pools: look
                .world
                .deployments
                .iter()
                .map(|(name, group)| (pool(name), group.replicas.unwrap_or(0)))
                .collect(),
            version: control_plane.and_then(|group| group.version.clone()),
        };
    }
    Asked {
        cluster: name.to_owned(),
        control_plane: spec.nodes.control_plane.replicas,
        pools: spec.nodes.worker_pools.iter().map(|(name, pool)| (name.clone(), pool.desired())).collect(),
        version: spec.provider.kubernetes.version.parse::<KubernetesVersion>().ok().map(|version| version.to_string()),
    }
}

fn put(look: &mut Look<'_>, type_: &str, said: Said) {
    look.set(type_, said.status, said.reason, said.message);
}

/// Versions that nodes run, each once: `v1.32.0`, or `v1.32.0, v1.33.0` while they differ.
fn versions(nodes: &[NodeFacts]) -> Option<String> {
    let mut versions: Vec<&str> =
        nodes.iter().map(|node| node.kubelet_version.as_str()).filter(|v| !v.is_empty()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.is_empty() { None } else { Some(versions.join(", ")) }
}

fn why_not_up(machine: &MachineView) -> String {
    let object = machine.infrastructure.as_ref().map_or_else(String::new, |(kind, name)| format!(" ({kind} {name})"));
    let said = machine.trouble.as_ref().map(words);
    let step = if machine.deleting {
        "it is being deleted"
    } else if !machine.bootstrap_data {
        "what it boots from is not made yet"
    } else if machine.provider_id.is_none() {
        "it has no infrastructure yet"
    } else {
        "its infrastructure is not provisioned yet"
    };
    match said {
        Some(said) => format!("{step}{object}: {said}"),
        None => format!("{step}{object}"),
    }
}

/// Why a machine's node does not count as ready; `None` when it does.
fn why_not_ready(machine: &MachineView, live: Option<&[NodeFacts]>) -> Option<String> {
    if machine.deleting {
        return Some("being deleted".to_owned());
    }
    let Some(node) = &machine.node else {
        return Some(if machine.infrastructure_provisioned {
            "machine is up, has not joined".to_owned()
        } else {
            why_not_up(machine)
        });
    };
    let Some(live) = live else {
        return match machine.node_ready {
            Some(true) => None,
            Some(false) => Some(machine.trouble.as_ref().map_or_else(|| "node not ready".to_owned(), words)),
            None => Some("node not reported on yet".to_owned()),
        };
    };
    match live.iter().find(|seen| seen.name == *node) {
        Some(seen) if seen.ready => None,
        Some(seen) => Some(first_filled(&[&seen.message, &seen.reason], "node not ready")),
        None => Some("its node is not there".to_owned()),
    }
}

fn first_filled(texts: &[&str], otherwise: &str) -> String {
    texts.iter().find(|text| !text.is_empty()).map_or(otherwise, |text| text).to_owned()
}

fn words(word: &Word) -> String {
    let message = word.message.trim().replace('\n', " ");
    if message.is_empty() { word.reason.clone() } else { message }
}

impl Nodes {
    /// Ready and desired nodes of all groups.
    pub fn totals(&self) -> (u32, u32) {
        let groups = std::iter::once(&self.control_plane).chain(self.pools.values());
        groups.fold((0, 0), |(ready, desired), counts| (ready + counts.ready, desired + counts.desired))
    }
}
