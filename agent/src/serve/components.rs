//! `Components`: bundles come in, the state of every component goes out.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::pin::Pin;

use futures::Stream;
use lattice_protocol::telemetry;
use lattice_protocol::v1::components_server::Components;
use lattice_protocol::v1::{
    ApplyRequest, ApplyResponse, ComponentReport, RemoveRequest, RemoveResponse, WatchComponentsRequest,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::apply::{Engine, Posted, Refusal};

/// Serves component bundles.
pub(super) struct Service(Engine);

impl Service {
    pub(super) fn new(engine: Engine) -> Self {
        Self(engine)
    }
}

#[tonic::async_trait]
impl Components for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<ComponentReport, Status>> + Send>>;

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let traceparent = telemetry::extract(request.metadata());
        let (outcome, message) = self.0.apply(request.into_inner(), traceparent).await.map_err(refused)?;
        Ok(Response::new(ApplyResponse { outcome: outcome.into(), message }))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        self.0.remove(request.into_inner()).await.map_err(refused)?;
        Ok(Response::new(RemoveResponse {}))
    }

    async fn watch(&self, _request: Request<WatchComponentsRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watcher =
            Watcher { posted: self.0.board().follow(), told: BTreeMap::new(), next: VecDeque::new(), synced: false };
        let reports = futures::stream::unfold(watcher, |mut watcher| async move {
            watcher.next().await.map(|report| (Ok(report), watcher))
        });
        Ok(Response::new(Box::pin(reports)))
    }
}

fn refused(refusal: Refusal) -> Status {
    let message = crate::dial::chain(&refusal);
    match refusal {
        Refusal::NotLoaded | Refusal::Record(_) => Status::unavailable(message),
        Refusal::Bundle(_) => Status::invalid_argument(message),
        Refusal::Epoch(..) => Status::failed_precondition(message),
    }
}

/// One parent's view of what it was told.
struct Watcher {
    posted: watch::Receiver<Posted>,
    told: BTreeMap<String, ComponentReport>,
    next: VecDeque<ComponentReport>,
    synced: bool,
}

impl Watcher {
    /// The next report: first all that is held, the last of them marked, then each change.
    async fn next(&mut self) -> Option<ComponentReport> {
        loop {
            if let Some(report) = self.next.pop_front() {
                return Some(report);
            }
            let posted = self.posted.borrow_and_update().clone();
            if self.synced || posted.is_complete() {
                self.collect(&posted);
                if !self.next.is_empty() {
                    continue;
                }
            }
            self.posted.changed().await.ok()?;
        }
    }

    fn collect(&mut self, posted: &Posted) {
        for (component, report) in posted.reports.iter() {
            if let Some(report) = report
                && self.told.get(component) != Some(report)
            {
                self.told.insert(component.clone(), report.clone());
                self.next.push_back(report.clone());
            }
        }
        if !self.synced {
            self.synced = true;
            match self.next.back_mut() {
                Some(last) => last.synced = true,
                // Nothing is held: an empty report says so.
                None => self.next.push_back(ComponentReport { synced: true, ..ComponentReport::default() }),
            }
        }
    }
}
