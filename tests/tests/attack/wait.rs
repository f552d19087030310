//! Waiting for what nobody announces.

use std::time::Duration;

use anyhow::{Result, bail};

const PATIENCE: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(50);
const ATTEMPTS_APART: Duration = Duration::from_secs(5);

/// Waits for something that nobody announces.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    until_every(GLANCE, what, look).await
}

/// As [`until`], for what costs one of the twenty refused attempts that a source has in a minute.
pub(crate) async fn until_heard<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    until_every(ATTEMPTS_APART, what, look).await
}

async fn until_every<T>(pause: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut wait = GLANCE;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("waited {PATIENCE:?} for {what}");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(pause);
    }
}
