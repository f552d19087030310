//! What a decision asks for, and how it is carried out against the API.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};

use crate::cache::Name;
use crate::events::Note;

/// Field manager of everything that kube-controller-manager writes.
pub(crate) const CONTROLLERS: &str = "kube-controller-manager";
/// Field manager of everything that kubelets write.
pub(crate) const KUBELET: &str = "kubelet";
/// Field manager of everything that the scheduler writes.
pub(crate) const SCHEDULER: &str = "kube-scheduler";

/// One thing to do; the operations of a plan run in order, and the first that fails ends the plan.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Creates an object.
    Create(Object),
    /// Creates an object unless its name exists already.
    Ensure(Object),
    /// Makes a revision the newest of its owner's history.
    Record {
        /// The revision; its number is found when it is written.
        revision: Box<ControllerRevision>,
        /// How many older ones are kept.
        limit: usize,
    },
    /// Replaces metadata and specification, if nobody else wrote meanwhile.
    Replace(Object),
    /// Replaces the status, if nobody else wrote meanwhile.
    Status(Object),
    /// Deletes an object of this kind and uid.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The life that is meant.
        uid: String,
        /// Grace period, where it is not the object's own.
        grace: Option<u32>,
    },
    /// Puts a pod on a node.
    Bind {
        /// The pod.
        pod: Name,
        /// Its life.
        uid: String,
        /// The node.
        node: String,
    },
    /// Renews a Lease, or makes it.
    Renew(Box<Lease>),
    /// Looks whether everything that a pod needs to start is there, and lays its volumes out.
    Prepare(Box<crate::kubelet::prepare::Preparation>),
}

/// What a decision led to: things to do, and when to look again without being told.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) manager: &'static str,
    pub(crate) ops: Vec<Op>,
    /// What to tell people once the operations are done; a failure to tell is no failure.
    pub(crate) notes: Vec<Note>,
    /// When to look again.
    pub(crate) wake: Option<std::time::Duration>,
}

impl Plan {
    pub(crate) fn new(manager: &'static str) -> Self {
        Self { manager, ..Self::default() }
    }

    /// Asks for a look after `wait`; of several the shortest counts.
    pub(crate) fn wake_after(&mut self, wait: std::time::Duration) {
        self.wake = Some(self.wake.map_or(wait, |old| old.min(wait)));
    }

    /// Asks for a look at a wall-clock time.
    pub(crate) fn wake_at(&mut self, at: jiff::Timestamp, now: jiff::Timestamp) {
        self.wake_after(at.duration_since(now).try_into().unwrap_or_default());
    }
}

/// What carrying an operation out has shown.
#[derive(Debug)]
pub(crate) enum Seen {
    /// An object as the server has it now.
    Object(Object),
    /// A pod's needs were looked at.
    Prepared { pod: Name, uid: String, found: Box<crate::kubelet::prepare::Found> },
}

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {verb} {kind:?} {name}")]
pub(crate) struct Error {
    pub(crate) verb: &'static str,
    pub(crate) kind: Kind,
    pub(crate) name: Name,
    #[source]
    pub(crate) source: kube::Error,
}

impl Error {
    fn code(&self) -> Option<u16> {
        match &self.source {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        }
    }

    /// Says whether somebody else wrote first: no failure, only a reason to look again.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self.code(), Some(404 | 409))
    }

    /// Says whether the server refused the object, with its words.
    pub(crate) fn refusal(&self) -> Option<&str> {
        match &self.source {
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Some(&status.message),
            _ => None,
        }
    }
}

macro_rules! objects {
    ($($kind:ident $scope:ident),+ $(,)?) => {
        /// A kind that is written here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Kind { $($kind),+ }

        /// An object of a kind that is written here.
        #[derive(Clone, Debug)]
        pub(crate) enum Object { $($kind(Box<$kind>)),+ }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self { Self::$kind(Box::new(object)) }
        })+

        impl Object {
            pub(crate) fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),+ }
            }

            pub(crate) fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => object.meta()),+ }
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$kind(object) => object.meta_mut()),+ }
            }

            async fn exists(&self, client: &Client) -> Result<bool, kube::Error> {
                let name = self.meta().name.as_deref().unwrap_or_default();
                match self { $(Self::$kind(_) => {
                    let found = objects!(@api $scope $kind client self.meta()).get_metadata_opt(name).await?;
                    Ok(found.is_some())
                })+ }
            }

            async fn create(&self, client: &Client, params: &PostParams) -> Result<Self, kube::Error> {
                match self { $(Self::$kind(object) => {
                    objects!(@api $scope $kind client self.meta()).create(params, object).await.map(Self::from)
                })+ }
            }

            async fn replace(&self, client: &Client, params: &PostParams) -> Result<Self, kube::Error> {
                let name = self.meta().name.as_deref().unwrap_or_default();
                match self { $(Self::$kind(object) => {
                    objects!(@api $scope $kind client self.meta()).replace(name, params, object).await.map(Self::from)
                })+ }
            }

            async fn replace_status(&self, client: &Client, params: &PostParams) -> Result<Self, kube::Error> {
                let name = self.meta().name.as_deref().unwrap_or_default();
                match self { $(Self::$kind(object) => {
                    let api = objects!(@api $scope $kind client self.meta());
                    api.replace_status(name, params, object).await.map(Self::from)
                })+ }
            }
        }

        impl Kind {
            async fn delete(self, client: &Client, name: &Name, params: &DeleteParams)
                -> Result<Option<Object>, kube::Error>
            {
                let meta = ObjectMeta { namespace: Some(name.namespace.clone()), ..ObjectMeta::default() };
                match self { $(Self::$kind => {
                    let answer = objects!(@api $scope $kind client &meta).delete(&name.name, params).await?;
                    Ok(answer.left().map(Object::from))
                })+ }
            }
        }
    };
    (@api namespaced $kind:ident $client:ident $meta:expr) => {
        Api::<$kind>::namespaced($client.clone(), $meta.namespace.as_deref().unwrap_or_default())
    };
    (@api all $kind:ident $client:ident $meta:expr) => {{
        let _ = $meta;
        Api::<$kind>::all($client.clone())
    }};
}

objects! {
    Pod namespaced,
    Node all,
    Deployment namespaced,
    ReplicaSet namespaced,
    DaemonSet namespaced,
    StatefulSet namespaced,
    Job namespaced,
    ControllerRevision namespaced,
    PersistentVolumeClaim namespaced,
}

/// Carries a plan out up to its first failure.
///
/// An operation that writes the same object again builds on what the one before it wrote.
pub(crate) async fn carry_out(client: &Client, plan: Plan) -> (Vec<Seen>, Result<(), Error>) {
    let mut seen: Vec<Seen> = Vec::new();
    for mut op in plan.ops {
        if let Op::Replace(object) | Op::Status(object) = &mut op {
            build_on(object, &seen);
        }
        match perform(client, plan.manager, op).await {
            Ok(one) => seen.extend(one),
            Err(error) => return (seen, Err(error)),
        }
    }
    (seen, Ok(()))
}

fn build_on(object: &mut Object, seen: &[Seen]) {
    let written = seen.iter().rev().find_map(|one| match one {
        Seen::Object(written) if written.kind() == object.kind() && written.meta().uid == object.meta().uid => {
            written.meta().resource_version.clone()
        }
        _ => None,
    });
    if written.is_some() {
        object.meta_mut().resource_version = written;
    }
}

/// Carries one operation out.
async fn perform(client: &Client, manager: &'static str, op: Op) -> Result<Option<Seen>, Error> {
    let params = PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
    match op {
        Op::Create(object) => {
            let created = object.create(client, &params).await;
            created.map(|object| Some(Seen::Object(object))).map_err(failed("create", &object))
        }
        Op::Ensure(object) => {
            if object.exists(client).await.map_err(failed("look for", &object))? {
                return Ok(None);
            }
            match object.create(client, &params).await {
                Ok(object) => Ok(Some(Seen::Object(object))),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                Err(source) => Err(failed("create", &object)(source)),
            }
        }
        Op::Record { revision, limit } => {
            let fail =
                |source| Error { verb: "record", kind: Kind::ControllerRevision, name: Name::of(&*revision), source };
            crate::workloads::revision::write(client, &params, &revision, limit).await.map_err(fail)?;
            Ok(None)
        }
        Op::Replace(object) => {
            let replaced = object.replace(client, &params).await;
            replaced.map(|object| Some(Seen::Object(object))).map_err(failed("replace", &object))
        }
        Op::Status(object) => {
            let replaced = object.replace_status(client, &params).await;
            replaced.map(|object| Some(Seen::Object(object))).map_err(failed("write the status of", &object))
        }
        Op::Delete { kind, name, uid, grace } => delete(client, kind, name, uid, grace).await,
        Op::Bind { pod, uid, node } => bind(client, pod, uid, node).await,
        Op::Renew(lease) => renew(client, manager, &lease).await,
        Op::Prepare(preparation) => {
            let (pod, uid) = (preparation.pod_name(), preparation.pod_uid());
            let found = crate::kubelet::prepare::look(client, &preparation).await;
            Ok(Some(Seen::Prepared { pod, uid, found: Box::new(found) }))
        }
    }
}

async fn delete(
    client: &Client,
    kind: Kind,
    name: Name,
    uid: String,
    grace: Option<u32>,
) -> Result<Option<Seen>, Error> {
    let params = DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
        ..DeleteParams::default()
    };
    match kind.delete(client, &name, &params).await {
        // Still there: it waits for its kubelet, or for finalizers.
        Ok(object) => Ok(object.filter(|object| object.meta().deletion_timestamp.is_some()).map(Seen::Object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(source) => Err(Error { verb: "delete", kind, name, source }),
    }
}

async fn bind(client: &Client, pod: Name, uid: String, node: String) -> Result<Option<Seen>, Error> {
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            uid: Some(uid),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node),
            ..ObjectReference::default()
        },
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let failed = |source| Error { verb: "bind", kind: Kind::Pod, name: pod.clone(), source };
    let params = PostParams { field_manager: Some(SCHEDULER.to_owned()), ..PostParams::default() };
    let bound: Result<serde_json::Value, _> = pods.create_subresource("binding", &pod.name, &params, &binding).await;
    bound.map_err(failed)?;
    Ok(None)
}

async fn renew(client: &Client, manager: &'static str, lease: &Lease) -> Result<Option<Seen>, Error> {
    let name = Name::of(lease);
    let leases: Api<Lease> = Api::namespaced(client.clone(), &name.namespace);
    let params = PatchParams::apply(manager).force();
    match leases.patch(&name.name, &params, &Patch::Apply(lease)).await {
        Ok(_) => Ok(None),
        Err(source) => Err(Error { verb: "renew the Lease of", kind: Kind::Node, name, source }),
    }
}

fn failed(verb: &'static str, object: &Object) -> impl FnOnce(kube::Error) -> Error + use<> {
    let (kind, meta) = (object.kind(), object.meta());
    let name = Name {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().or_else(|| meta.generate_name.clone()).unwrap_or_default(),
    };
    move |source| Error { verb, kind, name, source }
}
