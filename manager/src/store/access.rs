//! Questions to the parent's API about people: whose token this is, which authority signs their certificates, and what
//! they may do. Nothing is decided here; the parent's API decides.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, PostParams};

/// Longest wait for one answer. Lower: a busy API server locks people out; higher: they stare at a hanging kubectl.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Where an API server publishes the authority of its clients' certificates, for servers like ours.
const CLIENT_CA: (&str, &str, &str) = ("kube-system", "extension-apiserver-authentication", "client-ca-file");

/// Somebody whom the parent knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// User name.
    pub name: String,
    /// Unique id, where the authenticator gives one.
    pub uid: String,
    /// Groups, as the authenticator gives them.
    pub groups: Vec<String>,
    /// What else the authenticator says.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A right that is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Right {
    /// For example `get` or `impersonate`.
    pub verb: &'static str,
    /// API group; empty for the core one.
    pub group: &'static str,
    /// Resource, plural.
    pub resource: &'static str,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

/// The parent's API could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It refused or failed.
    #[error("the parent's API did not answer a {question}")]
    Api {
        /// What was asked.
        question: &'static str,
        /// Its words.
        #[source]
        source: Box<kube::Error>,
    },
    /// It did not answer in time.
    #[error("the parent's API did not answer a {0} within {CALL_TIMEOUT:?}")]
    Slow(&'static str),
}

/// Who can be asked about people.
pub trait Reviewer: Send + Sync + std::fmt::Debug {
    /// Whose bearer token this is; none when it is nobody's.
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, Error>>;

    /// Whether `user` has a right.
    fn allows<'a>(&'a self, user: &'a User, right: &'a Right) -> BoxFuture<'a, Result<bool, Error>>;

    /// The authority of people's certificates, PEM; none where the parent publishes none.
    fn client_ca(&self) -> BoxFuture<'_, Result<Option<String>, Error>>;
}

/// Asks the parent's API.
#[derive(Clone)]
pub struct KubeReviewer(Client);

impl std::fmt::Debug for KubeReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubeReviewer")
    }
}

impl KubeReviewer {
    /// Asks through `client`, whose own retries are off.
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Reviewer for KubeReviewer {
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<User>, Error>> {
        async move {
            let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
            let review = TokenReview { spec, ..TokenReview::default() };
            let answer =
                in_time("TokenReview", Api::all(self.0.clone()).create(&PostParams::default(), &review)).await?;
            let status = answer.status.unwrap_or_default();
            Ok(status.user.filter(|_| status.authenticated == Some(true)).and_then(user_of))
        }
        .boxed()
    }

    fn allows<'a>(&'a self, user: &'a User, right: &'a Right) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let review = SubjectAccessReview { spec: spec_of(user, right), ..SubjectAccessReview::default() };
            let answer =
                in_time("SubjectAccessReview", Api::all(self.0.clone()).create(&PostParams::default(), &review))
                    .await?;
            Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
        }
        .boxed()
    }

    fn client_ca(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        async move {
            let (namespace, name, key) = CLIENT_CA;
            let maps = Api::<ConfigMap>::namespaced(self.0.clone(), namespace);
            let found = in_time("request for the client authority", maps.get_opt(name)).await?;
            Ok(found.and_then(|map| map.data).and_then(|mut data| data.remove(key)))
        }
        .boxed()
    }
}

async fn in_time<T>(question: &'static str, asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, asking).await {
        Ok(answer) => answer.map_err(|source| Error::Api { question, source: Box::new(source) }),
        Err(_) => Err(Error::Slow(question)),
    }
}

fn user_of(info: UserInfo) -> Option<User> {
    Some(User {
        name: info.username.filter(|name| !name.is_empty())?,
        uid: info.uid.unwrap_or_default(),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    })
}

fn spec_of(user: &User, right: &Right) -> SubjectAccessReviewSpec {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    SubjectAccessReviewSpec {
        user: text(&user.name),
        uid: text(&user.uid),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
        resource_attributes: Some(ResourceAttributes {
            verb: text(right.verb),
            group: text(right.group),
            resource: text(right.resource),
            subresource: text(&right.subresource),
            namespace: text(&right.namespace),
            name: text(&right.name),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    }
}
