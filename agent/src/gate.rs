//! Whether a component works: its gates, judged against what is known of the cluster. Pure; see [`crate::observe`].
//!
//! Counts are honest: a DaemonSet is counted against the Nodes that it should run on, 0 of 0 is not ready, and nothing is
//! believed of a workload before its controller has seen the latest spec (`observedGeneration`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lattice_protocol::reason::Reason;
use lattice_protocol::v1::{self, gate::Kind as Wanted};

use crate::observe::facts::{NodeFacts, PodFacts, Verdict, WorkloadFacts};
use crate::observe::{Kind, Scope, Table, World};

/// Most names in one message; the rest is counted.
const NAMES_MAX: usize = 4;

/// What is said of a node on which a DaemonSet has no pod.
const NO_POD: &str = "no pod";

/// How a gate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Holds,
    /// It does not hold.
    Fails {
        /// Why, as a word.
        reason: Reason,
        /// Why, with the object and the numbers.
        message: String,
    },
    /// What it depends on was not listed yet.
    Unknown,
}

/// What must be watched to judge a gate.
pub fn needs(gate: &v1::Gate) -> BTreeSet<Scope> {
    let workload = |kind, of: &v1::WorkloadRef| {
        BTreeSet::from([Scope::namespaced(kind, &of.namespace), Scope::namespaced(Kind::Pod, &of.namespace)])
    };
    match &gate.kind {
        Some(Wanted::DaemonSet(of)) => {
            let mut scopes = workload(Kind::DaemonSet, of);
            scopes.insert(Scope::cluster(Kind::Node));
            scopes
        }
        Some(Wanted::Deployment(of)) => workload(Kind::Deployment, of),
        Some(Wanted::StatefulSet(of)) => workload(Kind::StatefulSet, of),
        Some(Wanted::Job(of)) => workload(Kind::Job, of),
        Some(Wanted::Crd(_)) => BTreeSet::from([Scope::cluster(Kind::Crd)]),
        Some(Wanted::Nodes(_)) => BTreeSet::from([Scope::cluster(Kind::Node)]),
        Some(Wanted::ApiService(_)) => BTreeSet::from([Scope::cluster(Kind::ApiService)]),
        None => BTreeSet::new(),
    }
}

/// Generations of workloads that we wrote. A watch may be behind our own write, and what it showed before would be judged
/// as the answer to it.
#[derive(Clone, Debug, Default)]
pub struct Generations(BTreeMap<(String, String, String), i64>);

impl Generations {
    /// Notes the metadata that a write of ours was answered with.
    pub fn note(&mut self, kind: &str, namespace: &str, name: &str, metadata: &serde_json::Value) {
        if let Some(generation) = metadata["generation"].as_i64() {
            self.0.insert((kind.to_owned(), namespace.to_owned(), name.to_owned()), generation);
        }
    }

    /// Whether the world does not show yet what we wrote of the gates' workloads.
    pub fn are_behind(&self, gates: &[v1::Gate], world: &World) -> bool {
        gates.iter().filter_map(|gate| gate.kind.as_ref()).any(|gate| {
            let (kind, of, shown) = match gate {
                Wanted::DaemonSet(of) => ("DaemonSet", of, generation(&world.daemon_sets, of, |set| &set.0)),
                Wanted::Deployment(of) => ("Deployment", of, generation(&world.deployments, of, |set| &set.0)),
                Wanted::StatefulSet(of) => ("StatefulSet", of, generation(&world.stateful_sets, of, |set| &set.0)),
                Wanted::Job(_) | Wanted::Crd(_) | Wanted::Nodes(_) | Wanted::ApiService(_) => return false,
            };
            let written = self.0.get(&(kind.to_owned(), of.namespace.clone(), of.name.clone()));
            written.is_some_and(|written| shown.unwrap_or(0) < *written)
        })
    }
}

fn generation<T>(
    tables: &HashMap<String, Table<T>>,
    of: &v1::WorkloadRef,
    facts: impl Fn(&T) -> &WorkloadFacts,
) -> Option<i64> {
    rows(tables, &of.namespace)?.get(&of.name).map(|row| facts(row).generation)
}

/// Judges every gate: the first that fails speaks for all, and the others that fail are added to its message.
pub fn judge_all(gates: &[v1::Gate], world: &World) -> Standing {
    let mut first: Option<Reason> = None;
    let mut messages = Vec::new();
    let mut unknown = false;
    for gate in gates {
        match judge(gate, world) {
            Standing::Holds => {}
            Standing::Unknown => unknown = true,
            Standing::Fails { reason, message } => {
                first.get_or_insert(reason);
                messages.push(message);
            }
        }
    }
    match first {
        Some(reason) => Standing::Fails { reason, message: messages.join("; ") },
        None if unknown => Standing::Unknown,
        None => Standing::Holds,
    }
}

/// Judges one gate.
pub fn judge(gate: &v1::Gate, world: &World) -> Standing {
    let judged = match &gate.kind {
        Some(Wanted::DaemonSet(of)) => daemon_set(of, world),
        Some(Wanted::Deployment(of)) => deployment(of, world),
        Some(Wanted::StatefulSet(of)) => stateful_set(of, world),
        Some(Wanted::Job(of)) => job(of, world),
        Some(Wanted::Crd(name)) => crd(name, world),
        Some(Wanted::Nodes(gate)) => nodes(gate, world),
        Some(Wanted::ApiService(name)) => api_service(name, world),
        // A gate of a newer manager: it cannot be judged, so it must not hold.
        None => Some(fails(Reason::NotYetSupported, "a gate that this agent does not know; update the agent")),
    };
    judged.unwrap_or(Standing::Unknown)
}

fn fails(reason: Reason, message: impl Into<String>) -> Standing {
    Standing::Fails { reason, message: message.into() }
}

fn rows<'a, T>(tables: &'a HashMap<String, Table<T>>, namespace: &str) -> Option<&'a BTreeMap<String, T>> {
    tables.get(namespace)?.rows()
}

fn daemon_set(of: &v1::WorkloadRef, world: &World) -> Option<Standing> {
    const REASON: Reason = Reason::DaemonSetNotReady;
    let sets = rows(&world.daemon_sets, &of.namespace)?;
    let pods = rows(&world.pods, &of.namespace)?;
    let nodes = world.nodes.rows()?;
    let Some(set) = sets.get(&of.name).map(|set| &set.0) else {
        return Some(fails(REASON, format!("{}: the DaemonSet does not exist", of.name)));
    };
    let wanted: Vec<&str> =
        nodes.iter().filter(|(name, node)| set.placement.includes(name, node)).map(|(name, _)| name.as_str()).collect();
    if wanted.is_empty() {
        return Some(fails(REASON, format!("{}: 0/0 nodes ready; no node that it should run on exists", of.name)));
    }
    let own: Vec<&PodFacts> = pods.values().filter(|pod| belongs(pod, set)).collect();
    let sick: Vec<(&str, String)> =
        wanted.iter().filter_map(|node| trouble_on(node, &own).map(|why| (*node, why))).collect();
    let ready = wanted.len() - sick.len();
    let counted = format!("{}: {ready}/{} nodes ready", of.name, wanted.len());
    if !sick.is_empty() {
        return Some(fails(REASON, format!("{counted}; not ready: {}", name_some(&sick))));
    }
    let behind = set.observed_generation < set.generation || usize::try_from(set.updated).unwrap_or(0) < wanted.len();
    let updated = format!("{counted}; {}/{} updated to the latest spec", set.updated.max(0), wanted.len());
    Some(if behind { fails(REASON, updated) } else { Standing::Holds })
}

/// Why the node has no ready pod of the set, or nothing if it has one.
fn trouble_on(node: &str, own: &[&PodFacts]) -> Option<String> {
    let mut here = own.iter().filter(|pod| pod.node == node).peekable();
    if here.peek().is_none() {
        return Some(NO_POD.to_owned());
    }
    let mut trouble = "not ready".to_owned();
    for pod in here {
        if pod.ready && !pod.terminating {
            return None;
        }
        trouble = if pod.terminating { "terminating".to_owned() } else { pod.trouble.clone() };
    }
    Some(trouble)
}

fn belongs(pod: &PodFacts, workload: &WorkloadFacts) -> bool {
    !workload.selector.is_empty() && workload.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// `edge-7 (ImagePullBackOff), edge-8 (no pod) and 3 more`: what says most comes first.
fn name_some(sick: &[(&str, String)]) -> String {
    let mut sick: Vec<_> = sick.iter().collect();
    sick.sort_by_key(|(_, why)| [NO_POD, "Pending"].contains(&why.as_str()));
    let named: Vec<_> = sick.iter().take(NAMES_MAX).map(|(name, why)| format!("{name} ({why})")).collect();
    match sick.len().saturating_sub(NAMES_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn deployment(of: &v1::WorkloadRef, world: &World) -> Option<Standing> {
    const REASON: Reason = Reason::DeploymentNotAvailable;
    let Some(set) = rows(&world.deployments, &of.namespace)?.get(&of.name).map(|set| &set.0) else {
        return Some(fails(REASON, format!("{}: the Deployment does not exist", of.name)));
    };
    let pods = rows(&world.pods, &of.namespace)?;
    let available = set.done.as_ref().is_some_and(|available| available.holds);
    Some(replicated(REASON, &of.name, set, pods, set.available, available))
}

fn stateful_set(of: &v1::WorkloadRef, world: &World) -> Option<Standing> {
    const REASON: Reason = Reason::StatefulSetNotReady;
    let Some(set) = rows(&world.stateful_sets, &of.namespace)?.get(&of.name).map(|set| &set.0) else {
        return Some(fails(REASON, format!("{}: the StatefulSet does not exist", of.name)));
    };
    let pods = rows(&world.pods, &of.namespace)?;
    Some(replicated(REASON, &of.name, set, pods, set.ready, true))
}

/// Judges what has a number of replicas: all of them up, all of the latest spec, none left of an older one.
fn replicated(
    reason: Reason,
    name: &str,
    set: &WorkloadFacts,
    pods: &BTreeMap<String, PodFacts>,
    up: i32,
    available: bool,
) -> Standing {
    let counted = format!("{name}: {}/{} available", up.max(0), set.desired);
    if let Some(failed) = &set.failed
        && up < set.desired
    {
        return fails(reason, format!("{counted}; {}{}", failed.reason, with_pods(pods, set)));
    }
    if set.observed_generation < set.generation {
        return fails(reason, format!("{counted}; its controller has not seen the latest spec"));
    }
    if set.desired == 0 {
        return fails(reason, format!("{name}: 0/0 available; it is scaled to nothing"));
    }
    if up < set.desired || !available {
        return fails(reason, format!("{counted}{}", with_pods(pods, set)));
    }
    if set.updated < set.desired || set.total > set.updated {
        return fails(reason, format!("{counted}; {}/{} updated to the latest spec", set.updated.max(0), set.desired));
    }
    Standing::Holds
}

/// `; not ready: edge-7 (ImagePullBackOff)`, by node, or by `no node` for pods that found none.
fn with_pods(pods: &BTreeMap<String, PodFacts>, set: &WorkloadFacts) -> String {
    let own = pods.values().filter(|pod| belongs(pod, set) && !pod.ready && !pod.terminating);
    let sick: Vec<_> =
        own.map(|pod| (if pod.node.is_empty() { "no node" } else { &pod.node }, pod.trouble.clone())).collect();
    if sick.is_empty() { String::new() } else { format!("; not ready: {}", name_some(&sick)) }
}

fn job(of: &v1::WorkloadRef, world: &World) -> Option<Standing> {
    const REASON: Reason = Reason::JobNotComplete;
    let Some(job) = rows(&world.jobs, &of.namespace)?.get(&of.name).map(|job| &job.0) else {
        return Some(fails(REASON, format!("{}: the Job does not exist", of.name)));
    };
    let pods = rows(&world.pods, &of.namespace)?;
    let counted = format!("{}: {}/{} completed", of.name, job.ready.max(0), job.desired);
    Some(match (&job.done, &job.failed) {
        (Some(_), _) => Standing::Holds,
        (None, Some(failed)) => fails(REASON, format!("{counted}; {}", said(failed))),
        (None, None) => fails(REASON, format!("{counted}{}", with_pods(pods, job))),
    })
}

fn crd(name: &str, world: &World) -> Option<Standing> {
    const REASON: Reason = Reason::CrdNotEstablished;
    Some(match world.crds.rows()?.get(name) {
        None => fails(REASON, format!("{name}: the CustomResourceDefinition does not exist")),
        Some(crd) if crd.0.holds => Standing::Holds,
        Some(crd) => fails(REASON, format!("{name}: {}", said(&crd.0))),
    })
}

fn api_service(name: &str, world: &World) -> Option<Standing> {
    const REASON: Reason = Reason::ApiServiceNotAvailable;
    Some(match world.api_services.rows()?.get(name) {
        None => fails(REASON, format!("{name}: the APIService does not exist")),
        Some(service) if service.0.holds => Standing::Holds,
        Some(service) => fails(REASON, format!("{name}: {}", said(&service.0))),
    })
}

/// A condition's words, shortest first.
fn said(verdict: &Verdict) -> String {
    match (verdict.reason.is_empty(), verdict.message.is_empty()) {
        (true, true) => "nothing was reported yet".to_owned(),
        (false, true) => verdict.reason.clone(),
        (true, false) => verdict.message.clone(),
        (false, false) => format!("{}: {}", verdict.reason, verdict.message),
    }
}

fn nodes(gate: &v1::NodesGate, world: &World) -> Option<Standing> {
    let nodes = world.nodes.rows()?;
    if nodes.is_empty() {
        return Some(fails(Reason::NodesNotReady, "0/0 nodes ready; no node exists"));
    }
    let sick: Vec<_> = nodes.iter().filter_map(|(name, node)| unready(node).map(|why| (name.as_str(), why))).collect();
    if !sick.is_empty() {
        let ready = nodes.len() - sick.len();
        let message = format!("{ready}/{} nodes ready; not ready: {}", nodes.len(), name_some(&sick));
        return Some(fails(Reason::NodesNotReady, message));
    }
    let tainted: Vec<_> =
        nodes.iter().filter_map(|(name, node)| taint_of(node, gate).map(|taint| (name.as_str(), taint))).collect();
    if tainted.is_empty() {
        return Some(Standing::Holds);
    }
    let free = nodes.len() - tainted.len();
    let message = format!("{free}/{} nodes free of taints; tainted: {}", nodes.len(), name_some(&tainted));
    Some(fails(Reason::NodesTainted, message))
}

fn unready(node: &NodeFacts) -> Option<String> {
    let reason = || if node.ready.reason.is_empty() { "NotReady".to_owned() } else { node.ready.reason.clone() };
    (!node.ready.holds).then(reason)
}

fn taint_of(node: &NodeFacts, gate: &v1::NodesGate) -> Option<String> {
    node.taints.iter().find(|taint| gate.without_taints.contains(&taint.key)).map(|taint| taint.key.clone())
}

#[cfg(test)]
mod tests;
