//! Whatever heads clients send: a cluster or none, one sender or none, and nothing of what they say of themselves goes on.
//!
//! `fuzz/seeds.txt` keeps heads that tell these rules apart, and any that once broke one; each is tried as it is, and again
//! with bytes changed. `PROPTEST_CASES=1000000` makes a long run of it.

use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Uri};
use lattice_protocol::claims::{self as agents, ACTS_AS};
use lattice_protocol::ending::has_no_end;
use proptest::prelude::*;

use super::caller::{Caller, bearer};
use super::{claims, headers, path};
use crate::store::access::User;

/// Heads, an empty line between two.
const SEEDS: &str = include_str!("fuzz/seeds.txt");

/// Method, target and headers, as far as the HTTP library would let them in.
fn parse(head: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    let mut map = HeaderMap::new();
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (HeaderName::from_bytes(&line[..at]).ok()?, line[at + 1..].trim_ascii());
        map.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some((method, uri, map))
}

fn person() -> Caller {
    let acts_as = User { name: "jane".to_owned(), groups: vec!["dev".to_owned()], ..User::default() };
    Caller::Person { who: User::default().into(), acts_as }
}

#[track_caller]
fn holds(head: &[u8]) {
    let Some((method, uri, sent)) = parse(head) else { return };
    let shown = String::from_utf8_lossy(head);
    if let Some(target) = path::target(&uri) {
        let (tail, whole) = (target.path_and_query.as_str(), uri.path_and_query().map_or("", |path| path.as_str()));
        assert!(tail.starts_with('/') && whole.ends_with(tail.trim_start_matches('/')), "{shown}");
        let began = format!("/clusters/{}", target.cluster);
        assert!(
            whole.strip_prefix(&began).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?'])),
            "{shown}"
        );
        assert!(!(has_no_end(&method, &uri) && method != Method::GET), "{shown}");
    }
    let _ = bearer(&sent);
    let asked = claims::asked(&sent);
    if let Ok(Some(user)) = &asked {
        assert!(!user.name.is_empty(), "{shown}");
        assert!(!claims::rights(user).is_empty(), "{shown}: nobody is taken for another for nothing");
    }
    for caller in [Caller::ClusterApi, person()] {
        let is_person = matches!(caller, Caller::Person { .. });
        let mut out = sent.clone();
        headers::clean_request(&mut out, &caller).expect("plain names can be written");
        for gone in [AUTHORIZATION, COOKIE, CONNECTION, TRANSFER_ENCODING, UPGRADE] {
            assert!(!out.contains_key(&gone), "{gone}: {shown}");
        }
        assert_eq!(out.get_all(HOST).iter().count(), 1, "{shown}");
        let said: Vec<_> = out.get_all(ACTS_AS).iter().collect();
        assert_eq!(said, [if is_person { "user" } else { "agent" }], "{shown}");
        let claimed = |name: &HeaderName| name.as_str().starts_with("impersonate-");
        let written: Vec<_> = out.iter().filter(|(name, _)| claimed(name)).map(|(_, value)| value.as_bytes()).collect();
        assert_eq!(written, if is_person { vec![&b"jane"[..], b"dev"] } else { Vec::new() }, "{shown}");
        assert!(!out.keys().any(|name| name.as_str().starts_with("x-remote-")), "{shown}");
        assert_eq!(agents::check(&mut out), Ok(()), "the agent takes what the manager sends: {shown}");
    }
    // Whatever reaches an agent without having passed here is refused, or is what the agent says it is.
    let mut bare = sent;
    let users = bare.get_all("impersonate-user").iter().count();
    let claims = bare.keys().any(|name| name.as_str().starts_with("impersonate-"));
    if agents::check(&mut bare).is_ok() {
        assert!(!claims || users == 1, "{shown}");
    }
}

fn seeds() -> Vec<&'static str> {
    SEEDS.split("\n\n").map(str::trim).filter(|head| !head.is_empty()).collect()
}

#[test]
fn the_kept_heads_hold() {
    assert!(seeds().len() > 10);
    for head in seeds() {
        assert!(parse(head.as_bytes()).is_some(), "a seed that nothing reads is of no use: {head}");
        holds(head.as_bytes());
    }
}

proptest! {
    #[test]
    fn changed_heads_hold(
        at in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        line in prop::option::of("(?i)(impersonate-(user|group|uid|extra-[a-z%2F]{1,6})|x-remote-user|connection|lattice-acts-as|authorization|upgrade): ?[ -~]{0,40}"),
    ) {
        let seeds = seeds();
        let mut head = seeds[at.index(seeds.len())].as_bytes().to_vec();
        for (place, byte) in changes {
            let place = place.index(head.len());
            head[place] = byte;
        }
        if let Some(line) = line {
            head.push(b'\n');
            head.extend(line.into_bytes());
        }
        holds(&head);
    }

    #[test]
    fn any_bytes_hold(head in prop::collection::vec(any::<u8>(), 0..200)) {
        holds(&head);
    }
}
