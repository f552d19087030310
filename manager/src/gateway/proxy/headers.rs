//! Which headers cross the proxy.

use http::Method;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use lattice_protocol::claims::{ACTS_AS, AGENT, USER};

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
const CLAIM_PREFIXES: [&str; 3] = ["x-remote-", "x-forwarded-", "lattice-"];

/// Protocols that Kubernetes upgrades to. Another (`h2c`) would open a way past whoever checks one request at a time.
const UPGRADES: [&str; 2] = ["websocket", "spdy/3.1"];

/// Beginning of the WebSocket subprotocol in which browsers send a bearer token.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

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
    leave_token_protocols(headers);
    headers.insert(HOST, AGENT_HOST);
    match caller {
        Caller::ClusterApi => headers.insert(ACTS_AS, HeaderValue::from_static(AGENT)),
        Caller::Person { .. } => headers.insert(ACTS_AS, HeaderValue::from_static(USER)),
    };
    match caller {
        Caller::ClusterApi => Ok(()),
        Caller::Person { acts_as, .. } => claims::write(headers, acts_as),
    }
}

/// Whether a wish to upgrade is for a protocol that is carried here.
pub(super) fn upgrades(headers: &HeaderMap) -> bool {
    let wished = headers.get(UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
    UPGRADES.iter().any(|known| wished.eq_ignore_ascii_case(known.as_bytes()))
}

/// The bearer token that a browser sends as a WebSocket subprotocol, still encoded.
pub(super) fn token_protocol(headers: &HeaderMap) -> Option<&str> {
    protocols(headers).find_map(|protocol| protocol.strip_prefix(TOKEN_PROTOCOL))
}

/// Takes a bearer token off the WebSocket subprotocols: it is the caller's at the parent.
fn leave_token_protocols(headers: &mut HeaderMap) {
    if token_protocol(headers).is_none() {
        return;
    }
    let left: Vec<_> = protocols(headers).filter(|protocol| !protocol.starts_with(TOKEN_PROTOCOL)).collect();
    let left = HeaderValue::from_str(&left.join(", ")).ok().filter(|value| !value.is_empty());
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(left) = left {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, left);
    }
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
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
    use crate::store::access::User;

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
        assert_eq!(left, ["accept", "content-type", "host", "lattice-acts-as", "user-agent"]);
        assert_eq!((&sent[HOST], &sent[ACTS_AS]), (&AGENT_HOST, &HeaderValue::from_static(AGENT)));
    }

    #[test]
    fn whoever_is_a_person_stays_one_whatever_their_headers_say() {
        let (who, acts_as) = (User::default().into(), User { name: "jane".to_owned(), ..User::default() });
        let mut sent = headers(&[
            ("Lattice-Acts-As", "agent"),
            ("Connection", "Impersonate-User, Lattice-Acts-As"),
            ("Impersonate-User", "admin"),
            ("Impersonate-User", "root"),
        ]);
        clean_request(&mut sent, &Caller::Person { who, acts_as }).unwrap();
        let all = |name: &str| sent.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("impersonate-user"), ["jane"]);
        assert_eq!(all("lattice-acts-as"), ["user"]);
        assert_eq!(sent.get(CONNECTION), None);
    }

    #[test]
    fn only_kubernetes_own_protocols_are_upgraded_to() {
        for (protocol, carried) in
            [("websocket", true), ("WebSocket", true), ("SPDY/3.1", true), ("h2c", false), ("websocket, h2c", false)]
        {
            assert_eq!(upgrades(&headers(&[("Upgrade", protocol)])), carried, "{protocol}");
        }
    }

    #[test]
    fn a_token_in_a_websockets_protocols_stays_here() {
        let mut sent = headers(&[
            ("Sec-WebSocket-Protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0"),
            ("Sec-WebSocket-Protocol", "v4.channel.k8s.io"),
        ]);
        assert_eq!(token_protocol(&sent), Some("c2VjcmV0"));
        clean_request(&mut sent, &Caller::ClusterApi).unwrap();
        assert_eq!(sent[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io, v4.channel.k8s.io");
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
