//! What is seen and what is to be done in a scene.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lattice_protocol::transport::Transport;

/// Something that somebody saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The manager: a session.
    Connected(Transport),
    /// The manager: the session has ended.
    Lost(String),
    /// The manager: a second agent took over.
    Superseded,
    /// The manager: anything else.
    Other(String),
    /// A host's agent: connected.
    Up(&'static str, Transport),
    /// A host's agent: not connected.
    Down(&'static str, String),
}

/// What everybody saw, with the time of the simulation. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<(Duration, Note)>>>);

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Vec<(Duration, Note)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, note: Note) {
        self.lock().push((turmoil::sim_elapsed().unwrap_or_default(), note));
    }

    pub(super) fn since(&self, from: Duration) -> Vec<(Duration, Note)> {
        self.lock().iter().filter(|(at, _)| *at >= from).cloned().collect()
    }

    /// When something was first seen at or after `from`.
    pub(super) fn first(&self, from: Duration, what: impl Fn(&Note) -> bool) -> Option<Duration> {
        self.since(from).into_iter().find(|(_, note)| what(note)).map(|(at, _)| at)
    }

    pub(super) fn story(&self) -> String {
        let mut story = String::new();
        for (at, note) in self.lock().iter() {
            let _ = writeln!(story, "  {:8.3} s  {note:?}", at.as_secs_f64());
        }
        story
    }
}

/// What the manager is to do, one after the other; it outlives a manager that is killed, as objects do.
#[derive(Clone, Debug)]
pub(super) struct Work(Arc<Mutex<Left>>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) next: u64,
    pub(super) last: u64,
}

impl Work {
    pub(super) fn of(count: u64) -> Self {
        Self(Arc::new(Mutex::new(Left { next: 1, last: count })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_done(&self) -> bool {
        let left = *self.lock();
        left.next > left.last
    }

    pub(super) fn next(&self) -> Option<u64> {
        let left = *self.lock();
        (left.next <= left.last).then_some(left.next)
    }

    pub(super) fn done(&self, number: u64) {
        let mut left = self.lock();
        if left.next == number {
            left.next += 1;
        }
    }
}
