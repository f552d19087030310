//! Kubernetes Events on the child, for whoever looks there: `kubectl -n lattice-system describe deploy lattice-agent`.
//!
//! Writing them never holds anything up: they go through a small queue, one and the same at most every few minutes.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use lattice_protocol::task::{self, Kind};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The Deployment that the agent is.
const DEPLOYMENT: &str = "lattice-agent";

/// Notices that wait to be written; more are dropped, the log has them.
const QUEUE: usize = 16;

/// Shortest time between two Events of one reason. Lower floods the child's Events while the parent is away.
const APART: Duration = Duration::from_mins(2);

/// Longest wait for the API server to take one.
const WRITE_AT_MOST: Duration = Duration::from_secs(10);

/// Longest note, bytes (Kubernetes' own limit is 1 KiB).
const NOTE_BYTES_MAX: usize = 1000;

/// Writes Events; clones share the queue.
#[derive(Clone, Debug)]
pub struct Notices(mpsc::Sender<Notice>);

#[derive(Debug)]
struct Notice {
    kind: EventType,
    reason: &'static str,
    action: &'static str,
    note: String,
}

impl Notices {
    /// Writes Events about Deployment `lattice-agent` in `namespace`.
    pub fn start(client: kube::Client, namespace: &str, node: &str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        // Kubernetes takes no Event without an instance.
        let instance = if node.is_empty() { DEPLOYMENT } else { node };
        let reporter = Reporter { controller: DEPLOYMENT.to_owned(), instance: Some(instance.to_owned()) };
        let deployments = Api::namespaced(client.clone(), namespace);
        task::spawn("notice.write", Kind::Service, write(receiver, Recorder::new(client, reporter), deployments));
        Self(sender)
    }

    /// Says that something needs attention.
    pub fn warn(&self, reason: &'static str, action: &'static str, note: &str) {
        self.say(EventType::Warning, reason, action, note);
    }

    /// Says what was done.
    pub fn note(&self, reason: &'static str, action: &'static str, note: &str) {
        self.say(EventType::Normal, reason, action, note);
    }

    fn say(&self, kind: EventType, reason: &'static str, action: &'static str, note: &str) {
        let note = cut(note);
        if self.0.try_send(Notice { kind, reason, action, note }).is_err() {
            tracing::debug!(reason, "an event found no room");
        }
    }
}

fn cut(note: &str) -> String {
    let mut end = note.len().min(NOTE_BYTES_MAX);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}

/// What Events are about. With its uid, or `kubectl describe` would not show them.
async fn about(deployments: &Api<Deployment>) -> ObjectReference {
    let found = tokio::time::timeout(WRITE_AT_MOST, deployments.get_metadata_opt(DEPLOYMENT)).await;
    ObjectReference {
        api_version: Some("apps/v1".to_owned()),
        kind: Some("Deployment".to_owned()),
        name: Some(DEPLOYMENT.to_owned()),
        namespace: deployments.namespace().map(str::to_owned),
        uid: found.ok().and_then(Result::ok).flatten().and_then(|deployment| deployment.metadata.uid),
        ..ObjectReference::default()
    }
}

async fn write(mut notices: mpsc::Receiver<Notice>, recorder: Recorder, deployments: Api<Deployment>) {
    let mut last: HashMap<&'static str, Instant> = HashMap::new();
    while let Some(notice) = notices.recv().await {
        if last.get(notice.reason).is_some_and(|at| at.elapsed() < APART) {
            continue;
        }
        last.insert(notice.reason, Instant::now());
        let event = Event {
            type_: notice.kind,
            reason: notice.reason.to_owned(),
            note: Some(notice.note),
            action: notice.action.to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(WRITE_AT_MOST, recorder.publish(&event, &about(&deployments).await)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %error, "event not written"),
            Err(_) => tracing::debug!("event not written in time"),
        }
    }
}
