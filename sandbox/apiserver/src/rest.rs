//! What requests for objects do, whatever brought them.

pub(crate) mod create;
pub(crate) mod decode;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod ownership;
pub(crate) mod patch;
mod quote;
pub(crate) mod scale;
mod sent;
pub(crate) mod serve;
mod unreadable;
pub(crate) mod update;
pub(crate) mod watch;

use std::sync::Arc;

use serde_json::Value;

use crate::auth::User;
use crate::kinds::Resource;
use crate::options::WriteOptions;

/// A write as a request asks for it.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) resource: &'a Arc<Resource>,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// The path below the object, or empty.
    pub(crate) subresource: &'a str,
    pub(crate) options: WriteOptions,
    pub(crate) user: &'a User,
}

/// What a write came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) object: Value,
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}
