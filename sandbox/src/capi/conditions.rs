//! Conditions: one of them, a set that is merged into an object's, and how several become one.

use jiff::Timestamp;
use serde_json::{Value, json};

/// A condition as a controller would write it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::True => "True",
            Status::False => "False",
            Status::Unknown => "Unknown",
        }
    }

    fn of(text: Option<&str>) -> Status {
        match text {
            Some("True") => Status::True,
            Some("False") => Status::False,
            _ => Status::Unknown,
        }
    }
}

impl Condition {
    pub(crate) fn new(name: &str, status: Status, reason: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, reason: reason.to_owned(), message: message.into() }
    }

    pub(crate) fn yes(name: &str, reason: &str) -> Self {
        Self::new(name, Status::True, reason, "")
    }

    pub(crate) fn no(name: &str, reason: &str, message: impl Into<String>) -> Self {
        Self::new(name, Status::False, reason, message)
    }

    pub(crate) fn unknown(name: &str, reason: &str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Unknown, reason, message)
    }

    /// `name` = True or False with the two reasons `<name>` and `Not<name>`.
    pub(crate) fn flag(name: &str, on: bool, message: impl Into<String>) -> Self {
        if on { Self::new(name, Status::True, name, message) } else { Self::no(name, &format!("Not{name}"), "") }
    }

    /// Reads a condition that is stored.
    pub(crate) fn read(value: &Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        Self {
            name: text("type").unwrap_or_default().to_owned(),
            status: Status::of(text("status")),
            reason: text("reason").unwrap_or_default().to_owned(),
            message: text("message").unwrap_or_default().to_owned(),
        }
    }

    /// The same under another name.
    pub(crate) fn renamed(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }
}

/// Puts `wanted` into the stored list; `None` when nothing would change.
///
/// The time of a condition moves only with its status. Order is kept, new ones come last.
pub(crate) fn merge(stored: Option<&Value>, wanted: &[Condition], generation: i64, now: Timestamp) -> Option<Value> {
    let mut list = stored.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut changed = false;
    for condition in wanted {
        let found = list.iter_mut().find(|old| old.get("type").and_then(Value::as_str) == Some(&condition.name));
        let mut new = json!({
            "type": condition.name, "status": condition.status.as_str(), "reason": condition.reason,
            "message": condition.message, "observedGeneration": generation,
            "lastTransitionTime": lattice_protocol::clock::to_seconds(now).to_string(),
        });
        match found {
            Some(old) => {
                if old.get("status") == new.get("status") {
                    new["lastTransitionTime"] = old.get("lastTransitionTime").cloned().unwrap_or_default();
                }
                if *old != new {
                    let same = ["status", "reason", "message", "observedGeneration", "lastTransitionTime"]
                        .iter()
                        .all(|key| old.get(*key) == new.get(*key));
                    if !same {
                        *old = new;
                        changed = true;
                    }
                }
            }
            None => {
                list.push(new);
                changed = true;
            }
        }
    }
    changed.then_some(Value::Array(list))
}

/// Sums conditions up: False when one is False, else Unknown when one is Unknown, else True.
///
/// `negative` names those of which True is the bad one. The message lists what is not well.
pub(crate) fn summary(name: &str, parts: &[Condition], negative: &[&str], reasons: [&str; 3]) -> Condition {
    let mut lines = Vec::new();
    let (mut bad, mut unknown) = (false, false);
    for part in parts {
        let inverted = negative.contains(&part.name.as_str());
        match (part.status, inverted) {
            (Status::True, false) | (Status::False, true) => continue,
            (Status::Unknown, _) => unknown = true,
            (Status::False, false) | (Status::True, true) => bad = true,
        }
        let text = if part.message.is_empty() { part.reason.as_str() } else { &part.message };
        lines.push(entry(&part.name, text));
    }
    let [yes, no, unclear] = reasons;
    if bad {
        Condition::no(name, no, lines.join("\n"))
    } else if unknown {
        Condition::unknown(name, unclear, lines.join("\n"))
    } else {
        Condition::yes(name, yes)
    }
}

/// One point of a list; a text of several lines becomes a list below it.
pub(crate) fn entry(name: &str, text: &str) -> String {
    if text.starts_with("* ") {
        format!("* {name}:\n  {}", text.replace('\n', "\n  "))
    } else {
        format!("* {name}: {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn times_move_with_the_status_only() {
        let first = merge(None, &[Condition::no("Ready", "NotReady", "a")], 1, at(10)).unwrap();
        let second = merge(Some(&first), &[Condition::no("Ready", "NotReady", "b")], 2, at(20)).unwrap();
        assert_eq!(second[0]["lastTransitionTime"], first[0]["lastTransitionTime"]);
        let third = merge(Some(&second), &[Condition::yes("Ready", "Ready")], 2, at(30)).unwrap();
        assert_ne!(third[0]["lastTransitionTime"], first[0]["lastTransitionTime"]);
    }

    #[test]
    fn nothing_new_is_no_write() {
        let wanted = [Condition::yes("Ready", "Ready"), Condition::flag("Deleting", false, "")];
        let stored = merge(None, &wanted, 1, at(10)).unwrap();
        assert_eq!(merge(Some(&stored), &wanted, 1, at(99)), None);
        assert!(merge(Some(&stored), &wanted, 2, at(99)).is_some(), "a new generation is a write");
    }

    #[test]
    fn one_false_makes_a_summary_false_and_says_which() {
        let parts =
            [Condition::unknown("A", "X", "a"), Condition::no("B", "Y", "* C: c"), Condition::yes("Deleting", "Z")];
        let sum = summary("Ready", &parts, &["Deleting"], ["Ready", "NotReady", "ReadyUnknown"]);
        assert_eq!((sum.status, sum.reason.as_str()), (Status::False, "NotReady"));
        assert_eq!(sum.message, "* A: a\n* B:\n  * C: c\n* Deleting: Z");
    }
}
