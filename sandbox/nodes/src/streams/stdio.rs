//! The ends of a command's streams, whatever carries them.

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;

use super::{Options, Refusal};

/// Chunks that may wait on one side for the other.
pub(super) const CHUNKS_MAX: usize = 16;

/// What a command reads and writes; stdin ends when it yields `None`.
#[derive(Debug)]
pub(super) struct Stdio {
    pub(super) stdin: Receiver<Bytes>,
    pub(super) stdout: Sender<Bytes>,
    pub(super) stderr: Sender<Bytes>,
    /// Of the client's terminal.
    pub(super) size: watch::Receiver<Size>,
}

/// The other ends, for who carries the streams.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) stdin: Sender<Bytes>,
    pub(super) stdout: Receiver<Bytes>,
    pub(super) stderr: Receiver<Bytes>,
    pub(super) size: watch::Sender<Size>,
}

/// Columns and rows of a terminal, as clients send them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct Size {
    #[serde(rename = "Width")]
    pub(super) columns: u16,
    #[serde(rename = "Height")]
    pub(super) rows: u16,
}

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with its exit code.
    Code(i32),
    /// It never began.
    NotStarted(String),
}

/// A command that waits for its streams.
pub(super) type Command = Box<dyn FnOnce(Stdio) -> BoxFuture<'static, End> + Send>;

impl Wish {
    pub(super) fn parse(options: &Options) -> Result<Self, Refusal> {
        let tty = options.flag("tty");
        let wish = Self {
            stdin: options.flag("stdin"),
            stdout: options.flag("stdout"),
            // A terminal has one output.
            stderr: options.flag("stderr") && !tty,
            tty,
        };
        if !(wish.stdin || wish.stdout || wish.stderr) {
            return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(wish)
    }
}

/// Makes both ends. What nobody wants to see is dropped as it comes.
pub(super) fn pair(wish: Wish) -> (Stdio, Carrier) {
    let (stdin, stdin_end) = mpsc::channel(CHUNKS_MAX);
    let (stdout, stdout_end) = mpsc::channel(CHUNKS_MAX);
    let (stderr, stderr_end) = mpsc::channel(CHUNKS_MAX);
    let (size, size_end) = watch::channel(Size::default());
    let stderr = if wish.tty { stdout.clone() } else { stderr };
    let stdio = Stdio { stdin: stdin_end, stdout, stderr, size: size_end };
    (stdio, Carrier { stdin, stdout: stdout_end, stderr: stderr_end, size })
}

impl End {
    /// The `Status` that a client gets.
    pub(super) fn status(&self) -> Value {
        match self {
            Self::Code(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Code(code) => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::NotStarted(why) => {
                let text = format!("error executing command in container: {why}");
                json!({
                    "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                    "message": format!("Internal error occurred: {text}"),
                    "details": {"causes": [{"message": text}]},
                })
            }
        }
    }
}
