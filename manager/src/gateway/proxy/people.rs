//! People: who they are and what they may, by the word of the parent's API.
//!
//! A bearer token is reviewed by the parent (TokenReview); a client certificate must be signed by the parent's client
//! authority, as aggregated API servers check it. What they may is asked there too (SubjectAccessReview), of
//! `latticeclusters/proxy` and of whom they want to impersonate. **Invariant**: no answer, no access; an answer is
//! remembered for seconds only.

use std::sync::Arc;
use std::time::Duration;

use lattice_protocol::clock;
use lattice_protocol::tls::CaBundle;
use lattice_protocol::token::TokenHash;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::memory::Memory;
use super::status::Problem;
use crate::store::access::{self, Reviewer, Right, User};

/// How long a yes of the parent's API is believed. Higher: who lost a right keeps it so long; lower: more questions.
const YES_FOR: Duration = Duration::from_secs(10);
/// How long a no is believed: short, since people wait for what they were just granted.
const NO_FOR: Duration = Duration::from_secs(3);
/// How long the client authority is believed.
const AUTHORITY_FOR: Duration = Duration::from_secs(60);
/// Questions to the parent's API at once; whoever finds none free waits for one, and not for long.
const QUESTIONS_MAX: usize = 32;
/// Longest wait for a free place among them.
const QUESTION_WAIT: Duration = Duration::from_secs(5);
/// The group of everybody who was authenticated.
pub(super) const AUTHENTICATED: &str = "system:authenticated";

type Authority = Option<Arc<dyn ClientCertVerifier>>;

/// Asks the parent about people.
#[derive(Debug)]
pub(in crate::gateway) struct People {
    reviewer: Arc<dyn Reviewer>,
    tokens: Memory<String, Option<Arc<User>>>,
    rights: Memory<(Arc<User>, Right), bool>,
    authority: Mutex<Option<(Instant, Authority)>>,
    questions: Semaphore,
}

impl People {
    pub(in crate::gateway) fn new(reviewer: Arc<dyn Reviewer>) -> Self {
        Self {
            reviewer,
            tokens: Memory::default(),
            rights: Memory::default(),
            authority: Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
        }
    }

    /// Whose token this is; none when the parent knows nobody by it.
    pub(super) async fn by_token(&self, token: &[u8]) -> Result<Option<Arc<User>>, Problem> {
        let Ok(text) = std::str::from_utf8(token) else { return Ok(None) };
        let hash = TokenHash::of(token).to_hex();
        if let Some(known) = self.tokens.recall(&hash) {
            return Ok(known);
        }
        let user = self.ask(self.reviewer.token(text)).await?.map(Arc::new);
        self.tokens.keep(hash, user.clone(), if user.is_some() { YES_FOR } else { NO_FOR });
        Ok(user)
    }

    /// Whose certificate this is; none when it is not one that the parent's client authority vouches for now.
    pub(super) async fn by_certificate(&self, chain: &[CertificateDer<'static>]) -> Result<Option<Arc<User>>, Problem> {
        let Some((leaf, between)) = chain.split_first() else { return Ok(None) };
        let Some(authority) = self.authority().await? else { return Ok(None) };
        let now = Duration::from_secs(u64::try_from(clock::now().as_second()).unwrap_or_default());
        let verified = authority.verify_client_cert(leaf, between, UnixTime::since_unix_epoch(now));
        match verified {
            Ok(_) => Ok(named_by(leaf).map(Arc::new)),
            Err(error) => {
                tracing::debug!(error = %error, "a person's certificate was refused");
                Ok(None)
            }
        }
    }

    /// Whether a person has a right at the parent.
    pub(super) async fn allows(&self, user: &Arc<User>, right: Right) -> Result<bool, Problem> {
        let question = (Arc::clone(user), right);
        if let Some(known) = self.rights.recall(&question) {
            return Ok(known);
        }
        let allowed = self.ask(self.reviewer.allows(user, &question.1)).await?;
        self.rights.keep(question, allowed, if allowed { YES_FOR } else { NO_FOR });
        Ok(allowed)
    }

    async fn authority(&self) -> Result<Authority, Problem> {
        let mut kept = self.authority.lock().await;
        if let Some((until, authority)) = &*kept
            && Instant::now() < *until
        {
            return Ok(authority.clone());
        }
        let authority = match self.ask(self.reviewer.client_ca()).await {
            Ok(pem) => pem.as_deref().and_then(verifier),
            Err(problem) => {
                // It seldom changes: better the last one than none while the parent's API is away.
                return kept.as_ref().map(|(_, authority)| authority.clone()).ok_or(problem);
            }
        };
        *kept = Some((Instant::now() + AUTHORITY_FOR, authority.clone()));
        Ok(authority)
    }

    async fn ask<T>(&self, question: impl Future<Output = Result<T, access::Error>>) -> Result<T, Problem> {
        let place = tokio::time::timeout(QUESTION_WAIT, self.questions.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(Problem::ParentAway) };
        question.await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a person's access could not be decided");
            Problem::ParentAway
        })
    }
}

fn verifier(pem: &str) -> Authority {
    let bundle = CaBundle::from_pem(pem.as_bytes()).ok()?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(bundle.certificates().to_vec());
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), lattice_protocol::tls::provider()).build();
    built.inspect_err(|error| tracing::warn!(error = %error, "the parent's client authority cannot be used")).ok()
}

/// The user of a client certificate, by Kubernetes' rule: the common name, and each organization as a group.
fn named_by(leaf: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned)).collect();
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    Some(User { name, groups, ..User::default() })
}
