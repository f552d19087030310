//! The sandbox's control socket: one JSON request a line, one JSON answer a line, in the state folder.
//!
//! Whoever may open the socket may do everything: it lies in a folder that is closed to others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lattice_protocol::task;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Requests that are served at a time. Each machine that boots holds at most one.
const REQUESTS_MAX: usize = 4096;
/// Longest request.
const LINE_MAX: u64 = 4 << 20;
/// Longest path of a Unix socket, with its end mark.
const SOCKET_PATH_MAX: usize = 107;

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// Is anybody there?
    Ping,
    /// Sets a fault, by its SPEC.
    FaultSet(String),
    /// Clears a fault, or all of them.
    FaultClear(Option<String>),
    /// Lists the faults.
    FaultList,
    /// A machine runs `kubeadm init`; answers the administrator's kubeconfig.
    KubeadmInit { namespace: String, machine: String, config: String },
    /// A machine runs `kubeadm join`; answers the administrator's kubeconfig for control planes.
    KubeadmJoin { namespace: String, machine: String, config: String },
    /// By which address a machine reaches another one.
    Route { namespace: String, machine: String, target: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    Done(String),
    Failed(String),
}

/// Why a request got no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no sandbox answers at {}: {source}", path.display())]
    Connect { path: PathBuf, source: std::io::Error },
    #[error("the sandbox ended before it answered")]
    Ended,
    #[error("{0}")]
    Refused(String),
}

/// Answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Carries a request out; an `Err` is shown to whoever asked.
    fn handle(self: Arc<Self>, request: Request) -> impl Future<Output = Result<String, String>> + Send;
}

/// Chooses the socket's path for a state folder: in it, or where its path would be too long, beside temporary files.
pub(crate) fn socket_path(state: &Path) -> PathBuf {
    let path = state.join("control.sock");
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return path;
    }
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    std::env::temp_dir().join(format!("lattice-sandbox-{:016x}.sock", hasher.finish()))
}

/// Listens until `stop`.
pub(crate) fn listen<H: Handler>(path: &Path, handler: Arc<H>, stop: CancellationToken) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let slots = Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
    task::spawn("sandbox.control", task::Kind::Service, async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let stream = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => continue,
                },
            };
            let (handler, stop) = (Arc::clone(&handler), stop.clone());
            task::spawn("sandbox.request", task::Kind::Request, async move {
                let _slot = slot;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    _ = serve(stream, handler) => {}
                }
            });
        }
    });
    Ok(())
}

async fn serve<H: Handler>(stream: UnixStream, handler: Arc<H>) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => match handler.handle(request).await {
            Ok(text) => Answer::Done(text),
            Err(text) => Answer::Failed(text),
        },
        Err(error) => Answer::Failed(format!("the request could not be read: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Asks the sandbox behind a socket.
pub(crate) async fn call(socket: &Path, request: &Request) -> Result<String, Error> {
    let connect = |source| Error::Connect { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(connect)?;
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_vec(request).map_err(|error| Error::Refused(error.to_string()))?;
    text.push(b'\n');
    write.write_all(&text).await.map_err(|_| Error::Ended)?;
    let mut line = String::new();
    BufReader::new(read).read_line(&mut line).await.map_err(|_| Error::Ended)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Done(text)) => Ok(text),
        Ok(Answer::Failed(text)) => Err(Error::Refused(text)),
        Err(_) => Err(Error::Ended),
    }
}

/// Whether a sandbox answers at a socket.
pub(crate) async fn answers(socket: &Path) -> bool {
    matches!(tokio::time::timeout(Duration::from_secs(2), call(socket, &Request::Ping)).await, Ok(Ok(_)))
}
