//! How a case is told to a server and its answers compared.

use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config as ClientConfig};
use lattice_apiserver::{ApiServer, Config};
use serde_json::{Value, json};

/// One request and what has to be in its answer.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    pub(super) status: u16,
    /// JSON pointers and the values there; null stands for nothing.
    pub(super) at: Vec<(&'static str, Value)>,
    /// What the message or the text has to contain.
    pub(super) says: &'static str,
    /// What the warnings have to contain.
    pub(super) warns: &'static str,
}

/// A claim and the requests that show it.
pub(super) struct Case {
    pub(super) group: &'static str,
    pub(super) claim: &'static str,
    pub(super) steps: Vec<Step>,
}

/// Begins a step.
pub(super) fn ask(method: &'static str, path: impl Into<String>, status: u16) -> Step {
    let (headers, body, at) = (Vec::new(), String::new(), Vec::new());
    Step { method, path: path.into(), headers, body, status, at, says: "", warns: "" }
}

impl Step {
    pub(super) fn send(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self
    }

    pub(super) fn text(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn at(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.at.push((pointer, value.into()));
        self
    }

    pub(super) fn says(mut self, text: &'static str) -> Self {
        self.says = text;
        self
    }

    pub(super) fn warns(mut self, text: &'static str) -> Self {
        self.warns = text;
        self
    }
}

async fn client() -> Client {
    let Some(file) = std::env::var_os("LATTICE_CONTRACT_KUBECONFIG") else {
        return ApiServer::new(Config::default()).unwrap().client();
    };
    let kubeconfig = Kubeconfig::read_from(file).unwrap();
    let config = ClientConfig::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn request(client: &Client, step: &Step) -> (u16, Value, String, String) {
    let content = if step.method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let mut request = http::Request::builder().method(step.method).uri(&step.path);
    if !step.headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", content);
    }
    for (name, value) in &step.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Body::from(step.body.clone().into_bytes())).unwrap();
    let answer = client.send(request).await.unwrap();
    let status = answer.status().as_u16();
    let warnings = answer.headers().get_all("warning").iter().filter_map(|value| value.to_str().ok());
    let warnings = warnings.collect::<Vec<_>>().join("\n");
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (status, serde_json::from_str(&text).unwrap_or_default(), text, warnings)
}

/// Makes a namespace, and a kind `Thing` in a group named after it; answers the namespace.
async fn place(client: &Client) -> String {
    let wanted = ask("POST", "/api/v1/namespaces", 201).send(&json!({"metadata": {"generateName": "suite-"}}));
    let namespace = request(client, &wanted).await.1["metadata"]["name"].as_str().unwrap().to_owned();
    let group = format!("{namespace}.example.com");
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "minimum": 0, "default": 1},
        "color": {"type": "string", "enum": ["red", "blue"]},
        "replicas": {"type": "integer"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "note": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "stays"}]},
    }});
    let definition = json!({
        "metadata": {"name": format!("things.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec,
                    "status": {"type": "object", "properties": {
                        "phase": {"type": "string"}, "replicas": {"type": "integer"}}}}}}}]},
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    request(client, &ask("POST", definitions, 201).send(&definition)).await;
    // What is established may be served a moment later.
    let look = ask("GET", format!("/apis/{group}/v1/namespaces/{namespace}/things"), 200);
    for _ in 0..200 {
        if request(client, &look).await.0 == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    namespace
}

/// Tells all cases of a group.
pub(super) async fn tell(group: &str) {
    let client = client().await;
    let mut wrong = Vec::new();
    for index in 0..super::cases::all("x").into_iter().filter(|case| case.group == group).count() {
        let namespace = place(&client).await;
        let case = super::cases::all(&namespace).into_iter().filter(|case| case.group == group).nth(index).unwrap();
        for (number, step) in case.steps.iter().enumerate() {
            let (status, value, text, warnings) = request(&client, step).await;
            let differs = |(pointer, wanted): &&(&str, Value)| value.pointer(pointer).unwrap_or(&Value::Null) != wanted;
            let missed: Vec<_> = step.at.iter().filter(differs).collect();
            let quiet = !warnings.contains(step.warns);
            let message = value["message"].as_str().unwrap_or_default();
            let said = text.contains(step.says) || message.contains(step.says);
            if status != step.status || !missed.is_empty() || !said || quiet {
                wrong.push(format!(
                    "{}, step {number} ({} {}): {status} instead of {}; not as expected: {missed:?}\n    {text}\n    {warnings}",
                    case.claim, step.method, step.path, step.status
                ));
                break;
            }
        }
        request(&client, &ask("DELETE", format!("/api/v1/namespaces/{namespace}"), 200)).await;
        let definition =
            format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.{namespace}.example.com");
        request(&client, &ask("DELETE", definition, 200)).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
