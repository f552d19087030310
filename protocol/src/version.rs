//! Which versions of agent and manager work together: of one major version, at most one minor apart.

use std::fmt;

/// The version of this build.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// What an agent of this version can do beyond what its major version promises.
pub const AGENT_CAPABILITIES: [&str; 3] = ["handover", "renewal", "unheard"];

/// What a manager of this version can do beyond what its major version promises.
pub const MANAGER_CAPABILITIES: [&str; 3] = ["handover", "reconnect-slot", "unheard"];

/// Agent and manager are too far apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "lattice-agent {agent} and lattice-manager {manager} are more than one minor version apart: upgrade the older of them, \
     one minor version at a time"
)]
pub struct TooFar {
    /// The agent's version.
    pub agent: String,
    /// The manager's version.
    pub manager: String,
}

/// Tells whether the two work together. A side that says nothing, or nothing that can be read, is given the benefit of the
/// doubt: it is of a version before this rule.
///
/// # Errors
/// [`TooFar`].
pub fn agree(agent: &str, manager: &str) -> Result<(), TooFar> {
    let (Some(ours), Some(theirs)) = (minor(agent), minor(manager)) else { return Ok(()) };
    if ours.0 == theirs.0 && ours.1.abs_diff(theirs.1) <= 1 {
        return Ok(());
    }
    // The words of a peer are cut to what a version needs.
    let short = |text: &str| text.chars().take(32).collect();
    Err(TooFar { agent: short(agent), manager: short(manager) })
}

/// Major and minor number.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A peer's capabilities, as a log shows them.
#[derive(Debug)]
pub struct Capabilities<'a>(pub &'a [String]);

impl fmt::Display for Capabilities<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, capability) in self.0.iter().take(16).enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let shown: String = capability.chars().take(32).flat_map(char::escape_debug).collect();
            write!(f, "{comma}{shown}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn works(agent: &str, manager: &str, expected: bool) {
        assert_eq!(agree(agent, manager).is_ok(), expected, "agent {agent}, manager {manager}");
    }

    #[test]
    fn one_minor_apart_works_and_two_do_not() {
        works("0.4.0", "0.4.9", true);
        works("0.5.0", "0.4.0", true);
        works("0.3.2", "0.4.0-rc.1", true);
        works("0.6.0", "0.4.0", false);
        works("0.2.0", "0.4.0", false);
        works("1.4.0", "0.4.0", false);
        works("v1.5.0+build", "1.4.0", true);
        works("", "0.9.0", true);
        works("nonsense", "0.9.0", true);
    }

    #[test]
    fn the_words_name_both_versions_and_are_short() {
        let words = agree("0.1.0", &format!("0.9.{}", "9".repeat(500))).unwrap_err().to_string();
        assert!(words.contains("lattice-agent 0.1.0") && words.contains("lattice-manager 0.9.9"), "{words}");
        assert!(words.len() < 256, "{words}");
    }
}
