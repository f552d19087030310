//! The KubeadmConfig controller: turns a machine's configuration into bootstrap data.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::conditions::{Condition, summary};
use super::kind::Kind;
use super::object::{CONTROL_PLANE_LABEL, Look as _, by_age, suffix};
use super::plan::{Plan, RemoteStep, Step, paused};
use super::userdata::{Input, Role};
use super::view::View;

pub(crate) fn decide(config: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    if config.deleting() {
        return Plan::default();
    }
    let Some(cluster) = view.cluster(config) else { return Plan::default() };
    let Some(machine) = view.cache.get(Kind::Machine, config.namespace(), config.name()) else {
        return Plan::default();
    };
    if !config.owned_by(Kind::Machine, machine.name(), true) {
        return Plan::default();
    }
    let (pause, alone) = paused(config, Some(&cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let mut plan = if config.flag("/status/initialization/dataSecretCreated") {
        done(config)
    } else {
        create(config, &cluster, &machine, view)
    };
    plan.conditions.push(pause);
    plan
}

/// Keeps conditions and generation up to date; bootstrap data is made once.
fn done(config: &DynamicObject) -> Plan {
    Plan { conditions: ready(), status: Some(json!({"observedGeneration": config.generation()})), ..Plan::default() }
}

fn ready() -> Vec<Condition> {
    vec![
        Condition::yes("Ready", "Ready"),
        Condition::yes("CertificatesAvailable", "Available"),
        Condition::yes("DataSecretAvailable", "Available"),
    ]
}

/// Waits for what the data needs, then makes it.
fn create(config: &DynamicObject, cluster: &DynamicObject, machine: &DynamicObject, view: &View<'_>) -> Plan {
    if !cluster.flag("/status/initialization/infrastructureProvisioned") {
        return waiting(config, "Waiting for Cluster status.initialization.infrastructureProvisioned to be true");
    }
    let master = machine.label(CONTROL_PLANE_LABEL).is_some();
    let initialized = cluster.flag("/status/initialization/controlPlaneInitialized");
    let may = initialized || (master && is_first(machine, cluster, view));
    if !may {
        return waiting(config, "Waiting for Cluster control plane to be initialized");
    }
    let Some(endpoint) = endpoint(cluster) else {
        return waiting(config, "Waiting for Cluster spec.controlPlaneEndpoint");
    };
    let mut plan = Plan::default();
    let role = match (initialized, master) {
        (false, _) => {
            if config.text("/spec/clusterConfiguration/controlPlaneEndpoint").is_none() {
                plan.merge_body(json!({"spec": {"clusterConfiguration": {"controlPlaneEndpoint": endpoint}}}));
            }
            Role::Init
        }
        (true, master) => {
            if !view.remote.connected {
                return Plan::wait(view.pace.poll(10.0));
            }
            let (id, secret) = token(config);
            plan.steps.push(Step::Remote(RemoteStep::BootstrapToken(id.clone(), secret.clone())));
            plan.merge_body(json!({"spec": {"joinConfiguration": {"discovery": {"bootstrapToken": {
                "apiServerEndpoint": endpoint, "token": format!("{id}.{secret}"),
                "unsafeSkipCAVerification": true,
            }}}}}));
            if master { Role::JoinControlPlane } else { Role::Join }
        }
    };
    let mut spec = config.at("/spec").cloned().unwrap_or_else(|| json!({}));
    if let Some(patch) = plan.body.as_ref().and_then(|body| body.get("spec")) {
        merge(&mut spec, patch);
    }
    plan.steps.push(Step::Bootstrap(Box::new(Input {
        role,
        cluster: cluster.name().to_owned(),
        version: machine.text("/spec/version").unwrap_or_default().to_owned(),
        pods: networks(cluster, "pods"),
        services: networks(cluster, "services"),
        domain: cluster.text("/spec/clusterNetwork/serviceDomain").unwrap_or("cluster.local").to_owned(),
        spec,
    })));
    plan.conditions = ready();
    plan.status = Some(json!({
        "dataSecretName": config.name(), "initialization": {"dataSecretCreated": true},
        "observedGeneration": config.generation(),
    }));
    plan
}

fn waiting(config: &DynamicObject, message: &str) -> Plan {
    let data = Condition::no("DataSecretAvailable", "NotAvailable", message);
    let certificates = Condition::unknown("CertificatesAvailable", "NotYetReported", "Condition not yet reported");
    let sum = summary("Ready", &[data.clone(), certificates], &[], ["Ready", "NotReady", "ReadyUnknown"]);
    Plan {
        conditions: vec![sum, data],
        status: Some(json!({"observedGeneration": config.generation()})),
        ..Plan::default()
    }
}

/// Whether the machine is the one that runs `kubeadm init`: the oldest of the control plane.
fn is_first(machine: &DynamicObject, cluster: &DynamicObject, view: &View<'_>) -> bool {
    let (mut masters, _) = view.split_machines(cluster);
    masters.retain(|one| !one.deleting());
    masters.sort_by(|a, b| by_age(a, b));
    masters.first().is_some_and(|first| first.name() == machine.name())
}

fn endpoint(cluster: &DynamicObject) -> Option<String> {
    let host = cluster.text("/spec/controlPlaneEndpoint/host")?;
    Some(format!("{host}:{}", cluster.number("/spec/controlPlaneEndpoint/port").unwrap_or(6443)))
}

/// The token that is in the configuration already, or a new one.
fn token(config: &DynamicObject) -> (String, String) {
    let stored = config.text("/spec/joinConfiguration/discovery/bootstrapToken/token");
    match stored.and_then(|token| token.split_once('.')) {
        Some((id, secret)) => (id.to_owned(), secret.to_owned()),
        None => {
            let random = |parts: usize, length: usize| {
                (0..parts).map(|_| suffix()).collect::<String>().chars().take(length).collect::<String>()
            };
            (random(2, 6), random(4, 16))
        }
    }
}

fn networks(cluster: &DynamicObject, which: &str) -> String {
    let blocks = cluster.at(&format!("/spec/clusterNetwork/{which}/cidrBlocks")).and_then(Value::as_array);
    blocks.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}
