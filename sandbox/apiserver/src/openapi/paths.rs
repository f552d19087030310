//! The paths of a document: which verbs each takes, with which parameters, and what they are about.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::schemas;
use crate::kinds::{Resource, Subresource, join};

/// The types that requests and answers have beside objects.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const LIST: [(&str, &str); 11] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const WRITE: [(&str, &str); 4] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];

/// Built-in kinds of which a delete answers the object.
const RETURNED: [&str; 16] = [
    "CSIDriver",
    "CSINode",
    "DeviceClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceQuota",
    "ResourceSlice",
    "Service",
    "ServiceAccount",
    "StorageClass",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

type Parameter = (&'static str, &'static str);

/// Returns the paths of a group's version.
pub(super) fn of(resources: &[Arc<Resource>]) -> Value {
    let mut out = Map::new();
    for resource in resources {
        let paths = Paths { resource };
        paths.collections(&mut out);
        paths.objects(&mut out);
        if !resource.is_custom() {
            paths.watches(&mut out);
        }
    }
    Value::Object(out)
}

/// Returns the document of a path that tells what there is.
pub(super) fn root(path: &str, tag: &str, id: &str, kind: &str) -> Value {
    let content =
        content(&["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"], &meta(kind));
    json!({path: {"get": {
        "tags": [tag], "operationId": id,
        "responses": {"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}},
    }}})
}

/// Writes a group's name as the documents do: its parts in camel case.
pub(super) fn camel(group: &str, first_too: bool) -> String {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    let mut out = String::new();
    for (index, part) in group.split(['.', '-']).enumerate() {
        out += &if index > 0 || first_too { upper(part) } else { part.to_owned() };
    }
    out
}

/// Begins a text with a capital letter.
fn upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn meta(kind: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{META}{kind}")})
}

fn content(media: &[&str], schema: &Value) -> Value {
    media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}

fn parameter(name: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

/// One operation before it is written.
struct Operation {
    method: &'static str,
    /// The first word of its name.
    word: &'static str,
    action: &'static str,
    description: String,
    parameters: Vec<Parameter>,
    codes: &'static [&'static str],
    /// What it answers.
    answer: Value,
    /// What it takes, where it takes anything.
    body: Option<Value>,
}

struct Paths<'a> {
    resource: &'a Resource,
}

impl Paths<'_> {
    fn root(&self) -> String {
        match self.resource.group.as_str() {
            "" => format!("/api/{}", self.resource.version),
            group => format!("/apis/{}", join(group, &self.resource.version)),
        }
    }

    /// Returns the path of a list, below a start that may stand before it.
    fn collection(&self, start: &str) -> String {
        let scope = if self.resource.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{start}{scope}/{}", self.root(), self.resource.plural)
    }

    /// Returns the name of the part of an operation that says what it is about.
    fn subject(&self, middle: &str, end: &str) -> String {
        let scope = if self.resource.namespaced { "Namespaced" } else { "" };
        format!("{}{middle}{scope}{}{end}", self.prefix(), self.resource.kind)
    }

    fn prefix(&self) -> String {
        format!("{}{}", camel(&self.resource.group, true), upper(&self.resource.version))
    }

    fn own(&self, end: &str) -> Value {
        json!({"$ref": format!("#/components/schemas/{}{end}", schemas::name(self.resource))})
    }

    /// The content types of answers, and of a watch's where it is one too.
    fn media(&self, streams: bool) -> &'static [&'static str] {
        match (self.resource.is_custom(), streams) {
            (true, _) => &["application/json", "application/yaml"],
            (false, false) => &["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"],
            (false, true) => &[
                "application/json",
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf",
                "application/vnd.kubernetes.protobuf;stream=watch",
                "application/yaml",
            ],
        }
    }

    /// Makes an operation on objects or on what is below them.
    fn verb(&self, verb: &str, sub: &str, answer: &Value) -> Operation {
        let below = if sub.is_empty() { String::new() } else { format!("{sub} of ") };
        let custom = self.resource.is_custom();
        let status = meta("Status");
        let kind = &self.resource.kind;
        let description = match verb {
            "list" if custom => format!("list objects of kind {kind}"),
            "list" => format!("list or watch objects of kind {kind}"),
            "create" => format!("create {below}a {kind}"),
            "delete" => format!("delete a {kind}"),
            "deletecollection" => format!("delete collection of {kind}"),
            "update" => format!("replace {below}the specified {kind}"),
            "patch" => format!("partially update {below}the specified {kind}"),
            _ => format!("read {below}the specified {kind}"),
        };
        let operation = |method, word, action, parameters: &[Parameter], codes, answer: &Value, body| Operation {
            method,
            word,
            action,
            description: description.clone(),
            parameters: parameters.to_vec(),
            codes,
            answer: answer.clone(),
            body,
        };
        let options = || Some(meta("DeleteOptions"));
        match verb {
            "create" => {
                operation("post", "create", "post", &WRITE[..3], &["200", "201", "202"], answer, Some(answer.clone()))
            }
            "update" => operation("put", "replace", "put", &WRITE[..3], &["200", "201"], answer, Some(answer.clone())),
            "patch" => {
                let codes: &[&str] = if custom { &["200"] } else { &["200", "201"] };
                operation("patch", "patch", "patch", &WRITE, codes, answer, Some(meta("Patch")))
            }
            "delete" => {
                let kept = !custom && RETURNED.contains(&self.resource.kind.as_str());
                let told = if kept { answer } else { &status };
                operation("delete", "delete", "delete", &DELETE, &["200", "202"], told, options())
            }
            "deletecollection" if custom => {
                operation("delete", "delete", "deletecollection", &LIST, &["200"], &status, None)
            }
            "deletecollection" => {
                let mut both = [&LIST[1..10], &DELETE].concat();
                both.sort_unstable();
                operation("delete", "delete", "deletecollection", &both, &["200"], &status, options())
            }
            "list" => operation("get", "list", "list", &LIST, &["200"], answer, None),
            _ => {
                let version = &LIST[5..=5];
                let parameters = if custom { version } else { &[] };
                operation("get", "read", "get", parameters, &["200"], answer, None)
            }
        }
    }

    fn written(&self, operation: &Operation, id: &str, streams: bool, kind: &Value) -> Value {
        let media = if operation.action == "connect" { &["*/*"] } else { self.media(streams) };
        let mut responses = Map::new();
        for (code, text) in [("200", "OK"), ("201", "Created"), ("202", "Accepted")] {
            if operation.codes.contains(&code) {
                let content = content(media, &operation.answer);
                responses.insert(code.to_owned(), json!({"description": text, "content": content}));
            }
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        let tag = format!("{}_{}", camel(&self.resource.group, false), self.resource.version);
        let mut out = json!({"tags": [tag], "description": operation.description, "operationId": id});
        if !operation.parameters.is_empty() {
            let parameters: Vec<_> = operation.parameters.iter().map(|(name, kind)| parameter(name, kind)).collect();
            out["parameters"] = parameters.into();
        }
        if let Some(body) = &operation.body {
            let patches = [
                "application/apply-patch+yaml",
                "application/json-patch+json",
                "application/merge-patch+json",
                // `kubectl` sends custom kinds a strategic patch where this names one.
                "application/strategic-merge-patch+json",
            ];
            let media: &[&str] = match (operation.method, self.resource.is_custom()) {
                ("patch", custom) => &patches[..if custom { 3 } else { 4 }],
                (_, true) => &["application/json", "application/yaml"],
                (_, false) => &["*/*"],
            };
            out["requestBody"] = json!({"content": content(media, body)});
            if operation.method != "delete" {
                out["requestBody"]["required"] = true.into();
            }
        }
        out["responses"] = responses.into();
        out["x-kubernetes-action"] = operation.action.into();
        out["x-kubernetes-group-version-kind"] = kind.clone();
        out
    }

    /// Writes a path: parameters that all its operations take stand beside them.
    fn put(
        &self,
        path: String,
        operations: Vec<(Operation, String)>,
        streams: bool,
        kind: &Value,
        out: &mut Map<String, Value>,
    ) {
        let Some((first, _)) = operations.first() else { return };
        let shared: Vec<Parameter> = first
            .parameters
            .iter()
            .filter(|parameter| operations.iter().all(|(operation, _)| operation.parameters.contains(parameter)))
            .copied()
            .collect();
        let mut beside: Vec<(&str, Value)> = shared.iter().map(|(name, kind)| (*name, parameter(name, kind))).collect();
        for name in ["name", "namespace"] {
            if path.contains(&format!("{{{name}}}")) {
                let schema = json!({"type": "string", "uniqueItems": true});
                beside.push((name, json!({"name": name, "in": "path", "required": true, "schema": schema})));
            }
        }
        if operations.iter().all(|(operation, _)| operation.action != "connect") {
            beside.push(("pretty", parameter("pretty", "string")));
        }
        beside.sort_by_key(|(name, _)| *name);
        let mut all = Map::new();
        for (mut operation, id) in operations {
            operation.parameters.retain(|parameter| !shared.contains(parameter));
            all.insert(operation.method.to_owned(), self.written(&operation, &id, streams, kind));
        }
        all.insert("parameters".to_owned(), beside.into_iter().map(|(_, parameter)| parameter).collect());
        out.insert(path, all.into());
    }

    /// Writes the paths of lists.
    fn collections(&self, out: &mut Map<String, Value>) {
        let kind = schemas::kind_of(self.resource);
        let list = self.own("List");
        if self.resource.namespaced && self.resource.allows("list") {
            let id = format!("list{}{}ForAllNamespaces", self.prefix(), self.resource.kind);
            let path = format!("{}/{}", self.root(), self.resource.plural);
            self.put(path, vec![(self.verb("list", "", &list), id)], true, &kind, out);
        }
        let mut operations = Vec::new();
        for verb in ["list", "create", "deletecollection"] {
            if self.resource.allows(verb) {
                let answer = if verb == "list" { list.clone() } else { self.own("") };
                let operation = self.verb(verb, "", &answer);
                let middle = if verb == "deletecollection" { "Collection" } else { "" };
                let id = format!("{}{}", operation.word, self.subject(middle, ""));
                operations.push((operation, id));
            }
        }
        // Only the list is a watch as well.
        let path = self.collection("");
        self.put(path.clone(), operations, false, &kind, out);
        if let Some(get) = out.get_mut(&path).and_then(|path| path.get_mut("get")) {
            get["responses"]["200"]["content"] = content(self.media(true), &list);
        }
    }

    /// Writes the paths of single objects and of what is below them.
    fn objects(&self, out: &mut Map<String, Value>) {
        let kind = schemas::kind_of(self.resource);
        let path = format!("{}/{{name}}", self.collection(""));
        let own = self.own("");
        let mut operations = Vec::new();
        for verb in ["get", "update", "delete", "patch"] {
            if self.resource.allows(verb) {
                let operation = self.verb(verb, "", &own);
                let id = format!("{}{}", operation.word, self.subject("", ""));
                operations.push((operation, id));
            }
        }
        self.put(path.clone(), operations, false, &kind, out);
        for sub in &self.resource.subresources {
            self.below(&path, sub, out);
        }
    }

    fn below(&self, path: &str, sub: &Subresource, out: &mut Map<String, Value>) {
        let end = upper(&sub.name);
        let connects = matches!(sub.name.as_str(), "exec" | "attach" | "portforward" | "proxy");
        let kind = match &sub.group_version {
            Some((group, version)) if !self.resource.is_custom() => {
                json!({"group": group, "version": version, "kind": sub.kind})
            }
            _ if connects => json!({"group": "", "version": "v1", "kind": sub.kind}),
            _ if sub.name == "binding" => json!({"group": "", "version": "v1", "kind": sub.kind}),
            _ => schemas::kind_of(self.resource),
        };
        let answer = match sub.kind.as_str() {
            _ if connects || sub.name == "log" => json!({"type": "string"}),
            "Scale" => json!({"$ref": "#/components/schemas/io.k8s.api.autoscaling.v1.Scale"}),
            "Eviction" => json!({"$ref": "#/components/schemas/io.k8s.api.policy.v1.Eviction"}),
            "TokenRequest" => json!({"$ref": "#/components/schemas/io.k8s.api.authentication.v1.TokenRequest"}),
            "Binding" => json!({"$ref": "#/components/schemas/io.k8s.api.core.v1.Binding"}),
            _ => self.own(""),
        };
        let mut operations = Vec::new();
        for verb in ["get", "create", "update", "patch", "delete"] {
            if !sub.verbs.iter().any(|known| known == verb) {
                continue;
            }
            let mut operation = self.verb(verb, &sub.name, &answer);
            let id = if connects {
                operation.action = "connect";
                operation.description = format!(
                    "connect {} requests to {} of {}",
                    operation.method.to_uppercase(),
                    sub.name,
                    self.resource.kind
                );
                operation.body = None;
                operation.codes = &["200"];
                operation.parameters.clear();
                format!("connect{}", self.subject(&upper(operation.method), &end))
            } else {
                format!("{}{}", operation.word, self.subject("", &end))
            };
            operations.push((operation, id));
        }
        self.put(format!("{path}/{}", sub.name), operations, false, &kind, out);
    }

    /// Writes the old paths of watches, of built-in kinds alone.
    fn watches(&self, out: &mut Map<String, Value>) {
        if !self.resource.allows("watch") {
            return;
        }
        let kind = schemas::kind_of(self.resource);
        let watch = |action| Operation {
            method: "get",
            word: "watch",
            action,
            description: format!("watch changes of {}; instead, a list takes the parameter watch", self.resource.kind),
            parameters: LIST.to_vec(),
            codes: &["200"],
            answer: meta("WatchEvent"),
            body: None,
        };
        if self.resource.namespaced {
            let id = format!("watch{}{}ListForAllNamespaces", self.prefix(), self.resource.kind);
            let path = format!("{}/watch/{}", self.root(), self.resource.plural);
            self.put(path, vec![(watch("watchlist"), id)], true, &kind, out);
        }
        let list = self.collection("/watch");
        self.put(
            list.clone(),
            vec![(watch("watchlist"), format!("watch{}", self.subject("", "List")))],
            true,
            &kind,
            out,
        );
        let one = format!("{list}/{{name}}");
        self.put(one, vec![(watch("watch"), format!("watch{}", self.subject("", "")))], true, &kind, out);
    }
}
