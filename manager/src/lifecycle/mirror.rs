//! Reads Cluster API's objects (contract v1beta2): what they prove, and nothing more.
//!
//! Rules that the recorded timelines teach: a field that is absent is unknown, not zero; `status.initialization.*` is
//! set once and never reset, so it is believed at any generation; a condition is believed only when it was written for
//! the object's present generation; `InfrastructureReady` of a Machine is no proof that it has infrastructure; phases of
//! MachineDeployments and aggregates over no Machines say nothing about nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::api::ProviderType;

/// Group of Cluster API's own kinds.
pub const CAPI: &str = "cluster.x-k8s.io";
/// Group of control planes.
pub const CONTROL_PLANE: &str = "controlplane.cluster.x-k8s.io";
/// Group of bootstrap configurations.
pub const BOOTSTRAP: &str = "bootstrap.cluster.x-k8s.io";
/// Group of every infrastructure provider.
pub const INFRASTRUCTURE: &str = "infrastructure.cluster.x-k8s.io";

/// Group and kind of every object that must be watched for clusters of a provider.
pub fn kinds(provider: ProviderType) -> Vec<(&'static str, &'static str)> {
    let mut kinds = vec![
        (CAPI, "Cluster"),
        (CAPI, "MachineDeployment"),
        (CAPI, "MachineSet"),
        (CAPI, "Machine"),
        (CAPI, "MachineHealthCheck"),
        (CONTROL_PLANE, "KubeadmControlPlane"),
        (BOOTSTRAP, "KubeadmConfig"),
        (BOOTSTRAP, "KubeadmConfigTemplate"),
    ];
    kinds.extend(infrastructure_kinds(provider).map(|kind| (INFRASTRUCTURE, kind)));
    kinds
}

/// Kinds of a provider: cluster, machine, machine template.
pub fn infrastructure_kinds(provider: ProviderType) -> [&'static str; 3] {
    match provider {
        ProviderType::Docker => ["DevCluster", "DevMachine", "DevMachineTemplate"],
        ProviderType::Proxmox => ["ProxmoxCluster", "ProxmoxMachine", "ProxmoxMachineTemplate"],
        ProviderType::Aws => ["AWSCluster", "AWSMachine", "AWSMachineTemplate"],
    }
}

/// What a cluster's objects of Cluster API prove.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The Cluster.
    pub cluster: Option<ClusterView>,
    /// The provider's object for the cluster.
    pub infrastructure: Option<InfrastructureView>,
    /// The KubeadmControlPlane.
    pub control_plane: Option<GroupView>,
    /// MachineDeployments by name.
    pub deployments: BTreeMap<String, GroupView>,
    /// Machines by name.
    pub machines: BTreeMap<String, MachineView>,
    /// Every object, as `kind` and name.
    pub objects: Vec<ObjectView>,
}

/// The Cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// It is being deleted.
    pub deleting: bool,
    /// Its infrastructure was provisioned once.
    pub infrastructure_provisioned: bool,
    /// Its control plane was initialised once.
    pub control_plane_initialized: bool,
    /// Host and port of the API server.
    pub endpoint: Option<(String, u16)>,
    /// Its own word about the infrastructure, when it is of the present generation.
    pub infrastructure_ready: Option<Word>,
    /// Why the control plane is not initialised, in Cluster API's words.
    pub control_plane_word: Option<Word>,
    /// Why it is not gone yet, when it is being deleted.
    pub deleting_word: Option<Word>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// The provider's object for the cluster.
#[derive(Clone, Debug, Default)]
pub struct InfrastructureView {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// The first condition of the present generation that is False, in the provider's words.
    pub trouble: Option<Word>,
}

/// A KubeadmControlPlane or a MachineDeployment.
#[derive(Clone, Debug, Default)]
pub struct GroupView {
    /// It is being deleted.
    pub deleting: bool,
    /// `spec.replicas`.
    pub replicas: Option<u32>,
    /// Version asked for.
    pub version: Option<String>,
    /// Kind and name of the templates that it refers to.
    pub templates: Vec<(String, String)>,
}

/// A Machine.
#[derive(Clone, Debug, Default)]
pub struct MachineView {
    /// Name.
    pub name: String,
    /// It belongs to the control plane.
    pub control_plane: bool,
    /// MachineDeployment that it belongs to.
    pub deployment: Option<String>,
    /// It is being deleted.
    pub deleting: bool,
    /// `spec.providerID`.
    pub provider_id: Option<String>,
    /// What boots it was made.
    pub bootstrap_data: bool,
    /// It has infrastructure.
    pub infrastructure_provisioned: bool,
    /// Kind and name of its infrastructure object.
    pub infrastructure: Option<(String, String)>,
    /// Name of its Node.
    pub node: Option<String>,
    /// Its Node is ready, in Cluster API's eyes.
    pub node_ready: Option<bool>,
    /// It is what is asked for, in Cluster API's eyes.
    pub up_to_date: Option<bool>,
    /// Version asked for.
    pub version: Option<String>,
    /// The first trouble that it names, in its words.
    pub trouble: Option<Word>,
}

/// A condition's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// Any object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectView {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Provider id, where it has one.
    pub provider_id: Option<String>,
    /// It is being deleted.
    pub deleting: bool,
}

impl MachineView {
    /// Its machine exists and has what it boots from. Neither its phase nor a condition proves that.
    pub fn is_up(&self) -> bool {
        !self.deleting && self.bootstrap_data && self.infrastructure_provisioned && self.provider_id.is_some()
    }
}

impl World {
    /// Reads objects; those of kinds that say nothing here are only listed.
    pub fn read(objects: &[Arc<DynamicObject>]) -> Self {
        let mut world = Self::default();
        for object in objects {
            let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
            let group =
                object.types.as_ref().and_then(|types| types.api_version.split_once('/')).map_or("", |(g, _)| g);
            match (group, kind) {
                (CAPI, "Cluster") => world.cluster = Some(cluster(object)),
                (CAPI, "MachineDeployment") => {
                    world.deployments.insert(object.name_any(), deployment(object));
                }
                (CAPI, "Machine") => {
                    world.machines.insert(object.name_any(), machine(object));
                }
                (CONTROL_PLANE, "KubeadmControlPlane") => world.control_plane = Some(control_plane(object)),
                (INFRASTRUCTURE, kind) if kind.ends_with("Cluster") => {
                    world.infrastructure = Some(infrastructure(kind, object));
                }
                _ => {}
            }
            world.objects.push(ObjectView {
                kind: kind.to_owned(),
                name: object.name_any(),
                provider_id: text(object, "/spec/providerID"),
                deleting: object.metadata.deletion_timestamp.is_some(),
            });
        }
        world.objects.sort();
        world
    }

    /// The first machine of the control plane that is up.
    pub fn first_machine_up(&self) -> Option<&MachineView> {
        self.machines.values().find(|machine| machine.control_plane && machine.is_up())
    }

    /// Whether an object is there.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.objects.iter().any(|object| object.kind == kind && object.name == name)
    }
}

fn cluster(object: &DynamicObject) -> ClusterView {
    let endpoint = text(object, "/spec/controlPlaneEndpoint/host").filter(|host| !host.is_empty()).zip(
        object
            .data
            .pointer("/spec/controlPlaneEndpoint/port")
            .and_then(Value::as_u64)
            .and_then(|p| u16::try_from(p).ok()),
    );
    ClusterView {
        deleting: object.metadata.deletion_timestamp.is_some(),
        infrastructure_provisioned: flag(object, "/status/initialization/infrastructureProvisioned"),
        control_plane_initialized: flag(object, "/status/initialization/controlPlaneInitialized"),
        endpoint: endpoint.filter(|(_, port)| *port != 0),
        infrastructure_ready: word(object, "InfrastructureReady"),
        control_plane_word: word(object, "ControlPlaneInitialized"),
        deleting_word: word(object, "Deleting"),
        labels: object.metadata.labels.clone().unwrap_or_default(),
    }
}

fn infrastructure(kind: &str, object: &DynamicObject) -> InfrastructureView {
    let trouble = words(object).find(|(type_, word)| word.status == "False" && !is_quiet(type_)).map(|(_, word)| word);
    InfrastructureView { kind: kind.to_owned(), name: object.name_any(), trouble }
}

fn control_plane(object: &DynamicObject) -> GroupView {
    GroupView {
        deleting: object.metadata.deletion_timestamp.is_some(),
        replicas: count(object, "/spec/replicas"),
        version: text(object, "/spec/version"),
        templates: reference(object, "/spec/machineTemplate/spec/infrastructureRef").into_iter().collect(),
    }
}

fn deployment(object: &DynamicObject) -> GroupView {
    let refs = ["/spec/template/spec/infrastructureRef", "/spec/template/spec/bootstrap/configRef"];
    GroupView {
        deleting: object.metadata.deletion_timestamp.is_some(),
        replicas: count(object, "/spec/replicas"),
        version: text(object, "/spec/template/spec/version"),
        templates: refs.into_iter().filter_map(|path| reference(object, path)).collect(),
    }
}

fn machine(object: &DynamicObject) -> MachineView {
    let labels = object.labels();
    let is = |type_: &str| word(object, type_).map(|word| word.status == "True");
    let trouble = ["InfrastructureReady", "BootstrapConfigReady", "NodeHealthy", "NodeReady", "Deleting"]
        .into_iter()
        .filter_map(|type_| word(object, type_).map(|word| (type_, word)))
        .find(|(type_, word)| if *type_ == "Deleting" { word.status == "True" } else { word.status != "True" })
        .map(|(_, word)| word);
    MachineView {
        name: object.name_any(),
        control_plane: labels.contains_key("cluster.x-k8s.io/control-plane"),
        deployment: labels.get("cluster.x-k8s.io/deployment-name").cloned(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        provider_id: text(object, "/spec/providerID"),
        bootstrap_data: flag(object, "/status/initialization/bootstrapDataSecretCreated"),
        infrastructure_provisioned: flag(object, "/status/initialization/infrastructureProvisioned"),
        infrastructure: reference(object, "/spec/infrastructureRef"),
        node: text(object, "/status/nodeRef/name"),
        node_ready: is("NodeReady"),
        up_to_date: is("UpToDate"),
        version: text(object, "/spec/version"),
        trouble,
    }
}

/// Conditions whose False is how it should be.
fn is_quiet(type_: &str) -> bool {
    matches!(type_, "Paused" | "Deleting" | "RollingOut" | "ScalingUp" | "ScalingDown" | "Remediating" | "Updating")
}

fn text(object: &DynamicObject, pointer: &str) -> Option<String> {
    object.data.pointer(pointer)?.as_str().map(str::to_owned)
}

fn flag(object: &DynamicObject, pointer: &str) -> bool {
    object.data.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

fn count(object: &DynamicObject, pointer: &str) -> Option<u32> {
    object.data.pointer(pointer)?.as_u64().and_then(|count| u32::try_from(count).ok())
}

fn reference(object: &DynamicObject, pointer: &str) -> Option<(String, String)> {
    let reference = object.data.pointer(pointer)?;
    Some((reference.get("kind")?.as_str()?.to_owned(), reference.get("name")?.as_str()?.to_owned()))
}

/// A condition of the present generation.
fn word(object: &DynamicObject, type_: &str) -> Option<Word> {
    words(object).find(|(name, _)| *name == type_).map(|(_, word)| word)
}

/// Every condition of the present generation.
fn words(object: &DynamicObject) -> impl Iterator<Item = (&str, Word)> {
    let generation = object.metadata.generation.unwrap_or_default();
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().filter_map(move |condition| {
        let part = |key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default();
        let observed = condition.get("observedGeneration").and_then(Value::as_i64);
        let word = Word {
            status: part("status").to_owned(),
            reason: part("reason").to_owned(),
            message: part("message").to_owned(),
        };
        observed.is_none_or(|observed| observed >= generation).then(|| (part("type"), word))
    })
}
