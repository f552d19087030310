//! The rules of a cluster's identity, pure: what a join token and a certificate are good for.
//!
//! [`holding`] has the rules for what comes after enrolment: renewal, recovery, clones, the deliberate way back in.

mod holding;
#[cfg(test)]
mod model;

use jiff::Timestamp;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::limits::JOIN_TOKEN_LIFETIME;
use lattice_protocol::tls::Serial;
use lattice_protocol::token::{JoinToken, TokenHash};
use serde::{Deserialize, Serialize};

pub(super) use self::holding::Recovery;
use super::TokenStanding;
use crate::store::ca::{CsrRefused, Issued, SigningRequest};

/// Longest uid of a `kube-system` namespace that is taken, characters: a UUID.
const KUBE_SYSTEM_UID_CHARS: usize = 36;

/// Why an asker gets nothing. Its words go to the asker, so they tell nobody more than it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Unknown cluster, wrong token or expired token: one answer for all, so that nobody can try names.
    #[error("the join token is not valid for this cluster")]
    Token,
    /// The token was used with another signing request.
    #[error("the join token was already used by another agent")]
    Replay,
    /// The cluster is being deleted.
    #[error("the cluster's identity was revoked")]
    Revoked,
    /// The token was first used on another cluster.
    #[error("the join token was first used on another cluster: the uid of namespace kube-system differs")]
    OtherCluster,
    /// The uid of `kube-system` is none.
    #[error("kubeSystemUid is not the uid of a namespace")]
    KubeSystemUid,
    /// The signing request is no good.
    #[error(transparent)]
    Csr(#[from] CsrRefused),
    /// Too many attempts.
    #[error("too many attempts; wait a minute")]
    TooMany,
    /// Unknown cluster, or not the key that it is bound to: one answer for both.
    #[error("this key is not the one that the cluster's identity is bound to")]
    BoundKey,
    /// Two holders of one identity were noticed; both are locked out.
    #[error(
        "the identity is locked: two agents held it; find the clone, then run lattice-manager enrol for the cluster (docs/identity-conflict.md)"
    )]
    Locked,
    /// The identity came back more often than any honest sleeper.
    #[error(
        "the identity was recovered {} times in 30 days; run lattice-manager enrol for the cluster, or wait",
        holding::RECOVERIES_MAX
    )]
    RecoveryLimit,
    /// The challenge is not ours or too old.
    #[error("the challenge is not in force; ask for a new one")]
    Challenge,
    /// The certificate that asks for a renewal is not the one in force.
    #[error("the certificate is not the one that was issued last")]
    NotInForce,
}

/// Why a certificate that our CA signed is not in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpinned {
    /// No cluster with that uid.
    #[error("no cluster has this identity")]
    UnknownCluster,
    /// The cluster is being deleted.
    #[error("the cluster's identity was revoked")]
    Revoked,
    /// A newer certificate took its place.
    #[error("the certificate is not the one that was issued last")]
    Replaced,
    /// Two holders of one identity were noticed.
    #[error("the identity is locked: two agents held it (docs/identity-conflict.md)")]
    Locked,
}

/// What is stored of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) cluster: ClusterName,
    pub(super) uid: ClusterUid,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    /// The certificate in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Pin>,
    /// The one that takes over once it was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Next>,
    /// What the last certificates that were shown answered, newest last: such a request may still be on its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    answered: Vec<Answered>,
    /// Counts the certificates that were shown; the agent keeps the same number. Of two holders of one identity, one
    /// falls behind as soon as the other gets a new certificate.
    #[serde(default = "first")]
    sequence: u64,
    /// When the identity was recovered, in the last 30 days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recoveries: Vec<Timestamp>,
    /// Two holders were noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locked: Option<Lock>,
    /// SHA-256 of the CA bundle that the agent said it trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trusts: Option<String>,
    /// SHA-256 of the first agent's public key: what it can come back with after a long sleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_key: Option<String>,
    /// `metadata.uid` of the child's namespace `kube-system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kube_system_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    id: String,
    /// SHA-256 of the token's text, hexadecimal.
    hash: String,
    expires: Timestamp,
    state: TokenState,
    /// A person asked for it: it is not delivered through the cluster's Secret, and lets a new key in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_hand: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
enum TokenState {
    Unused,
    /// Promised to this signing request; no certificate has left yet.
    Leased {
        csr: String,
    },
    /// This signing request got this certificate.
    Used {
        csr: String,
        certificate: String,
        serial: String,
        not_after: Timestamp,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pin {
    serial: String,
    not_after: Timestamp,
    /// Pin of the CA that signed it.
    #[serde(default)]
    issuer: String,
}

/// A request whose certificate was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    /// The count that it showed.
    sequence: u64,
    /// SHA-256 of the signing request.
    csr: String,
}

/// A certificate that was signed and not shown yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Next {
    serial: String,
    not_after: Timestamp,
    /// SHA-256 of the request that it answers.
    csr: String,
    certificate: String,
    sequence: u64,
    /// Pin of the CA that signed it.
    issuer: String,
}

/// Why nobody may use the identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lock {
    at: Timestamp,
    why: String,
}

/// A certificate as the record keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) chain_pem: String,
    pub(super) serial: Serial,
    pub(super) not_after: Timestamp,
    pub(super) sequence: u64,
}

fn first() -> u64 {
    1
}

/// What to do for an asker whose token is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Sign its request, then settle it.
    Sign,
    /// Give it what it got before.
    Again(Certificate),
}

impl Record {
    pub(super) fn new(cluster: &ClusterName, uid: &ClusterUid) -> Self {
        Self {
            cluster: cluster.clone(),
            uid: uid.clone(),
            token: None,
            current: None,
            next: None,
            answered: Vec::new(),
            sequence: first(),
            recoveries: Vec::new(),
            locked: None,
            trusts: None,
            bound_key: None,
            kube_system_uid: None,
            revoked: None,
        }
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.is_some()
    }

    pub(super) fn ensure_token(
        &mut self,
        delivered: Option<&JoinToken>,
        now: Timestamp,
    ) -> Result<TokenStanding, Refusal> {
        if self.is_revoked() {
            return Err(Refusal::Revoked);
        }
        if let Some(token) = &self.token {
            if token.by_hand || matches!(token.state, TokenState::Used { .. }) {
                return Ok(TokenStanding::Spent);
            }
            let expired = now >= token.expires && matches!(token.state, TokenState::Unused);
            if !expired && delivered.is_some_and(|delivered| token.is(delivered)) {
                return Ok(TokenStanding::Kept);
            }
        }
        let minted = JoinToken::generate();
        self.token = Some(Token::new(&minted, now, false));
        Ok(TokenStanding::Minted(minted))
    }

    pub(super) fn check_token(&self, token: &JoinToken, now: Timestamp) -> Result<(), Refusal> {
        let stored = self.token.as_ref().ok_or(Refusal::Token)?;
        // Compared before anything else, so that every wrong token takes the same time.
        let is = stored.is(token);
        // A request that holds the lease, or has its certificate, may ask again however late: nobody else can.
        let expired = now >= stored.expires && matches!(stored.state, TokenState::Unused);
        if !is || self.is_revoked() || expired {
            return Err(Refusal::Token);
        }
        Ok(())
    }

    pub(super) fn admit(
        &mut self,
        token: &JoinToken,
        request: &SigningRequest,
        kube_system_uid: &str,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        self.check_token(token, now)?;
        if kube_system_uid.is_empty() || kube_system_uid.len() > KUBE_SYSTEM_UID_CHARS {
            return Err(Refusal::KubeSystemUid);
        }
        // A person who lets a new key in may also mean a cluster that was made anew.
        let by_hand = self.token.as_ref().is_some_and(|token| token.by_hand);
        let new_cluster_is_fine = by_hand && self.unsettled();
        if !new_cluster_is_fine && self.kube_system_uid.as_deref().is_some_and(|known| known != kube_system_uid) {
            return Err(Refusal::OtherCluster);
        }
        let stored = self.token.as_mut().ok_or(Refusal::Token)?;
        match &stored.state {
            TokenState::Unused => {
                stored.state = TokenState::Leased { csr: request.sha256().to_owned() };
                self.kube_system_uid = Some(kube_system_uid.to_owned());
                Ok(Admission::Sign)
            }
            TokenState::Leased { csr } if csr == request.sha256() => Ok(Admission::Sign),
            TokenState::Used { csr, certificate, serial, not_after } if csr == request.sha256() => {
                let (chain_pem, serial) = (certificate.clone(), serial.parse().map_err(|_| Refusal::Token)?);
                let (not_after, sequence) = (*not_after, self.sequence);
                Ok(Admission::Again(Certificate { chain_pem, serial, not_after, sequence }))
            }
            TokenState::Leased { .. } | TokenState::Used { .. } => Err(Refusal::Replay),
        }
    }

    /// Records what was signed for a lease, or gives what another settlement of the same lease recorded first.
    pub(super) fn settle(&mut self, request: &SigningRequest, issued: &Issued) -> Result<Certificate, Refusal> {
        if self.is_revoked() {
            return Err(Refusal::Revoked);
        }
        let token = self.token.as_mut().ok_or(Refusal::Token)?;
        match &token.state {
            TokenState::Leased { csr } if csr == request.sha256() => {}
            TokenState::Used { csr, certificate, serial, not_after } if csr == request.sha256() => {
                let (chain_pem, serial) = (certificate.clone(), serial.parse().map_err(|_| Refusal::Token)?);
                return Ok(Certificate { chain_pem, serial, not_after: *not_after, sequence: self.sequence });
            }
            TokenState::Unused | TokenState::Leased { .. } | TokenState::Used { .. } => return Err(Refusal::Replay),
        }
        token.state = TokenState::Used {
            csr: request.sha256().to_owned(),
            certificate: issued.chain_pem.clone(),
            serial: issued.serial.to_string(),
            not_after: issued.not_after,
        };
        if token.by_hand {
            // Whoever held the identity before is out from here on, and falls behind in the count.
            self.sequence += 1;
            self.recoveries.clear();
        }
        self.current = Some(Pin {
            serial: issued.serial.to_string(),
            not_after: issued.not_after,
            issuer: issued.issuer.to_string(),
        });
        self.next = None;
        self.answered.clear();
        self.locked = None;
        self.trusts = None;
        self.bound_key = Some(request.key_sha256());
        Ok(Certificate {
            chain_pem: issued.chain_pem.clone(),
            serial: issued.serial.clone(),
            not_after: issued.not_after,
            sequence: self.sequence,
        })
    }

    /// The token was not used yet, or its one use is not settled.
    fn unsettled(&self) -> bool {
        self.token.as_ref().is_some_and(|token| matches!(token.state, TokenState::Unused))
    }

    pub(super) fn pinned(&self, serial: &Serial) -> Result<(), Unpinned> {
        if self.is_revoked() {
            return Err(Unpinned::Revoked);
        }
        if self.locked.is_some() {
            return Err(Unpinned::Locked);
        }
        let next = self.next.as_ref().map(|next| next.serial.as_str());
        let pins = [self.current.as_ref().map(|pin| pin.serial.as_str()), next];
        if pins.contains(&Some(serial.as_str())) { Ok(()) } else { Err(Unpinned::Replaced) }
    }

    pub(super) fn revoke(&mut self, now: Timestamp) {
        self.revoked.get_or_insert(now);
        self.token = None;
        self.current = None;
        self.next = None;
    }
}

impl Token {
    fn new(minted: &JoinToken, now: Timestamp, by_hand: bool) -> Self {
        Self {
            id: minted.id().to_string(),
            hash: minted.hash().to_hex(),
            expires: now + JOIN_TOKEN_LIFETIME,
            state: TokenState::Unused,
            by_hand,
        }
    }

    fn is(&self, token: &JoinToken) -> bool {
        TokenHash::from_hex(&self.hash).is_ok_and(|stored| stored == token.hash())
    }
}
