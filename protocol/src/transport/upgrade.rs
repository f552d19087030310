//! Upgrades (WebSocket, SPDY: exec, attach, port-forward, cp): after `101` both sides of a proxy carry raw bytes.

use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;

use crate::ending::{self, Ending};
use crate::task::{self, Kind};

/// A request's wish to upgrade, while its answer is awaited.
///
/// Both proxies of the tunnel use it alike: take it from the request that came in, send the request on, join it with the
/// answer. Its end of the connection stays an ordinary HTTP exchange when the answer is another than `101`.
#[derive(Debug)]
pub struct PendingUpgrade {
    protocol: HeaderValue,
    /// Until it is joined.
    inbound: Option<OnUpgrade>,
}

impl PendingUpgrade {
    /// Takes the wish from a request, if it has one. Only HTTP/1.1 can carry it.
    pub fn take<B>(request: &mut Request<B>) -> Option<Self> {
        let protocol = wished(request.version(), request.headers())?;
        Some(Self { protocol, inbound: Some(hyper::upgrade::on(request)) })
    }

    /// Says the wish again, on a request that is about to be sent on.
    pub fn say(&self, headers: &mut HeaderMap) {
        say(&self.protocol, headers);
    }

    /// Joins both connections when the answer agrees to the upgrade. They carry bytes both ways until both directions
    /// have ended, one has failed, or the daemon ends. `ended` is then told how many bytes came in and went out; it is
    /// dropped unasked when the upgrade was not completed. Returns false, and does nothing, when the answer is an ordinary
    /// one.
    pub fn join<B>(
        mut self,
        response: &mut Response<B>,
        ending: Ending,
        ended: impl FnOnce(u64, u64) + Send + 'static,
    ) -> bool {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return false;
        }
        let Some(inbound) = self.inbound.take() else { return false };
        let protocol = response.headers().get(UPGRADE).cloned().unwrap_or_else(|| self.protocol.clone());
        say(&protocol, response.headers_mut());
        let outbound = hyper::upgrade::on(response);
        drop(task::spawn("tunnel.upgrade", Kind::Request, async move {
            match tokio::try_join!(inbound, outbound) {
                Ok((inbound, outbound)) => {
                    let (received, sent) = ending::carry(inbound, outbound, protocol.as_bytes(), &ending).await;
                    ended(received, sent);
                }
                Err(error) => tracing::debug!(error = %error, "an upgrade was not completed"),
            }
        }));
        true
    }
}

impl Drop for PendingUpgrade {
    /// Ends the inbound connection in order when hyper hands it over though nobody upgraded, as it does when the ordinary
    /// answer was the connection's last one. Dropped instead, a stream of the tunnel is reset, and the answer lost with it.
    fn drop(&mut self) {
        let Some(inbound) = self.inbound.take().filter(|_| Handle::try_current().is_ok()) else { return };
        drop(task::spawn("tunnel.refused", Kind::Request, async move {
            if let Ok(inbound) = inbound.await {
                let _ = TokioIo::new(inbound).shutdown().await;
            }
        }));
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
