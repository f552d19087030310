//! Carries a plan out: steps first, then conditions, body and status of the object itself.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::super::conditions::{self, Condition};
use super::super::kind::Kind;
use super::super::object::Look as _;
use super::super::object::{CLUSTER_LABEL, owner};
use super::super::plan::{Note, Plan, RemoteStep, Step, would_change};
use super::super::remote::{self, ClusterKey};
use super::super::userdata;
use super::World;

/// Time that the writes of one step to a workload cluster may take.
const REMOTE_MAX: Duration = Duration::from_secs(20);

/// Writes of others in a row that one write gives way to.
const CONFLICTS_MAX: usize = 5;

/// Why a plan was not carried out to its end; the next look tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the API refused a write")]
    Api(#[source] Box<kube::Error>),
    #[error("others wrote the object again and again")]
    Conflicts,
    #[error("an object could not be encoded")]
    Encode(#[source] serde_json::Error),
    #[error("the workload cluster was not reached")]
    Remote(#[source] remote::Error),
    #[error("the workload cluster took too long")]
    RemoteTimeout,
    #[error("the bootstrap data could not be made")]
    UserData(#[source] userdata::Error),
}

impl Error {
    fn is_conflict(&self) -> bool {
        matches!(self, Error::Api(error) if matches!(error.as_ref(), kube::Error::Api(status) if status.reason == "Conflict"))
    }

    /// Whether the object was gone, which is no trouble: whoever waited for it is told.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Error::Api(error) if matches!(error.as_ref(), kube::Error::Api(status) if status.code == 404))
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Error::Api(Box::new(error))
    }
}

impl From<remote::Error> for Error {
    fn from(error: remote::Error) -> Self {
        Error::Remote(error)
    }
}

impl World {
    /// Carries a plan out.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        kind: Kind,
        object: &Arc<DynamicObject>,
        cluster: &ClusterKey,
        plan: Plan,
    ) -> Result<(), Error> {
        for step in plan.steps {
            let done = self.step(kind, object, cluster, step).await;
            if let Err(Error::UserData(error)) = &done {
                let generation = object.generation();
                let condition = Condition::no("DataSecretAvailable", "DataSecretGenerationFailed", error.to_string());
                self.put_conditions(kind, Arc::clone(object), &[condition], generation).await?;
            }
            done?;
        }
        for note in plan.events {
            self.note(kind, object, note).await;
        }
        let generation = object.generation();
        let mut current = Arc::clone(object);
        current = self.put_conditions(kind, current, &plan.conditions, generation).await?;
        if let Some(body) = plan.body
            && would_change(&current, &body)
        {
            current = self.patch(kind, &current, body, false).await?;
        }
        if let Some(status) = plan.status {
            let status = json!({ "status": status });
            if would_change(&current, &status) {
                self.patch(kind, &current, status, true).await?;
            }
        }
        for step in plan.last {
            self.step(kind, object, cluster, step).await?;
        }
        Ok(())
    }

    async fn put_conditions(
        &self,
        kind: Kind,
        mut object: Arc<DynamicObject>,
        wanted: &[Condition],
        generation: i64,
    ) -> Result<Arc<DynamicObject>, Error> {
        let now = lattice_protocol::clock::now();
        for _ in 0..CONFLICTS_MAX {
            let Some(list) = conditions::merge(object.at("/status/conditions"), wanted, generation, now) else {
                return Ok(object);
            };
            match self.write(kind, &object, json!({"status": {"conditions": list}}), true).await {
                Err(error) if error.is_conflict() => object = self.again(kind, &object).await?,
                done => return done,
            }
        }
        Err(Error::Conflicts)
    }

    /// Merge-patches; when somebody else wrote meanwhile, the same patch on what they left.
    async fn patch(
        &self,
        kind: Kind,
        object: &Arc<DynamicObject>,
        body: Value,
        status: bool,
    ) -> Result<Arc<DynamicObject>, Error> {
        let mut object = Arc::clone(object);
        for _ in 0..CONFLICTS_MAX {
            match self.write(kind, &object, body.clone(), status).await {
                Err(error) if error.is_conflict() => object = self.again(kind, &object).await?,
                done => return done,
            }
        }
        Err(Error::Conflicts)
    }

    /// Reads an object again, the same life of it.
    async fn again(&self, kind: Kind, object: &DynamicObject) -> Result<Arc<DynamicObject>, Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), object.namespace(), &kind.resource());
        let fresh = api.get(object.name()).await?;
        if fresh.metadata.uid != object.metadata.uid || fresh.deleting() != object.deleting() {
            return Err(Error::Conflicts);
        }
        self.take(kind, fresh.clone());
        Ok(Arc::new(fresh))
    }

    async fn step(
        self: &Arc<Self>,
        kind: Kind,
        object: &Arc<DynamicObject>,
        cluster: &ClusterKey,
        step: Step,
    ) -> Result<(), Error> {
        let namespace = object.namespace();
        match step {
            Step::Create(kind, value) => self.create(kind, namespace, value).await?,
            Step::CreateSecret(secret) => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                fine_if_there(api.create(&PostParams::default(), &secret).await)?;
            }
            Step::Patch(kind, other, body) => {
                if would_change(&other, &body) {
                    self.patch(kind, &other, body, false).await?;
                }
            }
            Step::Conditions(kind, other, wanted) => {
                let generation = other.generation();
                self.put_conditions(kind, other, &wanted, generation).await?;
            }
            Step::Delete(kind, name) => {
                let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource());
                match api.delete(&name, &DeleteParams::default()).await {
                    Ok(either) => {
                        if let Some(object) = either.left() {
                            self.take(kind, object);
                        }
                    }
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Step::Note(note) => self.note(kind, object, note).await,
            Step::Remote(step) => {
                let client = self.remotes.client(cluster)?;
                tokio::time::timeout(REMOTE_MAX, self.remote(client, cluster, step))
                    .await
                    .map_err(|_| Error::RemoteTimeout)??;
            }
            Step::Bootstrap(input) => self.bootstrap(object, &input).await?,
            Step::Boot(boot, secret) => self.boot(*boot, &secret).await?,
            Step::Destroy(name) => self.machines.destroy(namespace, &name),
            Step::ClusterGone(name) => self.machines.cluster_gone(namespace, &name),
        }
        Ok(())
    }

    /// Reads the bootstrap data and switches the machine on.
    async fn boot(&self, mut boot: super::super::machines::Boot, secret: &str) -> Result<(), Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &boot.namespace);
        let secret = api.get(secret).await?;
        let value = secret.data.as_ref().and_then(|data| data.get("value"));
        boot.user_data = value.map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default();
        self.machines.boot(boot);
        Ok(())
    }

    /// Resolves Secrets, renders the bootstrap data and stores it.
    async fn bootstrap(&self, config: &DynamicObject, input: &userdata::Input) -> Result<(), Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), config.namespace());
        let mut secrets = userdata::Secrets::new();
        for name in input.secrets() {
            let Some(secret) = api.get_opt(&name).await? else { continue };
            let text = |value: k8s_openapi::ByteString| String::from_utf8_lossy(&value.0).into_owned();
            let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value))).collect();
            secrets.insert(name, data);
        }
        let text = input.render(&secrets).map_err(Error::UserData)?;
        let data = [("value", text), ("format", "cloud-config".to_owned())];
        let mut owner = owner(Kind::Bootstrap, config, true);
        if let Some(owner) = owner.as_object_mut() {
            owner.remove("blockOwnerDeletion");
        }
        let secret = Secret {
            metadata: kube::api::ObjectMeta {
                name: Some(config.name().to_owned()),
                namespace: Some(config.namespace().to_owned()),
                labels: Some([(CLUSTER_LABEL.to_owned(), input.cluster.clone())].into()),
                owner_references: Some(vec![serde_json::from_value(owner).map_err(Error::Encode)?]),
                ..Default::default()
            },
            data: Some(data.map(|(key, text)| (key.to_owned(), k8s_openapi::ByteString(text.into_bytes()))).into()),
            type_: Some("cluster.x-k8s.io/secret".to_owned()),
            ..Default::default()
        };
        fine_if_there(api.create(&PostParams::default(), &secret).await)?;
        Ok(())
    }

    async fn create(&self, kind: Kind, namespace: &str, mut value: Value) -> Result<(), Error> {
        value["apiVersion"] = kind.api_version().into();
        value["kind"] = kind.name().into();
        value["metadata"]["namespace"] = namespace.into();
        let object: DynamicObject = serde_json::from_value(value).map_err(Error::Encode)?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource());
        if let Some(created) = fine_if_there(api.create(&PostParams::default(), &object).await)? {
            self.take(kind, created);
        }
        Ok(())
    }

    /// Merge-patches under the version that was read, so that what others wrote is not lost.
    async fn write(
        &self,
        kind: Kind,
        object: &DynamicObject,
        mut body: Value,
        status: bool,
    ) -> Result<Arc<DynamicObject>, Error> {
        body["metadata"]["resourceVersion"] = json!(object.metadata.resource_version);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), object.namespace(), &kind.resource());
        let params = PatchParams { field_manager: Some(manager(kind).to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&body);
        let written = if status {
            api.patch_status(object.name(), &params, &patch).await?
        } else {
            api.patch(object.name(), &params, &patch).await?
        };
        self.take(kind, written.clone());
        Ok(Arc::new(written))
    }

    /// Writes an Event; one that is lost is no harm.
    async fn note(&self, kind: Kind, object: &DynamicObject, note: Note) {
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(lattice_protocol::clock::now());
        let event = Event {
            metadata: kube::api::ObjectMeta {
                generate_name: Some(format!("{}.", object.name())),
                namespace: Some(object.namespace().to_owned()),
                ..Default::default()
            },
            involved_object: k8s_openapi::api::core::v1::ObjectReference {
                api_version: Some(kind.api_version()),
                kind: Some(kind.name().to_owned()),
                name: Some(object.name().to_owned()),
                namespace: Some(object.namespace().to_owned()),
                uid: object.metadata.uid.clone(),
                ..Default::default()
            },
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(note.reason.to_owned()),
            message: Some(note.message),
            source: Some(k8s_openapi::api::core::v1::EventSource {
                component: Some(manager(kind).to_owned()),
                host: None,
            }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Default::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), object.namespace());
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(reason = note.reason, error = &error as &dyn std::error::Error, "event not written");
        }
    }

    async fn remote(&self, client: Client, cluster: &ClusterKey, step: RemoteStep) -> Result<(), remote::Error> {
        let nodes: Api<Node> = Api::all(client.clone());
        match step {
            RemoteStep::PatchNode(name, body) => {
                let params = PatchParams { field_manager: Some("capi-machine".to_owned()), ..PatchParams::default() };
                nodes.patch(&name, &params, &Patch::Merge(&body)).await?;
            }
            RemoteStep::DeleteNode(name) => match nodes.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            },
            RemoteStep::Drain(name) => {
                let patch = json!({"spec": {"unschedulable": true}});
                nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
                if evict(client, &name).await? == 0 {
                    self.remotes.drained(cluster, &name);
                }
            }
            RemoteStep::BootstrapToken(id, secret) => {
                let api: Api<Secret> = Api::namespaced(client, "kube-system");
                let value = json!({
                    "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
                    "type": "bootstrap.kubernetes.io/token",
                    "stringData": {
                        "token-id": id, "token-secret": secret, "usage-bootstrap-signing": "true",
                        "usage-bootstrap-authentication": "true",
                        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
                        "description": "token for a machine that joins",
                    },
                });
                let Ok(token) = serde_json::from_value::<Secret>(value) else { return Ok(()) };
                match api.create(&PostParams::default(), &token).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// Evicts the pods of a Node that a drain would move, and counts those that are still there.
async fn evict(client: Client, node: &str) -> Result<usize, remote::Error> {
    let all: Api<Pod> = Api::all(client.clone());
    let pods = all.list(&ListParams::default().fields(&format!("spec.nodeName={node}"))).await?;
    let mut left = 0;
    for pod in pods {
        let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let stays = pod
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node");
        if stays || matches!(ended, Some("Succeeded" | "Failed")) {
            continue;
        }
        left += 1;
        let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
        if pod.metadata.deletion_timestamp.is_none()
            && let Err(error) =
                api.evict(pod.metadata.name.as_deref().unwrap_or_default(), &EvictParams::default()).await
        {
            tracing::debug!(node, error = &error as &dyn std::error::Error, "eviction refused");
        }
    }
    Ok(left)
}

fn fine_if_there<T>(result: Result<T, kube::Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The controller that writes a kind.
fn manager(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "cluster-controller",
        Kind::ControlPlane => "kubeadm-control-plane-controller",
        Kind::Deployment => "machinedeployment-controller",
        Kind::Set => "machineset-controller",
        Kind::Machine => "machine-controller",
        Kind::HealthCheck => "machinehealthcheck-controller",
        Kind::Bootstrap | Kind::BootstrapTemplate => "kubeadmconfig-controller",
        Kind::InfraCluster(_) | Kind::InfraMachine(_) | Kind::InfraTemplate(_) => "infrastructure-controller",
    }
}
