//! Who asks: Cluster API, with the bearer token of `<cluster>-kubeconfig`, or a person whom the parent vouches for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use lattice_protocol::ids::ClusterName;
use lattice_protocol::token::TokenHash;

use crate::store::access::User;

/// Somebody who may use a cluster's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Cluster API's controllers. They act with the agent's own rights.
    ClusterApi,
    /// A person, or a program with an account of its own.
    Person {
        /// Whom the parent vouched for.
        who: Arc<User>,
        /// Whom the child takes them for.
        acts_as: User,
    },
}

/// What a bearer token is to the registered credential of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The same.
    Registered,
    /// Another.
    Other,
    /// None is registered (yet), so nobody can tell.
    Unknown,
}

impl Caller {
    /// The kind of caller, for metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::ClusterApi => "cluster-api",
            Self::Person { .. } => "person",
        }
    }

    /// Who asked, for the audit line.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::ClusterApi => "cluster-api",
            Self::Person { who, .. } => &who.name,
        }
    }

    /// Whom the child takes them for, for the audit line.
    pub(super) fn acts_as(&self) -> &str {
        match self {
            Self::ClusterApi => "lattice-agent",
            Self::Person { acts_as, .. } => &acts_as.name,
        }
    }
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

    /// Compares a token with the credential of `cluster`.
    pub(super) fn standing(&self, cluster: &ClusterName, token: &[u8]) -> Standing {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).copied();
        match known {
            None => Standing::Unknown,
            Some(known) if known == TokenHash::of(token) => Standing::Registered,
            Some(_) => Standing::Other,
        }
    }
}

/// The one bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(values: &[&str]) -> Option<Vec<u8>> {
        let headers: HeaderMap = values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect();
        bearer(&headers).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_request_has_one_bearer_token_or_none() {
        for good in ["Bearer right", "bearer  right", "Bearer right "] {
            assert_eq!(token(&[good]).as_deref(), Some(&b"right"[..]), "{good:?}");
        }
        for none in [&[][..], &["Basic cmlnaHQ="], &["Bearer "], &["Bearer right", "Bearer right"], &["é"]] {
            assert_eq!(token(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_credential_is_that_of_its_cluster_only_and_unknown_before_it_is_registered() {
        let credentials = Credentials::default();
        let (cluster, other): (ClusterName, ClusterName) = ("backend".parse().unwrap(), "other".parse().unwrap());
        assert_eq!(credentials.standing(&cluster, b"right"), Standing::Unknown);
        credentials.register(&cluster, TokenHash::of(b"right"));
        assert_eq!(credentials.standing(&cluster, b"right"), Standing::Registered);
        assert_eq!(credentials.standing(&cluster, b"wrong"), Standing::Other);
        assert_eq!(credentials.standing(&other, b"right"), Standing::Unknown);
        credentials.withdraw(&cluster);
        assert_eq!(credentials.standing(&cluster, b"right"), Standing::Unknown);
    }
}
