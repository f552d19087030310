//! A small simulated shell: the commands that people and tools try in a container.
//!
//! Nothing of the host is run. Files live in a folder that stands for `/`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc::{Receiver, Sender};

use super::websocket::Stdio;
use crate::meta;

mod archive;
mod command;
mod interactive;

/// Bytes that one read of a file or of zeros hands on.
const CHUNK: usize = 32 << 10;

/// Where a command runs.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) host_name: String,
    pub(super) env: BTreeMap<String, String>,
    pub(super) root: PathBuf,
    /// Whether a person sits at a terminal.
    pub(super) interactive: bool,
}

impl Surroundings {
    pub(super) fn new(pod: &Pod, container: &str, root: PathBuf, interactive: bool) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let host_name = match (spec.host_network, spec.node_name) {
            (Some(true), Some(node)) => node,
            _ => meta::name(&pod.metadata).to_owned(),
        };
        let mut env: BTreeMap<String, String> = [
            ("HOME", "/root"),
            ("HOSTNAME", host_name.as_str()),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let own = spec.containers.into_iter().find(|one| one.name == container);
        let plain = own.into_iter().flat_map(|one| one.env.unwrap_or_default());
        env.extend(plain.filter_map(|variable| Some((variable.name, variable.value?))));
        Self { host_name, env, root, interactive }
    }

    /// The file that a path in the container means; above its `/` there is nothing.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        let mut clean = PathBuf::new();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(part) => clean.push(part),
                Component::ParentDir => {
                    clean.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.root.join(clean)
    }
}

/// The streams of one command, as commands use them.
pub(super) struct Streams {
    pub(super) stdin: Receiver<Bytes>,
    pub(super) stdout: Sender<Bytes>,
    pub(super) stderr: Sender<Bytes>,
}

impl Streams {
    pub(super) async fn print(&self, text: impl Into<Bytes>) -> std::io::Result<()> {
        self.stdout.send(text.into()).await.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    pub(super) async fn complain(&self, text: impl Into<Bytes>) {
        // Somebody who left does not hear complaints.
        let _ = self.stderr.send(text.into()).await;
    }
}

/// Runs a command to its exit code.
pub(super) async fn run(argv: &[String], surroundings: &Surroundings, stdio: Stdio) -> i32 {
    let mut streams = Streams { stdin: stdio.stdin, stdout: stdio.stdout, stderr: stdio.stderr };
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match words[..] {
        [shell] if is_shell(shell) => interactive::run(surroundings, &mut streams).await,
        [shell, flags, script, ..] if is_shell(shell) && flags.starts_with('-') && flags.contains('c') => {
            script_of(script, surroundings, &mut streams).await
        }
        _ => command::run(&words, surroundings, &mut streams).await,
    }
}

fn is_shell(word: &str) -> bool {
    matches!(word.rsplit('/').next(), Some("sh" | "bash" | "ash"))
}

/// Runs commands that are joined by `;`, `&&`, `||` and line ends.
///
/// Boxed, because a script may call a shell with a script.
pub(super) fn script_of<'a>(
    script: &'a str,
    surroundings: &'a Surroundings,
    streams: &'a mut Streams,
) -> BoxFuture<'a, i32> {
    Box::pin(async move {
        let mut code = 0;
        for (joint, words) in parse(script) {
            let skip = matches!((joint, code), (Joint::And, 1..) | (Joint::Or, 0)) || words.is_empty();
            if skip {
                continue;
            }
            let words: Vec<String> = words.into_iter().map(|word| expand(&word, surroundings, code)).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if words[0] == "exit" {
                return words.get(1).and_then(|code| code.parse().ok()).unwrap_or(code);
            }
            code = command::run(&words, surroundings, streams).await;
        }
        code
    })
}

/// How a command hangs on the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joint {
    Then,
    And,
    Or,
}

/// Splits a script into commands and words; quotes keep words together.
fn parse(script: &str) -> Vec<(Joint, Vec<String>)> {
    let mut commands = vec![(Joint::Then, Vec::new())];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = script.chars().peekable();
    while let Some(letter) = letters.next() {
        let joint = match (letter, quote) {
            (letter, Some(open)) if letter == open => {
                quote = None;
                continue;
            }
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
                continue;
            }
            (';' | '\n', None) => Some(Joint::Then),
            ('&', None) if letters.next_if_eq(&'&').is_some() => Some(Joint::And),
            ('|', None) if letters.next_if_eq(&'|').is_some() => Some(Joint::Or),
            (' ' | '\t', None) => {
                finish(&mut commands, &mut word);
                continue;
            }
            _ => None,
        };
        match joint {
            Some(joint) => {
                finish(&mut commands, &mut word);
                commands.push((joint, Vec::new()));
            }
            None => word.get_or_insert_default().push(letter),
        }
    }
    finish(&mut commands, &mut word);
    commands
}

fn finish(commands: &mut [(Joint, Vec<String>)], word: &mut Option<String>) {
    if let (Some((_, words)), Some(word)) = (commands.last_mut(), word.take()) {
        words.push(word);
    }
}

/// Puts the values of variables in.
fn expand(word: &str, surroundings: &Surroundings, code: i32) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let after = after.strip_prefix('{').unwrap_or(after);
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        if let Some(tail) = after.strip_prefix('?') {
            out.push_str(&code.to_string());
            rest = tail;
            continue;
        }
        let (name, tail) = after.split_at(end);
        out.push_str(surroundings.env.get(name).map_or("", String::as_str));
        rest = tail.strip_prefix('}').unwrap_or(tail);
    }
    out.push_str(rest);
    out
}

/// Reads a number of seconds as `sleep` does.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests;
