//! Asking in another's name: first the modes that are about single verbs, then the old right to be somebody.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::rbac::{self, Attributes};
use super::{ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, User};
use crate::core::Core;
use crate::names;
use crate::status::{Result, Status};

const GROUP: &str = "authentication.k8s.io";
const NODE: &str = "system:node:";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// The right to be somebody, whatever it is for.
const OLD: &str = "legacy";
const MODES: [&str; 5] = ["associated-node", "arbitrary-node", "serviceaccount", "user-info", OLD];
/// Of how many users the last mode is kept.
const USERS_MAX: usize = 1000;
/// From how many checks on the right to all of them is asked for first.
const MANY: usize = 4;

/// Reads in whose name a request asks; nothing where it asks for itself.
///
/// # Errors
/// When something of a user is named and the user is not.
pub(crate) fn wanted(headers: &http::HeaderMap) -> Result<Option<User>> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let groups: Vec<String> =
        headers.get_all("impersonate-group").iter().filter_map(|value| value.to_str().ok().map(String::from)).collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers {
        if let (Some(key), Ok(value)) = (key.as_str().strip_prefix("impersonate-extra-"), value.to_str()) {
            extra.entry(crate::options::decode(key, false)).or_default().push(value.to_owned());
        }
    }
    let user = User { name: text("impersonate-user"), uid: text("impersonate-uid"), groups, extra };
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if only_name(&user) {
        return Ok(None);
    }
    Err(Status::bad_request(format!("requested {} without impersonating a user name", shown(&user))))
}

fn only_name(user: &User) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

/// Writes a user as the real server's program would.
fn shown(user: &User) -> String {
    let texts = |list: &[String]| {
        let quoted: Vec<String> = list.iter().map(|text| crate::field::go_quote(text)).collect();
        if quoted.is_empty() { "[]string(nil)".to_owned() } else { format!("[]string{{{}}}", quoted.join(", ")) }
    };
    let extra: Vec<String> = user
        .extra
        .iter()
        .map(|(key, values)| {
            let values = texts(values);
            format!("{}:{}", crate::field::go_quote(key), values)
        })
        .collect();
    let extra = if extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        format!("map[string][]string{{{}}}", extra.join(", "))
    };
    format!(
        "&user.DefaultInfo{{Name:\"\", UID:{}, Groups:{}, Extra:{extra}}}",
        crate::field::go_quote(&user.uid),
        texts(&user.groups)
    )
}

/// Decides whether a user may ask in another's name, and as whom the request goes on.
///
/// # Errors
/// When no mode allows it: the first refusal.
pub(crate) fn check(core: &Core, user: &User, wanted: &User, request: &Attributes) -> Result<User> {
    let mut modes: Vec<&'static str> = MODES.to_vec();
    // What worked for somebody the last time is tried first: its refusal is the one that is told.
    if let Some(last) = core.impersonating.get(&user.name) {
        modes.retain(|mode| *mode != last);
        modes.insert(0, last);
    }
    let mut first = None;
    for mode in modes {
        if !applies(mode, user, wanted) {
            continue;
        }
        let tried = if mode == OLD {
            Check { core, user, verb: "impersonate".to_owned(), constrained: false }.all(wanted)
        } else {
            let on = Attributes { verb: format!("impersonate-on:{mode}:{}", request.verb), ..request.clone() };
            let one = Check { core, user, verb: format!("impersonate:{mode}"), constrained: true };
            one.may(&on).and_then(|()| one.all(wanted))
        };
        match tried {
            Ok(other) => {
                core.impersonating.set(&user.name, mode);
                return Ok(other);
            }
            Err(status) => first = first.or(Some(status)),
        }
    }
    Err(first.unwrap_or_else(|| Status::unforeseen("all impersonation modes failed")))
}

/// In which mode somebody last asked in another's name.
#[derive(Debug, Default)]
pub(crate) struct Modes(Mutex<BTreeMap<String, &'static str>>);

impl Modes {
    fn get(&self, name: &str) -> Option<&'static str> {
        self.0.lock().ok()?.get(name).copied()
    }

    fn set(&self, name: &str, mode: &'static str) {
        let Ok(mut known) = self.0.lock() else { return };
        if known.len() >= USERS_MAX {
            known.clear();
        }
        known.insert(name.to_owned(), mode);
    }
}

fn node(name: &str) -> Option<&str> {
    name.strip_prefix(NODE).filter(|name| names::is_subdomain(name))
}

fn account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (names::is_label(namespace) && names::is_subdomain(name)).then_some((namespace, name))
}

fn applies(mode: &str, user: &User, wanted: &User) -> bool {
    let own_node = || user.extra.get(NODE_NAME).and_then(|names| names.first()).map(String::as_str);
    match mode {
        "associated-node" => {
            only_name(wanted)
                && account(&user.name).is_some()
                && node(&wanted.name).is_some_and(|name| own_node() == Some(name))
        }
        OLD => true,
        "arbitrary-node" => only_name(wanted) && node(&wanted.name).is_some(),
        "serviceaccount" => only_name(wanted) && account(&wanted.name).is_some(),
        _ => node(&wanted.name).is_none() && account(&wanted.name).is_none(),
    }
}

/// One mode's checks of each thing that is named.
struct Check<'a> {
    core: &'a Core,
    user: &'a User,
    verb: String,
    constrained: bool,
}

impl Check<'_> {
    fn may(&self, attributes: &Attributes) -> Result<()> {
        if rbac::decide(self.core, self.user, attributes).allowed {
            return Ok(());
        }
        Err(rbac::refusal(self.user, attributes))
    }

    fn attributes(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            verb: self.verb.clone(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        }
    }

    fn all(&self, wanted: &User) -> Result<User> {
        let group = if self.constrained { GROUP } else { "" };
        let mut out = wanted.clone();
        let mut named = self.attributes(group, "users", &wanted.name);
        if let Some(name) = node(&wanted.name).filter(|_| self.constrained) {
            "nodes".clone_into(&mut named.resource);
            name.clone_into(&mut named.name);
            out.groups = Vec::new();
        }
        if let Some((namespace, name)) = account(&wanted.name) {
            "serviceaccounts".clone_into(&mut named.resource);
            namespace.clone_into(&mut named.namespace);
            name.clone_into(&mut named.name);
            if wanted.groups.is_empty() {
                out.groups = User::account_groups(&wanted.name).unwrap_or_default();
            }
        }
        self.may(&named)?;
        if !wanted.uid.is_empty() {
            self.may(&self.attributes(GROUP, "uids", &wanted.uid))?;
        }
        self.groups(group, &wanted.groups)?;
        self.extra(wanted)?;
        let member = |name: &str| out.groups.iter().any(|group| group == name);
        if out.name == ANONYMOUS {
            if !member(UNAUTHENTICATED) {
                out.groups.push(UNAUTHENTICATED.to_owned());
            }
        } else if !member(UNAUTHENTICATED) && !member(AUTHENTICATED) {
            out.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(out)
    }

    fn groups(&self, home: &str, groups: &[String]) -> Result<()> {
        let asked = |name: &str| self.attributes(home, "groups", name);
        if self.constrained && groups.iter().any(|group| group == MASTERS) {
            let why = "impersonating the system:masters group is not allowed";
            return Err(rbac::refusal_because(self.user, &asked(MASTERS), why));
        }
        if self.constrained && groups.len() >= MANY && self.may(&asked("*")).is_ok() {
            return Ok(());
        }
        groups.iter().try_for_each(|group| self.may(&asked(group)))
    }

    fn extra(&self, wanted: &User) -> Result<()> {
        let asked = |key: &str, value: &str| Attributes {
            subresource: key.to_owned(),
            ..self.attributes(GROUP, "userextras", value)
        };
        let count: usize = wanted.extra.values().map(Vec::len).sum();
        if self.constrained && count >= MANY && self.may(&asked("*", "*")).is_ok() {
            return Ok(());
        }
        for (key, values) in &wanted.extra {
            values.iter().try_for_each(|value| self.may(&asked(key, value)))?;
        }
        Ok(())
    }
}
