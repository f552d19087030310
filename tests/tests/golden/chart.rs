//! `charts/lattice-agent`: made from `templates/agent`, with Helm's values where the manager puts a cluster's own.
//!
//! The manifest is rendered with marks in place of values, and each mark becomes the Helm expression for it. So there is
//! one source; that the chart says the same is checked by putting values in again.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lattice_manager::render::{AgentContext, JoinToken};
use serde_json::Value;

use crate::files::{self, Golden};
use crate::{TOKEN, agent, renderer};

const UID_MARK: &str = "00000000-1111-2222-3333-444444444444";

/// Marks of single values, and what Helm is told in their place.
const VALUES: [(&str, &str); 7] = [
    ("mark-cluster", "{{ .Values.cluster.name | quote }}"),
    (UID_MARK, "{{ .Values.cluster.uid | quote }}"),
    ("mark-trust-domain", "{{ .Values.trustDomain | quote }}"),
    ("mark-image", "{{ .Values.image | quote }}"),
    ("mark-pin", "{{ .Values.enrolment.caPin | quote }}"),
    ("bWFyay1jYQ==", "{{ .Values.enrolment.ca | b64enc | quote }}"),
    ("bWFyay10b2tlbg==", "{{ .Values.enrolment.token | b64enc | quote }}"),
];

/// Marks of lists: what Helm is told before the items, and in place of each.
const LISTS: [(&str, &str, &str); 3] = [
    ("mark-endpoint", "{{- range .Values.endpoints }}", "{{ . | quote }}"),
    ("mark-url", "{{- range .Values.bootstrapUrls }}", "{{ . | quote }}"),
    ("mark-value", "{{- range $name, $value := .Values.environment }}", "{{ $value | quote }}"),
];

/// The documents of a manifest.
pub(crate) fn documents(manifest: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifest).expect("a manifest is YAML")
}

/// One document of a manifest, for a person to read.
pub(crate) fn document(object: &Value) -> String {
    format!("---\n{}", files::yaml(object))
}

fn marked() -> AgentContext {
    AgentContext {
        cluster: "mark-cluster".parse().unwrap(),
        cluster_uid: UID_MARK.parse().unwrap(),
        trust_domain: "mark-trust-domain".to_owned(),
        image: "mark-image".to_owned(),
        endpoints: vec!["mark-endpoint".to_owned()],
        bootstrap_urls: vec!["mark-url".to_owned()],
        ca_pem: "mark-ca".to_owned(),
        ca_pin: "mark-pin".to_owned(),
        token: JoinToken::new("mark-token"),
        environment: [("MARK_NAME".to_owned(), "mark-value".to_owned())].into(),
    }
}

/// The text of the chart's template for one object.
fn template(object: &Value) -> String {
    let text = files::yaml(object);
    let lines: Vec<&str> = text.lines().collect();
    let mut chart = String::from("# Made from templates/agent by tests/tests/golden.rs; change it there.\n");
    let mut open = String::new();
    for (at, line) in lines.iter().enumerate() {
        // An item is two lines: its flag or its name, then the mark.
        let begins = lines.get(at + 1).and_then(|next| LISTS.iter().find(|(mark, _, _)| next.ends_with(mark)));
        if let Some((_, range, _)) = begins {
            open = " ".repeat(line.len() - line.trim_start().len());
            writeln!(chart, "{open}{range}").unwrap();
        }
        let item = LISTS.iter().find(|(mark, _, _)| line.ends_with(mark));
        let value = VALUES.iter().find(|(mark, _)| line.ends_with(mark));
        let replaced = match (item, value) {
            (Some((mark, _, helm)), _) | (None, Some((mark, helm))) => line.replace(mark, helm),
            (None, None) => line.replace("MARK_NAME", "{{ $name | quote }}"),
        };
        writeln!(chart, "{replaced}").unwrap();
        if item.is_some() {
            writeln!(chart, "{open}{{{{- end }}}}").unwrap();
        }
    }
    chart
}

fn name(object: &Value) -> String {
    format!("{}.yaml", object["kind"].as_str().unwrap().to_lowercase())
}

/// What Helm would make of a template of the chart, for the few expressions that it has.
fn helm(template: &str, context: &AgentContext, token: &str) -> String {
    let quote = |text: &str| Value::String(text.to_owned()).to_string();
    let mut made = String::new();
    let mut lines = template.lines();
    while let Some(line) = lines.next() {
        let Some((_, range, _)) = LISTS.iter().find(|(_, range, _)| line.trim_start() == *range) else {
            made.push_str(line);
            made.push('\n');
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| line.trim_start() != "{{- end }}").collect();
        let body = body.join("\n") + "\n";
        let items: Vec<(String, &String)> = match *range {
            "{{- range .Values.endpoints }}" => context.endpoints.iter().map(|item| (String::new(), item)).collect(),
            "{{- range .Values.bootstrapUrls }}" => {
                context.bootstrap_urls.iter().map(|item| (String::new(), item)).collect()
            }
            _ => context.environment.iter().map(|(name, value)| (name.clone(), value)).collect(),
        };
        for (name, item) in items {
            let filled = body.replace("{{ . | quote }}", &quote(item)).replace("{{ $value | quote }}", &quote(item));
            made.push_str(&filled.replace("{{ $name | quote }}", &quote(&name)));
        }
    }
    let values = [
        context.cluster.to_string(),
        context.cluster_uid.to_string(),
        context.trust_domain.clone(),
        context.image.clone(),
        context.ca_pin.clone(),
        STANDARD.encode(&context.ca_pem),
        STANDARD.encode(token),
    ];
    for ((_, expression), value) in VALUES.iter().zip(&values) {
        made = made.replace(expression, &quote(value));
    }
    assert!(!made.contains("{{"), "an expression that nothing replaced: {made}");
    made
}

#[test]
fn chart_of_the_agent_is_made_from_its_templates() {
    let manifest = renderer().agent_manifest(&marked()).expect("renders");
    let mut golden = Golden::at(files::root().join("charts/lattice-agent/templates"), &[]);
    for object in documents(manifest.expose()) {
        golden.check(&name(&object), &template(&object));
    }
    golden.finish();
}

#[test]
fn chart_and_manifest_of_the_agent_agree() {
    let context = agent();
    let manifest = documents(renderer().agent_manifest(&context).expect("renders").expose());
    for object in &manifest {
        let path = files::root().join("charts/lattice-agent/templates").join(name(object));
        let template = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(documents(&helm(&template, &context, TOKEN)), std::slice::from_ref(object), "{}", path.display());
    }
}
