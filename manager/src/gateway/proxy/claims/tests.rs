//! Whom a request asks to be taken for, what that needs, and what crosses.

use proptest::prelude::*;

use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        .collect()
}

fn user(name: &str, groups: &[&str]) -> User {
    User { name: name.to_owned(), groups: groups.iter().map(|&group| group.to_owned()).collect(), ..User::default() }
}

#[test]
fn a_request_without_claims_asks_for_nobody() {
    assert_eq!(asked(&headers(&[("accept", "*/*"), ("x-remote-user", "admin")])).unwrap(), None);
}

#[test]
fn claims_are_read_whole_or_refused() {
    let all = headers(&[
        ("Impersonate-User", "jané"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-Example.com%2FScopes", "x"),
    ]);
    let read = asked(&all).unwrap().unwrap();
    assert_eq!((read.name.as_str(), read.uid.as_str(), read.groups.len()), ("jané", "7", 2));
    assert_eq!(read.extra["example.com/scopes"], ["x"]);
    for alone in ["Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-a"] {
        assert!(matches!(asked(&headers(&[(alone, "x")])), Err(Problem::Bad(_))), "{alone}");
    }
    let mut many = headers(&[("Impersonate-User", "x")]);
    for _ in 0..=NAMES_MAX {
        many.append(GROUP, HeaderValue::from_static("g"));
    }
    assert!(matches!(asked(&many), Err(Problem::Bad(_))));
}

#[test]
fn each_claim_needs_its_own_right() {
    let mut whom = user("system:serviceaccount:team:robot", &["a"]);
    whom.uid = "7".to_owned();
    whom.extra.insert("scopes".to_owned(), vec!["x".to_owned()]);
    let needed: Vec<_> = rights(&whom)
        .into_iter()
        .map(|right| {
            format!("{}/{}/{} {} {}", right.group, right.resource, right.subresource, right.namespace, right.name)
        })
        .collect();
    assert_eq!(
        needed,
        [
            "/serviceaccounts/ team robot",
            "/groups/  a",
            "authentication.k8s.io/uids/  7",
            "authentication.k8s.io/userextras/scopes  x",
        ]
    );
    assert_eq!(rights(&user("jane", &[]))[0].resource, "users");
}

#[test]
fn what_is_the_parents_own_does_not_cross() {
    let crossed = own_name(&user("jane", &["dev", "system:masters", "kubeadm:cluster-admins", "system:authenticated"]));
    assert_eq!(crossed.unwrap().groups, ["dev", "system:authenticated"]);
    let account = own_name(&user("system:serviceaccount:team:robot", &["system:serviceaccounts"])).unwrap();
    assert_eq!(
        (account.name.as_str(), account.groups),
        ("system:serviceaccount:team:robot", vec![AUTHENTICATED.to_owned()])
    );
    for reserved in [
        "system:admin",
        "system:node:a",
        "system:anonymous",
        "system:serviceaccount:lattice-system:lattice-agent",
        "system:serviceaccount:kube-system:clusterrole-aggregation-controller",
    ] {
        assert!(matches!(own_name(&user(reserved, &[])), Err(Problem::Reserved(_))), "{reserved}");
    }
}

#[test]
fn names_that_would_break_a_header_are_refused() {
    for bad in ["a\r\nImpersonate-Group: system:masters", "a\0"] {
        assert!(write(&mut HeaderMap::new(), &user(bad, &[])).is_err());
        assert!(write(&mut HeaderMap::new(), &user("a", &[bad])).is_err());
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        name in "[^\\p{C}]{1,20}", groups in prop::collection::vec("[^\\p{C}]{1,20}", 0..5), key in "[ -~]{1,20}",
    ) {
        let mut whom = user(name.trim(), &[]);
        whom.groups = groups.iter().map(|group| group.trim().to_owned()).collect();
        whom.extra.insert(key, vec!["value".to_owned()]);
        prop_assume!(!whom.name.is_empty());
        let mut sent = HeaderMap::new();
        write(&mut sent, &whom).unwrap();
        prop_assert!(sent.keys().all(is_claim));
        prop_assert_eq!(asked(&sent).unwrap().unwrap(), whom);
    }

    #[test]
    fn no_header_panics_the_reader(name in "[a-z0-9%_.-]{0,20}", value in prop::collection::vec(32_u8..=255, 0..30)) {
        prop_assume!(!value.contains(&127));
        let mut sent = HeaderMap::new();
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(format!("impersonate-extra-{name}")), HeaderValue::from_bytes(&value)) {
            sent.insert(name, value);
        }
        drop(asked(&sent));
    }
}
