//! Answers of the parent's API that are remembered for seconds, so that a `kubectl` with its dozens of requests asks once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Answers that are kept at most. At more, those whose time is over go; when none is, all go.
const ANSWERS_MAX: usize = 4096;

/// Answers by question, each with the end of its time.
#[derive(Debug)]
pub(super) struct Memory<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    /// Recalls an answer whose time is not over.
    pub(super) fn recall(&self, question: &K) -> Option<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(question).filter(|(until, _)| Instant::now() < *until).map(|(_, answer)| answer.clone())
    }

    /// Keeps an answer for a while.
    pub(super) fn keep(&self, question: K, answer: V, for_time: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.len() >= ANSWERS_MAX {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() >= ANSWERS_MAX {
            known.clear();
        }
        known.insert(question, (now + for_time, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_forgotten_in_time_and_memory_is_bounded() {
        let memory = Memory::default();
        memory.keep(0, "yes", Duration::from_secs(10));
        assert_eq!(memory.recall(&0), Some("yes"));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(memory.recall(&0), None);
        for question in 0..3 * ANSWERS_MAX {
            memory.keep(question, "yes", Duration::from_secs(10));
        }
        assert!(memory.0.lock().unwrap().len() <= ANSWERS_MAX);
    }
}
