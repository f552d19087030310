//! One HTTP/1.1 exchange per stream: a proxied Kubernetes request, its answer, and what an upgrade makes of both.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;

use super::{Error, Priority, Session, Stream, Tag};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, REQUEST_HEAD_TIMEOUT};
use crate::task::{self, Kind};

/// Body of a proxied answer. Dropped before its end, it resets the stream, so that the other side stops working for it.
#[derive(Debug)]
pub struct ExchangeBody {
    inner: Incoming,
    connection: Option<AbortHandle>,
}

/// Sends one request over a stream of its own and waits for the head of the answer, without a bound: callers know theirs.
///
/// The request needs a `Host` header and a URI in origin form. On `101 Switching Protocols` use
/// `hyper::upgrade::on(response)`; the stream then carries raw bytes.
///
/// # Errors
/// What [`Session::open`] gives, or [`Error::Exchange`].
pub async fn http_exchange<B>(session: &Session, request: Request<B>) -> Result<Response<ExchangeBody>, Error>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let stream = session.open(Tag::Http, Priority::Bulk).await?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(HTTP_HEADERS_MAX)
        .max_buf_size(HTTP_HEAD_BYTES_MAX as usize)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Error::Exchange)?;
    let driver = task::spawn("tunnel.exchange", Kind::Request, async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = %error, "exchange ended early");
        }
    });
    let mut guard = Guard(Some(driver.abort_handle()));
    let response = sender.send_request(request).await.map_err(Error::Exchange)?;
    let connection = guard.0.take();
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    Ok(response.map(|inner| ExchangeBody { inner, connection: connection.filter(|_| !upgraded) }))
}

/// Serves the one exchange of an `H` stream with `service`, upgrades included.
///
/// # Errors
/// [`Error::Exchange`] when the peer broke off or the request was no HTTP.
pub async fn serve_exchange<S, B>(stream: Stream, service: S) -> Result<(), Error>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::Future: Send + 'static,
    S: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .max_headers(HTTP_HEADERS_MAX)
        .max_buf_size(HTTP_HEAD_BYTES_MAX as usize)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
        .map_err(Error::Exchange)
}

/// Stops the connection's driver when the caller gives up before the answer.
struct Guard(Option<AbortHandle>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.abort();
        }
    }
}

impl Body for ExchangeBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) {
            self.connection = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ExchangeBody {
    fn drop(&mut self) {
        let Some(connection) = &self.connection else { return };
        if !self.inner.is_end_stream() {
            connection.abort();
        }
    }
}
