//! The reconnect slot: when a side that closes a session wants to be dialled again, in the words of its close.

use std::time::Duration;

/// What stands between the words and the number.
const BEFORE: &str = "; dial again in ";
/// What stands after the number.
const AFTER: &str = " ms";
/// Longest slot that is honoured: a peer must not send an agent away for hours.
const SLOT_MAX: Duration = Duration::from_secs(300);

/// Adds a slot to the words of a close.
pub fn with_slot(words: &str, slot: Duration) -> String {
    format!("{words}{BEFORE}{}{AFTER}", slot.as_millis())
}

/// Reads the slot from the words of a close, if they name one.
pub fn slot_of(reason: &str) -> Option<Duration> {
    let (_, tail) = reason.rsplit_once(BEFORE)?;
    let millis: u64 = tail.strip_suffix(AFTER)?.parse().ok()?;
    Some(Duration::from_millis(millis).min(SLOT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_as_it_was_written_and_bounded() {
        let slot = Duration::from_millis(1_250);
        assert_eq!(slot_of(&with_slot("the manager stops", slot)), Some(slot));
        assert_eq!(slot_of(&with_slot("", Duration::from_secs(86_400))), Some(SLOT_MAX));
        for none in ["", "the manager stops", "; dial again in x ms", "; dial again in 5 s", "; dial again in -1 ms"] {
            assert_eq!(slot_of(none), None, "{none:?}");
        }
    }
}
