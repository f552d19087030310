//! Who asks, and what they may.

pub(crate) mod bound;
pub(crate) mod impersonation;
mod nodes;
pub(crate) mod rbac;
pub(crate) mod reviews;
pub(crate) mod tokens;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::core::Core;
use crate::status::{Result, Status};

/// The group whose members may do everything.
pub(crate) const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The server itself and whoever embeds it.
    pub(crate) fn admin() -> Self {
        Self::of("kubernetes-admin", vec![MASTERS.to_owned()])
    }

    fn of(name: &str, mut groups: Vec<String>) -> Self {
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// Tells the groups of a ServiceAccount's user name.
    fn account_groups(name: &str) -> Option<Vec<String>> {
        let (namespace, _) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        Some(vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")])
    }

    /// Makes the user of a ServiceAccount.
    pub(crate) fn account(namespace: &str, name: &str, uid: &str) -> Self {
        let name = format!("system:serviceaccount:{namespace}:{name}");
        let groups = Self::account_groups(&name).unwrap_or_default();
        Self { uid: uid.to_owned(), ..Self::of(&name, groups) }
    }

    /// Writes the user as reviews do.
    pub(crate) fn to_value(&self) -> Value {
        let mut out = json!({"username": self.name});
        if !self.uid.is_empty() {
            out["uid"] = self.uid.as_str().into();
        }
        if !self.groups.is_empty() {
            out["groups"] = self.groups.clone().into();
        }
        if !self.extra.is_empty() {
            out["extra"] = json!(self.extra);
        }
        out
    }
}

/// The user of a verified client certificate.
pub(crate) fn of_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    let groups = certificate.subject().iter_organization().filter_map(|group| group.as_str().ok());
    Some(User::of(name, groups.map(String::from).collect()))
}

/// Finds out who asks: by the connection's certificate, else by a token, else nobody in particular. A client that has
/// a certificate is who that says, whatever token comes with it.
pub(crate) fn authenticate(core: &Core, headers: &http::HeaderMap, peer: Option<&User>) -> Result<User> {
    if let Some(peer) = peer {
        return Ok(peer.clone());
    }
    let header = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // What follows the first blank up to the next is the token: after two blanks there is none.
    let token = token.and_then(|(_, rest)| rest.split(' ').next());
    match token.map(str::trim).filter(|token| !token.is_empty()) {
        Some(token) => {
            core.tokens.authenticate(core, token, &[]).ok_or_else(|| Status::new(401, "Unauthorized", "Unauthorized"))
        }
        None => Ok(User::anonymous()),
    }
}
