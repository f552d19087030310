//! What we put on nodes: files, commands, kubelet arguments, labels and taints.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Error;
use super::context::{ClusterContext, MachineContext, Taint};
use super::provider::Argument;

/// Most bytes of user data that are ours. EC2 takes 16 KiB in all and kubeadm's certificates need most of it, so a
/// higher limit would fail on the node, where nobody sees it.
const USER_DATA_BYTES_MAX: usize = 4_096;

/// What the Secret's three values take in the user data, bytes: token 60, CA certificate 750, addresses 200.
const ENROLMENT_BYTES: usize = 1_024;

/// Label domains that Cluster API copies from a Machine to its Node, and that a kubelet may not set on itself.
const SYNCED_DOMAINS: [&str; 3] =
    ["node-role.kubernetes.io", "node-restriction.kubernetes.io", "node.cluster.x-k8s.io"];

/// Labels in Kubernetes' own domains that a kubelet may set on itself; with any other it does not start.
const KUBELET_LABELS: [&str; 9] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

/// A file of a node, as `files[]` of a KubeadmConfig takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeFile {
    path: String,
    owner: &'static str,
    permissions: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_from: Option<ContentFrom>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ContentFrom {
    secret: SecretKey,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SecretKey {
    name: String,
    key: &'static str,
}

impl NodeFile {
    /// A file whose content everybody may know. Always base64: Cluster API and cloud-init have template engines of
    /// their own, and neither must find anything to evaluate in it.
    pub(super) fn inline(path: &str, permissions: &str, content: &str) -> Self {
        Self {
            path: path.to_owned(),
            owner: "root:root",
            permissions: permissions.to_owned(),
            encoding: Some("base64"),
            content: Some(STANDARD.encode(content)),
            content_from: None,
        }
    }

    /// A file that Cluster API takes from a Secret when it makes a machine's user data.
    fn secret(path: &str, permissions: &str, secret: &str, key: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            owner: "root:root",
            permissions: permissions.to_owned(),
            encoding: None,
            content: None,
            content_from: Some(ContentFrom { secret: SecretKey { name: secret.to_owned(), key } }),
        }
    }

    /// The three files of the enrolment Secret. A new token, CA or address never edits the control plane's object.
    pub(super) fn enrolment(cluster: &str) -> [Self; 3] {
        let secret = format!("{cluster}-enroll");
        [
            Self::secret("/etc/lattice/token", "0600", &secret, "token"),
            Self::secret("/etc/lattice/ca.crt", "0644", &secret, "ca.crt"),
            Self::secret("/etc/lattice/bootstrap-urls", "0644", &secret, "bootstrap-urls"),
        ]
    }
}

/// `nodeRegistration` of a kubeadm configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeRegistration {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubelet_extra_args: Vec<Argument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taints: Option<Vec<Taint>>,
}

impl NodeRegistration {
    /// `None` where nothing is to be said: an empty object is refused by Cluster API.
    pub(super) fn new(kubelet_extra_args: Vec<Argument>, taints: Option<Vec<Taint>>) -> Option<Self> {
        let empty = kubelet_extra_args.is_empty() && taints.is_none();
        (!empty).then_some(Self { kubelet_extra_args, taints })
    }
}

/// Refuses more user data than the smallest provider takes.
pub(super) fn check_user_data(cluster: &str, files: &[NodeFile], commands: &[String]) -> Result<(), Error> {
    let size = |file: &NodeFile| file.path.len() + file.content.as_ref().map_or(0, String::len);
    let bytes =
        ENROLMENT_BYTES + files.iter().map(size).sum::<usize>() + commands.iter().map(String::len).sum::<usize>();
    if bytes <= USER_DATA_BYTES_MAX {
        return Ok(());
    }
    let mut largest: Vec<&NodeFile> = files.iter().collect();
    largest.sort_by_key(|file| std::cmp::Reverse(size(file)));
    let largest: Vec<String> =
        largest.iter().take(3).map(|file| format!("{} takes {}", file.path, size(file))).collect();
    Err(Error::UserData { cluster: cluster.to_owned(), bytes, max: USER_DATA_BYTES_MAX, largest: largest.join(", ") })
}

/// Labels of a group's nodes, by the way they get there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NodeLabels {
    /// On the Machine: Cluster API copies them.
    pub(super) machine: BTreeMap<String, String>,
    /// By the kubelet's `--node-labels`.
    pub(super) kubelet: Option<Argument>,
}

impl NodeLabels {
    /// Sorts the labels of a group, refusing those that neither way can set.
    pub(super) fn new(group: &MachineContext, path: &str) -> Result<Self, Error> {
        let mut labels = Self::default();
        let mut own = Vec::new();
        for (key, value) in &group.labels {
            check_label(key, value).map_err(|problem| Error::Value { path: format!("{path}.labels"), problem })?;
            let domain = key.split_once('/').map_or("", |(domain, _)| domain);
            if SYNCED_DOMAINS.iter().any(|synced| within(domain, synced)) {
                labels.machine.insert(key.clone(), value.clone());
            } else if kubelet_may_set(key, domain) {
                own.push(format!("{key}={value}"));
            } else {
                return Err(Error::Value {
                    path: format!("{path}.labels"),
                    problem: format!(
                        "{key:?} is in Kubernetes' own domain and no kubelet may set it: use node-role.kubernetes.io, node-restriction.kubernetes.io or a domain of your own"
                    ),
                });
            }
        }
        if !own.is_empty() {
            labels.kubelet = Some(Argument { name: "node-labels".to_owned(), value: own.join(",") });
        }
        Ok(labels)
    }
}

/// Taints for the kubelet to register with; `None` leaves them to kubeadm.
pub(super) fn taints(
    cluster: &ClusterContext,
    group: &MachineContext,
    control_plane: bool,
    path: &str,
) -> Result<Option<Vec<Taint>>, Error> {
    for taint in &group.taints {
        check_label(&taint.key, &taint.value)
            .map_err(|problem| Error::Value { path: format!("{path}.taints"), problem })?;
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
            return Err(Error::Value {
                path: format!("{path}.taints"),
                problem: format!("{:?} is no effect: use NoSchedule, PreferNoSchedule or NoExecute", taint.effect),
            });
        }
    }
    if !group.taints.is_empty() {
        return Ok(Some(group.taints.clone()));
    }
    // Where nothing else is there to run workloads, an empty list keeps kubeadm from tainting the control plane.
    Ok((control_plane && cluster.worker_pools.is_empty()).then(Vec::new))
}

fn kubelet_may_set(key: &str, domain: &str) -> bool {
    let reserved = within(domain, "kubernetes.io") || within(domain, "k8s.io");
    !reserved
        || KUBELET_LABELS.contains(&key)
        || within(domain, "kubelet.kubernetes.io")
        || within(domain, "node.kubernetes.io")
}

fn within(domain: &str, parent: &str) -> bool {
    domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

/// The rule for labels and taints: nothing in them can end a kubelet argument or a line of user data.
fn check_label(key: &str, value: &str) -> Result<(), String> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let part = |text: &str| {
        text.len() <= 63
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
            && text.bytes().next().is_none_or(|c| c.is_ascii_alphanumeric())
            && text.bytes().last().is_none_or(|c| c.is_ascii_alphanumeric())
    };
    let domain_ok = domain.is_none_or(|domain| {
        !domain.is_empty()
            && domain.len() <= 253
            && domain.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c))
    });
    if name.is_empty() || !part(name) || !domain_ok {
        return Err(format!(
            "{key:?} is no label key: letters, digits, '-', '_', '.', with an optional domain before '/'"
        ));
    }
    if !part(value) {
        return Err(format!("{value:?} of {key:?} is no label value: at most 63 letters, digits, '-', '_', '.'"));
    }
    Ok(())
}
