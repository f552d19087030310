//! The record of one component, shared by the engine, which takes new desires, and the worker, which pursues them.
//!
//! **Invariant**: records are written one at a time, and a worker never writes over a desire that it does not pursue.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::Error;
use super::record::{Record, Store};

/// One component's record and the one way to write it. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    store: Store,
    record: Arc<Mutex<Record>>,
}

impl Ledger {
    pub(super) fn new(store: Store, record: Record) -> Self {
        Self { store, record: Arc::new(Mutex::new(record)) }
    }

    /// The record as it is now; nobody else writes it while the guard lives.
    pub(super) async fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().await
    }

    /// Writes what the worker knows, unless something else is desired by now. True if it was written.
    pub(super) async fn save(&self, known: &Record) -> Result<bool, Error> {
        let mut record = self.lock().await;
        let same = (&record.digest, record.epoch, record.removing) == (&known.digest, known.epoch, known.removing);
        if same && *record != *known {
            self.store.keep(known).await?;
            record.clone_from(known);
        }
        Ok(same)
    }

    /// Deletes the record, unless the component is wanted again by now. True if it was deleted.
    pub(super) async fn forget(&self) -> Result<bool, Error> {
        let record = self.lock().await;
        if record.removing {
            self.store.forget(&record).await?;
        }
        Ok(record.removing)
    }

    /// Notes that the bundle on the child cannot be read: the parent must send it again.
    pub(super) async fn lost_bundle(&self) {
        self.lock().await.broken = true;
    }
}
