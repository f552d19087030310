//! One line per change, for pipes and logs: time, cluster, what, from, to, why.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::observe::{Board, Change};
use super::say;

/// Prints until `stop`, and then what is left.
pub(crate) async fn run(board: Arc<Board>, stop: CancellationToken) {
    let mut changes = board.subscribe();
    let mut next = 0;
    loop {
        let ended = stop.is_cancelled();
        let (new, after) = board.since(next);
        next = after;
        for change in &new {
            say(&line(change));
        }
        if ended {
            return;
        }
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            () = stop.cancelled() => {}
        }
    }
}

/// `12:03:04.567 backend phase Pending -> Provisioning: why`.
fn line(change: &Change) -> String {
    let time = change.at.strftime("%H:%M:%S%.3f");
    let from = if change.from.is_empty() { "-" } else { &change.from };
    let to = if change.to.is_empty() { "-" } else { &change.to };
    let why = change.why.replace('\n', "; ");
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    format!("{time} {} {} {from} -> {to}{why}", change.cluster, change.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let mut change = Change::plain("backend", "phase", "", "Pending", "first\nsecond");
        change.at = "2026-11-24T12:03:04.5Z".parse().unwrap();
        assert_eq!(line(&change), "12:03:04.500 backend phase - -> Pending: first; second");
    }
}
