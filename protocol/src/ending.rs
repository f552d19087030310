//! How a daemon that stops ends what has no end of its own: watches, followed logs, upgraded connections.
//!
//! **Guarantees**: a watch ends between two events, as an API server ends one, so its reader goes on from the last event
//! that it saw. An upgraded connection over which nothing moves is told goodbye in its own protocol (WebSocket close 1001,
//! SPDY GOAWAY); one that copies gets time to finish. **Invariant**: an answer that has an end of its own is never cut
//! short as if it had ended: half a list would be an untruth.

mod carry;
mod framing;

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

pub(crate) use self::carry::carry;
use self::framing::Framing;

/// The two acts of a daemon's end, as its exchanges hear of them.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// End what has no end, finish what has one.
    pub drain: CancellationToken,
    /// End now.
    pub cut: CancellationToken,
}

/// Whether the answer to a request goes on until somebody ends it: a watch or a followed log.
pub fn has_no_end(method: &Method, uri: &Uri) -> bool {
    // By the API's own rule a flag is set unless it says "false" or "0".
    let set = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        matches!(name, "watch" | "follow") && !value.eq_ignore_ascii_case("false") && value != "0"
    };
    let mut path = uri.path().split('/').skip(1);
    let group = match path.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => 0,
    };
    let old_watch = group > 0 && path.nth(group) == Some("watch");
    *method == Method::GET && (old_watch || uri.query().is_some_and(|query| query.split('&').any(set)))
}

/// A body that, if it has no end of its own, ends when its daemon drains.
#[derive(Debug)]
pub struct EndingBody<B> {
    body: B,
    endless: Option<Endless>,
}

#[derive(Debug)]
struct Endless {
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    framing: Framing,
}

impl<B: Body> EndingBody<B> {
    /// Wraps the body of an answer; `endless` says that its request asked for one without end.
    pub fn wrap(response: Response<B>, endless: bool, ending: &Ending) -> Response<Self> {
        // One of a known length has an end, whatever was asked for.
        let endless = endless && response.status() == StatusCode::OK && response.body().size_hint().exact().is_none();
        let framing = framing_of(response.headers());
        response.map(|body| {
            let drain = || Box::pin(ending.drain.clone().cancelled_owned());
            Self { body, endless: endless.then(|| Endless { drain: drain(), framing }) }
        })
    }

    /// Whether it ends when its daemon drains.
    pub fn is_endless(&self) -> bool {
        self.endless.is_some()
    }
}

fn framing_of(headers: &HeaderMap) -> Framing {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/vnd.kubernetes.protobuf") {
        Framing::kubernetes_protobuf()
    } else if kind.starts_with("application/json") {
        Framing::lines()
    } else {
        Framing::none()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for EndingBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let Some(endless) = &mut this.endless else { return Pin::new(&mut this.body).poll_frame(cx) };
        if endless.framing.is_whole() && endless.drain.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            endless.framing.feed(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
