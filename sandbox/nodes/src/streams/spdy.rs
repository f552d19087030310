//! SPDY/3.1, the server's side, as far as Kubernetes clients use it: they open streams, both sides send data.
//!
//! Source: the SPDY/3.1 draft, and what `client-go` sends. Left out, since no such client uses it: settings, flow control
//! (a stream that is not read holds up its connection, as with Kubernetes' own servers), streams that the server opens.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader, BufWriter};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod frame;
mod headers;

use frame::{Control, Out};

/// Streams that may be open on one connection at a time. Fewer, and a busy port-forward is refused; each costs some KiB.
const STREAMS_MAX: usize = 512;
/// Chunks that may wait for the reader of one stream, or for the client.
const CHUNKS_MAX: usize = 16;
/// Bytes of one chunk.
const CHUNK: usize = 32 << 10;

/// How often a client is asked whether it is still there: while a stream is not read, nothing else tells.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A stream that the client opened.
#[derive(Debug)]
pub(super) struct Stream {
    /// With lower-case names.
    pub(super) headers: BTreeMap<String, String>,
    /// What the client sends; `None` once it has sent all, or is gone.
    pub(super) input: Receiver<Bytes>,
    /// What the client gets.
    pub(super) output: Output,
}

/// The sending side of a stream.
#[derive(Clone, Debug)]
pub(super) struct Output {
    id: u32,
    out: Sender<Out>,
    /// The client wants no more of it.
    reset: CancellationToken,
    /// Lives as long as anybody may send.
    _alive: Arc<()>,
}

/// Nobody reads a stream any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Output {
    /// Sends some bytes.
    pub(super) async fn send(&self, data: Bytes) -> Result<(), Gone> {
        tokio::select! {
            biased;
            () = self.reset.cancelled() => Err(Gone),
            sent = self.out.send(Out::Data { id: self.id, data }) => sent.map_err(|_| Gone),
        }
    }

    /// Says that all was sent.
    pub(super) async fn finish(&self) {
        if !self.reset.is_cancelled() {
            let _ = self.out.send(Out::Finish { id: self.id }).await;
        }
    }

    /// Says whether the client wants no more.
    pub(super) fn is_reset(&self) -> bool {
        self.reset.is_cancelled()
    }

    /// Waits until the client wants no more.
    pub(super) async fn reset(&self) {
        self.reset.cancelled().await;
    }
}

/// Serves the streams of one connection with `serve`, until that ends or the client is gone.
pub(super) async fn serve<F>(io: impl AsyncRead + AsyncWrite + Send, serve: impl FnOnce(Receiver<Stream>) -> F)
where
    F: Future<Output = ()>,
{
    let (read, write) = tokio::io::split(io);
    let (opened, streams) = mpsc::channel(STREAMS_MAX);
    let (out, queue) = mpsc::channel(CHUNKS_MAX);
    let mut reading = std::pin::pin!(reading(read, opened, out.clone()));
    let mut writing = std::pin::pin!(frame::write_all(BufWriter::with_capacity(CHUNK, write), queue));
    let work = async {
        serve(streams).await;
        let _ = out.send(Out::End).await;
        // The writer ends when that is written.
        std::future::pending::<()>().await;
    };
    let asking = async {
        let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        // A server's numbers are even.
        for id in (2..u32::MAX).step_by(2).cycle() {
            pings.tick().await;
            let _ = out.send(Out::Ping { id }).await;
        }
    };
    tokio::select! {
        biased;
        ended = &mut reading => {
            if let Err(error) = ended {
                tracing::debug!(%error, "spdy connection broke");
            }
        }
        written = &mut writing => {
            if written.is_ok() {
                // Whoever closes with unread input resets the connection, and what was just sent may be lost.
                let _ = tokio::time::timeout(frame::LINGER, reading).await;
            }
        }
        () = work => {}
        () = asking => {}
    }
}

/// One open stream, as the reader knows it.
struct Open {
    input: Option<Sender<Bytes>>,
    reset: CancellationToken,
    alive: Weak<()>,
}

async fn reading(read: impl AsyncRead + Unpin, opened: Sender<Stream>, out: Sender<Out>) -> io::Result<()> {
    let mut read = BufReader::with_capacity(CHUNK, read);
    let mut inflate = headers::Inflate::new();
    let mut streams: HashMap<u32, Open> = HashMap::new();
    let result = async {
        while let Some(head) = frame::Head::read(&mut read).await? {
            match head {
                frame::Head::Data { id, finish, size } => {
                    let open = streams.get_mut(&id);
                    data(&mut read, size, open.as_deref().and_then(|open| open.input.as_ref())).await?;
                    if let Some(open) = open.filter(|_| finish) {
                        open.input = None;
                    }
                }
                frame::Head::Control(control) => match control {
                    Control::Open { id, finish, block } => {
                        let headers = headers::parse(&inflate.next(&block)?)?;
                        streams.retain(|_, open| open.alive.strong_count() > 0);
                        if streams.len() >= STREAMS_MAX {
                            send(&out, Out::Refuse { id }).await?;
                            continue;
                        }
                        let (input, input_end) = mpsc::channel(CHUNKS_MAX);
                        let reset = CancellationToken::new();
                        let alive = Arc::new(());
                        let open = Arc::downgrade(&alive);
                        let output = Output { id, out: out.clone(), reset: reset.clone(), _alive: alive };
                        streams.insert(id, Open { input: (!finish).then_some(input), reset, alive: open });
                        send(&out, Out::Accept { id }).await?;
                        let stream = Stream { headers, input: input_end, output };
                        // Whoever takes no more streams has ended.
                        let _ = opened.send(stream).await;
                    }
                    Control::Reset { id } => {
                        if let Some(open) = streams.remove(&id) {
                            open.reset.cancel();
                        }
                    }
                    Control::Headers { block } => drop(inflate.next(&block)?),
                    Control::Ping { id } if id % 2 == 1 => send(&out, Out::Pong { id }).await?,
                    // The answer to a question of the server's.
                    Control::Ping { .. } | Control::Other => {}
                },
            }
        }
        Ok(())
    }
    .await;
    for open in streams.values() {
        open.reset.cancel();
    }
    result
}

async fn send(out: &Sender<Out>, frame: Out) -> io::Result<()> {
    out.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Hands the bytes of a data frame on; drops them where nobody reads.
async fn data(read: &mut (impl AsyncRead + Unpin), size: usize, to: Option<&Sender<Bytes>>) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let mut chunk = vec![0; left.min(CHUNK)];
        read.read_exact(&mut chunk).await?;
        left -= chunk.len();
        if let Some(to) = to {
            let _ = to.send(chunk.into()).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
