//! Commands over SPDY: one stream each for stdin, stdout, stderr, the final `Status` and the terminal's size.

use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;

use super::spdy::{self, Output, Stream};
use super::stdio::{self, Command, Size, Wish};

/// Those that commands are spoken in, the best first.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Header that says what a stream is for.
pub(super) const TYPE: &str = "streamtype";
/// Longest wait for a client to open its streams, as kubelets wait.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// The streams of one command.
#[derive(Default)]
struct Opened {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    resize: Option<Stream>,
}

/// Runs a command on the streams of one connection.
pub(super) async fn command(upgrade: OnUpgrade, wish: Wish, command: Command) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "upgrade to spdy did not come about");
            return;
        }
    };
    spdy::serve(TokioIo::new(upgraded), |mut streams| async move {
        let mut opened = Opened::default();
        let opening = async {
            while !opened.complete(wish) {
                let Some(stream) = streams.recv().await else { return };
                opened.take(stream);
            }
        };
        if tokio::time::timeout(OPEN_MAX, opening).await.is_err() {
            tracing::debug!("a client did not open its streams in time");
        } else if opened.complete(wish) {
            run(opened, wish, command).await;
        }
    })
    .await;
}

impl Opened {
    fn take(&mut self, stream: Stream) {
        let place = match stream.headers.get(TYPE).map(String::as_str) {
            Some("stdin") => &mut self.stdin,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some("error") => &mut self.error,
            Some("resize") => &mut self.resize,
            _ => return,
        };
        *place = Some(stream);
    }

    fn complete(&self, wish: Wish) -> bool {
        self.error.is_some()
            && self.stdin.is_some() >= wish.stdin
            && self.stdout.is_some() >= wish.stdout
            && self.stderr.is_some() >= wish.stderr
            && self.resize.is_some() >= wish.tty
    }
}

async fn run(opened: Opened, wish: Wish, command: Command) {
    let (stdio, carrier) = stdio::pair(wish);
    let (stdin, resize) = (opened.stdin.map(|stream| stream.input), opened.resize.map(|stream| stream.input));
    let (stdout, stderr) = (opened.stdout.map(|stream| stream.output), opened.stderr.map(|stream| stream.output));
    let inputs = async {
        tokio::join!(read(stdin, carrier.stdin), sizes(resize, carrier.size));
        std::future::pending::<()>().await;
    };
    let outputs = async {
        let (end, (), ()) = tokio::join!(
            command(stdio),
            write(carrier.stdout, stdout.as_ref()),
            write(carrier.stderr, stderr.as_ref())
        );
        end
    };
    let end = tokio::select! {
        biased;
        end = outputs => end,
        () = inputs => return,
    };
    if let Some(error) = opened.error {
        let _ = error.output.send(end.status().to_string().into()).await;
        error.output.finish().await;
    }
    for output in [stdout, stderr].iter().flatten() {
        output.finish().await;
    }
}

async fn read(from: Option<Receiver<Bytes>>, to: Sender<Bytes>) {
    let Some(mut from) = from else { return };
    while let Some(chunk) = from.recv().await {
        // A command that reads no more is no reason to stop taking what comes.
        let _ = to.send(chunk).await;
    }
}

async fn sizes(from: Option<Receiver<Bytes>>, to: watch::Sender<Size>) {
    let Some(mut from) = from else { return };
    while let Some(chunk) = from.recv().await {
        // Several may come in one chunk; the last one holds.
        let all = serde_json::Deserializer::from_slice(&chunk).into_iter::<Size>();
        if let Some(size) = all.map_while(Result::ok).last() {
            to.send_replace(size);
        }
    }
}

/// Sends what a command writes; what nobody wants is dropped.
async fn write(mut from: Receiver<Bytes>, to: Option<&Output>) {
    while let Some(chunk) = from.recv().await {
        if let Some(to) = to
            && to.send(chunk).await.is_err()
        {
            return;
        }
    }
}
