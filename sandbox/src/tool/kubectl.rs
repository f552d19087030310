//! `kubectl`: `apply -f`, and `get --raw`, against the server of a kubeconfig.

use std::io::Read as _;

use kube::api::{Api, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::Scope;
use kube::{Client, Config};
use serde_json::Value;

use super::Failure;
use super::args::{Word, Words};

#[derive(Default)]
struct Options {
    kubeconfig: Option<String>,
    files: Vec<String>,
    namespace: Option<String>,
    raw: Option<String>,
    manager: Option<String>,
    force: bool,
    words: Vec<String>,
}

pub(super) async fn run(words: &[String]) -> Result<String, Failure> {
    let options = parse(words)?;
    let words: Vec<&str> = options.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["apply"] if !options.files.is_empty() => apply(&options).await,
        ["get"] if options.raw.is_some() => raw(&options).await,
        other => Err(Failure::new(1, format!("`kubectl {}` is not simulated", other.join(" ")))),
    }
}

fn parse(words: &[String]) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut words = Words::new(words);
    while let Some(word) = words.next() {
        match word {
            Word::Plain(word) => options.words.push(word.to_owned()),
            Word::Long("kubeconfig") => options.kubeconfig = Some(words.value("--kubeconfig")?.to_owned()),
            Word::Long("filename") | Word::Short('f') => options.files.push(words.value("-f")?.to_owned()),
            Word::Long("namespace") | Word::Short('n') => options.namespace = Some(words.value("-n")?.to_owned()),
            Word::Long("raw") => options.raw = Some(words.value("--raw")?.to_owned()),
            Word::Long("field-manager") => options.manager = Some(words.value("--field-manager")?.to_owned()),
            Word::Long("request-timeout") => {
                words.value("--request-timeout")?;
            }
            Word::Long("force-conflicts") => options.force = true,
            Word::Long("server-side" | "validate") => {}
            Word::Long(name) => return Err(Failure::new(1, format!("option --{name} is not simulated"))),
            Word::Short(letter) => return Err(Failure::new(1, format!("option -{letter} is not simulated"))),
        }
    }
    Ok(options)
}

async fn client(options: &Options) -> Result<Client, Failure> {
    let Some(path) = &options.kubeconfig else {
        return Err(Failure::new(1, "no --kubeconfig: a simulated node has no other configuration"));
    };
    let fail = |why: String| Failure::new(1, format!("{path}: {why}"));
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| fail(error.to_string()))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| fail(error.to_string()))?;
    config.default_retry = false;
    Client::try_from(config).map_err(|error| fail(error.to_string()))
}

async fn apply(options: &Options) -> Result<String, Failure> {
    let client = client(options).await?;
    let mut lines = String::new();
    for file in &options.files {
        let text = read(file)?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .map_err(|error| Failure::new(1, format!("{file}: {}", error.without_snippet())))?;
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            lines += &apply_one(&client, options, document).await?;
        }
    }
    Ok(lines)
}

fn read(file: &str) -> Result<String, Failure> {
    let result = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    result.map_err(|error| Failure::new(1, format!("{file}: {error}")))
}

async fn apply_one(client: &Client, options: &Options, document: Value) -> Result<String, Failure> {
    let object: DynamicObject =
        serde_json::from_value(document).map_err(|error| Failure::new(1, format!("no Kubernetes object: {error}")))?;
    let types = object.types.clone().ok_or_else(|| Failure::new(1, "an object without apiVersion or kind"))?;
    let name =
        object.metadata.name.clone().ok_or_else(|| Failure::new(1, format!("a {} without a name", types.kind)))?;
    let say = |error: kube::Error| Failure::new(1, format!("{} {name:?}: {}", types.kind, words_of(&error)));
    let gvk = GroupVersionKind::try_from(&types).map_err(|error| Failure::new(1, error.to_string()))?;
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &gvk).await.map_err(say)?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().or(options.namespace.as_deref()).unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let mut params = PatchParams::apply(options.manager.as_deref().unwrap_or("kubectl"));
    if options.force {
        params = params.force();
    }
    api.patch(&name, &params, &Patch::Apply(&object)).await.map_err(say)?;
    let group = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
    Ok(format!("{}{group}/{name} serverside-applied\n", types.kind.to_ascii_lowercase()))
}

/// The server's own words where it answered.
fn words_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

async fn raw(options: &Options) -> Result<String, Failure> {
    let client = client(options).await?;
    let path = options.raw.as_deref().unwrap_or("/");
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| Failure::new(1, error.to_string()))?;
    client.request_text(request).await.map_err(|error| Failure::new(1, words_of(&error)))
}
