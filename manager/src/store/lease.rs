//! Leases of coordination.k8s.io, read and written by compare-and-swap.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use lattice_protocol::clock;

use super::{CALL_TIMEOUT, Certainty, Error};

/// One Lease, as a candidate sees it.
#[derive(Clone)]
pub struct LeaseRecord {
    api: Api<Lease>,
    name: String,
    holder: String,
    duration: Duration,
}

/// What a Lease said when it was read: whoever wrote it since makes the next write fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSeen {
    /// Who holds it; `None` when it was released.
    pub holder: Option<String>,
    /// How long a candidate must see no change before it may take it.
    pub duration: Duration,
    version: String,
    renewed: Option<Timestamp>,
    acquired: Option<MicroTime>,
    transitions: i32,
}

impl LeaseSeen {
    /// When its holder renewed it last, or gave it up.
    pub fn renewed_at(&self) -> Option<Timestamp> {
        self.renewed
    }
}

impl std::fmt::Debug for LeaseRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseRecord").field("name", &self.name).field("holder", &self.holder).finish_non_exhaustive()
    }
}

impl LeaseRecord {
    /// Names a Lease and who wants it.
    pub fn new(client: Client, namespace: &str, name: &str, holder: &str, duration: Duration) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), holder: holder.to_owned(), duration }
    }

    /// Who this candidate is.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Reads the Lease.
    pub async fn read(&self) -> Result<Option<LeaseSeen>, Error> {
        Ok(self.call("read", Certainty::NotDone, self.api.get_opt(&self.name)).await?.map(seen))
    }

    /// Creates the Lease, held by this candidate.
    pub async fn create(&self) -> Result<LeaseSeen, Error> {
        let now = MicroTime(clock::now());
        let lease = self.lease(None, Some(now.clone()), now, 0);
        Ok(seen(self.call("create", Certainty::MaybeDone, self.api.create(&PostParams::default(), &lease)).await?))
    }

    /// Takes or renews the Lease, if it is still as `last` saw it.
    pub async fn renew(&self, last: &LeaseSeen) -> Result<LeaseSeen, Error> {
        let now = MicroTime(clock::now());
        let lease = if last.holder.as_deref() == Some(&self.holder) {
            self.lease(Some(&last.version), last.acquired.clone(), now, last.transitions)
        } else {
            self.lease(Some(&last.version), Some(now.clone()), now, last.transitions.saturating_add(1))
        };
        self.replace(&lease).await
    }

    /// Gives the Lease up, so that the next candidate need not wait.
    pub async fn release(&self, last: &LeaseSeen) -> Result<LeaseSeen, Error> {
        let mut lease =
            self.lease(Some(&last.version), last.acquired.clone(), MicroTime(clock::now()), last.transitions);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        self.replace(&lease).await
    }

    async fn replace(&self, lease: &Lease) -> Result<LeaseSeen, Error> {
        let params = PostParams::default();
        let call = self.api.replace(&self.name, &params, lease);
        Ok(seen(self.call("renew", Certainty::MaybeDone, call).await?))
    }

    fn lease(&self, version: Option<&str>, acquired: Option<MicroTime>, renewed: MicroTime, transitions: i32) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.clone()),
                lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
                acquire_time: acquired,
                renew_time: Some(renewed),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        certainty: Certainty,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        let object = format!("Lease {}", self.name);
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| Error::from_kube(verb, &object, error, certainty)),
            Err(_) => Err(Error::timeout(verb, &object, certainty)),
        }
    }
}

fn seen(lease: Lease) -> LeaseSeen {
    let version = lease.resource_version().unwrap_or_default();
    let spec = lease.spec.unwrap_or_default();
    LeaseSeen {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: Duration::from_secs(spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(15)),
        version,
        renewed: spec.renew_time.map(|at| at.0),
        acquired: spec.acquire_time,
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

#[cfg(test)]
impl LeaseSeen {
    /// A Lease as a test wants it seen.
    pub(crate) fn for_tests(holder: Option<&str>, version: &str) -> Self {
        Self {
            holder: holder.map(str::to_owned),
            duration: Duration::from_secs(15),
            version: version.to_owned(),
            renewed: None,
            acquired: None,
            transitions: 0,
        }
    }
}
