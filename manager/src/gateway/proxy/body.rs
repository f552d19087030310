//! Bodies of the proxy's answers: our own words, or what comes from the agent.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::audit::Audit;
use super::place::Place;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use lattice_protocol::ending::EndingBody;
use lattice_protocol::transport::ExchangeBody;

/// The body of an answer. One that comes from an agent holds its place there until it ends or is dropped.
#[derive(Debug)]
pub(super) enum ProxyBody {
    /// Our own words.
    Text {
        /// They.
        body: Full<Bytes>,
        /// Says in the end what became of the request.
        _audit: Option<Audit>,
    },
    /// The agent's.
    Exchange {
        /// What arrives.
        body: EndingBody<ExchangeBody>,
        /// Its place among the agent's exchanges.
        _place: Place,
        /// Says in the end what became of the request.
        audit: Audit,
    },
}

impl ProxyBody {
    pub(super) fn text(bytes: Bytes) -> Self {
        Self::Text { body: Full::new(bytes), _audit: None }
    }

    /// Has `audit` written when the body has gone.
    pub(super) fn audited(self, audit: Audit) -> Self {
        match self {
            Self::Text { body, .. } => Self::Text { body, _audit: Some(audit) },
            exchange @ Self::Exchange { .. } => exchange,
        }
    }

    pub(super) fn exchange(body: EndingBody<ExchangeBody>, place: Place, audit: Audit) -> Self {
        Self::Exchange { body, _place: place, audit }
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Text { body, .. } => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Exchange { body, audit, .. } => {
                let polled = Pin::new(body).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    audit.sent(frame.data_ref().map_or(0, Bytes::len));
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text { body, .. } => body.is_end_stream(),
            Self::Exchange { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text { body, .. } => body.size_hint(),
            Self::Exchange { body, .. } => body.size_hint(),
        }
    }
}
