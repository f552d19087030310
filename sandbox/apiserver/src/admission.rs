//! Admission: what the server itself asks of an object before it is stored, and then policies and webhooks.

mod expressions;
mod limits;
mod policies;
mod rules;
mod webhooks;

pub(crate) use self::webhooks::mutate as mutate_by_webhooks;
use serde_json::{Value, json};

use crate::auth::rbac;
use crate::core::Core;
use crate::json;
use crate::meta;
use crate::rest::Write;
use crate::status::{Cause, Result, Status, Target};

const PRIORITIES: &str = "scheduling.k8s.io/priorityclasses";
const STORAGE_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const INGRESS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// Sets what admission sets, or refuses.
pub(crate) fn mutate(
    core: &Core,
    write: &Write<'_>,
    operation: Operation,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<()> {
    if write.resource.group == "rbac.authorization.k8s.io" {
        grants(core, write, object)?;
    }
    if write.resource.is("", "Pod") && operation == Operation::Update && write.subresource.is_empty() {
        tolerations(object);
        // What admission gave a pod stays where a write leaves it out.
        for key in ["priority", "preemptionPolicy"] {
            if let Some(old) = old.filter(|_| json::at(object, &["spec", key]).is_none()) {
                json::carry(old, object, &["spec", key]);
            }
        }
    }
    if let Some(old) = old.filter(|_| write.resource.is("", "PersistentVolumeClaim") && write.subresource.is_empty()) {
        grown(core, write, old, object)?;
    }
    if operation != Operation::Create {
        return Ok(());
    }
    if write.resource.namespaced {
        namespace(core, write, object)?;
    }
    if write.resource.is("", "Pod") {
        pod(core, write, object)?;
        limits::limit(core, write, object)?;
    }
    match (write.resource.group.as_str(), write.resource.plural.as_str()) {
        ("", "nodes") => taint(object),
        ("", "persistentvolumes") => protect(object, "kubernetes.io/pv-protection"),
        ("", "persistentvolumeclaims") => {
            limits::claim(core, write, object)?;
            default_class(core, object, "storage.k8s.io/storageclasses", STORAGE_DEFAULT, "storageClassName");
            protect(object, "kubernetes.io/pvc-protection");
        }
        ("storage.k8s.io", "volumeattributesclasses") => protect(object, "kubernetes.io/vac-protection"),
        ("networking.k8s.io", "ingresses") if !names_class(object) => {
            default_class(core, object, "networking.k8s.io/ingressclasses", INGRESS_DEFAULT, "ingressClassName");
        }
        ("scheduling.k8s.io", "priorityclasses") => only_default(core, write, object)?,
        _ => {}
    }
    Ok(())
}

/// A claim that is bound grows only where its class lets it.
fn grown(core: &Core, write: &Write<'_>, old: &Value, new: &Value) -> Result<()> {
    let size = |claim: &Value| {
        let text = json::at(claim, &["spec", "resources", "requests", "storage"]).and_then(Value::as_str);
        text.and_then(crate::quantity::nanos).unwrap_or(0)
    };
    if size(new) <= size(old) || json::text(old, &["status", "phase"]) != "Bound" {
        return Ok(());
    }
    let class = json::text(old, &["spec", "storageClassName"]);
    let class = core.builtin("storage.k8s.io/storageclasses", "", class);
    if class.is_some_and(|class| class["allowVolumeExpansion"] == true) {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
               resize";
    Err(Status::forbidden(&write.resource.target(), meta::name(new), why))
}

/// Tells whether an ingress names its class in the old way.
fn names_class(object: &Value) -> bool {
    json::at(object, &["metadata", "annotations", "kubernetes.io/ingress.class"]).is_some()
}

/// Volumes and claims that are in use stay.
fn protect(object: &mut Value, finalizer: &str) {
    let mut list = json::list(object, &["metadata", "finalizers"]).to_vec();
    if !list.iter().any(|known| known == finalizer) {
        list.push(finalizer.into());
        json::set(object, &["metadata", "finalizers"], Value::Array(list));
    }
}

/// Fills in the class that is marked as the default one; of several the newest.
fn default_class(core: &Core, object: &mut Value, storage: &str, mark: &str, field: &str) {
    if json::at(object, &["spec", field]).is_some() {
        return;
    }
    let marked = |class: &Value| json::text(class, &["metadata", "annotations", mark]) == "true";
    let classes = core.builtin_list(storage, "").into_iter().filter(marked);
    let newest = classes.max_by_key(|class| json::text(class, &["metadata", "creationTimestamp"]).to_owned());
    if let Some(class) = newest {
        json::set(object, &["spec", field], meta::name(&class).into());
    }
}

/// Only one class of priority is the default one.
fn only_default(core: &Core, write: &Write<'_>, object: &Value) -> Result<()> {
    if object["globalDefault"] != true {
        return Ok(());
    }
    let name = meta::name(object);
    match default_priority(core).filter(|class| meta::name(class) != name) {
        None => Ok(()),
        Some(class) => {
            let known = meta::name(&class);
            let why = format!("PriorityClass {known} is already marked as default. Only one default can exist");
            Err(Status::forbidden(&write.resource.target(), name, &why))
        }
    }
}

fn default_priority(core: &Core) -> Option<Value> {
    core.builtin_list(PRIORITIES, "").into_iter().find(|class| class["globalDefault"] == true)
}

/// Objects come only into namespaces that are there and stay.
fn namespace(core: &Core, write: &Write<'_>, object: &Value) -> Result<()> {
    let name = write.namespace;
    let Some(namespace) = core.builtin("namespaces", "", name) else {
        return Err(Status::not_found(&Target::new("", "namespaces"), name));
    };
    if !meta::is_deleting(&namespace) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let cause = Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".to_owned(),
    };
    Err(Status::forbidden(&write.resource.target(), meta::name(object), &why).with_cause(cause))
}

/// Nobody gives rights that they do not have themselves.
fn grants(core: &Core, write: &Write<'_>, object: &Value) -> Result<()> {
    let name = meta::name(object);
    let role = |kind: &str, name: &str| match kind {
        "ClusterRole" => core.builtin("rbac.authorization.k8s.io/clusterroles", "", name),
        _ => core.builtin("rbac.authorization.k8s.io/roles", write.namespace, name),
    };
    let (rules, verb, resource, named) = if write.resource.kind.ends_with("Binding") {
        let kind = json::text(object, &["roleRef", "kind"]);
        let named = json::text(object, &["roleRef", "name"]);
        let rules = role(kind, named).map(|role| json::list(&role, &["rules"]).to_vec());
        (rules, "bind", if kind == "ClusterRole" { "clusterroles" } else { "roles" }, named)
    } else {
        (Some(json::list(object, &["rules"]).to_vec()), "escalate", write.resource.plural.as_str(), name)
    };
    let attributes = rbac::Attributes {
        verb: verb.to_owned(),
        group: write.resource.group.clone(),
        resource: resource.to_owned(),
        namespace: write.namespace.to_owned(),
        name: named.to_owned(),
        ..rbac::Attributes::default()
    };
    if rbac::decide(core, write.user, &attributes).allowed {
        return Ok(());
    }
    let rules = match rules {
        Some(rules) => rules,
        None if write.user.groups.iter().any(|group| group == crate::auth::MASTERS) => return Ok(()),
        // It is the binding that is said to be missing, by the name of the role.
        None => return Err(Status::not_found(&write.resource.target(), named)),
    };
    match rbac::escalation(core, write.user, write.namespace, &rules) {
        Some(why) => Err(Status::forbidden(&write.resource.target(), name, &why)),
        None => Ok(()),
    }
}

/// Pods get an account, tolerations and a priority.
fn pod(core: &Core, write: &Write<'_>, object: &mut Value) -> Result<()> {
    let named = json::text(object, &["spec", "serviceAccountName"]).to_owned();
    let account = if named.is_empty() { "default" } else { &named };
    let Some(found) = core.builtin("serviceaccounts", write.namespace, account) else {
        let why = format!(
            "error looking up service account {}/{account}: serviceaccount {account:?} not found",
            write.namespace
        );
        return Err(Status::forbidden(&write.resource.target(), meta::name(object), &why));
    };
    json::set(object, &["spec", "serviceAccountName"], account.into());
    json::set(object, &["spec", "serviceAccount"], account.into());
    let switch = |object: &Value, path: &[&str]| json::at(object, path).and_then(Value::as_bool);
    let mounts = switch(object, &["spec", "automountServiceAccountToken"])
        .or(switch(&found, &["automountServiceAccountToken"]))
        .unwrap_or(true);
    if mounts {
        mount_token(object);
    }
    let own = json::list(object, &["spec", "imagePullSecrets"]).is_empty();
    if let (true, Some(secrets)) = (own, json::at(&found, &["imagePullSecrets"])) {
        json::set(object, &["spec", "imagePullSecrets"], secrets.clone());
    }
    tolerations(object);
    runtime_class(core, write, object)?;
    priority(core, write, object)
}

/// Pods of a class of runtimes have what it says they take.
fn runtime_class(core: &Core, write: &Write<'_>, object: &mut Value) -> Result<()> {
    let class = json::text(object, &["spec", "runtimeClassName"]).to_owned();
    let name = meta::name(object).to_owned();
    let refuse = |why: &str| Err(Status::forbidden(&write.resource.target(), &name, &format!("pod rejected: {why}")));
    if class.is_empty() {
        if json::at(object, &["spec", "overhead"]).is_some_and(|overhead| !overhead.is_null()) {
            return refuse("Pod Overhead set without corresponding RuntimeClass defined Overhead");
        }
        return Ok(());
    }
    let Some(found) = core.builtin("node.k8s.io/runtimeclasses", "", &class) else {
        return refuse(&format!("RuntimeClass {class:?} not found"));
    };
    if let Some(overhead) = json::at(&found, &["overhead", "podFixed"]) {
        json::set(object, &["spec", "overhead"], overhead.clone());
    }
    Ok(())
}

/// Mounts the account's token into every container.
fn mount_token(object: &mut Value) {
    const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let name = format!("kube-api-access-{}", meta::suffix());
    let mut used = false;
    for key in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = object.pointer_mut(&format!("/spec/{key}")) else { continue };
        for container in containers {
            let taken = json::list(container, &["volumeMounts"]).iter().any(|mount| mount["mountPath"] == PATH);
            if taken {
                continue;
            }
            used = true;
            let mut mounts = json::list(container, &["volumeMounts"]).to_vec();
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": PATH}));
            container["volumeMounts"] = Value::Array(mounts);
        }
    }
    if !used {
        return;
    }
    let mut volumes = json::list(object, &["spec", "volumes"]).to_vec();
    volumes.push(json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}}));
    json::set(object, &["spec", "volumes"], Value::Array(volumes));
}

fn tolerations(object: &mut Value) {
    let mut list = json::list(object, &["spec", "tolerations"]).to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|toleration| {
            let matches = toleration["key"] == key || json::text(toleration, &["key"]).is_empty();
            matches && matches!(json::text(toleration, &["effect"]), "" | "NoExecute")
        });
        if !tolerated {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
    json::set(object, &["spec", "tolerations"], Value::Array(list));
}

fn priority(core: &Core, write: &Write<'_>, object: &mut Value) -> Result<()> {
    let mut class = json::text(object, &["spec", "priorityClassName"]).to_owned();
    if class.is_empty()
        && let Some(default) = default_priority(core)
    {
        meta::name(&default).clone_into(&mut class);
        json::set(object, &["spec", "priorityClassName"], class.as_str().into());
    }
    let (mut value, mut policy) = (Value::from(0), Value::from("PreemptLowerPriority"));
    if !class.is_empty() {
        let Some(found) = core.builtin(PRIORITIES, "", &class) else {
            let why = format!("no PriorityClass with name {class} was found");
            return Err(Status::forbidden(&write.resource.target(), meta::name(object), &why));
        };
        value = found["value"].clone();
        if let Some(own) = found.get("preemptionPolicy") {
            policy = own.clone();
        }
    }
    let name = meta::name(object).to_owned();
    let refuse = |why: String| Err(Status::forbidden(&write.resource.target(), &name, &why));
    let sent = |key: &str| json::at(object, &["spec", key]).filter(|sent| !sent.is_null()).cloned();
    if let Some(sent) = sent("priority").filter(|sent| *sent != value) {
        return refuse(format!(
            "the integer value of priority ({sent}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        ));
    }
    if let Some(sent) = sent("preemptionPolicy").filter(|sent| *sent != policy) {
        let (sent, policy) = (sent.as_str().unwrap_or_default(), policy.as_str().unwrap_or_default());
        return refuse(format!(
            "the string value of PreemptionPolicy ({sent}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        ));
    }
    json::set(object, &["spec", "priority"], value);
    json::set(object, &["spec", "preemptionPolicy"], policy);
    Ok(())
}

/// New nodes are not ready until somebody says so.
fn taint(object: &mut Value) {
    let mut taints = json::list(object, &["spec", "taints"]).to_vec();
    let key = "node.kubernetes.io/not-ready";
    if !taints.iter().any(|taint| taint["key"] == key && taint["effect"] == "NoSchedule") {
        taints.push(json!({"key": key, "effect": "NoSchedule"}));
    }
    json::set(object, &["spec", "taints"], Value::Array(taints));
}

/// Asks policies and webhooks. Answers their warnings.
pub(crate) async fn validate(
    core: &Core,
    write: &Write<'_>,
    operation: Operation,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<Vec<String>> {
    if write.resource.group == "admissionregistration.k8s.io" {
        return Ok(Vec::new());
    }
    let request = policies::Request { core, write, operation, old, new };
    let mut warnings = policies::check(&request)?;
    warnings.extend(webhooks::validate(&request).await?);
    limits::count(&request)?;
    Ok(warnings)
}
