//! Faults that a person may set: their SPEC, and the set of those that hold.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What `sandbox fault --help` says about SPEC.
pub const HELP: &str = "\
SPEC is a comma-separated list of key=value. Every SPEC names a cluster; the rest says what goes wrong there:

  cluster=X,kind=DaemonSet,name=N,ready=3      the workload N never has more than 3 ready pods
  cluster=X,kind=Deployment,name=N,pull=fail   the image of new pods of N cannot be pulled
        kind is DaemonSet, Deployment or StatefulSet; namespace=NS narrows it when two share a name
  cluster=X,node=N,join=never                  kubeadm join on machine N never gets through: it hangs until this is cleared
        N is the whole name of a Machine, a part of it that ends at a dash (backend-default), or its number: the
        1st, 2nd … machine of the cluster in order of appearance
  cluster=X,infrastructure=stall               the infrastructure of the cluster is never ready
        infrastructure=stall,node=N narrows it to one machine
  cluster=X,uplink=down                        nothing on the cluster's nodes reaches the parent, as behind a dead line
  cluster=X,agent=kill                         kills the agent's process once (SIGKILL), now or as soon as it runs
  cluster=X,actor=panic                        the manager's actor for X panics each time that it looks

A fault holds until it is cleared, except agent=kill, which is over once done. Clearing lets things heal with no restart.

Examples:
  lattice-manager sandbox fault set cluster=backend,kind=DaemonSet,name=ztunnel,ready=3
  lattice-manager sandbox fault clear cluster=backend,kind=DaemonSet,name=ztunnel,ready=3
  lattice-manager sandbox fault list";

/// One thing that goes wrong in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Name of the cluster.
    pub cluster: String,
    /// What goes wrong.
    pub what: What,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A workload never has more than so many ready pods.
    ReadyCap {
        /// The workload.
        workload: Workload,
        /// Most pods that become ready.
        ready: u32,
    },
    /// Images of a workload's new pods cannot be pulled.
    PullFails {
        /// The workload.
        workload: Workload,
    },
    /// `kubeadm join` hangs on a machine.
    JoinNever {
        /// Which machine.
        node: String,
    },
    /// Infrastructure is never ready: of the cluster, or of one machine.
    InfrastructureStall {
        /// Which machine; the whole cluster's when none.
        node: Option<String>,
    },
    /// Nothing on the nodes reaches the parent.
    UplinkDown,
    /// The agent's process is killed once.
    AgentKill,
    /// The manager's actor for the cluster panics.
    ActorPanic,
}

/// Names a workload of the child.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// `DaemonSet`, `Deployment` or `StatefulSet`.
    pub kind: String,
    /// Any namespace when none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// Why a text is no SPEC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A part without `=`, or with an empty side.
    #[error("{0:?} is not of the form key=value")]
    NotKeyValue(String),
    /// A key twice.
    #[error("{0:?} is given twice")]
    Twice(String),
    /// A key that no fault has.
    #[error("{0:?} is no key of a fault; see `lattice-manager sandbox fault --help`")]
    UnknownKey(String),
    /// A value that the key cannot have.
    #[error("{key}={value} is not possible: use {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        wanted: &'static str,
    },
    /// A key that must be there is not.
    #[error("{0}= is missing")]
    Missing(&'static str),
    /// No key says what goes wrong.
    #[error(
        "nothing goes wrong in it: add one of ready=, pull=fail, join=never, infrastructure=stall, uplink=down, agent=kill, actor=panic"
    )]
    Nothing,
    /// Keys that do not belong together.
    #[error("{0:?} does not go with the rest of the fault")]
    Surplus(String),
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut keys = Keys::parse(text)?;
        let cluster = keys.need("cluster")?;
        let what = what(&mut keys)?;
        match keys.0.into_keys().next() {
            Some(key) => Err(Error::Surplus(key)),
            None => Ok(Self { cluster, what }),
        }
    }
}

/// Takes from `keys` what the fault is about.
fn what(keys: &mut Keys) -> Result<What, Error> {
    if let Some(text) = keys.take("ready") {
        let ready = text.parse().map_err(|_| Error::Value { key: "ready", value: text, wanted: "a whole number" })?;
        return Ok(What::ReadyCap { workload: keys.workload()?, ready });
    }
    if keys.only("pull", "fail")? {
        return Ok(What::PullFails { workload: keys.workload()? });
    }
    if keys.only("join", "never")? {
        return Ok(What::JoinNever { node: keys.need("node")? });
    }
    if keys.only("infrastructure", "stall")? {
        return Ok(What::InfrastructureStall { node: keys.take("node") });
    }
    if keys.only("uplink", "down")? {
        return Ok(What::UplinkDown);
    }
    if keys.only("agent", "kill")? {
        return Ok(What::AgentKill);
    }
    if keys.only("actor", "panic")? {
        return Ok(What::ActorPanic);
    }
    Err(Error::Nothing)
}

/// The parts of a SPEC that nobody has taken yet.
struct Keys(BTreeMap<String, String>);

impl Keys {
    const ALL: [&str; 12] = [
        "cluster",
        "kind",
        "namespace",
        "name",
        "ready",
        "pull",
        "node",
        "join",
        "infrastructure",
        "uplink",
        "agent",
        "actor",
    ];

    fn parse(text: &str) -> Result<Self, Error> {
        let mut keys = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .filter(|(key, value)| !key.is_empty() && !value.is_empty())
                .ok_or_else(|| Error::NotKeyValue(part.to_owned()))?;
            if !Self::ALL.contains(&key) {
                return Err(Error::UnknownKey(key.to_owned()));
            }
            if keys.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(Error::Twice(key.to_owned()));
            }
        }
        Ok(Self(keys))
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    fn need(&mut self, key: &'static str) -> Result<String, Error> {
        self.take(key).ok_or(Error::Missing(key))
    }

    /// Whether `key` is there, with the one value that it can have.
    fn only(&mut self, key: &'static str, wanted: &'static str) -> Result<bool, Error> {
        match self.take(key) {
            None => Ok(false),
            Some(value) if value == wanted => Ok(true),
            Some(value) => Err(Error::Value { key, value, wanted }),
        }
    }

    fn workload(&mut self) -> Result<Workload, Error> {
        let kind = self.need("kind")?;
        if !["DaemonSet", "Deployment", "StatefulSet"].contains(&kind.as_str()) {
            return Err(Error::Value { key: "kind", value: kind, wanted: "DaemonSet, Deployment or StatefulSet" });
        }
        Ok(Workload { kind, namespace: self.take("namespace"), name: self.need("name")? })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster={},{}", self.cluster, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::ReadyCap { workload, ready } => write!(f, "{workload},ready={ready}"),
            What::PullFails { workload } => write!(f, "{workload},pull=fail"),
            What::JoinNever { node } => write!(f, "node={node},join=never"),
            What::InfrastructureStall { node: Some(node) } => write!(f, "node={node},infrastructure=stall"),
            What::InfrastructureStall { node: None } => f.write_str("infrastructure=stall"),
            What::UplinkDown => f.write_str("uplink=down"),
            What::AgentKill => f.write_str("agent=kill"),
            What::ActorPanic => f.write_str("actor=panic"),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kind={}", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, ",namespace={namespace}")?;
        }
        write!(f, ",name={}", self.name)
    }
}

#[cfg(test)]
mod tests;
