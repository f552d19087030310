//! Looks after clusters whose actors are left alone: shows why, and takes them apart when they are deleted.
//!
//! It does what the cluster's actor does, one step at a time, apart from any actor and with each panic caught, and for a
//! cluster that is not being deleted it starts no effect at all.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kube::ResourceExt;
use lattice_protocol::clock;
use lattice_protocol::task::{self, Kind as TaskKind};

use crate::actor::catalog::evaluate;
use crate::actor::crew::Crew;
use crate::actor::facts::{self, Sources};
use crate::api::condition::READY;
use crate::api::{ConditionStatus, Conditions, LatticeCluster, LatticeClusterStatus, Reason};
use crate::lifecycle::{self, Quarantine, State};
use crate::perform::Subject;

/// Pause between two steps of a deletion that waits.
const STEP_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Shortest pause.
const STEP_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The clusters that are looked after.
#[derive(Debug, Default)]
pub struct Wardens(Mutex<BTreeMap<String, Ward>>);

#[derive(Debug, Default)]
struct Ward {
    busy: bool,
    /// Something changed while a step was being taken, which may not have seen it.
    missed: bool,
    state: State,
}

impl Wardens {
    /// Takes one step with a cluster; when one is being taken, another follows it.
    pub(super) fn step(&self, crew: &Arc<Crew>, cluster: Arc<LatticeCluster>, why: Quarantine) {
        let name = cluster.name_any();
        let state = {
            let mut wards = self.lock();
            let ward = wards.entry(name.clone()).or_default();
            if std::mem::replace(&mut ward.busy, true) {
                ward.missed = true;
                return;
            }
            ward.state.clone()
        };
        let crew = crew.clone();
        let _runtime = crew.stage.enter();
        let stepping = crew.clone();
        task::spawn("warden", TaskKind::Request, async move {
            let step = AssertUnwindSafe(step(&stepping, cluster.clone(), &why, state)).catch_unwind().await;
            let (state, pause) = match step {
                Ok(stepped) => stepped,
                Err(_) => {
                    show_by_hand(&stepping, &cluster, &why).await;
                    (State::default(), None)
                }
            };
            if stepping.wardens.done(&name, state) {
                stepping.attention.mark(&name);
            } else if let Some(pause) = pause {
                tokio::time::sleep(pause.clamp(STEP_PAUSE_MIN, STEP_PAUSE_MAX)).await;
                stepping.attention.mark(&name);
            }
        });
    }

    /// Forgets a cluster.
    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Notes the end of a step; true when something was missed meanwhile.
    fn done(&self, name: &str, state: State) -> bool {
        self.lock().get_mut(name).is_some_and(|ward| {
            ward.busy = false;
            ward.state = state;
            std::mem::take(&mut ward.missed)
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Ward>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides, writes the status when it differs, carries out what a deletion asks for, one effect after the other.
async fn step(crew: &Crew, cluster: Arc<LatticeCluster>, why: &Quarantine, state: State) -> (State, Option<Duration>) {
    let provider = crew.performer.cache.provider(&cluster.spec.provider_ref);
    let Some(subject) = Subject::new(cluster.clone(), provider) else { return (state, None) };
    let sources = Sources {
        cache: &crew.performer.cache,
        gateway: &crew.performer.gateway,
        agent: crew.agents.facts(&subject.uid),
        catalog: Arc::new(evaluate(&crew.performer, &subject, crew.agents.kubernetes(&subject.uid).as_deref())),
        started_at: crew.started_at,
        after_absence: crew.after_absence,
        quarantine: Some(why.clone()),
    };
    let facts = facts::gather(cluster.clone(), &subject.name, sources);
    let decision = lifecycle::decide(&state, &facts, clock::now());
    crate::actor::trace::export_ended(&crew.exporter, &cluster, cluster.status.as_ref(), &decision.status, false);
    write(crew, &cluster, &decision.status).await;
    let mut state = decision.state;
    let busy = !decision.effects.is_empty();
    for effect in decision.effects {
        let outcome = crew.performer.perform(&effect.kind, &subject).await;
        state.finish(&effect, outcome, clock::now());
    }
    let deleting = cluster.metadata.deletion_timestamp.is_some();
    let pause = if busy { Some(Duration::ZERO) } else { decision.requeue };
    (state, pause.filter(|_| deleting))
}

/// When even the decision panics: the truth, without it.
async fn show_by_hand(crew: &Crew, cluster: &Arc<LatticeCluster>, why: &Quarantine) {
    let mut status = cluster.status.clone().unwrap_or_default();
    let mut conditions = Conditions::from_stored(&status.conditions);
    let generation = cluster.metadata.generation;
    conditions.set(READY, ConditionStatus::False, Reason::Quarantined, &*why.message, generation, clock::now());
    status.conditions = conditions.into_stored();
    status.message = Some(format!("Left alone until the spec changes: {}", why.message));
    write(crew, cluster, &status).await;
}

async fn write(crew: &Crew, cluster: &Arc<LatticeCluster>, status: &LatticeClusterStatus) {
    if cluster.status.as_ref() == Some(status) {
        return;
    }
    match crew.performer.store.write_status(&**cluster, status).await {
        Ok(mut stored) => {
            crew.metrics.status_written();
            stored.metadata.managed_fields = None;
            crew.performer.cache.put_cluster(stored);
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => {
            tracing::warn!(
                cluster.name = cluster.name_any(),
                error = &error as &dyn std::error::Error,
                "status was not written"
            );
        }
    }
}
