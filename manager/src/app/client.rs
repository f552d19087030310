//! The client of the parent's API.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::PartialObjectMeta;
use kube::{Client, Config, CustomResourceExt};

use crate::api::{InfraProvider, LatticeCluster};

/// Longest time for a connection to the parent's API to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the start waits for the parent's API. A manager that starts with its API server must not give up.
const FIRST_ANSWER: Duration = Duration::from_mins(1);
/// Pause between two tries of the first question.
const RETRY: Duration = Duration::from_secs(1);

/// Why the parent's API cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be read.
    #[error("could not use the kubeconfig {0}")]
    Kubeconfig(String, #[source] kube::config::KubeconfigError),
    /// There is no ServiceAccount where this runs.
    #[error("this does not run in a pod with a ServiceAccount: give --kubeconfig FILE")]
    InCluster(#[source] kube::config::InClusterError),
    /// A person has said nowhere which parent is meant.
    #[error("which parent cluster? Give --kubeconfig FILE, or set KUBECONFIG")]
    Inferred(#[source] kube::config::InferConfigError),
    /// The client cannot be made of the configuration.
    #[error("could not make a client for the parent's API")]
    Client(#[source] kube::Error),
    /// The parent's API gave no usable answer.
    #[error("the parent's API at {url} does not answer")]
    Unanswered {
        /// Where it was looked for.
        url: String,
        /// The last error.
        #[source]
        source: kube::Error,
    },
    /// The resources are not installed.
    #[error(
        "{missing} not installed on the parent cluster\n\n  install with: lattice-manager crds | kubectl apply --server-side -f -\n"
    )]
    CrdsMissing {
        /// Which of them.
        missing: String,
    },
}

/// Connects to the parent's API. Retries of the client itself are off: whoever calls decides about another try.
pub(super) async fn connect(kubeconfig: Option<&Path>) -> Result<(Client, String), Error> {
    let config = match kubeconfig {
        Some(path) => {
            let label = path.display().to_string();
            let read = Kubeconfig::read_from(path).map_err(|error| Error::Kubeconfig(label.clone(), error))?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .map_err(|error| Error::Kubeconfig(label, error))?
        }
        None => Config::incluster().map_err(Error::InCluster)?,
    };
    client(config)
}

/// As [`connect`], for a command of a person: without a file, what kubectl would use, then the ServiceAccount of a pod.
pub(super) async fn connect_as_kubectl(kubeconfig: Option<&Path>) -> Result<Client, Error> {
    let (client, _) = match kubeconfig {
        Some(_) => connect(kubeconfig).await?,
        None => client(Config::infer().await.map_err(Error::Inferred)?)?,
    };
    Ok(client)
}

fn client(mut config: Config) -> Result<(Client, String), Error> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let url = config.cluster_url.to_string();
    Ok((Client::try_from(config).map_err(Error::Client)?, url))
}

/// Looks whether our resources are installed, waiting for an API that is just starting.
pub(super) async fn require_crds(client: &Client, url: &str) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + FIRST_ANSWER;
    let mut missing = Vec::new();
    for name in [LatticeCluster::crd_name(), InfraProvider::crd_name()] {
        if !exists(client, url, name, deadline).await? {
            missing.push(name);
        }
    }
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::CrdsMissing { missing: format!("the CustomResourceDefinition {one} is") }),
        all => Err(Error::CrdsMissing { missing: format!("the CustomResourceDefinitions {} are", all.join(" and ")) }),
    }
}

async fn exists(client: &Client, url: &str, name: &str, deadline: tokio::time::Instant) -> Result<bool, Error> {
    let crds = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone());
    Ok(answer(url, deadline, || crds.get_opt(name)).await?.is_some())
}

/// The UID of the parent's namespace kube-system, which names a Kubernetes cluster for as long as it lives.
pub(super) async fn parent_uid(client: &Client, url: &str) -> Result<Option<String>, Error> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let deadline = tokio::time::Instant::now() + FIRST_ANSWER;
    let found = answer(url, deadline, || namespaces.get_metadata_opt("kube-system")).await?;
    Ok(found.and_then(|namespace| namespace.metadata.uid))
}

/// Asks until there is an answer, a refusal, or the time is over.
async fn answer<T, F>(url: &str, deadline: tokio::time::Instant, ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    loop {
        let error = match tokio::time::timeout(CONNECT_TIMEOUT * 2, ask()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error,
            Err(_) => kube::Error::Service("no answer in time".into()),
        };
        let refused = matches!(&error, kube::Error::Api(status) if status.code < 500 && status.code != 429);
        if refused || tokio::time::Instant::now() >= deadline {
            return Err(Error::Unanswered { url: url.to_owned(), source: error });
        }
        tracing::info!(url, error = &error as &dyn std::error::Error, "waiting for the parent's API");
        tokio::time::sleep(RETRY).await;
    }
}

/// Makes sure that a namespace exists. Where it may not be looked at, it is left to the person who installs.
pub(super) async fn ensure_namespace(client: &Client, name: &str) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let ensure = async {
        if namespaces.get_metadata_opt(name).await?.is_none() {
            namespaces.create(&PostParams::default(), &namespace).await?;
        }
        Ok::<_, kube::Error>(())
    };
    match tokio::time::timeout(CONNECT_TIMEOUT * 2, ensure).await {
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => {}
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(name, error = &error as &dyn std::error::Error, "namespace was not made"),
        Err(_) => tracing::warn!(name, "namespace was not made in time"),
    }
}
