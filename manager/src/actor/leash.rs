//! Ties tasks to the actor that started them: whatever ends the actor, a panic included, cancels them.

use tokio_util::sync::CancellationToken;

/// Cancels its token when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Leash(CancellationToken);

impl Leash {
    /// The token that the actor's tasks listen to.
    pub(super) fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
