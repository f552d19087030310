//! Shutdown, as a story in two acts: first everybody is asked to end, then whoever has not is cut.

use std::future::Future;
use std::time::Duration;

use lattice_protocol::ending::Ending;
use lattice_protocol::limits::DRAIN_TIMEOUT;
use lattice_protocol::task::{self, Kind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Longest that the last packets of closed connections are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Told to every task of the gateway.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// Take nothing new; end when what you do is done.
    pub(super) drain: CancellationToken,
    /// End now.
    pub(super) cut: CancellationToken,
    /// What the drain waits for.
    tasks: TaskTracker,
    /// What goes on until it is cut.
    sessions: TaskTracker,
}

impl Stop {
    pub(super) fn new() -> Self {
        Self {
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            sessions: TaskTracker::new(),
        }
    }

    /// Starts a task that should end in the first act.
    pub(super) fn spawn(&self, name: &'static str, kind: Kind, future: impl Future<Output = ()> + Send + 'static) {
        drop(task::spawn(name, kind, self.tasks.track_future(until(self.cut.clone(), future))));
    }

    /// Starts a task that goes on through the first act, because others drain through it.
    pub(super) fn spawn_until_cut(
        &self,
        name: &'static str,
        kind: Kind,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        drop(task::spawn(name, kind, self.sessions.track_future(until(self.cut.clone(), future))));
    }

    /// Has the drain wait, in its bounds, for something that is no task of ours, until this is dropped.
    pub(super) fn hold(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// The two acts, for exchanges.
    pub(super) fn ending(&self) -> Ending {
        Ending { drain: self.drain.clone(), cut: self.cut.clone() }
    }

    /// Asks everybody to end, waits a while.
    pub(super) async fn drain(&self) {
        self.drain.cancel();
        self.tasks.close();
        if timeout(DRAIN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::debug!(left = self.tasks.len(), "exchanges outlast the drain");
        }
    }

    /// Cuts who is left, then waits for `last_words` to be sent.
    pub(super) async fn finish(&self, last_words: impl Future<Output = ()>) {
        self.sessions.close();
        self.cut.cancel();
        self.tasks.wait().await;
        self.sessions.wait().await;
        let _ = timeout(LAST_WORDS, last_words).await;
    }
}

async fn until(cut: CancellationToken, future: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        () = future => {}
    }
}
