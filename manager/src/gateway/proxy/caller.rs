//! Who asks. In this version only Cluster API does, with the bearer token of `<cluster>-kubeconfig`; people come in as a
//! second kind of [`Caller`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use lattice_protocol::ids::ClusterName;
use lattice_protocol::token::TokenHash;

use super::status::Problem;

/// Somebody who may use a cluster's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Cluster API's controllers. They act with the agent's own rights.
    ClusterApi,
}

/// The credential of each cluster, as hashes. Empty after a start: until a cluster's credential is registered nobody can
/// tell a good one from a bad one, so nobody is told that theirs is bad.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Credentials(Mutex<HashMap<ClusterName, TokenHash>>);

impl Credentials {
    pub(in crate::gateway) fn register(&self, cluster: &ClusterName, credential: TokenHash) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(cluster.clone(), credential);
    }

    pub(in crate::gateway) fn withdraw(&self, cluster: &ClusterName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }

    /// Tells who asks for `cluster`.
    pub(super) fn identify(&self, cluster: &ClusterName, headers: &HeaderMap) -> Result<Caller, Problem> {
        let token = bearer(headers).ok_or(Problem::NoCredential)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).copied();
        match known {
            None => Err(Problem::AgentAway(cluster.clone())),
            Some(known) if known == TokenHash::of(token) => Ok(Caller::ClusterApi),
            Some(_) => Err(Problem::WrongCredential),
        }
    }
}

/// The one bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn only_a_wrong_credential_is_called_wrong() {
        let credentials = Credentials::default();
        let cluster: ClusterName = "backend".parse().unwrap();
        let good = headers(&["Bearer right"]);
        assert!(matches!(credentials.identify(&cluster, &good), Err(Problem::AgentAway(_))), "not registered yet");
        credentials.register(&cluster, TokenHash::of(b"right"));
        assert_eq!(credentials.identify(&cluster, &good).unwrap(), Caller::ClusterApi);
        assert_eq!(credentials.identify(&cluster, &headers(&["bearer  right"])).unwrap(), Caller::ClusterApi);
        for bad in [&["Bearer wrong"][..], &["Bearer right "], &["Bearer righ"]] {
            let told = credentials.identify(&cluster, &headers(bad));
            assert_eq!(matches!(told, Err(Problem::WrongCredential)), bad != ["Bearer right "], "{bad:?}");
        }
        for none in [&[][..], &["Basic cmlnaHQ="], &["Bearer "], &["Bearer right", "Bearer right"], &["é"]] {
            assert!(matches!(credentials.identify(&cluster, &headers(none)), Err(Problem::NoCredential)), "{none:?}");
        }
        let other: ClusterName = "other".parse().unwrap();
        assert!(matches!(credentials.identify(&other, &good), Err(Problem::AgentAway(_))), "of another cluster");
        credentials.withdraw(&cluster);
        assert!(matches!(credentials.identify(&cluster, &good), Err(Problem::AgentAway(_))), "withdrawn");
    }
}
