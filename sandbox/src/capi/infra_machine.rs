//! The controllers of infrastructure machines: they wait for bootstrap data, have a machine made, and report on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::json;

use super::conditions::{Condition, Status, entry};
use super::kind::{Kind, Provider};
use super::machines::{Boot, Power};
use super::object::{CONTROL_PLANE_LABEL, Look as _};
use super::plan::{Note, Plan, Step, paused};
use super::view::View;

/// Seconds of life between two looks at a machine that is stuck.
const LOOK_EVERY: f64 = 30.0;

pub(crate) fn decide(provider: Provider, infra: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    let [_, finalizer] = provider.finalizers();
    if infra.deleting() {
        return delete(infra, finalizer);
    }
    if !infra.has_finalizer(finalizer) {
        return Plan::finalizer(infra, finalizer);
    }
    let Some(cluster) = view.cluster(infra) else { return Plan::default() };
    let Some(machine) = view
        .cache
        .get(Kind::Machine, infra.namespace(), infra.name())
        .filter(|machine| infra.owned_by(Kind::Machine, machine.name(), true))
    else {
        return Plan::default();
    };
    let (pause, alone) = paused(infra, Some(&cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let mut plan = reconcile(provider, infra, &cluster, &machine, view);
    plan.conditions.push(pause);
    plan
}

/// How far the machine is.
enum Stage {
    Waiting(&'static str, &'static str),
    Up(Power),
}

fn reconcile(
    provider: Provider,
    infra: &DynamicObject,
    cluster: &DynamicObject,
    machine: &DynamicObject,
    view: &View<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let master = machine.label(CONTROL_PLANE_LABEL).is_some();
    let provisioned = infra.flag("/status/initialization/provisioned");
    let stage = stage(&mut plan, provider, infra, cluster, machine, view);
    if let Stage::Up(power) = &stage {
        if let Power::Failed { message, .. } = power
            && infra.condition("Ready").is_none_or(|ready| ready["reason"] != "BootstrapFailed")
        {
            plan.events.push(Note { warning: true, reason: "BootstrapFailed", message: message.clone() });
        }
        if infra.text("/spec/providerID").is_none() {
            plan.body = Some(json!({"spec": {"providerID": provider_id(provider, infra)}}));
        }
        if !provisioned {
            let mut status = json!({"initialization": {"provisioned": true}});
            let (Power::Running { addresses, .. } | Power::Failed { addresses, .. }) = power else { return plan };
            let list: Vec<_> = addresses.iter().map(|one| json!({"type": "InternalIP", "address": one})).collect();
            status["addresses"] = list.into();
            plan.status = Some(status);
        }
    }
    plan.conditions = conditions(provider, &stage, master, provisioned);
    plan
}

/// Looks, and switches the machine on when its time has come.
fn stage(
    plan: &mut Plan,
    provider: Provider,
    infra: &DynamicObject,
    cluster: &DynamicObject,
    machine: &DynamicObject,
    view: &View<'_>,
) -> Stage {
    match view.machines.look(infra.namespace(), infra.name()) {
        Power::Absent => {}
        Power::Starting => return waiting(provider),
        power => return Stage::Up(power),
    }
    if !cluster.flag("/status/initialization/infrastructureProvisioned") {
        return Stage::Waiting("WaitingForClusterInfrastructure", "Waiting for the Cluster's infrastructure");
    }
    let Some(secret) = machine.text("/spec/bootstrap/dataSecretName") else {
        let master = machine.label(CONTROL_PLANE_LABEL).is_some();
        return if master || cluster.flag("/status/initialization/controlPlaneInitialized") {
            Stage::Waiting("WaitingForBootstrapData", "")
        } else {
            Stage::Waiting("WaitingForControlPlaneInitialized", "")
        };
    };
    if view.machines.stalled(cluster.name(), Some(infra.name())) {
        plan.again = Some(view.pace.poll(LOOK_EVERY));
        return waiting(provider);
    }
    plan.steps.push(Step::Boot(Box::new(boot(provider, infra, cluster, machine)), secret.to_owned()));
    waiting(provider)
}

/// What is said of a machine that is being made.
fn waiting(provider: Provider) -> Stage {
    match provider {
        Provider::Dev => Stage::Waiting("WaitingForStartupTimeout", ""),
        Provider::Proxmox => Stage::Waiting("Cloning", "the virtual machine is being cloned"),
    }
}

fn boot(provider: Provider, infra: &DynamicObject, cluster: &DynamicObject, machine: &DynamicObject) -> Boot {
    let number = |pointers: &[&str], default: i64| {
        let found = pointers.iter().find_map(|pointer| infra.number(pointer));
        u64::try_from(found.unwrap_or(default)).unwrap_or(1)
    };
    let sockets = number(&["/spec/numSockets"], 1);
    let cores = number(&["/spec/numCores"], 4);
    Boot {
        namespace: infra.namespace().to_owned(),
        name: infra.name().to_owned(),
        cluster: cluster.name().to_owned(),
        metadata: BTreeMap::from([
            ("instance_id".to_owned(), infra.uid().to_owned()),
            ("local_hostname".to_owned(), infra.name().to_owned()),
            ("hostname".to_owned(), infra.name().to_owned()),
        ]),
        provider_id: provider_id(provider, infra),
        provider_sets_id: provider == Provider::Dev,
        version: machine.text("/spec/version").unwrap_or_default().to_owned(),
        cpus: u32::try_from(sockets * cores).unwrap_or(4),
        memory_mib: number(&["/spec/memoryMiB"], 8192),
        user_data: String::new(),
    }
}

fn provider_id(provider: Provider, infra: &DynamicObject) -> String {
    match provider {
        Provider::Dev => format!("in-memory://{}", infra.name()),
        Provider::Proxmox => format!("proxmox://{}", infra.uid()),
    }
}

/// `Ready` and what it sums up.
///
/// What comes after the machine itself is told once the machine is.
fn conditions(provider: Provider, stage: &Stage, master: bool, provisioned: bool) -> Vec<Condition> {
    let mut parts = vec![match stage {
        Stage::Waiting(reason, message) => Condition::no("VMProvisioned", reason, *message),
        Stage::Up(_) => Condition::yes("VMProvisioned", "Provisioned"),
    }];
    if provider == Provider::Dev {
        let (node, api) = match stage {
            Stage::Up(Power::Running { node, api_server, .. }) if provisioned => (*node, *api_server),
            _ => (false, false),
        };
        let wait = if matches!(stage, Stage::Up(_)) { "WaitingForStartupTimeout" } else { "WaitingForVMProvisioned" };
        parts.push(step("NodeProvisioned", node || api, wait));
        if master {
            let wait = if matches!(stage, Stage::Up(_)) && !node && !api { "WaitingForNodeProvisioned" } else { wait };
            parts.push(step("EtcdProvisioned", api, wait));
            parts.push(step("APIServerProvisioned", api, wait));
        }
    }
    let mut all = vec![ready(stage, &parts)];
    all.extend(parts);
    all
}

fn step(name: &str, done: bool, wait: &str) -> Condition {
    if done { Condition::yes(name, "Provisioned") } else { Condition::no(name, wait, "") }
}

fn ready(stage: &Stage, parts: &[Condition]) -> Condition {
    if let Stage::Up(Power::Failed { message, .. }) = stage {
        return Condition::no("Ready", "BootstrapFailed", message.clone());
    }
    let bad: Vec<String> = parts
        .iter()
        .filter(|part| part.status != Status::True)
        .map(|part| entry(&part.name, if part.message.is_empty() { &part.reason } else { &part.message }))
        .collect();
    if bad.is_empty() { Condition::yes("Ready", "Ready") } else { Condition::no("Ready", "NotReady", bad.join("\n")) }
}

fn delete(infra: &DynamicObject, finalizer: &str) -> Plan {
    if !infra.has_finalizer(finalizer) {
        return Plan::default();
    }
    let pause = paused(infra, None).0;
    let mut conditions = vec![pause];
    if let Some(ready) = infra.condition("Ready") {
        conditions.insert(0, Condition::read(ready));
    }
    Plan {
        conditions,
        steps: vec![Step::Destroy(infra.name().to_owned())],
        ..Plan::without_finalizer(infra, finalizer)
    }
}
