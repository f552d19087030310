//! Bodies of the proxy's answers: our own words, or what comes from the agent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use lattice_protocol::transport::ExchangeBody;
use tokio::sync::OwnedSemaphorePermit;

/// The body of an answer. One that comes from an agent holds its place there until it ends or is dropped.
#[derive(Debug)]
pub(super) enum ProxyBody {
    /// Our own words.
    Text(Full<Bytes>),
    /// The agent's.
    Exchange {
        /// What arrives.
        body: ExchangeBody,
        /// Its place among the agent's exchanges.
        _place: OwnedSemaphorePermit,
    },
}

impl ProxyBody {
    pub(super) fn text(bytes: Bytes) -> Self {
        Self::Text(Full::new(bytes))
    }

    pub(super) fn exchange(body: ExchangeBody, place: OwnedSemaphorePermit) -> Self {
        Self::Exchange { body, _place: place }
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Text(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Exchange { body, .. } => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(body) => body.is_end_stream(),
            Self::Exchange { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(body) => body.size_hint(),
            Self::Exchange { body, .. } => body.size_hint(),
        }
    }
}
