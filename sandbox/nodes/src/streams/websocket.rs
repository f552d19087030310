//! WebSocket: the channel protocol for commands, `v5.channel.k8s.io` and `v4` without half-closing, and a plain tunnel
//! of bytes.
//!
//! Every binary message of the channel protocol starts with its channel: 0 stdin, 1 stdout, 2 stderr, 3 the final
//! `Status`, 4 the terminal's size; 255 (v5 only) carries the number of a channel that is closed.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::stdio::{self, Command, End, Size, Wish};

/// Those that commands are spoken in, the best first.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Largest message taken from a client.
const MESSAGE_MAX: usize = 4 << 20;
/// How long a client may take to answer a farewell. Shorter, and a slow one loses the end of its output.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes of a tunnel that may wait on one side for the other.
const TUNNEL_MAX: usize = 64 << 10;

/// How often a client is asked whether it is still there: while a command does not take its input, nothing else tells.
const PING_EVERY: Duration = Duration::from_secs(10);

async fn socket(upgrade: OnUpgrade) -> Option<WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>> {
    match upgrade.await {
        Ok(upgraded) => Some(server(TokioIo::new(upgraded)).await),
        Err(error) => {
            tracing::debug!(%error, "upgrade to websocket did not come about");
            None
        }
    }
}

async fn server<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Runs a command on the channels of one connection.
pub(super) async fn command(upgrade: OnUpgrade, wish: Wish, command: Command) {
    if let Some(socket) = socket(upgrade).await {
        run(socket, wish, command).await;
    }
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>, wish: Wish, command: Command) {
    let (sink, stream) = socket.split();
    let (stdio, carrier) = stdio::pair(wish);
    let mut reading = std::pin::pin!(read(stream, wish.stdin.then_some(carrier.stdin), carrier.size));
    let writing = write(sink, wish, command(stdio), carrier.stdout, carrier.stderr);
    tokio::select! {
        biased;
        () = writing => {
            // Whoever closes with unread input resets the connection, and what was just sent may be lost.
            let _ = tokio::time::timeout(LINGER, reading).await;
        }
        () = &mut reading => {}
    }
}

/// Hands stdin on until the client is gone. Half-closing ends stdin only; one that nobody asked for has ended already.
async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: SplitStream<WebSocketStream<S>>,
    mut stdin: Option<Sender<Bytes>>,
    size: watch::Sender<Size>,
) {
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
            (RESIZE, _) => {
                if let Ok(new) = serde_json::from_slice(&rest) {
                    size.send_replace(new);
                }
            }
            _ => {}
        }
    }
}

/// Runs the command, sends what it writes, then how it ended.
async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    wish: Wish,
    command: impl Future<Output = End>,
    mut stdout: Receiver<Bytes>,
    mut stderr: Receiver<Bytes>,
) {
    let mut command = std::pin::pin!(command);
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    let mut end = None;
    let (mut out_open, mut err_open) = (true, true);
    while end.is_none() || out_open || err_open {
        let message = tokio::select! {
            biased;
            chunk = stdout.recv(), if out_open => match chunk {
                Some(_) if !wish.stdout => continue,
                Some(chunk) => framed(STDOUT, &chunk),
                None => { out_open = false; continue }
            },
            chunk = stderr.recv(), if err_open => match chunk {
                Some(_) if !wish.stderr => continue,
                Some(chunk) => framed(STDERR, &chunk),
                None => { err_open = false; continue }
            },
            ended = &mut command, if end.is_none() => { end = Some(ended); continue }
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let status = end.unwrap_or(End::Code(0)).status().to_string();
    if sink.send(framed(ERROR, status.as_bytes())).await.is_ok() {
        farewell(&mut sink).await;
    }
}

async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(sink: &mut SplitSink<WebSocketStream<S>, Message>) {
    // kubectl takes a close without a code for an error.
    let farewell = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    let _ = sink.send(Message::Close(Some(farewell))).await;
}

fn framed(channel: u8, data: &[u8]) -> Message {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    Message::Binary(message.into())
}

/// Gives `serve` the bytes that a tunnel carries, in binary messages of any size.
pub(super) async fn tunnel<F: Future<Output = ()>>(upgrade: OnUpgrade, serve: impl FnOnce(DuplexStream) -> F) {
    let Some(socket) = socket(upgrade).await else { return };
    let (mut sink, mut stream) = socket.split();
    let (near, far) = tokio::io::duplex(TUNNEL_MAX);
    let (mut from_near, mut to_near) = tokio::io::split(near);
    let inwards = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) if to_near.write_all(&data).await.is_err() => return,
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let outwards = async {
        let mut buffer = vec![0; TUNNEL_MAX];
        while let Ok(size @ 1..) = from_near.read(&mut buffer).await {
            if sink.send(Message::binary(buffer[..size].to_vec())).await.is_err() {
                return;
            }
        }
        farewell(&mut sink).await;
    };
    let mut inwards = std::pin::pin!(inwards);
    let serving = async { tokio::join!(serve(far), outwards) };
    tokio::select! {
        biased;
        _ = serving => {
            let _ = tokio::time::timeout(LINGER, inwards).await;
        }
        () = &mut inwards => {}
    }
}

#[cfg(test)]
mod tests;
