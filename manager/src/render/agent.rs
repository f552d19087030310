//! The manifest that starts the agent on the first control-plane node.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use serde::Serialize;
use zeroize::Zeroizing;

use super::engine::Engine;
use super::library::Library;
use super::{Error, object};

/// API groups and kinds that the agent's manifest may hold.
const KINDS: [(&str, &str); 5] = [
    ("v1", "Namespace"),
    ("v1", "ServiceAccount"),
    ("v1", "Secret"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("apps/v1", "Deployment"),
];

/// A join token on its way into a manifest. Never shown by `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct JoinToken(Zeroizing<String>);

impl JoinToken {
    /// Takes the text of a token.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What the agent of one cluster is started with.
#[derive(Clone, Debug)]
pub struct AgentContext {
    /// Name of the LatticeCluster.
    pub cluster: ClusterName,
    /// `metadata.uid` of the LatticeCluster.
    pub cluster_uid: ClusterUid,
    /// Trust domain of the SPIFFE ids.
    pub trust_domain: String,
    /// Image that holds the agent: `spec.latticeImage`.
    pub image: String,
    /// Addresses of the gateway, `host:port`.
    pub endpoints: Vec<String>,
    /// Addresses of the bootstrap listener, `https://host:port`.
    pub bootstrap_urls: Vec<String>,
    /// CA certificate of the parent, PEM.
    pub ca_pem: String,
    /// `sha256:` and the hex digest of the CA's public key.
    pub ca_pin: String,
    /// The token that the agent enrols with.
    pub token: JoinToken,
    /// Variables that the agent gets besides its own, for example `OTEL_…`.
    pub environment: BTreeMap<String, String>,
}

/// YAML documents that hold a join token. Never shown by `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct AgentManifest(Zeroizing<String>);

impl AgentManifest {
    /// The text: for the answer to the node, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AgentManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentManifest([redacted], {} bytes)", self.0.len())
    }
}

#[derive(Serialize)]
struct View<'a> {
    cluster: &'a str,
    cluster_uid: &'a str,
    trust_domain: &'a str,
    image: &'a str,
    endpoints: &'a [String],
    bootstrap_urls: &'a [String],
    ca_pin: &'a str,
    ca_base64: String,
    token_base64: &'a str,
    environment: &'a BTreeMap<String, String>,
}

pub(super) fn render(engine: &Engine, library: &Library, context: &AgentContext) -> Result<AgentManifest, Error> {
    let token_base64 = Zeroizing::new(STANDARD.encode(context.token.0.as_bytes()));
    let view = View {
        cluster: context.cluster.as_str(),
        cluster_uid: context.cluster_uid.as_str(),
        trust_domain: &context.trust_domain,
        image: &context.image,
        endpoints: &context.endpoints,
        bootstrap_urls: &context.bootstrap_urls,
        ca_pin: &context.ca_pin,
        ca_base64: STANDARD.encode(&context.ca_pem),
        token_base64: &token_base64,
        environment: &context.environment,
    };
    documents(engine, library, &view).map_err(|error| error.without(&[&context.token.0, &token_base64]))
}

fn documents(engine: &Engine, library: &Library, view: &View<'_>) -> Result<AgentManifest, Error> {
    let mut manifest = Zeroizing::new(String::new());
    for template in library.below("agent").filter(|path| path.ends_with(".yaml.j2")) {
        let text = Zeroizing::new(engine.render(template, view)?);
        let object = object::one(template, &text)?;
        let (api_version, kind) = (object::text(&object, "/apiVersion"), object::text(&object, "/kind"));
        if !KINDS.contains(&(api_version, kind)) {
            return Err(Error::Object {
                template: template.to_owned(),
                object: format!("{api_version} {kind}"),
                problem: "the agent's manifest holds no such kind".to_owned(),
            });
        }
        manifest.push_str("---\n");
        manifest.push_str(&object.to_string());
        manifest.push('\n');
    }
    Ok(AgentManifest(manifest))
}
