//! A vault in memory for tests: the same compare-and-swap, and races that a test chooses.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use super::{Changed, Contents, Entry, LABEL_HOLDS, Vault, Version};
use crate::store::{Certainty, Error};

/// Secrets in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryVault {
    secrets: Mutex<BTreeMap<String, (u64, Contents)>>,
    /// How many of the next writes are done and then answered with an error, as a lost answer is.
    pub(crate) lose_answers: AtomicU32,
    /// How many of the next writes lose a race, as when somebody else was faster.
    pub(crate) lose_races: AtomicU32,
    writes: AtomicU32,
}

impl MemoryVault {
    pub(crate) fn writes(&self) -> u32 {
        self.writes.load(Ordering::Relaxed)
    }

    fn write(&self, name: &str, expected: Option<u64>, contents: Contents) -> Result<Version, Error> {
        let mut secrets = self.secrets.lock().unwrap();
        let losing = |left: u32| left.checked_sub(1);
        let lost = self.lose_races.fetch_update(Ordering::Relaxed, Ordering::Relaxed, losing).is_ok();
        if lost || secrets.get(name).map(|(version, _)| *version) != expected {
            return Err(conflict(name));
        }
        let version = u64::from(self.writes.fetch_add(1, Ordering::Relaxed)) + 1;
        secrets.insert(name.to_owned(), (version, contents));
        if self.lose_answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, losing).is_ok() {
            return Err(Error::timeout("write", name, Certainty::MaybeDone));
        }
        Ok(Version(version.to_string()))
    }
}

impl Vault for MemoryVault {
    fn list<'a>(&'a self, holds: &'a str) -> BoxFuture<'a, Result<Vec<Entry>, Error>> {
        async move {
            let secrets = self.secrets.lock().unwrap();
            let holding = secrets
                .iter()
                .filter(|(_, (_, contents))| contents.labels.get(LABEL_HOLDS).is_some_and(|found| found == holds));
            Ok(holding.map(|(name, (version, contents))| entry(name, *version, contents)).collect())
        }
        .boxed()
    }

    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        async move {
            // Lets racing callers read before any of them writes.
            tokio::task::yield_now().await;
            let secrets = self.secrets.lock().unwrap();
            Ok(secrets.get(name).map(|(version, contents)| entry(name, *version, contents)))
        }
        .boxed()
    }

    fn create<'a>(&'a self, name: &'a str, contents: Contents) -> BoxFuture<'a, Result<Version, Error>> {
        async move {
            tokio::task::yield_now().await;
            self.write(name, None, contents)
        }
        .boxed()
    }

    fn replace<'a>(
        &'a self,
        name: &'a str,
        version: Version,
        contents: Contents,
    ) -> BoxFuture<'a, Result<Version, Error>> {
        async move {
            tokio::task::yield_now().await;
            self.write(name, version.0.parse().ok(), contents)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.secrets.lock().unwrap().remove(name);
            Ok(())
        }
        .boxed()
    }

    fn changes(&self) -> BoxStream<'static, Changed> {
        futures::stream::pending().boxed()
    }
}

fn entry(name: &str, version: u64, contents: &Contents) -> Entry {
    Entry { name: name.to_owned(), version: Version(version.to_string()), contents: contents.clone() }
}

fn conflict(name: &str) -> Error {
    let (reason, message) = ("Conflict".to_owned(), "the object has been modified".to_owned());
    Error::Refused { verb: "write", object: name.to_owned(), code: 409, reason, message, retry_after: None }
}
