//! Components: what each is at, what may start, and the condition of each.

use std::collections::BTreeMap;

use super::agent;
use super::decision::EventKind;
use super::effect::EffectKind;
use super::facts::{Component, Observed, Report, ReportState};
use super::graph::Graph;
use super::look::Look;
use crate::api::{ComponentState, ComponentStatus, ConditionStatus, Phase, Reason};

/// Mirrors what the agent reports, installs what may start, removes what is off.
pub(super) fn show(look: &mut Look<'_>, graph: &Graph) {
    let reports = live_reports(look);
    let components: BTreeMap<String, Component> =
        look.facts.catalog.components.iter().map(|component| (component.name.clone(), component.clone())).collect();
    let statuses: Vec<ComponentStatus> =
        graph.order().iter().map(|name| status(look, graph, name, reports.as_ref())).collect();
    if let Some(reports) = &reports {
        install(look, graph, &components, reports);
        remove(look, graph, &components, reports);
    }
    for status in &statuses {
        if let Some(component) = components.get(&status.name) {
            let report = reports.as_ref().and_then(|reports| reports.get(&status.name));
            condition(look, component, status, report, reports.is_some());
        }
    }
    drop_conditions(look, graph);
    look.status.components = statuses;
}

/// Whether every component is healthy, by a word that is live.
pub(super) fn all_healthy(look: &Look<'_>, graph: &Graph) -> bool {
    live_reports(look).is_some_and(|reports| {
        graph.order().iter().all(|name| reports.get(name).is_some_and(|report| report.state == ReportState::Healthy))
    })
}

/// Components whose gate does not hold, as the status tells them.
pub(super) fn sick(look: &Look<'_>) -> Vec<String> {
    look.status.components.iter().filter(|c| c.state != ComponentState::Healthy).map(|c| c.name.clone()).collect()
}

fn live_reports(look: &Look<'_>) -> Option<BTreeMap<String, Report>> {
    let agent = &look.facts.agent;
    match (&agent.session, &agent.reports) {
        (Some(_), Observed::Known(reports)) => Some(reports.clone()),
        (Some(_), Observed::Absent | Observed::Unknown) | (None, _) => None,
    }
}

fn healthy(reports: &BTreeMap<String, Report>) -> impl Fn(&str) -> bool + '_ {
    |name| reports.get(name).is_some_and(|report| report.state == ReportState::Healthy)
}

fn held(reports: &BTreeMap<String, Report>) -> impl Fn(&str) -> bool + '_ {
    |name| reports.get(name).is_some_and(|report| report.state != ReportState::Removed)
}

/// Hands bundles to the agent: those that may start, and those of which it holds an old one.
fn install(
    look: &mut Look<'_>,
    graph: &Graph,
    components: &BTreeMap<String, Component>,
    reports: &BTreeMap<String, Report>,
) {
    let startable = graph.startable(held(reports), healthy(reports));
    for name in graph.order() {
        let Some(component) = components.get(name) else { continue };
        let digest = &component.digest;
        let outdated = held(reports)(name)
            && digest.as_ref().is_some_and(|wanted| reports.get(name).is_some_and(|report| report.digest != *wanted));
        if startable.contains(name) || outdated {
            look.want(EffectKind::Install { component: name.clone(), digest: digest.clone() });
        }
    }
}

/// Takes off the child what is in the catalog and off: each after all that need it.
fn remove(
    look: &mut Look<'_>,
    graph: &Graph,
    components: &BTreeMap<String, Component>,
    reports: &BTreeMap<String, Report>,
) {
    let leaving: Vec<&Component> =
        components.values().filter(|c| !graph.contains(&c.name) && held(reports)(&c.name)).collect();
    for component in &leaving {
        let needed = leaving.iter().any(|other| other.needs.iter().any(|need| need.name == component.name));
        if !needed {
            look.want(EffectKind::Remove { component: component.name.clone() });
        }
    }
}

fn status(look: &Look<'_>, graph: &Graph, name: &str, reports: Option<&BTreeMap<String, Report>>) -> ComponentStatus {
    let stored = look.stored.components.iter().find(|component| component.name == name);
    let Some(reports) = reports else {
        // What was known stands while the agent is away; its condition says so.
        return stored.cloned().unwrap_or_else(|| ComponentStatus {
            message: Some("waits for the agent".to_owned()),
            ..blank(look, name, ComponentState::Waiting)
        });
    };
    let fresh = match reports.get(name).filter(|report| report.state != ReportState::Removed) {
        None => not_started(look, graph, name, reports),
        Some(report) => reported(look, name, report, stored),
    };
    match stored.filter(|stored| stored.state == fresh.state) {
        Some(stored) => ComponentStatus { since: stored.since.clone(), ..fresh },
        None => fresh,
    }
}

fn not_started(look: &Look<'_>, graph: &Graph, name: &str, reports: &BTreeMap<String, Report>) -> ComponentStatus {
    let waiting_for = graph.waiting_for(name, healthy(reports));
    if waiting_for.is_empty() {
        let message = Some("being handed to the agent".to_owned());
        return ComponentStatus { message, ..blank(look, name, ComponentState::Installing) };
    }
    let message = Some(format!("waits for {}", waiting_for.join(", ")));
    ComponentStatus { message, waiting_for, ..blank(look, name, ComponentState::Waiting) }
}

fn reported(look: &Look<'_>, name: &str, report: &Report, stored: Option<&ComponentStatus>) -> ComponentStatus {
    let was_healthy = stored.is_some_and(|s| matches!(s.state, ComponentState::Healthy | ComponentState::Unhealthy));
    let state = match report.state {
        ReportState::Pending | ReportState::Applying => ComponentState::Installing,
        ReportState::Waiting if was_healthy => ComponentState::Unhealthy,
        ReportState::Waiting => ComponentState::Progressing,
        ReportState::Healthy => ComponentState::Healthy,
        ReportState::Failed => ComponentState::Failed,
        ReportState::Removing | ReportState::Removed => ComponentState::Removing,
    };
    ComponentStatus {
        version: Some(report.version.clone()).filter(|version| !version.is_empty()),
        message: Some(report.message.clone()).filter(|message| !message.is_empty()),
        attempt: Some(report.attempt).filter(|attempt| *attempt > 0),
        next_attempt: report
            .next_attempt
            .map(|at| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(lattice_protocol::clock::to_seconds(at))),
        ..blank(look, name, state)
    }
}

fn blank(look: &Look<'_>, name: &str, state: ComponentState) -> ComponentStatus {
    ComponentStatus {
        name: name.to_owned(),
        version: None,
        state,
        message: None,
        since: Some(look.time()),
        attempt: None,
        next_attempt: None,
        waiting_for: Vec::new(),
    }
}

/// The condition of one component.
fn condition(
    look: &mut Look<'_>,
    component: &Component,
    status: &ComponentStatus,
    report: Option<&Report>,
    live: bool,
) {
    let type_ = component.condition.as_str();
    let before = look.conditions.get(type_).map(|condition| condition.status);
    if !live {
        away(look, component, status);
        return;
    }
    let message = status.message.clone().unwrap_or_default();
    let (holds, reason, message) = match status.state {
        ComponentState::Healthy => {
            let version = status.version.as_deref().map(|v| format!(" {v}")).unwrap_or_default();
            let detail = if message.is_empty() { String::new() } else { format!(": {message}") };
            (ConditionStatus::True, Reason::AsExpected, format!("{}{version} is healthy{detail}", component.name))
        }
        ComponentState::Waiting => {
            (ConditionStatus::False, Reason::WaitingForDependencies, format!("{} {message}", component.name))
        }
        ComponentState::Installing
        | ComponentState::Progressing
        | ComponentState::Unhealthy
        | ComponentState::Failed
        | ComponentState::Removing => {
            let given = report.and_then(|report| report.reason.parse::<Reason>().ok());
            let message = if message.is_empty() { format!("{} is being applied", component.name) } else { message };
            (ConditionStatus::False, given.unwrap_or(Reason::Installing), message)
        }
    };
    if before != Some(holds) {
        tell(look, component, before, holds, reason, &message);
    }
    look.set(type_, holds, reason, message);
}

fn tell(
    look: &mut Look<'_>,
    component: &Component,
    before: Option<ConditionStatus>,
    holds: ConditionStatus,
    reason: Reason,
    message: &str,
) {
    match (before, holds) {
        (_, ConditionStatus::True) => look.tell(EventKind::Normal, reason, "Component", message),
        (Some(ConditionStatus::True), ConditionStatus::False | ConditionStatus::Unknown) => {
            look.tell(EventKind::Warning, reason, "Component", format!("{}: {message}", component.name));
        }
        (
            None | Some(ConditionStatus::False | ConditionStatus::Unknown),
            ConditionStatus::False | ConditionStatus::Unknown,
        ) => {}
    }
}

/// The agent is away: what was known stands while it may be on its way back, then nobody can tell.
fn away(look: &mut Look<'_>, component: &Component, status: &ComponentStatus) {
    let type_ = component.condition.as_str();
    let known = look.conditions.get(type_).is_some();
    if known && (agent::in_grace(look) || look.facts.agent.session.is_some()) {
        return;
    }
    let never = look.stored.agent.is_none();
    if never {
        let (reason, message) = match look.phase() {
            Some(Phase::Bootstrapping | Phase::Ready | Phase::Scaling | Phase::Upgrading | Phase::Deleting) => {
                (Reason::AgentAway, format!("{} waits for the agent", component.name))
            }
            None | Some(Phase::Pending | Phase::Provisioning) => {
                (Reason::WaitingForEarlierStep, format!("{} is installed once the agent is connected", component.name))
            }
        };
        look.set(type_, ConditionStatus::Unknown, reason, message);
        return;
    }
    let last = match status.state {
        ComponentState::Healthy => "healthy".to_owned(),
        ComponentState::Waiting
        | ComponentState::Installing
        | ComponentState::Progressing
        | ComponentState::Unhealthy
        | ComponentState::Failed
        | ComponentState::Removing => status.message.clone().unwrap_or_else(|| format!("{:?}", status.state)),
    };
    let message = format!("the agent is away; {} was last seen: {last}", component.name);
    look.set(type_, ConditionStatus::Unknown, Reason::AgentAway, message);
}

/// Conditions of components that the cluster does not have any more go with them.
fn drop_conditions(look: &mut Look<'_>, graph: &Graph) {
    let gone: Vec<String> = look
        .facts
        .catalog
        .components
        .iter()
        .filter(|component| !graph.contains(&component.name))
        .map(|component| component.condition.clone())
        .collect();
    look.conditions.retain(|condition| !gone.contains(&condition.type_));
}
