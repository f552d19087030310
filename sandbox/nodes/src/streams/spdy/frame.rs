//! Frames on the wire. All numbers are big-endian; a frame is eight bytes and up to 2^24-1 bytes more.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::Receiver;

use super::headers;

/// How long a client may take to hang up after the end.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// Largest control frame that is taken. Clients of Kubernetes send some hundred bytes.
const CONTROL_MAX: usize = 64 << 10;
/// First two bytes of a control frame: its mark, and version 3.
const CONTROL: u16 = 0x8003;
const FINISH: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const HEADERS: u16 = 8;
/// Status of a reset: the stream was not even looked at.
const REFUSED_STREAM: u32 = 3;

/// The beginning of a frame; the bytes of a data frame follow on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    Data { id: u32, finish: bool, size: usize },
    Control(Control),
}

/// What a client may say beside data.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control {
    Open { id: u32, finish: bool, block: Vec<u8> },
    Reset { id: u32 },
    Headers { block: Vec<u8> },
    Ping { id: u32 },
    Other,
}

/// What the server says.
#[derive(Debug)]
pub(super) enum Out {
    Accept {
        id: u32,
    },
    Refuse {
        id: u32,
    },
    Data {
        id: u32,
        data: Bytes,
    },
    Finish {
        id: u32,
    },
    Pong {
        id: u32,
    },
    /// A question whether the client is still there, with a number of the server's.
    Ping {
        id: u32,
    },
    /// Nothing more.
    End,
}

impl Head {
    /// Reads the next frame, all of a control frame; `None` at the end.
    pub(super) async fn read(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut head = [0; 8];
        if read.read(&mut head[..1]).await? == 0 {
            return Ok(None);
        }
        read.read_exact(&mut head[1..]).await?;
        let [a, b, c, d, flags, size @ ..] = head;
        let finish = flags & FINISH != 0;
        let size = size.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if a & 0x80 == 0 {
            return Ok(Some(Self::Data { id: u32::from_be_bytes([a, b, c, d]), finish, size }));
        }
        if u16::from_be_bytes([a, b]) != CONTROL {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame of SPDY/3"));
        }
        if size > CONTROL_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a control frame is too large"));
        }
        let mut rest = vec![0; size];
        read.read_exact(&mut rest).await?;
        Control::parse(u16::from_be_bytes([c, d]), finish, rest).map(Self::Control).map(Some)
    }
}

impl Control {
    fn parse(kind: u16, finish: bool, mut rest: Vec<u8>) -> io::Result<Self> {
        let short = || io::Error::new(io::ErrorKind::InvalidData, "a control frame is too short");
        let number = |rest: &[u8]| rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(short);
        let mut block = |from: usize| if rest.len() < from { Err(short()) } else { Ok(rest.split_off(from)) };
        match kind {
            // The stream, one it belongs to, priority and slot; then headers.
            SYN_STREAM => {
                let block = block(10)?;
                Ok(Self::Open { id: number(&rest)? & 0x7fff_ffff, finish, block })
            }
            HEADERS | SYN_REPLY => Ok(Self::Headers { block: block(4)? }),
            RST_STREAM => Ok(Self::Reset { id: number(&rest)? & 0x7fff_ffff }),
            PING => Ok(Self::Ping { id: number(&rest)? }),
            _ => Ok(Self::Other),
        }
    }
}

/// Writes what is queued, and what is ready at once in one go; ends after [`Out::End`].
pub(super) async fn write_all(mut write: impl AsyncWrite + Unpin, mut queue: Receiver<Out>) -> io::Result<()> {
    let mut deflate = headers::Deflate::default();
    while let Some(mut next) = queue.recv().await {
        loop {
            match next {
                Out::End => return write.shutdown().await,
                Out::Data { id, data } => {
                    write.write_all(&data_head(id, 0, data.len())).await?;
                    write.write_all(&data).await?;
                }
                Out::Finish { id } => write.write_all(&data_head(id, FINISH, 0)).await?,
                Out::Accept { id } => {
                    let mut rest = id.to_be_bytes().to_vec();
                    rest.extend(deflate.next(&headers::none()));
                    write.write_all(&control(SYN_REPLY, &rest)).await?;
                }
                Out::Refuse { id } => {
                    let rest = [id.to_be_bytes(), REFUSED_STREAM.to_be_bytes()].concat();
                    write.write_all(&control(RST_STREAM, &rest)).await?;
                }
                Out::Pong { id } | Out::Ping { id } => write.write_all(&control(PING, &id.to_be_bytes())).await?,
            }
            match queue.try_recv() {
                Ok(more) => next = more,
                Err(_) => break,
            }
        }
        write.flush().await?;
    }
    write.shutdown().await
}

fn data_head(id: u32, flags: u8, size: usize) -> [u8; 8] {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&id.to_be_bytes());
    head[4..].copy_from_slice(&u32::try_from(size).unwrap_or_default().to_be_bytes());
    // No frame is so large that this byte is part of its size.
    head[4] = flags;
    head
}

pub(super) fn control(kind: u16, rest: &[u8]) -> Vec<u8> {
    let size = u32::try_from(rest.len()).unwrap_or_default();
    [&CONTROL.to_be_bytes()[..], &kind.to_be_bytes(), &size.to_be_bytes(), rest].concat()
}
