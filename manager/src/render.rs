//! Templates to checked objects.
//!
//! A context with typed fields goes into templates that know nothing else; the text that comes out is parsed, checked and
//! given back as objects in apply order. Nothing here reads the network or the clock, and the same context always gives
//! the same objects, so the manager can render as often as it likes.
//!
//! **Guarantees.** A value of the context can never become more than a value: see [`Renderer`]. An error names the
//! template and the line. No secret is in an object of [`Renderer::cluster`]; what [`Renderer::agent_manifest`] gives
//! holds the join token and hides it from `Debug`.

mod agent;
mod check;
mod cluster;
mod context;
mod engine;
mod error;
mod hash;
mod library;
mod node;
mod object;
mod provider;

use std::collections::BTreeMap;
use std::path::Path;

pub use agent::{AgentContext, AgentManifest, JoinToken};
pub use context::{
    ClusterContext, DockerContext, Endpoint, ImageContext, MachineContext, MachineSize, ProviderContext,
    ProxmoxContext, Taint,
};
pub use error::Error;
pub use object::{CLUSTER_NAME_LABEL, CLUSTER_UID_LABEL, RenderedObject, Stage};

pub(crate) use engine::Engine;
pub(crate) use library::{Library, template_of};
pub(crate) use object::all as parse_objects;

/// Renders what a cluster is made of. Made once; every template is compiled and checked when it is made.
///
/// Values are printed as JSON, so `a\n---\nkind: Evil` stays one string; see `engine` for scripts. What is printed is
/// then checked as an object: expected kind, name and namespace, no control characters, no placeholder that Cluster
/// API or cloud-init would evaluate later.
#[derive(Debug)]
pub struct Renderer {
    library: Library,
    engine: Engine,
    providers: BTreeMap<String, provider::Provider>,
}

impl Renderer {
    /// Compiles the embedded templates, with the folders of `templates_dir` in place of those of the same name.
    ///
    /// # Errors
    /// When the folder cannot be read, or any template or description in it is wrong.
    pub fn new(templates_dir: Option<&Path>) -> Result<Self, Error> {
        let library = Library::load(templates_dir)?;
        let engine = Engine::new(&library)?;
        let mut providers = BTreeMap::new();
        for name in library.folders("providers") {
            // Folders without a description are shared by the providers' own.
            if library.text(&format!("providers/{name}/provider.yaml")).is_some() {
                providers.insert(name.to_owned(), provider::Provider::load(&library, name)?);
            }
        }
        Ok(Self { library, engine, providers })
    }

    /// The objects of a cluster, in apply order.
    ///
    /// # Errors
    /// When a template fails, when what it makes is no acceptable object, or when a value cannot be put on a machine.
    pub fn cluster(&self, context: &ClusterContext) -> Result<Vec<RenderedObject>, Error> {
        let folder = context.provider.folder();
        let provider = self.providers.get(folder).ok_or_else(|| Error::NoProvider {
            provider: folder.to_owned(),
            known: self.providers.keys().cloned().collect(),
        })?;
        cluster::render(&self.engine, &self.library, provider, context)
    }

    /// What the first node applies to start the agent: documents of JSON, which is YAML, with `---` between them.
    ///
    /// # Errors
    /// When a template fails or what it makes is no acceptable object.
    pub fn agent_manifest(&self, context: &AgentContext) -> Result<AgentManifest, Error> {
        agent::render(&self.engine, &self.library, context)
    }

    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

#[cfg(test)]
mod tests;
