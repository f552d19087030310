//! Paths that are no resource: health, version, discovery, schemas, keys.

use std::sync::Arc;

use super::accept::{self, Accepted, Place};
use super::health;
use super::respond::Answer;
use crate::core::Core;
use crate::discovery;
use crate::kinds::{Kinds, is_builtin_group};
use crate::options::Query;
use crate::status::{Result, Status};
use crate::view::Include;

/// A request for such a path.
pub(super) struct Page<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) parts: &'a http::request::Parts,
    pub(super) query: &'a Query,
    pub(super) path: &'a str,
}

impl Page<'_> {
    fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns where the client reached the server.
    fn host(&self) -> &str {
        self.parts.uri.authority().map_or_else(|| self.header("host"), http::uri::Authority::as_str)
    }

    /// Answers what has one form only, or nothing where the path is one of discovery.
    fn plain(&self, kinds: &Kinds, segments: &[&str]) -> Result<Option<Answer>> {
        let reads = matches!(self.parts.method.as_str(), "GET" | "HEAD");
        // Only discovery and the version are found below a slash at the end.
        let open = matches!(segments, ["api" | "apis", ..] | ["version"] | []);
        if !open && self.path.ends_with('/') {
            return Err(Status::page_not_found());
        }
        Ok(Some(match segments {
            [path @ ("healthz" | "livez" | "readyz"), below @ ..] => health::answer(path, below, self.query)?,
            ["version"] if self.parts.method != http::Method::GET => return Err(Status::method_not_allowed()),
            ["version"] if !accept::takes_json(self.header("accept")) => {
                let text = "406: Not Acceptable\n\nAvailable representations: application/json";
                return Err(Status::new(406, "NotAcceptable", text).with_empty_details());
            }
            ["version"] => {
                let text = serde_json::to_string_pretty(&discovery::version()).unwrap_or_default();
                Answer::raw_json(text, "application/json")
            }
            ["api"] | ["api", _] | ["apis", _, _] if !reads => return Err(Status::method_not_allowed()),
            ["metrics"] => Answer::text(self.core.metrics.text(self.core.store.revision())),
            [".well-known", "openid-configuration"] => {
                let issuer = crate::auth::tokens::Tokens::issuer();
                Answer::raw_json(discovery::issuer(issuer, self.host()).to_string(), "application/json")
            }
            // Tokens are signed with a secret: there is no key that others could check them with.
            ["openid", "v1", "jwks"] => Answer::raw_json("{\"keys\":[]}".to_owned(), "application/jwk-set+json"),
            ["openapi", ..] => return crate::openapi::answer(kinds, segments, self.header("accept")).map(Some),
            ["apis" | "api", ..] | [] => return Ok(None),
            _ => return Err(Status::page_not_found()),
        }))
    }

    /// Answers the request.
    pub(super) fn answer(&self, accepted: &mut Accepted) -> Result<Answer> {
        let kinds = self.core.registry.now();
        let segments: Vec<&str> = self.path.split('/').filter(|segment| !segment.is_empty()).collect();
        // With nothing between two slashes a path of a built-in group leads to no resource, another nowhere.
        if self.path.contains("//") {
            let group = match segments.as_slice() {
                ["api", ..] => Some(""),
                ["apis", group, ..] => Some(*group),
                _ => None,
            };
            let known = group.is_some_and(is_builtin_group) && !self.path.starts_with("//");
            return Err(if known { Status::no_resource() } else { Status::page_not_found() });
        }
        if let Some(answer) = self.plain(&kinds, &segments)? {
            return Ok(answer);
        }
        let place = if segments == ["api", "v1"] { Place::BuiltInObject } else { Place::Other };
        *accepted = accept::choose(self.header("accept"), Include::default(), place, false)?;
        if accepted.aggregated && segments.len() == 1 {
            return Ok(discovery::aggregated(&kinds, segments[0] == "api", self.header("if-none-match")));
        }
        if accepted.aggregated || accepted.shown.is_table() || accepted.shown.is_partial() {
            return Err(accept::refusal(Place::Other));
        }
        let value = match segments.as_slice() {
            [] => discovery::paths(&kinds),
            ["api"] => discovery::core_versions(self.host()),
            ["apis"] => discovery::groups(&kinds),
            ["apis", group] => discovery::group(&kinds, group)?,
            ["api", version] => discovery::resources(&kinds, "", version)?,
            ["apis", group, version] => discovery::resources(&kinds, group, version)?,
            _ => return Err(Status::page_not_found()),
        };
        Ok(Answer::ok(value))
    }
}
