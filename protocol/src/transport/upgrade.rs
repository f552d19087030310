//! Upgrades (WebSocket, SPDY: exec, attach, port-forward, cp): after `101` both sides of a proxy carry raw bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use crate::task::{self, Kind};

/// Bytes that are held for each direction of a joined connection.
const BUFFER_BYTES: usize = 16 << 10;

/// A request's wish to upgrade, while its answer is awaited.
///
/// Both proxies of the tunnel use it alike: take it from the request that came in, send the request on, join it with the
/// answer. Its end of the connection stays an ordinary HTTP exchange when the answer is another than `101`.
#[derive(Debug)]
pub struct PendingUpgrade {
    protocol: HeaderValue,
    inbound: OnUpgrade,
}

impl PendingUpgrade {
    /// Takes the wish from a request, if it has one. Only HTTP/1.1 can carry it.
    pub fn take<B>(request: &mut Request<B>) -> Option<Self> {
        let protocol = wished(request.version(), request.headers())?;
        Some(Self { protocol, inbound: hyper::upgrade::on(request) })
    }

    /// Says the wish again, on a request that is about to be sent on.
    pub fn say(&self, headers: &mut HeaderMap) {
        say(&self.protocol, headers);
    }

    /// Joins both connections when the answer agrees to the upgrade. They carry bytes both ways until both directions
    /// have ended or one has failed. `ended` is then told how many bytes came in and went out, also when nothing did.
    /// Returns false, and does nothing, when the answer is an ordinary one.
    pub fn join<B>(self, response: &mut Response<B>, ended: impl FnOnce(u64, u64) + Send + 'static) -> bool {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return false;
        }
        let protocol = response.headers().get(UPGRADE).cloned().unwrap_or(self.protocol);
        say(&protocol, response.headers_mut());
        let (inbound, outbound) = (self.inbound, hyper::upgrade::on(response));
        drop(task::spawn("tunnel.upgrade", Kind::Request, async move {
            match tokio::try_join!(inbound, outbound) {
                Ok((inbound, outbound)) => {
                    let (received, sent) = splice(inbound, outbound).await;
                    ended(received, sent);
                }
                Err(error) => tracing::debug!(error = %error, "an upgrade was not completed"),
            }
        }));
        true
    }
}

/// Carries bytes both ways; gives back how many came from, and went to, the inbound side.
async fn splice(inbound: Upgraded, outbound: Upgraded) -> (u64, u64) {
    let mut inbound = Counted { io: TokioIo::new(inbound), read: 0, written: 0 };
    let mut outbound = TokioIo::new(outbound);
    if let Err(error) = copy_bidirectional_with_sizes(&mut inbound, &mut outbound, BUFFER_BYTES, BUFFER_BYTES).await {
        tracing::debug!(error = %error, "an upgraded connection broke");
    }
    (inbound.read, inbound.written)
}

/// Counts what goes through, also when it breaks off.
struct Counted<T> {
    io: T,
    read: u64,
    written: u64,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.read += (buf.filled().len() - before) as u64;
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.written += *written as u64;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn wished(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    if version != Version::HTTP_11 {
        return None;
    }
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named = named.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| named).cloned()
}

fn say(protocol: &HeaderValue, headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_needs_both_headers_and_http_1_1() {
        let ask = |version, lines: &[(&'static str, &'static str)]| {
            let headers = lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            wished(version, &headers).map(|protocol| protocol.to_str().unwrap().to_owned())
        };
        let spdy = [("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")];
        assert_eq!(ask(Version::HTTP_11, &spdy).as_deref(), Some("SPDY/3.1"));
        assert_eq!(ask(Version::HTTP_2, &spdy), None);
        assert_eq!(ask(Version::HTTP_11, &spdy[..1]), None);
        assert_eq!(ask(Version::HTTP_11, &spdy[1..]), None);
    }
}
