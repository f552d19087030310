//! The one way to start a task: it has a name, a span, and an answer to "what if it ends".

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument;

/// What the end of a task means to its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Serves one request or one connection; its end is ordinary.
    Request,
    /// Lives as long as the process or the role; its end before cancellation is logged as an error.
    Service,
}

/// Spawns `future` on the current runtime under a span that carries `name`.
///
/// A panic inside stays inside: it is logged with the task's name and shows in the returned handle.
#[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub fn spawn<F>(name: &'static str, kind: Kind, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let span = tracing::debug_span!("task.run", task = name);
    tokio::spawn(
        async move {
            let guard = Guard { name, kind, done: false };
            future.await;
            guard.finish();
        }
        .instrument(span),
    )
}

/// Notices a task that did not reach its end.
struct Guard {
    name: &'static str,
    kind: Kind,
    done: bool,
}

impl Guard {
    fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, kind = ?self.kind, "task panicked");
        } else if !self.done {
            tracing::debug!(task = self.name, "task cancelled");
        }
    }
}
