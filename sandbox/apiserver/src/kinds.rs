//! Which kinds there are: the built-in ones, listed in a table, and those of CustomResourceDefinitions.

pub(crate) mod custom;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::schema::{self, Node, builtin};
use crate::status::Target;
use custom::Custom;

/// The group of CustomResourceDefinitions.
pub(crate) const EXTENSIONS: &str = "apiextensions.k8s.io";
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Groups in the order in which discovery names them.
const GROUPS: [&str; 20] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
];
/// The same as above, in the order in which discovery tells those of custom resources.
const CUSTOM_VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// A path below an object.
#[derive(Clone, Debug)]
pub(crate) struct Subresource {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// The group and version of the kind where it is not the resource's own.
    pub(crate) group_version: Option<(String, String)>,
    pub(crate) verbs: Vec<String>,
}

/// Where a kind's schema comes from.
#[derive(Debug)]
pub(crate) enum Source {
    BuiltIn(&'static str),
    Custom(Box<Custom>),
}

/// One version of a kind, as it is served.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) verbs: Vec<String>,
    pub(crate) subresources: Vec<Subresource>,
    /// Under which name its objects are stored.
    pub(crate) storage: Arc<str>,
    pub(crate) source: Source,
}

impl Resource {
    /// Returns `group/version`, or the version alone in the core group.
    pub(crate) fn api_version(&self) -> String {
        join(&self.group, &self.version)
    }

    /// Names the resource in answers.
    pub(crate) fn target(&self) -> Target {
        Target::new(&self.group, &self.plural)
    }

    /// Names the kind in answers.
    pub(crate) fn kind_target(&self) -> Target {
        // Events of both groups are validated as the core group's.
        let group = if self.group == "events.k8s.io" { "" } else { &self.group };
        Target::new(group, &self.kind)
    }

    pub(crate) fn custom(&self) -> Option<&Custom> {
        match &self.source {
            Source::Custom(custom) => Some(custom),
            Source::BuiltIn(_) => None,
        }
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.custom().is_some()
    }

    /// Returns the schema of its objects.
    pub(crate) fn node(&self) -> &Node {
        match &self.source {
            Source::BuiltIn(name) => builtin::node(name),
            Source::Custom(custom) => custom.node(),
        }
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    pub(crate) fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// Tells whether nothing but one verb can be done to a kind.
    pub(crate) fn verbs_are_only(&self, verb: &str) -> bool {
        self.verbs.iter().all(|known| known == verb)
    }

    /// Tells whether writes through the main path leave status alone.
    pub(crate) fn splits_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Tells whether this is a kind of a group, for the few kinds that the server itself knows.
    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind && !self.is_custom()
    }
}

/// Versions of kinds that the real server reads and does not serve.
const OLDER: [(&str, &str, &[&str]); 24] = [
    ("apps/v1beta1", "apps", &["ControllerRevision", "Deployment", "StatefulSet"]),
    ("apps/v1beta2", "apps", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("extensions/v1beta1", "apps", &["DaemonSet", "Deployment", "ReplicaSet"]),
    ("extensions/v1beta1", "networking.k8s.io", &["Ingress", "NetworkPolicy"]),
    ("networking.k8s.io/v1beta1", "networking.k8s.io", &["Ingress", "IngressClass"]),
    ("batch/v1beta1", "batch", &["CronJob"]),
    ("policy/v1beta1", "policy", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io/v1beta1", "rbac.authorization.k8s.io", RBAC),
    ("rbac.authorization.k8s.io/v1alpha1", "rbac.authorization.k8s.io", RBAC),
    ("coordination.k8s.io/v1beta1", "coordination.k8s.io", &["Lease"]),
    ("storage.k8s.io/v1beta1", "storage.k8s.io", &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"]),
    ("scheduling.k8s.io/v1beta1", "scheduling.k8s.io", &["PriorityClass"]),
    ("discovery.k8s.io/v1beta1", "discovery.k8s.io", &["EndpointSlice"]),
    ("events.k8s.io/v1beta1", "events.k8s.io", &["Event"]),
    ("events.k8s.io/v1", "", &["Event"]),
    ("v1", "events.k8s.io", &["Event"]),
    ("autoscaling/v1", "autoscaling", &["HorizontalPodAutoscaler"]),
    ("certificates.k8s.io/v1beta1", "certificates.k8s.io", &["CertificateSigningRequest"]),
    ("authentication.k8s.io/v1beta1", "authentication.k8s.io", &["SelfSubjectReview", "TokenReview"]),
    ("authentication.k8s.io/v1alpha1", "authentication.k8s.io", &["SelfSubjectReview"]),
    ("authorization.k8s.io/v1beta1", "authorization.k8s.io", REVIEWS),
    ("admissionregistration.k8s.io/v1beta1", "admissionregistration.k8s.io", ADMISSION),
    ("admissionregistration.k8s.io/v1alpha1", "admissionregistration.k8s.io", POLICIES),
    ("apiextensions.k8s.io/v1beta1", "apiextensions.k8s.io", &["CustomResourceDefinition"]),
];
const POLICIES: &[&str] = &[
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];
const ADMISSION: &[&str] = &[
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];
const REVIEWS: &[&str] =
    &["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"];
const RBAC: &[&str] = &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];

/// Tells whether a kind of a group is read in a version that is not that of its path.
pub(crate) fn is_older(kind: &str, group: &str, version: &str) -> bool {
    OLDER.iter().any(|(older, of, kinds)| *older == version && *of == group && kinds.contains(&kind))
}

/// Joins a group and a version.
pub(crate) fn join(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All kinds at one moment.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    custom: BTreeMap<String, Vec<Arc<Resource>>>,
}

/// All kinds of a server.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    kinds: RwLock<Arc<Kinds>>,
}

impl Registry {
    /// Returns all kinds as they are now.
    pub(crate) fn now(&self) -> Arc<Kinds> {
        Arc::clone(&self.kinds.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts the custom kinds in place of the earlier ones.
    pub(crate) fn set_custom(&self, resources: Vec<Arc<Resource>>) {
        let mut custom: BTreeMap<String, Vec<Arc<Resource>>> = BTreeMap::new();
        for resource in resources {
            custom.entry(resource.group.clone()).or_default().push(resource);
        }
        *self.kinds.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Kinds { custom });
    }
}

impl Kinds {
    /// Returns the resource of a path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let known = builtins().iter().find(|r| r.group == group && r.version == version && r.plural == plural);
        let custom = || self.custom.get(group)?.iter().find(|r| r.version == version && r.plural == plural);
        known.or_else(custom).cloned()
    }

    /// Returns the resource of a kind.
    pub(crate) fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        self.all().find(|r| r.group == group && r.version == version && r.kind == kind).cloned()
    }

    /// Returns every version of every resource.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        builtins().iter().chain(self.custom.values().flatten())
    }

    /// Returns the resources of a group, version by version.
    pub(crate) fn group(&self, group: &str) -> Vec<(String, Vec<Arc<Resource>>)> {
        let mut versions: Vec<(String, Vec<Arc<Resource>>)> = Vec::new();
        for resource in self.all().filter(|r| r.group == group) {
            match versions.iter_mut().find(|(version, _)| *version == resource.version) {
                Some((_, list)) => list.push(Arc::clone(resource)),
                None => versions.push((resource.version.clone(), vec![Arc::clone(resource)])),
            }
        }
        versions.sort_by(|(a, _), (b, _)| custom::by_stability(a, b));
        versions
    }

    /// Returns the names of all groups, built-in ones first.
    pub(crate) fn groups(&self) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for resource in builtins() {
            if !out.contains(&resource.group) {
                out.push(resource.group.clone());
            }
        }
        let place = |group: &str| GROUPS.iter().position(|known| *known == group).unwrap_or(GROUPS.len());
        out.sort_by_key(|group| place(group));
        out.extend(self.custom.keys().cloned());
        out
    }
}

/// Tells whether a group is built in.
pub(crate) fn is_builtin_group(group: &str) -> bool {
    builtins().iter().any(|resource| resource.group == group)
}

/// Returns the built-in kinds.
pub(crate) fn builtins() -> &'static [Arc<Resource>] {
    static BUILTINS: OnceLock<Vec<Arc<Resource>>> = OnceLock::new();
    BUILTINS.get_or_init(|| {
        let lines = include_str!("kinds/builtin.txt").lines();
        lines.filter(|line| !line.starts_with('#')).filter_map(read).map(Arc::new).collect()
    })
}

/// Returns the schema of a built-in kind, or of one that is only sent to subresources and with requests.
pub(crate) fn node_of(api_version: &str, kind: &str) -> Option<&'static Node> {
    let known = builtins().iter().find(|resource| resource.kind == kind && resource.api_version() == api_version);
    let name = match (kind, known) {
        (_, Some(resource)) => return Some(resource.node()),
        ("DeleteOptions", _) => "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        ("TokenRequest", _) => "io.k8s.api.authentication.v1.TokenRequest",
        ("Eviction", _) => "io.k8s.api.policy.v1.Eviction",
        ("Scale", _) => "io.k8s.api.autoscaling.v1.Scale",
        _ => return None,
    };
    Some(builtin::node(name))
}

fn words(text: &str, separator: char) -> Vec<String> {
    text.split(separator).filter(|word| !word.is_empty()).map(String::from).collect()
}

fn read(line: &'static str) -> Option<Resource> {
    let columns: Vec<&'static str> = line.split('|').collect();
    let [group, version, kind, plural, singular, scope, short, categories, name, subs, verbs] = columns.as_slice()
    else {
        return None;
    };
    let namespaced = *scope == "N";
    // Events of both groups are the same objects.
    let home = if *group == "events.k8s.io" { "" } else { group };
    let verbs = words(verbs, ',');
    Some(Resource {
        group: (*group).to_owned(),
        version: (*version).to_owned(),
        kind: (*kind).to_owned(),
        list_kind: format!("{kind}List"),
        plural: (*plural).to_owned(),
        singular: (*singular).to_owned(),
        namespaced,
        short_names: words(short, ','),
        categories: words(categories, ','),
        verbs: if verbs.is_empty() { VERBS.map(String::from).into() } else { verbs },
        subresources: words(subs, ',').iter().map(|text| subresource(text, kind)).collect(),
        storage: join(home, plural).into(),
        source: Source::BuiltIn(full_name(name)),
    })
}

fn full_name(name: &'static str) -> &'static str {
    if name.starts_with("io.k8s.") { name } else { builtin::intern(&format!("io.k8s.api.{name}")) }
}

fn subresource(text: &str, kind: &str) -> Subresource {
    let verbs = |text: &str, separator| words(text, separator);
    match text.split(':').collect::<Vec<_>>().as_slice() {
        ["scale"] => scale(),
        [name] => Subresource {
            name: (*name).to_owned(),
            kind: kind.to_owned(),
            group_version: None,
            verbs: verbs("get,patch,update", ','),
        },
        [name, kind, version, list] => Subresource {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            group_version: version.split_once('/').map(|(group, version)| (group.to_owned(), version.to_owned())),
            verbs: verbs(list, ';'),
        },
        _ => Subresource { name: text.to_owned(), kind: kind.to_owned(), group_version: None, verbs: Vec::new() },
    }
}

/// Describes a `scale` subresource.
pub(crate) fn scale() -> Subresource {
    Subresource {
        name: "scale".to_owned(),
        kind: "Scale".to_owned(),
        group_version: Some(("autoscaling".to_owned(), "v1".to_owned())),
        verbs: ["get", "patch", "update"].map(String::from).into(),
    }
}

/// Returns the verbs of custom resources.
pub(crate) fn custom_verbs() -> Vec<String> {
    CUSTOM_VERBS.map(String::from).into()
}

/// Returns the schema of anything.
pub(crate) fn anything() -> &'static Node {
    schema::any()
}
