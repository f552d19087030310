//! All components that are held, and the way in for new bundles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lattice_protocol::task::{self, Kind};
use lattice_protocol::telemetry::{Exporter, Traceparent};
use lattice_protocol::v1::apply_response::Outcome;
use lattice_protocol::v1::component_report::State;
use lattice_protocol::v1::{ApplyRequest, ComponentReport, Gate, RemoveRequest};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::sync::CancellationToken;

use super::bundle::{self, Bundle, Refused};
use super::guard::Guard;
use super::ledger::Ledger;
use super::object::Key;
use super::prune;
use super::record::{Record, Store};
use super::worker::{Desired, Worker};
use super::{Board, Error};
use crate::backoff::Backoff;
use crate::gate;
use crate::notice::Notices;
use crate::observe::{self, Kind as Watched, Observed, Observer, Scope};

/// Waits between tries to read the records when the agent starts.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What every worker shares. Clones share it.
#[derive(Clone)]
pub struct Context {
    pub(super) client: kube::Client,
    pub(super) api: observe::Api,
    pub(super) observed: Observed,
    pub(super) board: Board,
    pub(super) notices: Notices,
    pub(super) exporter: Exporter,
    pub(super) store: Store,
    pub(super) guard: Guard,
    inventories: Arc<Mutex<BTreeMap<String, BTreeSet<Key>>>>,
    wanted: Arc<Mutex<Wanted>>,
}

/// Which gates of whom need which watches.
#[derive(Debug)]
struct Wanted {
    observer: Observer,
    by_component: BTreeMap<String, BTreeSet<Scope>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("board", &self.board).finish_non_exhaustive()
    }
}

impl Context {
    /// Puts together what workers need. Nodes are watched from here on.
    pub fn new(
        client: kube::Client,
        namespace: &str,
        observed: Observed,
        api: observe::Api,
        notices: Notices,
        exporter: Exporter,
        stop: &CancellationToken,
    ) -> Self {
        let observer = Observer::new(client.clone(), observed.clone(), stop.clone());
        let context = Self {
            store: Store::new(client.clone(), namespace),
            guard: Guard::new(client.clone(), api.clone(), stop.clone()),
            board: Board::default(),
            inventories: Arc::default(),
            wanted: Arc::new(Mutex::new(Wanted { observer, by_component: BTreeMap::new() })),
            client,
            api,
            observed,
            notices,
            exporter,
        };
        context.want("", &[]);
        context
    }

    /// The state of every component.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Watches what the gates of a component need, beside what others need.
    pub(super) fn want(&self, component: &str, gates: &[Gate]) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.by_component.insert(component.to_owned(), gates.iter().flat_map(gate::needs).collect());
        let mut all: BTreeSet<_> = wanted.by_component.values().flatten().cloned().collect();
        all.insert(Scope::cluster(Watched::Node));
        wanted.observer.want(&all);
    }

    /// Whether another component's inventory names the object too.
    pub(super) fn is_held_elsewhere(&self, component: &str, key: &Key) -> bool {
        let inventories = self.inventories.lock().unwrap_or_else(PoisonError::into_inner);
        inventories.iter().any(|(other, keys)| other != component && keys.iter().any(|held| held.is_same_object(key)))
    }

    pub(super) fn note_inventory(&self, component: &str, keys: Option<BTreeSet<Key>>) {
        let mut inventories = self.inventories.lock().unwrap_or_else(PoisonError::into_inner);
        match keys {
            Some(keys) => drop(inventories.insert(component.to_owned(), keys)),
            None => drop(inventories.remove(component)),
        }
    }
}

/// Why a command was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What is held is not known yet.
    #[error("the agent is still reading what it holds")]
    NotLoaded,
    /// The bundle cannot be right.
    #[error(transparent)]
    Bundle(#[from] Refused),
    /// It could not be recorded on the child.
    #[error("the bundle could not be recorded")]
    Record(#[from] Error),
    /// It was decided under an older ownership epoch.
    #[error("epoch {0} is older than {1}")]
    Epoch(u64, u64),
}

type Workers = BTreeMap<String, Handle>;

/// A running worker.
#[derive(Debug)]
struct Handle {
    desired: watch::Sender<Desired>,
    ledger: Ledger,
}

/// Takes bundles and runs a worker for each component. Clones share it.
#[derive(Clone, Debug)]
pub struct Engine {
    context: Context,
    workers: Arc<AsyncMutex<Workers>>,
    stop: CancellationToken,
}

impl Engine {
    /// Holds nothing yet; see [`Engine::load`].
    pub fn new(context: Context, stop: CancellationToken) -> Self {
        Self { context, workers: Arc::default(), stop }
    }

    /// The state of every component.
    pub fn board(&self) -> Board {
        self.context.board()
    }

    /// Reads what is held on the child and goes on with it; tries until that succeeds.
    pub async fn load(&self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut workers = self.workers.lock().await;
        let records = loop {
            match self.context.store.load_all().await {
                Ok(records) => break records,
                Err(error) => {
                    tracing::warn!(error = %crate::dial::chain(&error), "what is held cannot be read");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        };
        self.context.board.loaded(records.iter().map(|record| record.component.clone()));
        for record in records {
            self.start(&mut workers, record, None);
        }
    }

    /// Takes a bundle, or says why not.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn apply(
        &self,
        request: ApplyRequest,
        traceparent: Option<Traceparent>,
    ) -> Result<(Outcome, String), Refusal> {
        bundle::check_name(&request.component)?;
        let mut workers = self.loaded().await?;
        let ledger = workers.get(&request.component).map(|worker| worker.ledger.clone());
        let mut held = match &ledger {
            Some(ledger) => Some(ledger.lock().await),
            None => None,
        };
        let known = held.as_deref().map(Record::held);
        let (outcome, message) = bundle::decide(known.as_ref(), &request);
        if outcome != Outcome::Accepted {
            return Ok((outcome, message));
        }
        let bundle = Arc::new(Bundle::read(request.clone(), traceparent)?);
        let mut record = Record {
            component: request.component.clone(),
            digest: request.digest.clone(),
            revision: request.revision,
            epoch: request.epoch,
            version: request.version.clone(),
            traceparent,
            removing: false,
            settled: false,
            broken: false,
            ..held.as_deref().cloned().unwrap_or_default()
        };
        record.set_keys(prune::superset(&record.keys(), &bundle.objects));
        record.pieces = self.context.store.keep_bundle(&record, &request).await?;
        self.context.store.keep(&record).await?;
        if let Some(held) = held.as_deref_mut() {
            held.clone_from(&record);
        }
        drop(held);
        self.start(&mut workers, record, Some(bundle));
        Ok((Outcome::Accepted, String::new()))
    }

    /// Removes a component; content with one that is not held.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn remove(&self, request: RemoveRequest) -> Result<(), Refusal> {
        bundle::check_name(&request.component)?;
        let mut workers = self.loaded().await?;
        let Some(ledger) = workers.get(&request.component).map(|worker| worker.ledger.clone()) else {
            let component = request.component;
            self.context.board.post(ComponentReport { component, state: State::Removed.into(), ..Default::default() });
            return Ok(());
        };
        let mut held = ledger.lock().await;
        if request.epoch < held.epoch {
            return Err(Refusal::Epoch(request.epoch, held.epoch));
        }
        let record = Record { removing: true, prune_crds: request.prune_crds, epoch: request.epoch, ..(*held).clone() };
        self.context.store.keep(&record).await?;
        held.clone_from(&record);
        drop(held);
        self.start(&mut workers, record, None);
        Ok(())
    }

    async fn loaded(&self) -> Result<tokio::sync::MutexGuard<'_, Workers>, Refusal> {
        if self.context.board.follow().borrow().loaded {
            Ok(self.workers.lock().await)
        } else {
            Err(Refusal::NotLoaded)
        }
    }

    /// Gives a worker its desire, starting it if need be.
    fn start(&self, workers: &mut Workers, record: Record, bundle: Option<Arc<Bundle>>) {
        let component = record.component.clone();
        self.context.note_inventory(&component, Some(record.keys()));
        let desired = Desired { record: record.clone(), bundle };
        if let Some(worker) = workers.get(&component) {
            worker.desired.send_replace(desired);
            return;
        }
        let (sender, receiver) = watch::channel(desired);
        let ledger = Ledger::new(self.context.store.clone(), record);
        workers.insert(component.clone(), Handle { desired: sender, ledger: ledger.clone() });
        task::spawn("apply.component", Kind::Service, self.clone().supervise(component, ledger, receiver));
    }

    /// Runs a component's worker, and another one when it panicked, until the component is removed.
    async fn supervise(self, component: String, ledger: Ledger, receiver: watch::Receiver<Desired>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let worker = Worker::new(self.context.clone(), ledger.clone(), receiver.clone());
            let stop = self.stop.clone();
            let worker = task::spawn("apply.worker", Kind::Request, async move {
                // Boxed: it is large, and would be copied on its way into the task.
                stop.run_until_cancelled(Box::pin(worker.run())).await;
            });
            if worker.await.is_err() {
                tracing::error!(component, "component is taken up again after a panic");
                tokio::time::sleep(backoff.next_wait()).await;
            } else if self.stop.is_cancelled() {
                return;
            } else {
                // No bundle comes in while this is locked; one that came before is taken up.
                let mut workers = self.workers.lock().await;
                if receiver.borrow().record.removing {
                    workers.remove(&component);
                    self.context.note_inventory(&component, None);
                    return;
                }
            }
        }
    }
}
