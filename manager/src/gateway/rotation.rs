//! What a person asked of the CA, carried out here: the key never leaves the parent, so the command line only asks.
//!
//! Secret `lattice-ca-rotation`: `wish.json` is written by `lattice-manager ca rotate`, `status.json` by this manager. It
//! also notices what others wrote to the Secrets that the gateway holds in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::ids::ClusterName;
use lattice_protocol::task::Kind;
use lattice_protocol::tls::hex;
use sha2::{Digest as _, Sha256};

use super::stop::Stop;
use super::{Shared, TunnelEvent};
use crate::store::ca;
use crate::store::ca::rotation::{RotationStatus, SECRET_NAME, STATUS, Standing, WISH, Wish};
use crate::store::identity::IdentityStore;
use crate::store::vault::{Contents, LABEL_HOLDS, Version};

/// How often the status is brought up to date while a rotation goes on.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a lost race for the status is tried again.
const RACES_MAX: usize = 3;

/// Which bundle the kubeconfig of each cluster carries.
#[derive(Debug, Default)]
pub(super) struct Kubeconfigs(Mutex<HashMap<ClusterName, String>>);

impl Kubeconfigs {
    pub(super) fn note(&self, cluster: &ClusterName, ca_pem: &str) {
        let hash = hex(&Sha256::digest(ca_pem.as_bytes()));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(cluster.clone(), hash);
    }

    pub(super) fn forget(&self, cluster: &ClusterName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }

    fn without(&self, bundle_sha256: &str) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter(|(_, held)| *held != bundle_sha256).map(|(cluster, _)| cluster.to_string()).collect()
    }
}

/// Follows the Secrets that the gateway holds in memory until `stop` asks to drain.
pub(super) fn follow(stop: &Stop, shared: Arc<Shared>) {
    let drain = stop.drain.clone();
    stop.spawn("gateway.secrets", Kind::Service, async move {
        let mut changes = shared.vault.changes();
        let mut worker = Worker::new(&shared);
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => return,
                changed = changes.next() => match changed {
                    Some(changed) if changed.name == ca::SECRET_NAME => worker.authority_changed().await,
                    Some(changed) if changed.name == SECRET_NAME => worker.look().await,
                    Some(changed) => worker.identity_changed(&changed.name, changed.version.as_ref()).await,
                    None => return drain.cancelled().await,
                },
                () = tokio::time::sleep(LOOK_EVERY) => worker.look_again().await,
            }
        }
    });
}

pub(super) struct Worker<'a> {
    shared: &'a Shared,
    /// The last wish that was carried out or refused, and the words for whoever asked: they must survive a lost race for the
    /// status.
    done: Option<(Wish, String)>,
    /// The status as it was written last.
    told: Option<RotationStatus>,
    /// Something was asked for, or could not be read or written, and waits for another try.
    open: bool,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, done: None, told: None, open: false }
    }

    async fn authority_changed(&self) {
        if let Err(error) = self.shared.authorities.refresh().await {
            tracing::error!(error = %error, "the certificate authority's Secret cannot be read");
        }
        // Kubeconfigs and enrolment Secrets carry the bundle: every cluster is looked at.
        for one in self.shared.identities.all_identified() {
            self.shared.events.send(TunnelEvent::CertificateChanged { uid: one.uid }).await;
        }
    }

    pub(super) async fn identity_changed(&self, name: &str, version: Option<&Version>) {
        let Some(uid) = IdentityStore::uid_in(name) else { return };
        match self.shared.identities.refresh(&uid, version).await {
            Ok(()) => self.shared.cut_unpinned(),
            Err(error) => tracing::error!(secret = name, error = %error, "an identity cannot be read again"),
        }
    }

    /// Brings the status up to date. While nothing was ever asked for, nothing is written; while nothing has moved, the
    /// parent's API is not asked.
    async fn look_again(&mut self) {
        let Some(told) = &self.told else { return };
        if self.open || *told != self.status(told.answers, told.outcome.clone()) {
            self.look().await;
        }
    }

    /// Reads the wish, carries it out if it is new, and says how things stand.
    pub(super) async fn look(&mut self) {
        self.open = true;
        for _ in 0..RACES_MAX {
            let entry = match self.shared.vault.read(SECRET_NAME).await {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    self.open = false;
                    return;
                }
                Err(error) => return tracing::warn!(error = %error, "the rotation's Secret cannot be read"),
            };
            let read = |key: &str| entry.contents.data.get(key).map(Vec::as_slice).unwrap_or_default();
            let wish: Option<Wish> = serde_json::from_slice(read(WISH)).ok();
            let stored: Option<RotationStatus> = serde_json::from_slice(read(STATUS)).ok();
            let outcome = self.carry_out(wish.as_ref(), stored.as_ref()).await;
            let answered = wish
                .as_ref()
                .filter(|wish| self.done.as_ref().is_some_and(|(done, _)| done == *wish))
                .map(|wish| wish.asked_at);
            let status = self.status(answered.or(stored.as_ref().and_then(|stored| stored.answers)), outcome);
            let open = wish.is_some_and(|wish| status.answers != Some(wish.asked_at));
            if stored.as_ref() == Some(&status) {
                return self.told(status, open);
            }
            let mut data: BTreeMap<String, Vec<u8>> = entry.contents.data.clone();
            data.insert(STATUS.to_owned(), serde_json::to_vec(&status).unwrap_or_default());
            let labels = BTreeMap::from([(LABEL_HOLDS.to_owned(), "ca-rotation".to_owned())]);
            match self.shared.vault.replace(SECRET_NAME, entry.version.clone(), Contents { labels, data }).await {
                Ok(_) => return self.told(status, open),
                Err(error) if error.is_conflict() => {}
                Err(error) => return tracing::warn!(error = %error, "the rotation's status cannot be written"),
            }
        }
    }

    fn told(&mut self, status: RotationStatus, open: bool) {
        (self.told, self.open) = (Some(status), open);
    }

    /// Takes the step that was asked for, once. The words are for whoever asked.
    async fn carry_out(&mut self, wish: Option<&Wish>, stored: Option<&RotationStatus>) -> String {
        let said = stored.map(|stored| stored.outcome.clone()).unwrap_or_default();
        let Some(wish) = wish else { return said };
        let answered = stored.is_some_and(|stored| stored.answers == Some(wish.asked_at));
        if answered {
            return said;
        }
        if let Some((_, words)) = self.done.as_ref().filter(|(done, _)| done == wish) {
            return words.clone();
        }
        let now = clock::now();
        let standing = self.standing();
        let (before, since) = self.shared.authorities.phase();
        if since >= wish.asked_at && before == wish.step.leads_to() {
            // A manager before this one took the step and died before it could say so.
            let words = format!("done: {}", wish.step);
            self.done = Some((wish.clone(), words.clone()));
            return words;
        }
        let mut taken = self.shared.authorities.step(wish.step, &standing, wish.told, now).await;
        if let Err(ca::Error::Store(error)) = &taken {
            let (after, _) = self.shared.authorities.phase();
            if after == before {
                // Not known to be done: it is looked at again.
                return format!("the parent's API failed: {error}");
            }
            // The answer was lost, the write was not.
            taken = Ok(after);
        }
        let words = match taken {
            Ok(phase) => {
                tracing::info!(step = %wish.step, phase = %phase, "the certificate authority's rotation goes on");
                format!("done: {}", wish.step)
            }
            Err(error) => {
                tracing::warn!(step = %wish.step, error = %error, "a step of the rotation was refused");
                format!("refused: {error}")
            }
        };
        self.done = Some((wish.clone(), words.clone()));
        words
    }

    /// How things stand, `answers` being the time of the wish that was answered last.
    fn status(&self, answers: Option<Timestamp>, outcome: String) -> RotationStatus {
        let (phase, since) = self.shared.authorities.phase();
        let authority = self.shared.authorities.present();
        RotationStatus {
            phase,
            since: clock::to_seconds(since),
            signing: authority.pin().to_string(),
            trusted: authority.bundle().certificates().len(),
            standing: self.standing(),
            answers,
            outcome,
        }
    }

    /// Who has not followed what is trusted and what signs now.
    fn standing(&self) -> Standing {
        let bundle = self.shared.authorities.present().bundle_sha256();
        let held = self.shared.identities.all_identified();
        let named = |lags: &dyn Fn(&crate::store::identity::Identified) -> bool| {
            let mut names: Vec<_> = held.iter().filter(|one| lags(one)).map(|one| one.cluster.to_string()).collect();
            names.sort();
            names
        };
        let mut kubeconfigs = self.shared.kubeconfigs.without(&bundle);
        kubeconfigs.sort();
        Standing {
            agents: named(&|one| one.trusts.as_deref() != Some(bundle.as_str())),
            certificates: named(&|one| one.of_another_ca),
            kubeconfigs,
        }
    }
}
