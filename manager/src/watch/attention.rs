//! Which clusters somebody should look at: a set, so that a thousand changes of one cluster are one look.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Collects names until they are taken. Clones share the set; its size is bounded by the number of clusters.
#[derive(Clone, Debug, Default)]
pub struct Attention(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    names: Mutex<BTreeSet<String>>,
    added: Notify,
}

impl Attention {
    /// Asks for a look at a cluster.
    pub fn mark(&self, name: &str) {
        let is_new = {
            let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
            !names.contains(name) && names.insert(name.to_owned())
        };
        if is_new {
            self.0.added.notify_one();
        }
    }

    /// Waits for names and takes all of them.
    ///
    /// # Cancel safety
    /// Cancel safe: names are taken only when they are returned.
    pub async fn take(&self) -> BTreeSet<String> {
        loop {
            let added = self.0.added.notified();
            let names = std::mem::take(&mut *self.0.names.lock().unwrap_or_else(PoisonError::into_inner));
            if !names.is_empty() {
                return names;
            }
            added.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_changes_of_one_cluster_are_one_look() {
        let attention = Attention::default();
        for _ in 0..1_000 {
            attention.mark("backend");
        }
        attention.mark("edge");
        assert_eq!(attention.take().await, BTreeSet::from(["backend".to_owned(), "edge".to_owned()]));
        let mut waiting = tokio_test_pending(attention.clone());
        assert!(futures::poll!(&mut waiting).is_pending(), "nothing is left to look at");
        attention.mark("edge");
        assert_eq!(waiting.await, BTreeSet::from(["edge".to_owned()]));
    }

    fn tokio_test_pending(attention: Attention) -> std::pin::Pin<Box<impl Future<Output = BTreeSet<String>>>> {
        Box::pin(async move { attention.take().await })
    }
}
