//! The objects of one cluster, in apply order.

use std::collections::BTreeMap;

use serde::Serialize;

use super::context::{ClusterContext, Endpoint, MachineContext, MachineSize, ProviderContext};
use super::node::{self, NodeFile, NodeLabels, NodeRegistration};
use super::object::{self, CLUSTER_NAME_LABEL, CLUSTER_UID_LABEL, Expected, RenderedObject};
use super::provider::{Entry, Infrastructure, Provider, Reference, Scope};
use super::{Error, hash};
use crate::render::engine::Engine;
use crate::render::library::{Library, template_of};

/// Name of an object while its name by content is not known yet.
const UNNAMED: &str = "unnamed";

/// Label of the objects and Machines of a worker pool.
const POOL_LABEL: &str = "lattice.dev/pool";

/// Label by which Cluster API finds the Machines of a MachineDeployment.
const DEPLOYMENT_LABEL: &str = "cluster.x-k8s.io/deployment-name";

/// What makes `kubectl get nodes` say `worker`.
const WORKER_LABEL: &str = "node-role.kubernetes.io/worker";

/// What a template of a cluster's object sees.
#[derive(Serialize)]
struct View<'a> {
    /// Name of the object itself.
    name: &'a str,
    cluster: &'a ClusterView<'a>,
    /// Labels of everything that is made for the cluster.
    labels: &'a BTreeMap<String, String>,
    provider: &'a ProviderContext,
    infrastructure: &'a Infrastructure,
    /// The control plane or the pool that the object is for; none where it is for the cluster.
    machines: Option<&'a MachinesView<'a>>,
    refs: References<'a>,
    node: &'a NodeView<'a>,
}

#[derive(Serialize)]
struct ClusterView<'a> {
    name: &'a str,
    uid: &'a str,
    namespace: String,
    /// The person's labels and ours; ours win.
    labels: BTreeMap<String, String>,
    kubernetes_version: &'a str,
    pod_cidr: &'a str,
    service_cidr: &'a str,
    cert_sans: Vec<&'a str>,
    endpoint: Option<&'a Endpoint>,
}

#[derive(Serialize)]
struct MachinesView<'a> {
    /// `<cluster>-cp` or `<cluster>-<pool>`.
    base: String,
    /// Name of the pool; none for the control plane.
    pool: Option<&'a str>,
    replicas: Option<u32>,
    /// Least and most machines, as text: annotations hold nothing else.
    scale: Option<(String, String)>,
    size: Option<MachineSize>,
    /// Labels of the group's own objects.
    labels: BTreeMap<String, String>,
    /// Labels of its Machines.
    machine_labels: BTreeMap<String, String>,
    /// `nodeRegistration` of kubeadm; none where kubeadm's own is right.
    node_registration: Option<NodeRegistration>,
    failure_domain: Option<&'a str>,
}

/// Names by content of what a machine group refers to; none before it was rendered.
#[derive(Clone, Copy, Default, Serialize)]
struct References<'a> {
    infrastructure: Option<&'a str>,
    bootstrap: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct NodeView<'a> {
    files: Vec<NodeFile>,
    pre_kubeadm_commands: &'a [String],
    post_kubeadm_commands: &'a [String],
    ssh_authorized_keys: &'a [String],
}

/// One rendering of one cluster.
struct Rendering<'a> {
    engine: &'a Engine,
    library: &'a Library,
    provider: &'a Provider,
    context: &'a ClusterContext,
    cluster: ClusterView<'a>,
    labels: BTreeMap<String, String>,
    groups: Vec<MachinesView<'a>>,
    names: BTreeMap<(String, &'static str), String>,
}

pub(super) fn render(
    engine: &Engine,
    library: &Library,
    provider: &Provider,
    context: &ClusterContext,
) -> Result<Vec<RenderedObject>, Error> {
    let labels = BTreeMap::from([
        (CLUSTER_NAME_LABEL.to_owned(), context.name.to_string()),
        (CLUSTER_UID_LABEL.to_owned(), context.uid.to_string()),
    ]);
    let mut rendering = Rendering {
        engine,
        library,
        provider,
        context,
        cluster: cluster_view(context, provider, &labels),
        groups: groups(context, provider, &labels)?,
        labels,
        names: BTreeMap::new(),
    };
    let node = rendering.node()?;
    let mut objects = Vec::new();
    for entry in &provider.objects {
        for group in rendering.groups_of(entry.scope) {
            objects.push(rendering.object(entry, group, &node)?);
        }
    }
    Ok(objects)
}

impl<'a> Rendering<'a> {
    /// Indices of the machine groups that an object is made for; `None` is the cluster as a whole.
    fn groups_of(&self, scope: Scope) -> Vec<Option<usize>> {
        match scope {
            Scope::Cluster => vec![None],
            Scope::ControlPlane => vec![Some(0)],
            Scope::WorkerPools => (1..self.groups.len()).map(Some).collect(),
            Scope::Machines => (0..self.groups.len()).map(Some).collect(),
        }
    }

    fn view<'v>(&'v self, name: &'v str, group: Option<usize>, node: &'v NodeView<'v>) -> View<'v> {
        let machines = group.map(|index| &self.groups[index]);
        let name_of =
            |reference: &'static str| self.names.get(&(machines?.base.clone(), reference)).map(String::as_str);
        View {
            name,
            cluster: &self.cluster,
            labels: &self.labels,
            provider: &self.context.provider,
            infrastructure: &self.provider.infrastructure,
            machines,
            refs: References { infrastructure: name_of("infrastructure"), bootstrap: name_of("bootstrap") },
            node,
        }
    }

    fn object(&mut self, entry: &Entry, group: Option<usize>, node: &NodeView<'_>) -> Result<RenderedObject, Error> {
        let base = group.map_or(self.cluster.name, |index| self.groups[index].base.as_str()).to_owned();
        let name = if entry.named_by_content.is_some() { UNNAMED } else { base.as_str() };
        let text = self.engine.render(&entry.template, &self.view(name, group, node))?;
        let expected = Expected {
            kind: &entry.kind,
            name,
            namespace: &self.cluster.namespace,
            cluster: self.context.name.as_str(),
            uid: self.context.uid.as_str(),
        };
        let mut object = object::cluster_object(&entry.template, &text, &expected)?;
        if let Some(reference) = entry.named_by_content {
            let name = format!("{base}-{}", hash::of(&object));
            object["metadata"]["name"] = name.clone().into();
            let reference = match reference {
                Reference::Infrastructure => "infrastructure",
                Reference::Bootstrap => "bootstrap",
            };
            self.names.insert((base, reference), name);
        }
        Ok(RenderedObject {
            stage: entry.stage,
            named_by_content: entry.named_by_content.is_some(),
            template: entry.template.clone(),
            object,
        })
    }

    /// Files and commands of control-plane nodes.
    fn node(&self) -> Result<NodeView<'a>, Error> {
        let bare = NodeView::default();
        let mut files = Vec::from(NodeFile::enrolment(self.cluster.name));
        let ours = &self.provider.control_plane;
        for file in &ours.files {
            let content = match template_of(&file.template) {
                None => self.library.text(&file.template).unwrap_or_default().to_owned(),
                Some(plain) => {
                    let text = self.engine.render(&file.template, &self.view(self.cluster.name, Some(0), &bare))?;
                    // Manifests become one line of JSON: half the bytes, and whatever reads YAML reads it.
                    if plain.strip_suffix(".yaml").is_some() {
                        object::one(&file.template, &text)?.to_string()
                    } else {
                        text
                    }
                }
            };
            files.push(NodeFile::inline(&file.path, &file.permissions, &content));
        }
        let commands = [ours.pre_kubeadm_commands.as_slice(), &ours.post_kubeadm_commands].concat();
        node::check_user_data(self.cluster.name, &files, &commands)?;
        Ok(NodeView {
            files,
            pre_kubeadm_commands: &ours.pre_kubeadm_commands,
            post_kubeadm_commands: &ours.post_kubeadm_commands,
            ssh_authorized_keys: match &self.context.provider {
                ProviderContext::Proxmox(proxmox) => &proxmox.ssh_authorized_keys,
                ProviderContext::Docker(_) => &[],
            },
        })
    }
}

fn cluster_view<'a>(
    context: &'a ClusterContext,
    provider: &'a Provider,
    labels: &BTreeMap<String, String>,
) -> ClusterView<'a> {
    let mut all = context.labels.clone();
    all.extend(labels.clone());
    let endpoint = context.endpoint.iter().map(|endpoint| endpoint.host.as_str());
    let mut cert_sans: Vec<&str> = Vec::new();
    let wanted = context.cert_sans.iter().chain(&provider.control_plane.cert_sans).map(String::as_str);
    for name in endpoint.chain(wanted) {
        if !cert_sans.contains(&name) {
            cert_sans.push(name);
        }
    }
    ClusterView {
        name: context.name.as_str(),
        uid: context.uid.as_str(),
        namespace: context.name.namespace(),
        labels: all,
        kubernetes_version: &context.kubernetes_version,
        pod_cidr: &context.pod_cidr,
        service_cidr: &context.service_cidr,
        cert_sans,
        endpoint: context.endpoint.as_ref(),
    }
}

/// The control plane first, then the pools in order of name.
fn groups<'a>(
    context: &'a ClusterContext,
    provider: &Provider,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<MachinesView<'a>>, Error> {
    let mut groups = vec![group(context, provider, labels, None, &context.control_plane)?];
    for (pool, machines) in &context.worker_pools {
        if pool == "cp" {
            return Err(Error::Value {
                path: "spec.nodes.workerPools.cp".to_owned(),
                problem: "the control plane's objects are named so: choose another name".to_owned(),
            });
        }
        groups.push(group(context, provider, labels, Some(pool), machines)?);
    }
    Ok(groups)
}

fn group<'a>(
    context: &'a ClusterContext,
    provider: &Provider,
    labels: &BTreeMap<String, String>,
    pool: Option<&'a str>,
    machines: &'a MachineContext,
) -> Result<MachinesView<'a>, Error> {
    let path =
        pool.map_or_else(|| "spec.nodes.controlPlane".to_owned(), |pool| format!("spec.nodes.workerPools.{pool}"));
    let NodeLabels { machine: synced, kubelet } = NodeLabels::new(machines, &path)?;
    let mut kubelet_arguments = provider.node.kubelet_arguments.clone();
    kubelet_arguments.extend(kubelet);
    let base = format!("{}-{}", context.name, pool.unwrap_or("cp"));
    let mut labels = labels.clone();
    if let Some(pool) = pool {
        labels.insert(POOL_LABEL.to_owned(), pool.to_owned());
    }
    // Ours last: a person's label must not cut a Machine off from its MachineDeployment.
    let mut machine_labels = synced;
    machine_labels.extend(labels.clone());
    if pool.is_some() {
        machine_labels.insert(DEPLOYMENT_LABEL.to_owned(), base.clone());
        machine_labels.entry(WORKER_LABEL.to_owned()).or_default();
    }
    let taints = node::taints(context, machines, pool.is_none(), &path)?;
    Ok(MachinesView {
        base,
        pool,
        replicas: machines.replicas,
        scale: machines.scale.map(|(least, most)| (least.to_string(), most.to_string())),
        size: machines.size,
        labels,
        machine_labels,
        node_registration: NodeRegistration::new(kubelet_arguments, taints),
        failure_domain: machines.failure_domain.as_deref(),
    })
}
