//! In whose name a person's request goes to a child: `Impersonate-*` headers, read on the way in and written on the way
//! out.
//!
//! **Invariant**: what goes out was made here, of a name that the parent vouched for; no header of the caller's is passed
//! on. What is the parent's own (`system:` users and groups, kubeadm's administrators) means something else on a child, so
//! it does not cross by itself: nobody is cluster-admin there because they are it here. Whoever the parent allows to
//! impersonate such a name may ask for it in so many words (`kubectl --as … --as-group system:masters`).

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::people::AUTHENTICATED;
use super::status::Problem;
use crate::store::access::{Right, User};

const PREFIX: &str = "impersonate-";
const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA: &str = "impersonate-extra-";
const ACCOUNT: &str = "system:serviceaccount:";
/// Groups that the installers of both clusters give to their administrators.
const ADMINISTRATORS: [&str; 1] = ["kubeadm:cluster-admins"];
/// Namespaces whose accounts stand for the system itself, on a child as here.
const SYSTEM_NAMESPACES: [&str; 2] = ["kube-system", "lattice-system"];
/// Names that one request may ask for; each is a question to the parent's API.
const NAMES_MAX: usize = 64;

/// Reads whom a request asks to be taken for; none when it does not.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<User>, Problem> {
    let text = |value: &HeaderValue| {
        let text = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
        text.map_err(|_| Problem::Bad("an Impersonate header is not UTF-8"))
    };
    let one = |name: &HeaderName| headers.get(name).map(text).transpose().map(Option::unwrap_or_default);
    let mut user = User { name: one(&USER)?, uid: one(&UID)?, ..User::default() };
    user.groups = headers.get_all(GROUP).iter().map(text).collect::<Result<_, _>>()?;
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            user.extra.entry(unescape(key)).or_default().push(text(value)?);
        }
    }
    let extras = user.extra.values().map(Vec::len).sum::<usize>();
    if user.groups.len() + extras > NAMES_MAX {
        return Err(Problem::Bad("too many Impersonate headers"));
    }
    let nothing = user.groups.is_empty() && user.uid.is_empty() && extras == 0;
    match (user.name.is_empty(), nothing) {
        (true, true) => Ok(None),
        (true, false) => Err(Problem::Bad("Impersonate headers need an Impersonate-User")),
        (false, _) => Ok(Some(user)),
    }
}

/// The rights at the parent that somebody needs to be taken for `user`, as its own API server would ask for them.
pub(super) fn rights(user: &User) -> Vec<Right> {
    let right = |group, resource, name: &str| Right {
        verb: "impersonate",
        group,
        resource,
        name: name.to_owned(),
        ..Right::default()
    };
    let mut needed = Vec::new();
    match account(&user.name) {
        Some((namespace, name)) => {
            needed.push(Right { namespace: namespace.to_owned(), ..right("", "serviceaccounts", name) });
        }
        None => needed.push(right("", "users", &user.name)),
    }
    needed.extend(user.groups.iter().map(|group| right("", "groups", group)));
    if !user.uid.is_empty() {
        needed.push(right("authentication.k8s.io", "uids", &user.uid));
    }
    for (key, values) in &user.extra {
        needed.extend(
            values
                .iter()
                .map(|value| Right { subresource: key.clone(), ..right("authentication.k8s.io", "userextras", value) }),
        );
    }
    needed
}

/// Whom a person is on a child who did not ask to be taken for somebody else: themselves, without what is the parent's own.
pub(super) fn own_name(user: &User) -> Result<User, Problem> {
    let crosses = match account(&user.name) {
        Some((namespace, _)) => !SYSTEM_NAMESPACES.contains(&namespace),
        None => !user.name.starts_with("system:"),
    };
    if !crosses {
        return Err(Problem::Reserved(user.name.clone()));
    }
    let mut user = user.clone();
    user.groups.retain(|group| !group.starts_with("system:") && !ADMINISTRATORS.contains(&group.as_str()));
    // Named always: without a group an API server adds the groups of a ServiceAccount's namespace.
    user.groups.push(AUTHENTICATED.to_owned());
    Ok(user)
}

/// Writes in whose name a request goes.
pub(super) fn write(headers: &mut HeaderMap, user: &User) -> Result<(), Problem> {
    let value = |text: &str| {
        HeaderValue::from_bytes(text.as_bytes()).map_err(|_| Problem::Reserved(text.escape_debug().to_string()))
    };
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, value(group)?);
    }
    for (key, values) in &user.extra {
        let Ok(name) = HeaderName::try_from(format!("{EXTRA}{}", escape(key))) else { continue };
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    Ok(())
}

/// Whether a header says in whose name a request goes.
pub(super) fn is_claim(name: &HeaderName) -> bool {
    name.as_str().starts_with(PREFIX)
}

/// Namespace and name of a ServiceAccount's user name.
fn account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(ACCOUNT)?.split_once(':')
}

/// Header names have no capitals: whatever is not a small letter, a digit or one of `-_.` goes as `%XX`.
fn escape(key: &str) -> String {
    key.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text.push(char::from(byte)),
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
        text
    })
}

fn unescape(key: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = key.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
