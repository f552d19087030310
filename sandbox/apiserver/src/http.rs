//! Requests and answers, whatever brought them.

pub(crate) mod accept;
mod admin;
pub(crate) mod handle;
pub(crate) mod health;
pub(crate) mod method;
mod pages;
pub(crate) mod path;
pub(crate) mod respond;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// A request after its transport was taken off.
pub(crate) type Request = http::Request<Body>;
/// An answer.
pub(crate) type Response = http::Response<Body>;

/// Makes a body of bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
