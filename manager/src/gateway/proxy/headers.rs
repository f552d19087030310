//! Which headers cross the proxy.

use http::Method;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::caller::Caller;
use super::claims;
use super::status::Problem;

/// Headers of one connection, not of the message (RFC 9110, 7.6.1, and what older software sends).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What a caller may not say about itself, or about the way its request came.
const CLAIMS: [HeaderName; 5] = [AUTHORIZATION, COOKIE, EXPECT, FORWARDED, HOST];

/// Beginnings of headers by which an API server, or a proxy before it, is told who asks.
const CLAIM_PREFIXES: [&str; 2] = ["x-remote-", "x-forwarded-"];

/// What the agent sees as the host of every request; it puts its own API server there.
const AGENT_HOST: HeaderValue = HeaderValue::from_static("kubernetes.default.svc");

/// Takes off whatever speaks of the caller or of its connection, and says who asks in our own words.
pub(super) fn clean_request(headers: &mut HeaderMap, caller: &Caller) -> Result<(), Problem> {
    remove_hop_by_hop(headers);
    for name in CLAIMS {
        headers.remove(name);
    }
    let claim = |name: &HeaderName| CLAIM_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
    let claims = headers.keys().filter(|name| claim(name) || claims::is_claim(name));
    for name in claims.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    headers.insert(HOST, AGENT_HOST);
    match caller {
        Caller::ClusterApi => Ok(()),
        Caller::Person { acts_as, .. } => claims::write(headers, acts_as),
    }
}

/// Takes off whatever speaks of the agent's connection.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(SET_COOKIE);
}

/// Says that a request of a method that usually has a body has none.
pub(super) fn say_no_body(method: &Method, headers: &mut HeaderMap) {
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_caller_cannot_say_who_it_is() {
        let mut sent = headers(&[
            ("Authorization", "Bearer secret"),
            ("Impersonate-User", "admin"),
            ("Impersonate-Group", "system:masters"),
            ("Impersonate-Uid", "1"),
            ("Impersonate-Extra-Scopes", "all"),
            ("X-Remote-User", "admin"),
            ("X-Remote-Extra-A", "b"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("Cookie", "a=b"),
            ("Host", "parent:6443"),
            ("Accept", "application/json"),
            ("User-Agent", "kubectl"),
            ("Content-Type", "application/json"),
        ]);
        clean_request(&mut sent, &Caller::ClusterApi).unwrap();
        let mut left: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-type", "host", "user-agent"]);
        assert_eq!(sent[HOST], AGENT_HOST);
    }

    #[test]
    fn headers_of_a_connection_end_with_it() {
        let mut sent = headers(&[
            ("Connection", "close, X-Mine"),
            ("X-Mine", "1"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("Proxy-Authorization", "Basic x"),
            ("Audit-Id", "1"),
            ("Warning", "299 - old"),
        ]);
        clean_response(&mut sent);
        let mut left: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["audit-id", "warning"]);
    }
}
