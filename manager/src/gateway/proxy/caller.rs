//! Who asks: Cluster API, with the bearer token of `<cluster>-kubeconfig`, or a person whom the parent vouches for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use lattice_protocol::ids::ClusterName;
use lattice_protocol::token::TokenHash;
use tokio::time::Instant;

use super::headers;
use crate::store::access::User;

/// How long a credential is still taken after another one took its place. Its Secret is written meanwhile: a client that
/// is refused before it can read the new one stays away for 30 s, one that is refused after that is back in two.
const OVERLAP: Duration = Duration::from_secs(5);

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
}

/// The credential of each cluster, as hashes. Empty after a start: until a cluster's credential is registered nobody can
/// tell a good one from a bad one, so nobody is told that theirs is bad.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Credentials(Mutex<HashMap<ClusterName, Credential>>);

#[derive(Clone, Copy, Debug)]
struct Credential {
    present: TokenHash,
    /// The one before, and until when it is taken.
    before: Option<(TokenHash, Instant)>,
}

impl Credentials {
    pub(in crate::gateway) fn register(&self, cluster: &ClusterName, credential: TokenHash) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match known.get(cluster) {
            Some(held) if held.present == credential => held.before,
            Some(held) => Some((held.present, Instant::now() + OVERLAP)),
            None => None,
        };
        known.insert(cluster.clone(), Credential { present: credential, before });
    }

    pub(in crate::gateway) fn withdraw(&self, cluster: &ClusterName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }

    /// Compares a token with the credential of `cluster`.
    pub(super) fn standing(&self, cluster: &ClusterName, token: &[u8]) -> Standing {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).copied();
        match known {
            None => Standing::Unknown,
            Some(known) if known.takes(TokenHash::of(token)) => Standing::Registered,
            Some(_) => Standing::Other,
        }
    }
}

impl Credential {
    fn takes(&self, shown: TokenHash) -> bool {
        let before = self.before.filter(|(_, until)| Instant::now() < *until);
        // Both are compared, whichever fits: the time tells nothing.
        let fits = [self.present == shown, before.is_some_and(|(hash, _)| hash == shown)];
        fits.contains(&true)
    }
}

/// The one bearer token of a request. A browser cannot put it elsewhere than among a WebSocket's subprotocols.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        let token = URL_SAFE_NO_PAD.decode(headers::token_protocol(headers)?).ok()?;
        return (!token.is_empty()).then_some(Cow::Owned(token));
    };
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(Cow::Borrowed(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(values: &[&str]) -> Option<Vec<u8>> {
        let headers: HeaderMap = values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect();
        bearer(&headers).map(Cow::into_owned)
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

    #[tokio::test(start_paused = true)]
    async fn a_replaced_credential_is_taken_until_the_new_one_could_be_read() {
        let credentials = Credentials::default();
        let cluster: ClusterName = "backend".parse().unwrap();
        credentials.register(&cluster, TokenHash::of(b"old"));
        credentials.register(&cluster, TokenHash::of(b"new"));
        credentials.register(&cluster, TokenHash::of(b"new"));
        let told = |token: &str| credentials.standing(&cluster, token.as_bytes());
        assert_eq!(["old", "new", "none"].map(told), [Standing::Registered, Standing::Registered, Standing::Other]);
        tokio::time::advance(OVERLAP).await;
        assert_eq!(["old", "new"].map(told), [Standing::Other, Standing::Registered]);
    }
}
