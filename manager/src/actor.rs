//! Fleet, cluster and component actors, and their supervision.

mod restart;
mod stage;

pub use restart::{PANIC_WINDOW, PANICS_MAX, Panics, RESTART_DELAY_FIRST, Verdict};
pub use stage::{Error as StageError, Exit, Stage, Started};
