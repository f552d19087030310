//! In whose name a proxied request goes to a child's Kubernetes API: what the manager writes and the agent checks.
//!
//! The manager decides. The agent holds what it was told against what arrived, so that a person's request whose name got
//! lost on the way, by whatever mistake, is refused instead of sent with the agent's own rights, which are those of a
//! cluster-admin.

use http::header::{CONNECTION, HeaderMap, HeaderName};

/// Says whether a request goes in the agent's own name or in that of a user; taken off before it is sent on.
pub const ACTS_AS: HeaderName = HeaderName::from_static("lattice-acts-as");
/// Value of [`ACTS_AS`]: as the agent. Cluster API's requests.
pub const AGENT: &str = "agent";
/// Value of [`ACTS_AS`]: as the user whom `Impersonate-User` names. People's requests.
pub const USER: &str = "user";

/// Beginning of the headers in which the Kubernetes API is told whom to take a request's sender for.
pub const IMPERSONATE: &str = "impersonate-";
const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");

/// Why a request is not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// [`ACTS_AS`] is there twice, or says something else.
    #[error("it does not say clearly in whose name it goes")]
    Unclear,
    /// A user's request without the user.
    #[error("it goes in the name of a user and names none")]
    Nobody,
    /// More than one user, or an empty one.
    #[error("it names no single user")]
    NotOne,
    /// The agent's own request with a user.
    #[error("it goes in the agent's own name and names a user")]
    Both,
    /// `Connection` would have a proxy take the claims off.
    #[error("its Connection header names a header that says in whose name it goes")]
    Dropped,
}

/// Holds what a request says of its sender against [`ACTS_AS`], which is taken off. Without it (a manager from before it)
/// the other headers must fit each other.
///
/// # Errors
/// [`Unfit`]: the request must not be sent on.
pub fn check(headers: &mut HeaderMap) -> Result<(), Unfit> {
    let is_claim = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        name.starts_with(IMPERSONATE) || name == ACTS_AS.as_str()
    };
    let connection = headers.get_all(CONNECTION).iter();
    if connection.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(|name| is_claim(&lossy(name))) {
        return Err(Unfit::Dropped);
    }
    let said: Vec<_> = headers.get_all(ACTS_AS).iter().map(|value| lossy(value.as_bytes())).collect();
    headers.remove(ACTS_AS);
    let claims = headers.keys().any(|name| name.as_str().starts_with(IMPERSONATE));
    let users: Vec<_> = headers.get_all(IMPERSONATE_USER).iter().collect();
    let one = matches!(users.as_slice(), [user] if !user.as_bytes().trim_ascii().is_empty());
    match (said.as_slice(), claims) {
        ([], false) => Ok(()),
        ([said], false) if said == AGENT => Ok(()),
        ([said], true) if said == AGENT => Err(Unfit::Both),
        ([said], false) if said == USER => Err(Unfit::Nobody),
        ([said], true) if said != USER => Err(Unfit::Unclear),
        ([] | [_], true) if one => Ok(()),
        ([] | [_], true) if users.is_empty() => Err(Unfit::Nobody),
        ([] | [_], true) => Err(Unfit::NotOne),
        _ => Err(Unfit::Unclear),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fits(lines: &[(&str, &str)], expected: Result<(), Unfit>) {
        let mut headers: HeaderMap =
            lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
        assert_eq!(check(&mut headers), expected, "{lines:?}");
        assert!(!headers.contains_key(ACTS_AS) || expected == Err(Unfit::Dropped), "it is not the API server's affair");
    }

    #[test]
    fn a_users_request_without_its_user_goes_nowhere() {
        let user = ("Lattice-Acts-As", "user");
        fits(&[user, ("Impersonate-User", "jane"), ("Impersonate-Group", "dev")], Ok(()));
        fits(&[user], Err(Unfit::Nobody));
        fits(&[user, ("Impersonate-Group", "system:masters")], Err(Unfit::Nobody));
        fits(&[user, ("Impersonate-User", "")], Err(Unfit::NotOne));
        fits(&[user, ("Impersonate-User", "jane"), ("IMPERSONATE-USER", "root")], Err(Unfit::NotOne));
        fits(&[user, ("Lattice-Acts-As", "agent")], Err(Unfit::Unclear));
        fits(&[("Lattice-Acts-As", "root"), ("Impersonate-User", "jane")], Err(Unfit::Unclear));
        fits(&[("Lattice-Acts-As", "root")], Err(Unfit::Unclear));
    }

    #[test]
    fn the_agents_own_request_names_nobody() {
        fits(&[("Lattice-Acts-As", "agent")], Ok(()));
        for claim in ["Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-Scopes"] {
            fits(&[("Lattice-Acts-As", "agent"), (claim, "x")], Err(Unfit::Both));
        }
    }

    #[test]
    fn a_connection_header_cannot_take_the_user_away() {
        for named in ["Impersonate-User", "close, impersonate-group", "IMPERSONATE-EXTRA-a ,x", "lattice-acts-as"] {
            fits(
                &[("Connection", named), ("Lattice-Acts-As", "user"), ("Impersonate-User", "jane")],
                Err(Unfit::Dropped),
            );
        }
    }

    #[test]
    fn an_older_managers_request_is_taken_by_its_user() {
        fits(&[("Accept", "*/*")], Ok(()));
        fits(&[("Impersonate-User", "ann")], Ok(()));
        fits(&[("Impersonate-Group", "dev")], Err(Unfit::Nobody));
    }
}
