//! Answers that a drain waits for, and those that it does not.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Marks a response that has no end of its own: it ends itself when asked to drain, and nobody waits for it.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Endless;

/// A body that counts as an open answer of its connection until it is dropped.
#[derive(Debug)]
pub(super) struct Held<B> {
    body: B,
    _open: Option<TaskTrackerToken>,
}

impl<B> Held<B> {
    pub(super) fn wrap(mut response: Response<B>, open: TaskTrackerToken) -> Response<Self> {
        let endless = response.extensions_mut().remove::<Endless>().is_some();
        response.map(|body| Self { body, _open: Some(open).filter(|_| !endless) })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Held<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
