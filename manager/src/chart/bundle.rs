//! What is sent to the agent for one component.

use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::v1;
use prost::Message as _;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::component::Component;
use super::{Error, Features, Selection, values};
use crate::render::{self, Endpoint, Renderer, template_of};

/// Most objects of a bundle, by the wire protocol.
const OBJECTS_MAX: usize = 2_000;

/// Most bytes of a bundle's objects, by the wire protocol.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Label of everything that a component installs.
const COMPONENT_LABEL: &str = "lattice.dev/component";

/// What a component is rendered from.
#[derive(Clone, Debug, PartialEq)]
pub struct BundleContext {
    /// Name of the LatticeCluster.
    pub cluster: ClusterName,
    /// `metadata.uid` of the LatticeCluster.
    pub cluster_uid: ClusterUid,
    /// What decides about components; its Kubernetes version is the child's real one.
    pub selection: Selection,
    /// Addresses of pods.
    pub pod_cidr: String,
    /// Addresses of Services.
    pub service_cidr: String,
    /// Where the child's API server is reached.
    pub endpoint: Option<Endpoint>,
    /// How many nodes the spec asks for.
    pub nodes: u32,
    /// `spec.latticeImage`.
    pub image: String,
    /// Our own CustomResourceDefinitions.
    pub lattice_crds: Vec<Value>,
}

/// What is installed for one component.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// The objects in apply order: namespaces and CRDs, the rest, webhooks and API services.
    pub objects: Vec<Value>,
    /// What must hold before dependents start.
    pub gates: Vec<v1::Gate>,
    /// Fields that are never repaired.
    pub ignored: Vec<v1::IgnoredField>,
    /// SHA-256 of objects and gates, hex: the same for the same content.
    pub digest: String,
    /// Version of the component.
    pub version: String,
}

impl Bundle {
    /// The objects as the agent takes them, one JSON text each.
    pub fn object_bytes(&self) -> Vec<bytes::Bytes> {
        self.objects.iter().map(|object| bytes::Bytes::from(object.to_string())).collect()
    }
}

#[derive(Serialize)]
struct View<'a> {
    component: ComponentView<'a>,
    cluster: ClusterView<'a>,
    spec: &'a Features,
    lattice: LatticeView<'a>,
    /// Absent while the values themselves are rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<&'a Value>,
}

#[derive(Serialize)]
struct ComponentView<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct ClusterView<'a> {
    name: &'a str,
    uid: &'a str,
    kubernetes_version: &'a str,
    pod_cidr: &'a str,
    service_cidr: &'a str,
    endpoint: Option<&'a Endpoint>,
    nodes: u32,
}

#[derive(Serialize)]
struct LatticeView<'a> {
    image: &'a str,
    crds: &'a [Value],
}

pub(super) fn render(
    renderer: &Renderer,
    name: &str,
    component: &Component,
    version: String,
    context: &BundleContext,
) -> Result<Bundle, Error> {
    let view = |values| View {
        component: ComponentView { name, version: &version },
        cluster: ClusterView {
            name: context.cluster.as_str(),
            uid: context.cluster_uid.as_str(),
            kubernetes_version: &context.selection.kubernetes_version,
            pod_cidr: &context.pod_cidr,
            service_cidr: &context.service_cidr,
            endpoint: context.endpoint.as_ref(),
            nodes: context.nodes,
        },
        spec: &context.selection.features,
        lattice: LatticeView { image: &context.image, crds: &context.lattice_crds },
        values,
    };
    let values = component_values(renderer, name, &view(None), &context.selection)?;
    let mut objects = Vec::new();
    for template in renderer.library().below(&format!("components/{name}/manifests")) {
        let text = if template_of(template).is_some() {
            renderer.engine().render(template, &view(Some(&values)))?
        } else {
            renderer.library().text(template).unwrap_or_default().to_owned()
        };
        for mut object in render::parse_objects(template, &text)? {
            label(&mut object, name);
            objects.push(object);
        }
    }
    check_size(name, &objects)?;
    objects.sort_by_key(rank);
    let gates: Vec<v1::Gate> = component.gates.iter().map(super::component::Gate::to_wire).collect();
    let ignored = component.ignored.iter().map(super::component::Ignored::to_wire).collect();
    let digest = digest(&objects, &gates);
    Ok(Bundle { objects, gates, ignored, digest, version })
}

/// SHA-256 of objects and gates, hex. Each part goes in with its length, so that no two bundles feed the same bytes.
pub fn digest(objects: &[Value], gates: &[v1::Gate]) -> String {
    let mut hash = Sha256::new();
    let mut feed = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    for object in objects {
        feed(object.to_string().as_bytes());
    }
    for gate in gates {
        feed(&gate.encode_to_vec());
    }
    lattice_protocol::tls::hex(&hash.finalize())
}

fn component_values(renderer: &Renderer, name: &str, view: &View<'_>, selection: &Selection) -> Result<Value, Error> {
    let template = format!("components/{name}/values.yaml.j2");
    let wrong = |problem: String| render::Error::Description { path: template.clone(), problem };
    let mut values = Value::Object(Map::new());
    if renderer.library().text(&template).is_some() {
        let text = renderer.engine().render(&template, view)?;
        let found: Option<Value> =
            serde_saphyr::from_str(&text).map_err(|error| wrong(error.without_snippet().to_string()))?;
        values = found.unwrap_or(values);
        if !values.is_object() {
            return Err(wrong("does not render to an object".to_owned()).into());
        }
    }
    if let Some(wanted) = selection.overrides.get(name).and_then(|wanted| wanted.values.as_ref()) {
        values::merge(name, &mut values, wanted)?;
    }
    Ok(values)
}

fn label(object: &mut Value, component: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(COMPONENT_LABEL.to_owned(), component.into());
        }
    }
}

fn check_size(name: &str, objects: &[Value]) -> Result<(), Error> {
    let bytes: usize = objects.iter().map(|object| object.to_string().len()).sum();
    if (1..=OBJECTS_MAX).contains(&objects.len()) && bytes <= BYTES_MAX {
        return Ok(());
    }
    Err(Error::Render(render::Error::Description {
        path: format!("components/{name}/manifests"),
        problem: format!(
            "makes {} objects of {bytes} bytes together; 1 to {OBJECTS_MAX} objects of {BYTES_MAX} bytes are allowed",
            objects.len()
        ),
    }))
}

/// Namespaces and CRDs first, for the rest may need them; what can block others' writes last.
fn rank(object: &Value) -> u8 {
    match object.get("kind").and_then(Value::as_str).unwrap_or_default() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => 4,
        "APIService" => 3,
        _ => 2,
    }
}
