//! One HTTP/1.1 exchange per stream: a proxied Kubernetes request, its answer, and what an upgrade makes of both.

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{Error, Priority, Session, Stream, Tag};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, REQUEST_HEAD_TIMEOUT};
use crate::task::{self, Kind};

/// Body of a proxied answer. Dropped before its end, it resets the stream, so that the other side stops working for it.
pub struct ExchangeBody {
    inner: Incoming,
    driver: Driver,
}

/// The connection of one exchange, turned by whoever waits for what comes over it. A task of its own would cost two changes
/// of task, often of thread, for each piece.
struct Driver(Option<BoxFuture<'static, hyper::Result<()>>>);

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
    let mut driver = Driver(Some(connection.with_upgrades().boxed()));
    let mut answering = pin!(sender.send_request(request));
    let answered = poll_fn(|cx| {
        driver.turn(cx);
        answering.as_mut().poll(cx)
    });
    let response = answered.await.map_err(Error::Exchange)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        driver.go_alone();
    }
    Ok(response.map(|inner| ExchangeBody { inner, driver }))
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

impl Driver {
    /// Moves what can be moved now.
    fn turn(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.0 else { return };
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            self.0 = None;
            if let Err(error) = ended {
                tracing::debug!(error = %error, "exchange ended early");
            }
        }
    }

    /// Goes on until the stream is handed to whoever upgraded it.
    fn go_alone(&mut self) {
        let Some(connection) = self.0.take() else { return };
        task::spawn("tunnel.exchange", Kind::Request, async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "exchange ended early");
            }
        });
    }
}

impl Body for ExchangeBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.inner).poll_frame(cx);
        if frame.is_pending() {
            this.driver.turn(cx);
            frame = Pin::new(&mut this.inner).poll_frame(cx);
        }
        if matches!(frame, Poll::Ready(None)) {
            this.driver.turn(cx);
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
        if self.inner.is_end_stream() {
            // All has come: the stream is ended in order. Otherwise it is reset as it is dropped.
            self.driver.turn(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl fmt::Debug for ExchangeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}
