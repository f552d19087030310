//! `lattice-manager kubeconfig NAME`: a person's way to a cluster's Kubernetes API.
//!
//! It leads to the proxy and carries the credential of the parent's kubeconfig, by reference where that refers to one:
//! exec plugins, OIDC and other providers, token files and certificate files stay what and where they are. Where the parent's
//! kubeconfig holds the secret itself, so does this one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster,
    NamedContext,
};
use kube::{Client, Config, ResourceExt};

use super::cli::KubeconfigArgs;
use crate::api::{LatticeCluster, SYSTEM_NAMESPACE};
use crate::store::notice::{PROXY_CA, PROXY_CONFIG_MAP, PROXY_SERVER};

/// Longest wait for one answer of the parent's API.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Where a pod finds its account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Extension of a cluster that is told to exec plugins.
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";
/// Clusters that an error names at most.
const NAMED_MAX: usize = 20;

/// Why there is no kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parent's kubeconfig cannot be read.
    #[error("could not read the parent cluster's kubeconfig ({looked}); name it with --kubeconfig FILE")]
    Read {
        /// Where it was looked for.
        looked: String,
        /// The library's words.
        #[source]
        source: KubeconfigError,
    },
    /// It has no such context, or the context names no user.
    #[error(
        "the parent cluster's kubeconfig has no usable context {0:?}: `kubectl config get-contexts` lists them; choose one with --context"
    )]
    Context(String),
    /// Its credential is of a kind that the proxy cannot check.
    #[error(
        "context {0:?} uses a user name and a password, which the proxy cannot check: use a context with a token, a client \
         certificate, an exec plugin or OIDC (--context)"
    )]
    Password(String),
    /// The parent's API gave no answer.
    #[error("could not ask the parent cluster for {what}")]
    Ask {
        /// What was asked for.
        what: String,
        /// Its words.
        #[source]
        source: Box<kube::Error>,
    },
    /// The parent's API did not answer in time.
    #[error(
        "the parent cluster did not answer within {CALL_TIMEOUT:?}: is its kubeconfig the right one, is its API up?"
    )]
    Slow,
    /// There is no such cluster.
    #[error("there is no LatticeCluster {name:?} on the parent cluster{known}")]
    NoCluster {
        /// As it was named.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// No agent of it has ever been connected.
    #[error(
        "cluster {name:?} cannot be reached yet: {why}\n  \
         wait with: kubectl wait --for=condition=AgentConnected latticecluster/{name} --timeout=15m"
    )]
    NotYet {
        /// The cluster.
        name: String,
        /// What its status says.
        why: String,
    },
    /// The manager has not published its proxy.
    #[error(
        "the parent cluster does not say where the proxy is (ConfigMap {SYSTEM_NAMESPACE}/{PROXY_CONFIG_MAP}): is \
         lattice-manager running there, with --external-address?"
    )]
    NoProxy,
    /// The result cannot be written as YAML.
    #[error("the kubeconfig could not be written")]
    Write(#[source] serde_saphyr::ser::Error),
}

/// A kubeconfig, and what its reader should know.
#[derive(Debug)]
pub struct Made {
    /// The kubeconfig, YAML.
    pub yaml: String,
    /// Notes for standard error.
    pub notes: Vec<String>,
}

/// Makes the kubeconfig.
///
/// # Errors
/// [`Error`]; each says what to do.
pub async fn kubeconfig(args: KubeconfigArgs) -> Result<Made, Error> {
    let parent = match (read(args.kubeconfig.as_deref()), &args.kubeconfig) {
        // No file was named and there is none, but a pod's own account.
        (Err(error), None) => in_cluster(Path::new(SERVICE_ACCOUNT)).ok_or(error)?,
        (read, _) => read?,
    };
    let (context, user) = credential(&parent, args.context.as_deref())?;
    let way = way(&parent, &context);
    let client = connect(parent, args.context).await?;
    let cluster = cluster(&client, &args.name).await?;
    let mut notes = Vec::new();
    let agent = cluster.status.as_ref().and_then(|status| status.agent.as_ref());
    if !agent.is_some_and(|agent| agent.connected) {
        let why = cluster.status.as_ref().and_then(|status| status.message.clone());
        let why = why.unwrap_or_else(|| "its manager has not looked at it yet".to_owned());
        if agent.is_none_or(|agent| agent.last_seen.is_none()) {
            return Err(Error::NotYet { name: args.name, why });
        }
        notes.push(format!("note: the agent of {} is not connected now, so requests get 503: {why}", args.name));
    }
    let (server, ca_pem) = proxy(&client).await?;
    if user.client_certificate_data.is_some() || user.token.is_some() || user.client_key_data.is_some() {
        notes.push(format!(
            "note: context {context:?} of the parent cluster holds its secret itself; so does this file"
        ));
    }
    let yaml = write(&args.name, &server, &ca_pem, user, way)?;
    Ok(Made { yaml, notes })
}

fn read(file: Option<&Path>) -> Result<Kubeconfig, Error> {
    match file {
        None => Kubeconfig::read()
            .map_err(|source| Error::Read { looked: "$KUBECONFIG, then ~/.kube/config".to_owned(), source }),
        Some(file) => {
            let path = std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file));
            Kubeconfig::read_from(&path).map_err(|source| Error::Read { looked: path.display().to_string(), source })
        }
    }
}

/// The context that is used, and its user's credential.
fn credential(parent: &Kubeconfig, context: Option<&str>) -> Result<(String, AuthInfo), Error> {
    let name = context.or(parent.current_context.as_deref()).unwrap_or_default().to_owned();
    let found = parent.contexts.iter().find(|found| found.name == name).and_then(|found| found.context.as_ref());
    let user = found.and_then(|found| found.user.as_deref());
    let info = user.and_then(|user| parent.auth_infos.iter().find(|info| info.name == user));
    let info = info.and_then(|info| info.auth_info.clone()).ok_or_else(|| Error::Context(name.clone()))?;
    if info.username.is_some() || info.password.is_some() {
        return Err(Error::Password(name));
    }
    Ok((name, from_anywhere(info)))
}

/// References in a kubeconfig are relative to its folder, and that may be relative to ours (`KUBECONFIG=./config`). What
/// we print must hold from anywhere.
fn from_anywhere(mut info: AuthInfo) -> AuthInfo {
    let absolute = |reference: &mut Option<String>| {
        let path = reference.as_deref().and_then(|path| std::path::absolute(path).ok());
        if let Some(path) = path.as_deref().and_then(Path::to_str) {
            *reference = Some(path.to_owned());
        }
    };
    absolute(&mut info.client_certificate);
    absolute(&mut info.client_key);
    absolute(&mut info.token_file);
    if let Some(exec) = &mut info.exec
        && exec.command.as_ref().is_some_and(|command| command.contains(std::path::MAIN_SEPARATOR))
    {
        absolute(&mut exec.command);
    }
    info
}

/// What of the parent's cluster goes for ours: the HTTP proxy before it, and what an exec plugin reads about it.
fn way(parent: &Kubeconfig, context: &str) -> Cluster {
    let found = parent.contexts.iter().find(|found| found.name == context).and_then(|found| found.context.as_ref());
    let of = found.and_then(|found| parent.clusters.iter().find(|cluster| cluster.name == found.cluster));
    let of = of.and_then(|named| named.cluster.clone()).unwrap_or_default();
    let extensions =
        of.extensions.map(|all| all.into_iter().filter(|one| one.name == EXEC_EXTENSION).collect::<Vec<_>>());
    Cluster { proxy_url: of.proxy_url, extensions: extensions.filter(|all| !all.is_empty()), ..Cluster::default() }
}

/// A kubeconfig of the pod's own account, whose token stays a reference: the kubelet replaces it.
fn in_cluster(folder: &Path) -> Option<Kubeconfig> {
    let file = |name: &str| folder.join(name).to_str().filter(|path| Path::new(path).exists()).map(str::to_owned);
    let name = || "in-cluster".to_owned();
    let cluster = Cluster {
        server: Some("https://kubernetes.default.svc".to_owned()),
        certificate_authority: Some(file("ca.crt")?),
        ..Cluster::default()
    };
    let user = AuthInfo { token_file: Some(file("token")?), ..AuthInfo::default() };
    let context = Context { cluster: name(), user: Some(name()), ..Context::default() };
    Some(Kubeconfig {
        clusters: vec![NamedCluster { name: name(), cluster: Some(cluster), ..NamedCluster::default() }],
        auth_infos: vec![NamedAuthInfo { name: name(), auth_info: Some(user), ..NamedAuthInfo::default() }],
        contexts: vec![NamedContext { name: name(), context: Some(context), ..NamedContext::default() }],
        current_context: Some(name()),
        ..Kubeconfig::default()
    })
}

async fn connect(parent: Kubeconfig, context: Option<String>) -> Result<Client, Error> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let read = |source| Error::Read { looked: "as given".to_owned(), source };
    let mut config = Config::from_custom_kubeconfig(parent, &options).await.map_err(read)?;
    config.default_retry = false;
    Client::try_from(config).map_err(|source| Error::Ask { what: "anything".to_owned(), source: Box::new(source) })
}

async fn cluster(client: &Client, name: &str) -> Result<LatticeCluster, Error> {
    let clusters = Api::<LatticeCluster>::all(client.clone());
    let what = format!("LatticeCluster {name:?}");
    if let Some(found) = ask(&what, clusters.get_opt(name)).await? {
        return Ok(found);
    }
    let listed = ask("its clusters", clusters.list_metadata(&ListParams::default())).await;
    let names: Vec<_> = listed.iter().flat_map(|list| &list.items).map(ResourceExt::name_any).collect();
    let known = match (names.as_slice(), names.len() > NAMED_MAX) {
        ([], _) => String::new(),
        (names, false) => format!("; there are: {}", names.join(", ")),
        (names, true) => format!("; there are {}, for example {}", names.len(), names[..NAMED_MAX].join(", ")),
    };
    Err(Error::NoCluster { name: name.to_owned(), known })
}

async fn proxy(client: &Client) -> Result<(String, String), Error> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let what = format!("ConfigMap {SYSTEM_NAMESPACE}/{PROXY_CONFIG_MAP}");
    let map = ask(&what, maps.get_opt(PROXY_CONFIG_MAP)).await?;
    let mut data = map.and_then(|map| map.data).unwrap_or_default();
    data.remove(PROXY_SERVER).zip(data.remove(PROXY_CA)).ok_or(Error::NoProxy)
}

async fn ask<T>(what: &str, asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, asking).await {
        Ok(answer) => answer.map_err(|source| Error::Ask { what: what.to_owned(), source: Box::new(source) }),
        Err(_) => Err(Error::Slow),
    }
}

fn write(name: &str, server: &str, ca_pem: &str, user: AuthInfo, way: Cluster) -> Result<String, Error> {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    let cluster =
        Cluster { server: Some(format!("{server}/clusters/{name}")), certificate_authority_data: Some(ca), ..way };
    let context = Context { cluster: name.to_owned(), user: Some(format!("{name}-person")), ..Context::default() };
    let config = Kubeconfig {
        api_version: Some("v1".to_owned()),
        kind: Some("Config".to_owned()),
        clusters: vec![NamedCluster { name: name.to_owned(), cluster: Some(cluster), ..NamedCluster::default() }],
        auth_infos: vec![NamedAuthInfo {
            name: format!("{name}-person"),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext { name: name.to_owned(), context: Some(context), ..NamedContext::default() }],
        current_context: Some(name.to_owned()),
        ..Kubeconfig::default()
    };
    serde_saphyr::to_string(&config).map_err(Error::Write)
}

#[cfg(test)]
mod tests {
    use kube::config::ExecConfig;

    use super::*;

    const PARENT: &str = "
apiVersion: v1
kind: Config
current-context: work
clusters:
- name: parent
  cluster:
    server: 'https://parent:6443'
    proxy-url: http://proxy:3128
    extensions:
    - {name: client.authentication.k8s.io/exec, extension: {audience: platform}}
    - {name: editor, extension: {color: red}}
contexts:
- {name: work, context: {cluster: parent, user: sso}}
- {name: files, context: {cluster: parent, user: files}}
- {name: oidc, context: {cluster: parent, user: oidc}}
- {name: basic, context: {cluster: parent, user: basic}}
- {name: broken, context: {cluster: parent, user: nobody}}
users:
- name: sso
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: sso-login
      args: [--audience, kubernetes]
      env: [{name: SSO_HOME, value: /etc/sso}]
      interactiveMode: IfAvailable
      provideClusterInfo: false
- name: files
  user: {client-certificate: pki/me.crt, client-key: pki/me.key, tokenFile: ../token}
- name: oidc
  user: {auth-provider: {name: oidc, config: {client-id: kubernetes, idp-issuer-url: 'https://issuer'}}}
- name: basic
  user: {username: me, password: secret}
";

    fn parent() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(&file, PARENT).unwrap();
        (folder, file)
    }

    fn made(context: Option<&str>) -> serde_json::Value {
        let (folder, file) = parent();
        let read = read(Some(&file)).unwrap();
        let (_, user) = credential(&read, context).unwrap();
        let way = way(&read, context.unwrap_or("work"));
        let yaml = write("backend", "https://proxy:6443", "PEM", user, way).unwrap();
        let text = yaml.replace(&std::fs::canonicalize(folder.path()).unwrap().display().to_string(), "/folder");
        serde_saphyr::from_str(&text).unwrap()
    }

    #[test]
    fn a_credential_that_is_a_reference_stays_one() {
        let exec = made(None);
        assert_eq!(exec["clusters"][0]["cluster"]["server"], "https://proxy:6443/clusters/backend");
        assert_eq!(exec["current-context"], "backend");
        let plugin = &exec["users"][0]["user"]["exec"];
        assert_eq!((plugin["command"].as_str(), plugin["args"][1].as_str()), (Some("sso-login"), Some("kubernetes")));
        assert_eq!(plugin["interactiveMode"], "IfAvailable");
        assert_eq!(plugin["env"][0]["value"], "/etc/sso");
        let cluster = &exec["clusters"][0]["cluster"];
        assert_eq!(cluster["extensions"][0]["extension"]["audience"], "platform", "the plugin reads it");
        assert_eq!(
            (cluster["extensions"][1].is_null(), cluster["proxy-url"].as_str()),
            (true, Some("http://proxy:3128"))
        );
        let oidc = made(Some("oidc"));
        assert_eq!(oidc["users"][0]["user"]["auth-provider"]["config"]["client-id"], "kubernetes");
    }

    #[test]
    fn files_are_named_from_the_root() {
        let user = made(Some("files"))["users"][0]["user"].clone();
        assert_eq!(user["client-certificate"], "/folder/pki/me.crt");
        assert_eq!(user["client-key"], "/folder/pki/me.key");
        assert!(user["tokenFile"].as_str().unwrap().starts_with("/folder/"), "{user}");
    }

    #[test]
    fn references_relative_to_here_hold_from_anywhere() {
        let here = std::env::current_dir().unwrap();
        let relative = AuthInfo {
            client_certificate: Some("./me.crt".to_owned()),
            exec: Some(ExecConfig { command: Some("bin/login".to_owned()), ..ExecConfig::default() }),
            ..AuthInfo::default()
        };
        let info = from_anywhere(relative);
        assert_eq!(info.client_certificate.as_deref(), here.join("me.crt").to_str());
        assert_eq!(info.exec.unwrap().command.as_deref(), here.join("bin/login").to_str());
        let found = AuthInfo {
            exec: Some(ExecConfig { command: Some("aws".to_owned()), ..ExecConfig::default() }),
            ..AuthInfo::default()
        };
        assert_eq!(from_anywhere(found).exec.unwrap().command.as_deref(), Some("aws"), "the shell's path finds it");
    }

    #[test]
    fn a_pod_without_a_file_uses_its_own_account_by_reference() {
        let folder = tempfile::tempdir().unwrap();
        assert!(in_cluster(folder.path()).is_none());
        for name in ["ca.crt", "token"] {
            std::fs::write(folder.path().join(name), "secret").unwrap();
        }
        let config = in_cluster(folder.path()).unwrap();
        let (context, user) = credential(&config, None).unwrap();
        assert_eq!(context, "in-cluster");
        assert_eq!(user.token_file.as_deref(), folder.path().join("token").to_str());
        let yaml = write("backend", "https://proxy:6443", "PEM", user, way(&config, &context)).unwrap();
        assert!(!yaml.contains("secret\n"), "{yaml}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_advice() {
        let (_folder, file) = parent();
        let read = read(Some(&file)).unwrap();
        assert!(matches!(credential(&read, Some("basic")), Err(Error::Password(_))));
        for missing in ["broken", "unheard-of"] {
            assert!(matches!(credential(&read, Some(missing)), Err(Error::Context(name)) if name == missing));
        }
    }
}
