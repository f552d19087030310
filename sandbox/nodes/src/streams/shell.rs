//! A small simulated shell: the commands that people and tools try in a container.
//!
//! Nothing of the host is run. Files live in a folder that stands for `/`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;

use super::stdio::{End, Size, Stdio};
use crate::meta;

mod archive;
mod command;
mod files;
mod interactive;
pub(crate) mod script;

use command::Problem;
use script::Joint;

/// Bytes that one read of a file or of zeros hands on.
const CHUNK: usize = 32 << 10;
/// Chunks that may wait between two commands of a pipe.
const PIPE_MAX: usize = 4;

/// Where a command runs.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) host_name: String,
    pub(super) env: BTreeMap<String, String>,
    pub(super) root: PathBuf,
    /// Where relative paths begin, as the container sees it.
    pub(super) folder: String,
    /// Whether a person sits at a terminal.
    pub(super) interactive: bool,
}

impl Surroundings {
    pub(super) fn new(pod: &Pod, container: &str, root: PathBuf, interactive: bool) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let host_name = host_name(pod);
        let mut env: BTreeMap<String, String> = [
            ("HOME", "/root"),
            ("HOSTNAME", host_name.as_str()),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if interactive {
            env.insert("TERM".to_owned(), "xterm".to_owned());
        }
        let own = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|one| one.name == container);
        let folder = own.and_then(|one| one.working_dir.clone()).unwrap_or_else(|| "/".to_owned());
        for variable in own.into_iter().flat_map(|one| one.env.iter().flatten()) {
            let field = || {
                let source = variable.value_from.as_ref()?.field_ref.as_ref()?;
                field(pod, &source.field_path)
            };
            if let Some(value) = variable.value.clone().or_else(field) {
                env.insert(variable.name.clone(), value);
            }
        }
        Self { host_name, env, root, folder, interactive }
    }

    /// The file that a path in the container means; above its `/` there is nothing.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(clean(&self.folder, path))
    }
}

/// What a pod calls itself.
pub(super) fn host_name(pod: &Pod) -> String {
    let name = meta::name(&pod.metadata);
    let Some(spec) = &pod.spec else { return name.to_owned() };
    match (spec.host_network, &spec.node_name, &spec.hostname) {
        (Some(true), Some(node), _) => node.clone(),
        (_, _, Some(own)) if !own.is_empty() => own.clone(),
        _ => name.to_owned(),
    }
}

fn field(pod: &Pod, path: &str) -> Option<String> {
    let status = || pod.status.as_ref();
    match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "spec.nodeName" => pod.spec.as_ref()?.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.as_ref()?.service_account_name.clone(),
        "status.podIP" => status()?.pod_ip.clone(),
        "status.hostIP" => status()?.host_ip.clone(),
        _ => None,
    }
}

/// A path below `/`, without steps back.
fn clean(folder: &str, path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    let relative = !path.starts_with('/');
    for part in relative.then(|| Path::new(folder)).into_iter().chain([Path::new(path)]).flat_map(Path::components) {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// The streams of one command, as commands use them.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: Receiver<Bytes>,
    pub(super) stdout: Sender<Bytes>,
    pub(super) stderr: Sender<Bytes>,
    pub(super) size: watch::Receiver<Size>,
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

/// Runs a command to its end.
pub(super) async fn run(argv: &[String], mut surroundings: Surroundings, stdio: Stdio) -> End {
    let Stdio { stdin, stdout, stderr, size } = stdio;
    let mut streams = Streams { stdin, stdout, stderr, size };
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let code = match words[..] {
        [shell] | [shell, "-i" | "-l" | "-il"] if is_shell(shell) => {
            interactive::run(&mut surroundings, &mut streams).await
        }
        _ => match command::run(&words, &mut surroundings, &mut streams).await {
            Ok(code) => code,
            Err(Problem::Unknown(name)) => {
                return End::NotStarted(format!(
                    "failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to \
                     start container process: exec: \"{name}\": executable file not found in $PATH: unknown"
                ));
            }
            Err(problem) => problem.tell(&streams).await,
        },
    };
    End::Code(code)
}

pub(crate) fn is_shell(word: &str) -> bool {
    matches!(word.rsplit('/').next(), Some("sh" | "bash" | "ash"))
}

/// Runs commands that are joined by `;`, `&&`, `||`, `|` and line ends.
///
/// Boxed, because a script may call a shell with a script.
pub(super) fn script_of<'a>(
    script: &'a str,
    surroundings: &'a mut Surroundings,
    streams: &'a mut Streams,
) -> BoxFuture<'a, i32> {
    Box::pin(async move {
        let mut code = 0;
        for (joint, pipe) in script::parse(script) {
            if matches!((joint, code), (Joint::And, 1..) | (Joint::Or, 0)) {
                continue;
            }
            let expand = |word: String| script::expand(&word, surroundings, code);
            let pipe: Vec<Vec<String>> =
                pipe.into_iter().map(|words| words.into_iter().map(expand).collect()).collect();
            if let Some("exit") = pipe.first().and_then(|words| words.first()).map(String::as_str) {
                return pipe[0].get(1).and_then(|code| code.parse().ok()).unwrap_or(code);
            }
            code = pipeline(&pipe, surroundings, streams).await;
        }
        code
    })
}

/// Runs commands of which each reads what the one before it writes; the last one's code counts.
fn pipeline<'a>(
    pipe: &'a [Vec<String>],
    surroundings: &'a mut Surroundings,
    streams: &'a mut Streams,
) -> BoxFuture<'a, i32> {
    Box::pin(async move {
        let Some((first, rest)) = pipe.split_first() else { return 0 };
        if rest.is_empty() {
            return one(first, surroundings, streams).await;
        }
        let (sender, receiver) = mpsc::channel(PIPE_MAX);
        let stdin = std::mem::replace(&mut streams.stdin, mpsc::channel(1).1);
        let (stderr, size) = (streams.stderr.clone(), streams.size.clone());
        let mut left = Streams { stdin, stdout: sender, stderr: stderr.clone(), size: size.clone() };
        let mut right = Streams { stdin: receiver, stdout: streams.stdout.clone(), stderr, size };
        let mut inner = surroundings.clone();
        // Each end is dropped when its command is done, so that the other one notices.
        let writing = async move {
            one(first, &mut inner, &mut left).await;
        };
        let reading = async move { pipeline(rest, surroundings, &mut right).await };
        tokio::join!(writing, reading).1
    })
}

async fn one(words: &[String], surroundings: &mut Surroundings, streams: &mut Streams) -> i32 {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match command::run(&words, surroundings, streams).await {
        Ok(code) => code,
        Err(problem) => problem.tell(streams).await,
    }
}

/// Reads a number of seconds as `sleep` does.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let (digits, factor) = match text.char_indices().last() {
        _ if text == "infinity" => return Some(Duration::from_hours(24 * 365)),
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        Some((at, 'd')) => (&text[..at], 86400.0),
        _ => (text, 1.0),
    };
    Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * factor).ok()
}

#[cfg(test)]
mod tests;
