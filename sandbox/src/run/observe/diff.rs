//! What changed between two versions of a cluster, one entry per thing that a person follows.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Change, conditions, text};

/// The changes from `old` to `new`; `None` is a cluster that does not exist.
pub(super) fn changes(name: &str, old: Option<&Value>, new: Option<&Value>) -> Vec<Change> {
    let mut all = Vec::new();
    let mut add = |what: &str, from: &str, to: &str, why: &str| {
        if from != to {
            all.push(Change::plain(name, what, from, to, why));
        }
    };
    let Some(new) = new else {
        if old.is_some() {
            add("cluster", "present", "gone", "");
        }
        return all;
    };
    if old.is_none() {
        add("cluster", "", "present", "");
    }
    let null = Value::Null;
    let old = old.unwrap_or(&null);
    let message = text(new, "/status/message").unwrap_or_default();
    add("phase", phase(old), phase(new), message);
    let before: BTreeMap<&str, &Value> = conditions(old).filter_map(|one| Some((one["type"].as_str()?, one))).collect();
    for condition in conditions(new) {
        let title = condition["type"].as_str().unwrap_or_default();
        let was = before.get(title).map_or(String::new(), |old| short(old));
        add(title, &was, &short(condition), condition["message"].as_str().unwrap_or_default());
    }
    let (before, after) = (components(old), components(new));
    for (component, (state, why)) in &after {
        let was = before.get(component).map_or("", |(state, _)| state);
        add(&format!("component {component}"), was, state, why);
    }
    for component in before.keys().filter(|component| !after.contains_key(*component)) {
        add(&format!("component {component}"), &before[component].0, "gone", "");
    }
    add("agent", &agent(old), &agent(new), text(new, "/status/agent/lastError").unwrap_or_default());
    add("nodes", nodes(old), nodes(new), "");
    let step = |value: &Value| text(value, "/status/deletion/step").unwrap_or_default().to_owned();
    add("deletion", &step(old), &step(new), &remaining(new));
    let error = |value: &Value| text(value, "/status/lastError/reason").unwrap_or_default().to_owned();
    add("error", &error(old), &error(new), text(new, "/status/lastError/message").unwrap_or_default());
    all
}

fn phase(cluster: &Value) -> &str {
    text(cluster, "/status/phase").unwrap_or_default()
}

/// `True` or `False/Reason`.
fn short(condition: &Value) -> String {
    let at = |key: &str| condition[key].as_str().unwrap_or_default();
    if at("status") == "True" { "True".to_owned() } else { format!("{}/{}", at("status"), at("reason")) }
}

/// State and message by component.
fn components(cluster: &Value) -> BTreeMap<String, (String, String)> {
    let list = cluster.pointer("/status/components").and_then(Value::as_array);
    let at = |component: &Value, key: &str| component[key].as_str().unwrap_or_default().to_owned();
    list.into_iter().flatten().map(|one| (at(one, "name"), (at(one, "state"), at(one, "message")))).collect()
}

/// What the agent's connection is like, in few words.
pub(in crate::run) fn agent(cluster: &Value) -> String {
    match cluster.pointer("/status/agent/connected").and_then(Value::as_bool) {
        None => String::new(),
        Some(false) => "away".to_owned(),
        Some(true) => {
            let transport = text(cluster, "/status/agent/transport").unwrap_or("connected");
            format!("connected ({transport})")
        }
    }
}

/// Ready and wanted nodes.
pub(in crate::run) fn nodes(cluster: &Value) -> &str {
    text(cluster, "/status/nodes/summary").unwrap_or_default()
}

fn remaining(cluster: &Value) -> String {
    let list = cluster.pointer("/status/deletion/remaining").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(old: &Value, new: &Value) -> Vec<String> {
        let line = |change: &Change| format!("{}: {} -> {} ({})", change.what, change.from, change.to, change.why);
        changes("x", Some(old), Some(new)).iter().map(line).collect()
    }

    #[test]
    fn phases_conditions_and_components_give_a_line_each_and_the_rest_none() {
        let old = json!({"status": {"phase": "Pending", "observedGeneration": 1}});
        let new = json!({"status": {
            "phase": "Bootstrapping", "message": "installing", "observedGeneration": 2,
            "conditions": [{"type": "CNI", "status": "False", "reason": "Installing", "message": "cilium: 1/4"}],
            "components": [{"name": "cilium", "state": "Installing", "message": "m"}],
            "agent": {"connected": true, "transport": "quic"}, "nodes": {"summary": "1/4"},
        }});
        assert_eq!(
            lines(&old, &new),
            [
                "phase: Pending -> Bootstrapping (installing)",
                "CNI:  -> False/Installing (cilium: 1/4)",
                "component cilium:  -> Installing (m)",
                "agent:  -> connected (quic) ()",
                "nodes:  -> 1/4 ()",
            ]
        );
        assert!(lines(&new, &new).is_empty());
    }

    #[test]
    fn a_message_alone_is_no_change_of_a_condition() {
        let with = |message: &str| json!({"status": {"conditions": [{"type": "CNI", "status": "False", "reason": "R", "message": message}]}});
        assert!(lines(&with("1/4"), &with("2/4")).is_empty());
    }
}
