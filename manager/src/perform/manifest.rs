//! The agent's manifest, on demand of the gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::ResourceExt;

use super::error::chain;
use crate::gateway::{AgentManifests, ManifestError, ManifestRequest};
use crate::render::{AgentContext, JoinToken, Renderer};
use crate::store::Cache;

/// Renders manifests of the clusters that the cache knows.
#[derive(Debug)]
pub struct Manifests {
    cache: Cache,
    renderer: Arc<Renderer>,
    environment: BTreeMap<String, String>,
}

impl Manifests {
    /// Renders with `renderer` for the clusters in `cache`. Every agent finds `environment` in its own.
    pub fn new(cache: Cache, renderer: Arc<Renderer>, environment: BTreeMap<String, String>) -> Self {
        Self { cache, renderer, environment }
    }

    fn render(&self, request: ManifestRequest) -> Result<String, ManifestError> {
        let name = request.cluster.as_str();
        let cluster = self.cache.cluster(name).filter(|cluster| cluster.uid().as_deref() == Some(request.uid.as_str()));
        let cluster = cluster.ok_or_else(|| ManifestError(format!("cluster {name} does not exist")))?;
        let context = AgentContext {
            cluster: request.cluster,
            cluster_uid: request.uid,
            trust_domain: request.trust_domain.to_string(),
            image: cluster.spec.lattice_image.clone(),
            endpoints: request.endpoints,
            bootstrap_urls: request.bootstrap_urls,
            ca_pem: request.ca_pem,
            ca_pin: request.ca_pin.to_string(),
            token: JoinToken::new(request.token.expose().as_str()),
            environment: self.environment.clone(),
        };
        let manifest = self.renderer.agent_manifest(&context).map_err(|error| ManifestError(chain(&error)))?;
        Ok(manifest.expose().to_owned())
    }
}

impl AgentManifests for Manifests {
    fn manifest(&self, request: ManifestRequest) -> BoxFuture<'_, Result<String, ManifestError>> {
        async move { self.render(request) }.boxed()
    }
}
