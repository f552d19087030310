//! The controllers of infrastructure clusters: they wait for a moment, choose an endpoint where none was given, and
//! report.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::json;

use super::conditions::{Condition, Status};
use super::kind::{Kind, Provider};
use super::object::Look as _;
use super::plan::{Plan, paused};
use super::view::View;

/// Seconds of life until the infrastructure of a cluster is there, for providers that ask a remote system.
const PROVISION: f64 = 10.0;
/// Seconds of life between two looks at infrastructure that is stuck.
const LOOK_EVERY: f64 = 30.0;

pub(crate) fn decide(provider: Provider, infra: &Arc<DynamicObject>, view: &View<'_>) -> Plan {
    let [finalizer, _] = provider.finalizers();
    let kind = Kind::InfraCluster(provider);
    if infra.deleting() {
        return delete(provider, infra, view);
    }
    let owner = infra.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Cluster");
    let Some(cluster) = owner.and_then(|owner| view.cache.get(Kind::Cluster, infra.namespace(), &owner.name)) else {
        return Plan::default();
    };
    if !infra.has_finalizer(finalizer) {
        return Plan::finalizer(infra, finalizer);
    }
    let (pause, alone) = paused(infra, Some(&cluster));
    if alone {
        return Plan { conditions: vec![pause], ..Plan::default() };
    }
    let mut plan = Plan { conditions: vec![pause], ..Plan::default() };
    if infra.flag("/status/initialization/provisioned") {
        plan.conditions.extend(ready(provider, infra, None));
        return plan;
    }
    if view.machines.stalled(cluster.name(), None) {
        plan.conditions.extend(ready(
            provider,
            infra,
            Some("the infrastructure provider does not answer (simulated fault)"),
        ));
        plan.again = Some(view.pace.poll(LOOK_EVERY));
        return plan;
    }
    let left = match provider {
        Provider::Dev => std::time::Duration::ZERO,
        Provider::Proxmox => view.left(kind, infra, PROVISION),
    };
    if !left.is_zero() {
        plan.conditions.extend(ready(provider, infra, Some("waiting for the infrastructure provider")));
        plan.again = Some(left);
        return plan;
    }
    if infra.text("/spec/controlPlaneEndpoint/host").is_none_or(str::is_empty) {
        let (host, port) = view.machines.endpoint(infra.namespace(), cluster.name());
        plan.body = Some(json!({"spec": {"controlPlaneEndpoint": {"host": host, "port": port}}}));
    }
    plan.conditions.extend(ready(provider, infra, None));
    plan.status = Some(json!({"initialization": {"provisioned": true}}));
    tracing::debug!(kind = kind.name(), name = infra.name(), "infrastructure provisioned");
    plan
}

/// Conditions of the provider; the one for development has none as long as all is well.
fn ready(provider: Provider, infra: &DynamicObject, waiting: Option<&str>) -> Vec<Condition> {
    match (provider, waiting) {
        (Provider::Dev, Some(why)) => vec![Condition::no("Ready", "NotReady", why)],
        (Provider::Dev, None) if infra.condition("Ready").is_some() => vec![Condition::yes("Ready", "Ready")],
        (Provider::Dev, None) => Vec::new(),
        (Provider::Proxmox, None) => {
            vec![Condition::yes("Ready", "Ready"), Condition::yes("ProxmoxAvailable", "ProxmoxAvailable")]
        }
        (Provider::Proxmox, Some(why)) => vec![
            Condition::no("Ready", "NotReady", format!("* ProxmoxAvailable: {why}")),
            Condition::no("ProxmoxAvailable", "ProxmoxUnreachable", why),
        ],
    }
}

/// Waits until no machine of the cluster is left.
fn delete(provider: Provider, infra: &DynamicObject, view: &View<'_>) -> Plan {
    let [finalizer, _] = provider.finalizers();
    if !infra.has_finalizer(finalizer) {
        return Plan::default();
    }
    let pause = paused(infra, None).0;
    let machines = view.cache.list(Kind::InfraMachine(provider), infra.namespace());
    if machines.iter().any(|machine| machine.cluster_name() == infra.cluster_name()) {
        return Plan { conditions: vec![pause], again: Some(view.pace.poll(10.0)), ..Plan::default() };
    }
    debug_assert!(pause.status != Status::Unknown, "a pause is never unknown");
    Plan { conditions: vec![pause], ..Plan::without_finalizer(infra, finalizer) }
}
