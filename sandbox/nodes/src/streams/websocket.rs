//! The channel protocol over WebSocket: `v5.channel.k8s.io`, and `v4` without half-closing.
//!
//! Every binary message starts with its channel: 0 stdin, 1 stdout, 2 stderr, 3 the final `Status`,
//! 4 the terminal's size; 255 (v5 only) carries the number of a channel that is closed.

use std::future::Future;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use lattice_protocol::task;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::{Body, Refusal, exit_status};

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const CLOSE: u8 = 255;

/// Messages that may wait on one side for the other.
const CHUNKS_MAX: usize = 16;
/// Largest message taken from a client.
const MESSAGE_MAX: usize = 4 << 20;

/// The ends of a command's standard streams; stdin ends when it yields `None`.
pub(super) struct Stdio {
    pub(super) stdin: Receiver<Bytes>,
    pub(super) stdout: Sender<Bytes>,
    pub(super) stderr: Sender<Bytes>,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Accepts the upgrade and runs `command` on its streams; what it returns is its exit code.
pub(super) fn accept<B, F>(
    mut request: Request<B>,
    command: impl FnOnce(Stdio) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = i32> + Send + 'static,
{
    let headers = request.headers();
    let names = |name: &header::HeaderName, wanted: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    if !names(&header::UPGRADE, "websocket") {
        let message = "unable to upgrade: simulated kubelets speak WebSocket (v5.channel.k8s.io) only";
        return Err(Refusal::bad_request(message));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| Refusal::bad_request("no Sec-WebSocket-Key"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let protocol = protocol(headers)
        .ok_or_else(|| Refusal::bad_request("unable to upgrade: none of the subprotocols is supported"))?;
    let upgrade = hyper::upgrade::on(&mut request);
    task::spawn("kubelet.exec", task::Kind::Request, serve(upgrade, command));
    let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<&str> = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    PROTOCOLS.into_iter().find(|known| offered.contains(known))
}

async fn serve<F>(upgrade: OnUpgrade, command: impl FnOnce(Stdio) -> F)
where
    F: Future<Output = i32> + Send + 'static,
{
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "upgrade for a command did not come about");
            return;
        }
    };
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX));
    let socket: Socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let (stdin, stdin_end) = mpsc::channel(CHUNKS_MAX);
    let (stdout, stdout_end) = mpsc::channel(CHUNKS_MAX);
    let (stderr, stderr_end) = mpsc::channel(CHUNKS_MAX);
    let running = command(Stdio { stdin: stdin_end, stdout, stderr });
    tokio::select! {
        biased;
        () = write(sink, running, stdout_end, stderr_end) => {}
        () = read(stream, stdin) => {}
    }
}

/// Hands stdin on until the client is gone. Half-closing ends stdin only.
async fn read(mut stream: SplitStream<Socket>, stdin: Sender<Bytes>) {
    let mut stdin = Some(stdin);
    while let Some(Ok(message)) = stream.next().await {
        let mut data = match message {
            Message::Binary(data) => data,
            Message::Close(_) => return,
            _ => continue,
        };
        if data.is_empty() {
            continue;
        }
        let rest = data.split_off(1);
        match (data[0], &stdin) {
            (CLOSE, _) if rest.first() == Some(&STDIN) => stdin = None,
            // A command that reads no more is no reason to stop reading the socket.
            (STDIN, Some(open)) if !rest.is_empty() => stdin = open.send(rest).await.is_ok().then(|| open.clone()),
            _ => {}
        }
    }
}

/// Runs the command, sends what it writes, then how it ended.
async fn write<F>(
    mut sink: SplitSink<Socket, Message>,
    command: F,
    mut stdout: Receiver<Bytes>,
    mut stderr: Receiver<Bytes>,
) where
    F: Future<Output = i32>,
{
    let mut command = std::pin::pin!(command);
    let mut code = None;
    let (mut out_open, mut err_open) = (true, true);
    while code.is_none() || out_open || err_open {
        let message = tokio::select! {
            biased;
            chunk = stdout.recv(), if out_open => match chunk {
                Some(chunk) => framed(STDOUT, &chunk),
                None => { out_open = false; continue }
            },
            chunk = stderr.recv(), if err_open => match chunk {
                Some(chunk) => framed(STDERR, &chunk),
                None => { err_open = false; continue }
            },
            ended = &mut command, if code.is_none() => { code = Some(ended); continue }
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let status = exit_status(code.unwrap_or(0)).to_string();
    let last = sink.send(framed(ERROR, status.as_bytes())).await;
    if last.is_ok() {
        let _ = sink.close().await;
    }
}

fn framed(channel: u8, data: &[u8]) -> Message {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    Message::Binary(message.into())
}
