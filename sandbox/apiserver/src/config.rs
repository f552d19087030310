//! What an embedder may choose.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// The clock that stamps objects.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// It is not the system's.
    chosen: bool,
}

impl Clock {
    /// Makes a clock of a function, for tests that choose the time.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), chosen: true }
    }

    /// Tells the time.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Tells whether an embedder chooses the time.
    pub(crate) fn is_chosen(&self) -> bool {
        self.chosen
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self { now: Arc::new(lattice_protocol::clock::now), chosen: false }
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// How much of the past is kept for watches and continued lists, per kind.
///
/// Too little: clients relist after every pause. Too much: memory.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Changes kept per kind.
    pub events_max: usize,
    /// Bytes of objects kept per kind.
    pub bytes_max: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { events_max: 1000, bytes_max: 4 << 20 }
    }
}

/// How a server is made.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Runs garbage collection, the namespace life cycle, and default ServiceAccounts.
    pub controllers: bool,
    /// How long a namespace that is being deleted keeps what is in it, and how long until what is left in it is looked at
    /// again. Real controllers take five seconds; none by default, so that tests need not wait.
    pub namespace_grace: Duration,
    /// A folder in which objects, the certificate authority and the token key outlive the process.
    pub state: Option<PathBuf>,
    /// The clock that stamps objects.
    pub clock: Clock,
    /// Limits of history.
    pub history: History,
    /// Names and addresses beside the served ones that the serving certificate holds.
    pub alt_names: Vec<String>,
}
