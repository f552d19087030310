//! The roles and bindings that every cluster begins with, read from a table.

use serde_json::{Map, Value, json};

use super::{RBAC, put};
use crate::core::Core;
use crate::json;

const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Makes those that are not there yet.
pub(super) fn make(core: &Core, now: &str) {
    let mut object: Option<Entry> = None;
    for line in include_str!("roles.txt").lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(part) => {
                if let Some(object) = &mut object {
                    object.add(part);
                }
            }
            None => {
                if let Some(done) = std::mem::replace(&mut object, Entry::read(line, now)) {
                    done.store(core, now);
                }
            }
        }
    }
    if let Some(done) = object {
        done.store(core, now);
    }
}

/// One object of the table.
struct Entry {
    plural: &'static str,
    namespace: String,
    object: Value,
}

fn words(text: &str) -> Vec<&str> {
    text.split(',').filter(|word| !word.is_empty()).map(|word| if word == "-" { "" } else { word }).collect()
}

impl Entry {
    /// Reads the line that names an object.
    fn read(line: &str, now: &str) -> Option<Self> {
        let mut parts = line.split(' ');
        let (what, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
        let namespace = if namespace == "*" { "" } else { namespace };
        let (plural, kind) = match (what, namespace) {
            ("role", "") => ("clusterroles", "ClusterRole"),
            ("role", _) => ("roles", "Role"),
            (_, "") => ("clusterrolebindings", "ClusterRoleBinding"),
            _ => ("rolebindings", "RoleBinding"),
        };
        let mut labels = Map::from_iter([("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".into())]);
        let mut object = json!({"kind": kind, "apiVersion": format!("{RBAC}/v1"), "metadata": {"name": name}});
        if what == "role" {
            object["rules"] = Value::Null;
        }
        while let Some(key) = parts.next() {
            match (what, key) {
                ("role", "to") => {
                    labels.insert(format!("{AGGREGATE}{}", parts.next()?), "true".into());
                }
                ("role", "aggregates") => {
                    let label = format!("{AGGREGATE}{}", parts.next()?);
                    object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
                }
                (_, role) => {
                    let (kind, name) = role.split_once('/')?;
                    object["roleRef"] = json!({"apiGroup": RBAC, "kind": kind, "name": name});
                }
            }
        }
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        object["metadata"]["labels"] = Value::Object(labels);
        object["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "true"});
        object["metadata"]["managedFields"] = json!([{
            "manager": "kube-apiserver", "operation": "Update", "apiVersion": format!("{RBAC}/v1"), "time": now,
            "fieldsType": "FieldsV1", "fieldsV1": {},
        }]);
        Some(Self { plural, namespace: namespace.to_owned(), object })
    }

    /// Adds a rule or a subject.
    fn add(&mut self, part: &str) {
        let columns: Vec<&str> = part.split('|').collect();
        let (key, value) = match columns.as_slice() {
            [verbs, groups, resources, names, paths] => {
                let mut rule = json!({"verbs": words(verbs)});
                let lists = [
                    ("apiGroups", groups),
                    ("resources", resources),
                    ("resourceNames", names),
                    ("nonResourceURLs", paths),
                ];
                for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
                    rule[key] = words(list).into();
                }
                ("rules", rule)
            }
            ["ServiceAccount", namespace, name] => {
                ("subjects", json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}))
            }
            [kind, _, name] => ("subjects", json!({"kind": kind, "apiGroup": RBAC, "name": name})),
            _ => return,
        };
        let mut list = json::list(&self.object, &[key]).to_vec();
        list.push(value);
        self.object[key] = Value::Array(list);
    }

    /// Stores the object, its fields owned by the server.
    fn store(mut self, core: &Core, now: &str) {
        let mut labels = json!({".": {}});
        let known = json::at(&self.object, &["metadata", "labels"]).and_then(Value::as_object);
        for key in known.into_iter().flat_map(Map::keys) {
            labels[format!("f:{key}")] = json!({});
        }
        let mut fields = json!({
            "f:metadata": {
                "f:annotations": {".": {}, "f:rbac.authorization.kubernetes.io/autoupdate": {}}, "f:labels": labels,
            },
        });
        for key in ["roleRef", "rules", "subjects"] {
            if self.object.get(key).is_some_and(|value| !value.is_null()) {
                fields[format!("f:{key}")] = json!({});
            }
        }
        if self.object.get("aggregationRule").is_some() {
            fields["f:aggregationRule"] = json!({".": {}, "f:clusterRoleSelectors": {}});
        }
        self.object["metadata"]["managedFields"][0]["fieldsV1"] = fields;
        let name = json::text(&self.object, &["metadata", "name"]).to_owned();
        put(core, &format!("{RBAC}/{}", self.plural), &self.namespace, &name, self.object, now);
    }
}
