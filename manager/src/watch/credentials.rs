//! One watch per credentials Secret that a provider names: they live in namespaces of their owner's choice, so no
//! shared watch sees them without seeing every Secret of the parent.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use lattice_protocol::task::{self, Kind as TaskKind};
use tokio_util::sync::CancellationToken;

use super::informer::Informers;
use super::sinks::facts;
use crate::api::InfraProvider;
use crate::store::{Kind, KindState, SecretFacts};

/// The watches that run, by namespace and name.
pub(super) struct CredentialWatches {
    informers: Informers,
    running: BTreeMap<(String, String), CancellationToken>,
}

impl CredentialWatches {
    pub(super) fn new(informers: Informers) -> Self {
        Self { informers, running: BTreeMap::new() }
    }

    /// Starts and stops watches as providers come, change and go.
    pub(super) fn follow(&mut self, providers: &[Arc<InfraProvider>]) {
        let wanted: BTreeSet<_> = providers.iter().filter_map(|provider| secret_of(provider)).collect();
        let informers = &self.informers;
        self.running.retain(|(namespace, name), stop| {
            let stays = wanted.contains(&(namespace.clone(), name.clone()));
            if !stays {
                stop.cancel();
                informers.cache.forget_credentials(namespace, name);
            }
            stays
        });
        for key in wanted {
            self.running.entry(key).or_insert_with_key(|key| {
                let stop = informers.child_token();
                task::spawn("credentials", TaskKind::Service, run(informers.clone(), key.clone(), stop.clone()));
                stop
            });
        }
    }

    /// The first list of providers has ended.
    pub(super) fn listed(&mut self) {
        self.informers.cache.set_kind(&Kind::new("lattice.dev", "InfraProvider"), KindState::Synced);
        self.informers.look_at_all();
    }
}

/// Namespace and name of the Secret that a provider names.
pub(super) fn secret_of(provider: &InfraProvider) -> Option<(String, String)> {
    let reference = provider.spec.credentials_secret_ref.as_ref()?;
    Some((reference.namespace.clone(), reference.name.clone()))
}

async fn run(informers: Informers, key: (String, String), stop: CancellationToken) {
    let api = Api::<Secret>::namespaced(informers.client().clone(), &key.0);
    let mut states = pin!(watch_object(api, &key.1).default_backoff());
    loop {
        let state = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            state = states.next() => state,
        };
        match state {
            Some(Ok(secret)) => {
                informers.cache.set_credentials(&key.0, &key.1, secret.map(checked));
                mark(&informers, &key);
            }
            Some(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "watch of credentials failed");
            }
            None => return,
        }
    }
}

/// Looks at the values once, here, so that they need not be kept.
fn checked(secret: Secret) -> SecretFacts {
    let problems = problems(&secret);
    SecretFacts { problems, ..facts(secret) }
}

/// What cannot be right about the credentials, without quoting them. Only Proxmox has any so far.
fn problems(secret: &Secret) -> Vec<String> {
    let data = secret.data.iter().flatten();
    let mut problems = Vec::new();
    for (key, ByteString(value)) in data {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let problem = match key.as_str() {
            _ if value.is_empty() => continue,
            "url" | "token" | "secret" if text.trim().is_empty() => "is not text",
            "url" | "token" | "secret" if text != text.trim() => "begins or ends with white space",
            "url" if !text.starts_with("https://") && !text.starts_with("http://") => {
                "is no URL: use for example https://proxmox.example.org:8006/api2/json"
            }
            "token" if !(text.contains('@') && text.contains('!')) => "is no token id: use user@realm!name",
            _ => continue,
        };
        problems.push(format!("{key} {problem}"));
    }
    problems
}

fn mark(informers: &Informers, key: &(String, String)) {
    let providers = informers.cache.providers();
    for provider in providers.iter().filter(|provider| secret_of(provider).as_ref() == Some(key)) {
        informers.providers.mark(&provider.name_any());
        let name = provider.name_any();
        for cluster in informers.cache.clusters().iter().filter(|cluster| cluster.spec.provider_ref == name) {
            informers.clusters.mark(&cluster.name_any());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret { data: Some(data.collect()), ..Secret::default() }
    }

    #[test]
    fn credentials_that_cannot_be_right_are_named_and_never_quoted() {
        let good = [("url", "https://pve:8006/api2/json"), ("token", "lattice@pve!manager"), ("secret", "s3cr3t")];
        assert!(problems(&secret(&good)).is_empty());
        let found = problems(&secret(&[("url", "pve:8006"), ("token", "manager"), ("secret", "s3cr3t\n")]));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|text| !text.contains("s3cr3t") && !text.contains("pve:8006,")), "{found:?}");
    }
}
