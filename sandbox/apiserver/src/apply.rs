//! Server-side apply: who owns which fields, driven by the schema.

pub(crate) mod compare;
pub(crate) mod fieldset;
pub(crate) mod managed;
pub(crate) mod merge;
pub(crate) mod ownership;
pub(crate) mod typecheck;
