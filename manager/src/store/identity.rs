//! Who may speak for a cluster: join tokens, the certificates that are in force, and revocation.
//!
//! One Secret `lattice-identity-<uid>` per cluster. [`record`] holds the rules, pure; here each of their outcomes is
//! written by compare-and-swap before any answer leaves.
//!
//! **Guarantees**: at most one signing request of a cluster is ever honoured by its join token; a repeated one gets the
//! same certificate. **Assumption**: only the manager that holds the Lease writes, so what was read once is current; a
//! lost race reads again. **Invariant**: the text of a token is never stored, only its hash.

mod holding;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::reason::Reason;
use lattice_protocol::tls::{Identity, Serial};
use lattice_protocol::token::JoinToken;

pub use self::holding::{Asked, Identified, Renewed, let_in};
use self::record::{Admission, Record};
pub use self::record::{Refusal, Unpinned};
use super::ca::{self, Authorities, SigningRequest};
use super::vault::{Contents, Entry, LABEL_HOLDS, Vault, Version};

/// What [`LABEL_HOLDS`] says on these Secrets.
const HOLDS: &str = "identity";
const KEY_RECORD: &str = "identity.json";
/// How often a lost race is read again. Every race that we lose was won by somebody, so few rounds suffice.
const RACES_MAX: usize = 8;

/// Why an identity could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parent's API failed.
    #[error(transparent)]
    Store(#[from] super::Error),
    /// The Secret's content is not what this version writes.
    #[error("secret {name} holds no identity that this version can read")]
    Unreadable {
        /// Which Secret.
        name: String,
        /// The parser's words.
        #[source]
        source: serde_json::Error,
    },
    /// The CA did not sign.
    #[error(transparent)]
    Sign(#[from] ca::Error),
    /// The asker may not have what it asks for.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    /// The reason that a condition shows for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Store(error) => error.reason(),
            Self::Unreadable { .. } | Self::Sign(_) => Reason::InternalError,
            Self::Refused(_) => Reason::EnrolmentRefused,
        }
    }
}

/// How the join token of a cluster stands.
#[derive(Debug)]
pub enum TokenStanding {
    /// The delivered token is the one that is stored, and nobody has used it.
    Kept,
    /// A new token was made and its hash stored: deliver it.
    Minted(JoinToken),
    /// The token was used; the delivered one can be blanked.
    Spent,
}

/// What an agent gets when it enrols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The cluster that it speaks for from now on.
    pub uid: ClusterUid,
    /// The chain, leaf first.
    pub chain_pem: String,
    /// Serial of the leaf.
    pub serial: Serial,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Which certificate of the identity it is: the agent keeps the number.
    pub sequence: u64,
    /// The same answer was given before.
    pub repeated: bool,
}

/// All identities of this parent.
#[derive(Debug)]
pub struct IdentityStore {
    vault: Arc<dyn Vault>,
    ca: Arc<Authorities>,
    held: Mutex<HashMap<ClusterUid, Held>>,
    /// Changes of one identity follow each other in this process, so that what is held never goes back.
    turns: Mutex<HashMap<ClusterUid, Arc<Turn>>>,
}

type Turn = tokio::sync::Mutex<()>;

#[derive(Clone, Debug)]
struct Held {
    record: Record,
    version: Version,
    /// A write came back unsure: read before the next one.
    stale: bool,
}

impl IdentityStore {
    /// Reads every identity. A Secret that cannot be read is logged and left out: its agent is refused, the others go on.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn open(vault: Arc<dyn Vault>, ca: Arc<Authorities>) -> Result<Self, Error> {
        let mut held = HashMap::new();
        for entry in vault.list(HOLDS).await? {
            match Held::from_entry(&entry) {
                Ok(found) => drop(held.insert(found.record.uid.clone(), found)),
                Err(error) => tracing::error!(secret = entry.name, error = %error, "an identity cannot be read"),
            }
        }
        Ok(Self { vault, ca, held: Mutex::new(held), turns: Mutex::default() })
    }

    /// Sees to it that the cluster has a join token, unless one was used. `delivered` is the token that its nodes will
    /// find; when it is not the stored one, a new one replaces both.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Refusal::Revoked`] for a cluster that is being deleted.
    pub async fn ensure_token(
        &self,
        cluster: &ClusterName,
        uid: &ClusterUid,
        delivered: Option<&JoinToken>,
        now: Timestamp,
    ) -> Result<TokenStanding, Error> {
        self.change(uid, |record| {
            let mut next = record.cloned().unwrap_or_else(|| Record::new(cluster, uid));
            let standing = next.ensure_token(delivered, now)?;
            Ok((Some(next), standing))
        })
        .await
    }

    /// Tells whose token it is, without using it up.
    ///
    /// # Errors
    /// [`Refusal`], one and the same for an unknown cluster, a wrong token and an expired one.
    pub fn check_token(&self, cluster: &ClusterName, token: &JoinToken, now: Timestamp) -> Result<ClusterUid, Refusal> {
        let record = self.by_name(cluster).ok_or(Refusal::Token)?;
        record.check_token(token, now)?;
        Ok(record.uid)
    }

    /// Gives the holder of a join token its certificate.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::Store`] or [`Error::Sign`], after which the same request may be sent again.
    pub async fn enrol(
        &self,
        cluster: &ClusterName,
        token: &JoinToken,
        request: &SigningRequest,
        kube_system_uid: &str,
        now: Timestamp,
    ) -> Result<Enrolled, Error> {
        let uid = self.by_name(cluster).ok_or(Refusal::Token)?.uid;
        let leased = self
            .change(&uid, |record| {
                let mut next = record.cloned().ok_or(Refusal::Token)?;
                let admission = next.admit(token, request, kube_system_uid, now)?;
                Ok((Some(next), admission))
            })
            .await?;
        if let Admission::Again(certificate) = leased {
            return Ok(enrolled(&uid, certificate, true));
        }
        let ca = self.ca.present();
        let issued = ca.certify_agent(request, ca.fleet().agent(&uid), now).await?;
        let certificate = self
            .change(&uid, |record| {
                let mut next = record.cloned().ok_or(Refusal::Token)?;
                let certificate = next.settle(request, &issued)?;
                Ok((Some(next), certificate))
            })
            .await?;
        let repeated = certificate.serial != issued.serial;
        Ok(enrolled(&uid, certificate, repeated))
    }

    /// Tells which cluster a certificate speaks for, if it is one that is in force.
    ///
    /// # Errors
    /// [`Unpinned`] says why it is not.
    pub fn pinned(&self, identity: &Identity) -> Result<(ClusterUid, ClusterName), Unpinned> {
        let uid = identity.id.cluster().ok_or(Unpinned::UnknownCluster)?;
        let held = self.lock();
        let record = &held.get(uid).ok_or(Unpinned::UnknownCluster)?.record;
        record.pinned(&identity.serial)?;
        Ok((uid.clone(), record.cluster.clone()))
    }

    fn turn(&self, uid: &ClusterUid) -> Arc<Turn> {
        Arc::clone(self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(uid.clone()).or_default())
    }

    /// The uid that a name stands for, where the cluster has an identity.
    pub fn uid_of(&self, cluster: &ClusterName) -> Option<ClusterUid> {
        self.by_name(cluster).map(|record| record.uid)
    }

    /// Takes a cluster's identity away: its token and its certificates mean nothing from here on. Fine when it has none.
    ///
    /// # Errors
    /// [`Error::Store`]; the identity may then still be in force.
    pub async fn revoke(&self, uid: &ClusterUid, now: Timestamp) -> Result<(), Error> {
        self.change(uid, |record| {
            let next = record.cloned().map(|mut record| {
                record.revoke(now);
                record
            });
            Ok((next, ()))
        })
        .await
    }

    /// Forgets a cluster, once nothing of it is left.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn forget(&self, uid: &ClusterUid) -> Result<(), Error> {
        let turn = self.turn(uid);
        let _turn = turn.lock().await;
        self.vault.delete(&secret_name(uid)).await?;
        self.lock().remove(uid);
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        Ok(())
    }

    /// Applies `step` to the record and writes its outcome; after a lost race or an unsure write it is applied to what
    /// is there then. A step without a change writes nothing.
    async fn change<T>(
        &self,
        uid: &ClusterUid,
        step: impl Fn(Option<&Record>) -> Result<(Option<Record>, T), Refusal>,
    ) -> Result<T, Error> {
        let turn = self.turn(uid);
        let _turn = turn.lock().await;
        let mut seen = self.lock().get(uid).cloned();
        if seen.as_ref().is_some_and(|held| held.stale) {
            seen = self.read(uid).await?;
        }
        let mut round = 0;
        loop {
            round += 1;
            let (next, outcome) = step(seen.as_ref().map(|held| &held.record))?;
            let Some(next) = next.filter(|next| seen.as_ref().is_none_or(|held| held.record != *next)) else {
                return Ok(outcome);
            };
            match self.write(uid, seen.as_ref(), &next).await {
                Ok(()) => return Ok(outcome),
                // A Secret that vanished under a replace is a lost race as well.
                Err(Error::Store(error)) if round < RACES_MAX && (error.is_conflict() || error.is_not_found()) => {}
                Err(error) => {
                    self.mark_stale(uid, &next);
                    return Err(error);
                }
            }
            seen = self.read(uid).await?;
        }
    }

    async fn write(&self, uid: &ClusterUid, seen: Option<&Held>, next: &Record) -> Result<(), Error> {
        let name = secret_name(uid);
        let contents = contents(next)?;
        let version = match seen {
            None => self.vault.create(&name, contents).await?,
            Some(held) => self.vault.replace(&name, held.version.clone(), contents).await?,
        };
        self.lock().insert(uid.clone(), Held { record: next.clone(), version, stale: false });
        Ok(())
    }

    /// After a write of which nobody knows whether it was done. A revocation counts at once, whatever became of it.
    fn mark_stale(&self, uid: &ClusterUid, wanted: &Record) {
        if let Some(held) = self.lock().get_mut(uid) {
            held.stale = true;
            if wanted.is_revoked() {
                held.record = wanted.clone();
            }
        }
    }

    async fn read(&self, uid: &ClusterUid) -> Result<Option<Held>, Error> {
        let found = self.vault.read(&secret_name(uid)).await?;
        let found = found.map(|entry| Held::from_entry(&entry)).transpose()?;
        let mut held = self.lock();
        match &found {
            Some(found) => drop(held.insert(uid.clone(), found.clone())),
            None => drop(held.remove(uid)),
        }
        Ok(found)
    }

    /// Of a deleted cluster and a new one with its name, the one that is not revoked counts.
    fn by_name(&self, cluster: &ClusterName) -> Option<Record> {
        let held = self.lock();
        let mut named = held.values().map(|held| &held.record).filter(|record| record.cluster == *cluster);
        let first = named.next()?;
        Some(named.fold(first, |best, next| if best.is_revoked() { next } else { best }).clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterUid, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn from_entry(entry: &Entry) -> Result<Self, Error> {
        let bytes = entry.contents.data.get(KEY_RECORD).map_or(&[][..], Vec::as_slice);
        let record =
            serde_json::from_slice(bytes).map_err(|source| Error::Unreadable { name: entry.name.clone(), source })?;
        Ok(Self { record, version: entry.version.clone(), stale: false })
    }
}

fn secret_name(uid: &ClusterUid) -> String {
    format!("lattice-identity-{uid}")
}

fn contents(record: &Record) -> Result<Contents, Error> {
    let bytes =
        serde_json::to_vec(record).map_err(|source| Error::Unreadable { name: secret_name(&record.uid), source })?;
    Ok(Contents {
        labels: BTreeMap::from([
            (LABEL_HOLDS.to_owned(), HOLDS.to_owned()),
            ("lattice.dev/cluster-uid".to_owned(), record.uid.to_string()),
            ("cluster.x-k8s.io/cluster-name".to_owned(), record.cluster.to_string()),
        ]),
        data: BTreeMap::from([(KEY_RECORD.to_owned(), bytes)]),
    })
}

fn enrolled(uid: &ClusterUid, certificate: record::Certificate, repeated: bool) -> Enrolled {
    let record::Certificate { chain_pem, serial, not_after, sequence } = certificate;
    Enrolled { uid: uid.clone(), chain_pem, serial, not_after, sequence, repeated }
}

#[cfg(test)]
mod tests;
