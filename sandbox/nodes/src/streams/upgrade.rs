//! From a request to a connection of another protocol: WebSocket or SPDY.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Body, Refusal};

/// Header by which SPDY clients offer what to speak on their streams.
const STREAM_VERSION: &str = "x-stream-protocol-version";
/// Header that names what the server could have spoken.
const ACCEPTED: &str = "x-accepted-stream-protocol-versions";
const SPDY: &str = "SPDY/3.1";

/// What a client wants to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// With the client's key and the subprotocols that it offers.
    WebSocket { key: String, protocols: Vec<String> },
    /// With the stream protocols that it offers.
    Spdy { protocols: Vec<String> },
}

impl Offer {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let upgrade = words(headers, "upgrade");
        let asks = |wanted: &str| upgrade.iter().any(|word| word.eq_ignore_ascii_case(wanted));
        if asks("websocket") {
            let key = words(headers, "sec-websocket-key").pop();
            let key = key.ok_or_else(|| Refusal::bad_request("no Sec-WebSocket-Key"))?;
            return Ok(Self::WebSocket { key, protocols: words(headers, "sec-websocket-protocol") });
        }
        if asks(SPDY) {
            return Ok(Self::Spdy { protocols: words(headers, STREAM_VERSION) });
        }
        Err(Refusal::bad_request("Upgrade request required"))
    }

    /// Chooses the best of `known` that the client offers.
    pub(super) fn choose(&self, known: &[&'static str]) -> Result<&'static str, Refusal> {
        let (Self::WebSocket { protocols, .. } | Self::Spdy { protocols }) = self;
        let best = known.iter().find(|known| protocols.iter().any(|offered| offered == *known));
        best.copied().ok_or_else(|| {
            let text = format!(
                "unable to upgrade: unable to negotiate protocol: client supports {protocols:?}, server accepts {known:?}"
            );
            match self {
                Self::WebSocket { .. } => Refusal::bad_request(text),
                Self::Spdy { .. } => Refusal { code: 403, reason: "Forbidden", message: text },
            }
        })
    }

    /// The answer that switches protocols.
    pub(super) fn accept(&self, protocol: &'static str) -> Result<Response<Body>, Refusal> {
        let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        match self {
            Self::WebSocket { key, .. } => {
                let key = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                let key = key.map_err(|error| Refusal::bad_request(error.to_string()))?;
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            }
            Self::Spdy { .. } => {
                headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
                headers.insert(STREAM_VERSION, HeaderValue::from_static(protocol));
                headers.insert(ACCEPTED, HeaderValue::from_static(protocol));
            }
        }
        Ok(response)
    }
}

/// Takes the connection that a request came on, if that can be had.
pub(super) fn take<B>(mut request: Request<B>) -> Result<OnUpgrade, Refusal> {
    if request.extensions().get::<OnUpgrade>().is_none() {
        return Err(Refusal::bad_request("unable to upgrade: the connection offers none"));
    }
    Ok(hyper::upgrade::on(&mut request))
}

fn words(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}
