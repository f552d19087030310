//! What a simulated container does, as far as its command says so in words that everybody knows.
//!
//! Understood are `echo`, `sleep`, `true`, `false` and `exit`, alone or in a `sh -c` script of them. A container whose
//! command says anything else, or that has none, is taken for a server that runs on.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use crate::streams::shell::script::{self, Joint};
use crate::streams::shell::{is_shell, seconds};

/// What a command says and when, and how it ends. Times count from its start and are those of life: who sleeps an hour to
/// keep a pod alive must not find it gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behaviour {
    pub(crate) lines: Vec<(Duration, String)>,
    pub(crate) ends: (Duration, i32),
}

/// Reads a container's command.
pub(crate) fn of(container: &Container) -> Option<Behaviour> {
    let words: Vec<&str> = container.command.iter().chain(&container.args).flatten().map(String::as_str).collect();
    match words[..] {
        [shell, flags, script, ..] if is_shell(shell) && flags.starts_with('-') && flags.contains('c') => run(script),
        [] => None,
        _ => {
            let mut behaviour = Behaviour::default();
            behaviour.step(&words)?;
            Some(behaviour)
        }
    }
}

fn run(text: &str) -> Option<Behaviour> {
    let mut behaviour = Behaviour::default();
    for (joint, pipe) in script::parse(text) {
        let [words] = &pipe[..] else { return None };
        if matches!((joint, behaviour.ends.1), (Joint::And, 1..) | (Joint::Or, 0)) {
            continue;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if behaviour.step(&words)? {
            break;
        }
    }
    Some(behaviour)
}

impl Behaviour {
    /// Does one command; tells whether it was the last. `None`: nobody knows what it does.
    fn step(&mut self, words: &[&str]) -> Option<bool> {
        let (name, arguments) = words.split_first()?;
        if arguments.iter().any(|word| word.contains(['$', '>', '<', '&', '`'])) {
            return None;
        }
        self.ends.1 = match (name.rsplit('/').next()?, arguments) {
            ("true" | ":", _) => 0,
            ("false", _) => 1,
            ("echo", words) => {
                self.lines.push((self.ends.0, words.join(" ")));
                0
            }
            ("sleep", [time]) => {
                self.ends.0 = self.ends.0.saturating_add(seconds(time)?);
                0
            }
            ("exit", rest) => {
                self.ends.1 = rest.first().map_or(Some(self.ends.1), |code| code.parse().ok())?;
                return Some(true);
            }
            _ => return None,
        };
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaviour(command: &[&str], args: &[&str]) -> Option<Behaviour> {
        let list = |words: &[&str]| {
            (!words.is_empty()).then(|| words.iter().map(ToString::to_string).collect::<Vec<String>>())
        };
        of(&Container { command: list(command), args: list(args), ..Container::default() })
    }

    #[test]
    fn known_commands_end_as_they_say() {
        let ends = |command: &[&str]| behaviour(command, &[]).map(|known| (known.ends.0.as_secs(), known.ends.1));
        for (command, end) in [
            (&["false"][..], Some((0, 1))),
            (&["/bin/sleep", "5"], Some((5, 0))),
            (&["sh", "-c", "sleep 2; exit 3; sleep 9"], Some((2, 3))),
            (&["sh", "-c", "false && sleep 9 || exit 4"], Some((0, 4))),
            (&["sh", "-c", "echo hi"], Some((0, 0))),
            (&["nginx"], None),
            (&["sh", "-c", "while true; do sleep 1; done"], None),
            (&["sh", "-c", "echo $HOME"], None),
            (&["sh", "-c", "echo a | wc"], None),
            (&[], None),
        ] {
            assert_eq!(ends(command), end, "{command:?}");
        }
    }

    #[test]
    fn what_is_echoed_is_said_at_its_time() {
        let known = behaviour(&["sh", "-c"], &["echo one two; sleep 3; echo 'three  four'"]).expect("known");
        let lines: Vec<(u64, &str)> = known.lines.iter().map(|(at, text)| (at.as_secs(), text.as_str())).collect();
        assert_eq!(lines, [(0, "one two"), (3, "three  four")]);
    }
}
