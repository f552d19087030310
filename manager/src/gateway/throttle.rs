//! Counts refused attempts per source and per token, so that guessing is slow. Attempts that succeed are not counted:
//! a hundred nodes behind one address may enrol at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lattice_protocol::token::TokenId;
use tokio::time::Instant;

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(60);
/// Refused attempts of one source in a window before it is turned away unheard.
const PER_SOURCE: u32 = 20;
/// Refused attempts with one token id in a window.
const PER_TOKEN: u32 = 10;
/// Sources and ids that are remembered; at more, the whole window is forgotten rather than memory taken.
const KEYS_MAX: usize = 10_000;

/// Refused attempts of the last minute.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    sources: Mutex<Window<IpAddr>>,
    tokens: Mutex<Window<TokenId>>,
}

#[derive(Debug)]
struct Window<K> {
    began: Instant,
    counts: HashMap<K, u32>,
}

impl Throttle {
    /// Tells whether an attempt is heard.
    pub(super) fn allows(&self, source: IpAddr, token: Option<&TokenId>) -> bool {
        let within = |count: u32, limit| count < limit;
        within(read(&self.sources, &source), PER_SOURCE)
            && token.is_none_or(|token| within(read(&self.tokens, token), PER_TOKEN))
    }

    /// Counts an attempt that was refused.
    pub(super) fn refused(&self, source: IpAddr, token: Option<&TokenId>) {
        count(&self.sources, source);
        if let Some(token) = token {
            count(&self.tokens, token.clone());
        }
    }
}

impl<K> Default for Window<K> {
    fn default() -> Self {
        Self { began: Instant::now(), counts: HashMap::new() }
    }
}

fn read<K: Hash + Eq>(window: &Mutex<Window<K>>, key: &K) -> u32 {
    let window = window.lock().unwrap_or_else(PoisonError::into_inner);
    if window.began.elapsed() >= WINDOW { 0 } else { window.counts.get(key).copied().unwrap_or(0) }
}

fn count<K: Hash + Eq>(window: &Mutex<Window<K>>, key: K) {
    let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
    if window.began.elapsed() >= WINDOW || window.counts.len() >= KEYS_MAX {
        *window = Window::default();
    }
    *window.counts.entry(key).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_is_turned_away_for_the_rest_of_its_minute() {
        let throttle = Throttle::default();
        let (bad, good) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..PER_SOURCE {
            assert!(throttle.allows(bad, None));
            throttle.refused(bad, None);
        }
        assert!(!throttle.allows(bad, None), "the limit holds");
        assert!(throttle.allows(good, None), "others never notice");
        tokio::time::advance(WINDOW).await;
        assert!(throttle.allows(bad, None), "a minute later it is heard again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_guarded_from_many_sources() {
        let throttle = Throttle::default();
        let token = TokenId::parse("abcdefghij").unwrap();
        for last in 0..10 {
            throttle.refused(IpAddr::from([192, 0, 2, last]), Some(&token));
        }
        let fresh = IpAddr::from([192, 0, 2, 99]);
        assert!(!throttle.allows(fresh, Some(&token)) && throttle.allows(fresh, None));
    }
}
