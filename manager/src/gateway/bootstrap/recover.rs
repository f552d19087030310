//! The way back for an agent whose certificate is not in force: a challenge, signed with the key that it is bound to.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::ids::ClusterUid;
use lattice_protocol::recovery::{Challenge, ChallengeRequest, RecoverRequest};
use lattice_protocol::tls::hex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::{self, Problem, json};
use super::{Bootstrap, TunnelEvent};
use crate::store::ca::SigningRequest;
use crate::store::identity::{self, Asked, Refusal};

/// How long a challenge is good for. Longer gives a recorded claim more time; shorter fails on slow links.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Makes and checks challenges without keeping any: each carries its own end, sealed with a secret of this process.
pub(in crate::gateway) struct Challenges([u8; 32]);

impl Default for Challenges {
    fn default() -> Self {
        Self(rand::random())
    }
}

impl Challenges {
    fn make(&self, uid: &ClusterUid, now: Timestamp) -> String {
        let until = (now + GOOD_FOR).as_second();
        let nonce: [u8; 16] = rand::random();
        let body = format!("{until}.{}", hex(&nonce));
        format!("{body}.{}", self.seal(uid, &body))
    }

    fn check(&self, uid: &ClusterUid, challenge: &str, now: Timestamp) -> bool {
        let Some((body, seal)) = challenge.rsplit_once('.') else { return false };
        let genuine = bool::from(self.seal(uid, body).as_bytes().ct_eq(seal.as_bytes()));
        let until = body.split_once('.').and_then(|(until, _)| until.parse().ok());
        genuine && until.is_some_and(|until: i64| now.as_second() < until)
    }

    /// HMAC would be needed if lengths could be played with: the secret has one length, and the hash is over a fixed frame.
    fn seal(&self, uid: &ClusterUid, body: &str) -> String {
        let inner = Sha256::new().chain_update(self.0).chain_update(uid.as_str()).chain_update([0]).chain_update(body);
        hex(&Sha256::new().chain_update(self.0).chain_update(inner.finalize()).finalize())
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenges([redacted])")
    }
}

impl Bootstrap {
    pub(super) fn challenge(&self, body: &[u8], from: IpAddr) -> Result<Response<Full<Bytes>>, Problem> {
        let asked: ChallengeRequest = self.read(body, from)?;
        let now = clock::now();
        let challenge = self.0.challenges.make(&asked.cluster_uid, now);
        Ok(json(StatusCode::OK, &Challenge { challenge, now_unix_ms: now.as_millisecond() }))
    }

    pub(super) async fn recover(&self, body: &[u8], from: IpAddr) -> Result<Response<Full<Bytes>>, Problem> {
        let shared = &self.0;
        let asked: RecoverRequest = self.read(body, from)?;
        let (claim, now) = (&asked.claim, clock::now());
        let uid = &claim.cluster_uid;
        if !shared.challenges.check(uid, &claim.challenge, now) {
            return Err(self.refuse_recovery(uid, from, Refusal::Challenge));
        }
        let key_sha256 = asked.check().map_err(|_| self.refuse_recovery(uid, from, Refusal::BoundKey))?;
        let request = SigningRequest::parse(&claim.csr);
        let request = request.map_err(|refused| self.refuse_recovery(uid, from, refused.into()))?;
        let asked = Asked {
            key_sha256,
            sequence: claim.sequence,
            kube_system_uid: claim.kube_system_uid.clone(),
            from: from.to_string(),
        };
        let renewed = shared.identities.recover(uid, &asked, &request, now).await.map_err(|error| match error {
            identity::Error::Refused(refusal) => self.refuse_recovery(uid, from, refusal),
            other => {
                tracing::error!(cluster.uid = %uid, error = %other, "an agent could not be recovered");
                Problem::Unavailable(other.reason())
            }
        })?;
        tracing::info!(cluster.uid = %uid, %from, sequence = renewed.sequence, "agent recovered its identity");
        shared.events.note(TunnelEvent::Recovered { uid: uid.clone(), from });
        Ok(self.certified(renewed.chain_pem, renewed.sequence))
    }

    fn refuse_recovery(&self, uid: &ClusterUid, from: IpAddr, refusal: Refusal) -> Problem {
        let shared = &self.0;
        tracing::warn!(cluster.uid = %uid, %from, why = %refusal, "recovery refused");
        shared.attempts.refused(from, None);
        match shared.identities.identified(uid) {
            Some(_) if refusal == Refusal::Locked => shared.locked(uid),
            Some(identified) => shared.events.note(TunnelEvent::EnrolmentRefused {
                uid: Some(uid.clone()),
                cluster: identified.cluster,
                from,
                reason: answer::reason(refusal),
                why: format!("an agent came back without its certificate: {refusal}"),
            }),
            None => {}
        }
        Problem::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_for_one_identity_and_one_minute() {
        let (ours, theirs) = (Challenges::default(), Challenges::default());
        let uid: ClusterUid = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().unwrap();
        let other: ClusterUid = "0b6c2d1e-9f00-4c8e-8a77-0123456789ac".parse().unwrap();
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let challenge = ours.make(&uid, now);
        assert!(ours.check(&uid, &challenge, now) && ours.check(&uid, &challenge, now + GOOD_FOR / 2));
        assert!(!ours.check(&uid, &challenge, now + GOOD_FOR), "too old");
        assert!(!ours.check(&other, &challenge, now), "of another identity");
        assert!(!theirs.check(&uid, &challenge, now), "of another process");
        for spoiled in ["", ".", "9999999999.00.00", &challenge.replacen('1', "2", 1), &format!("{challenge}0")] {
            assert!(!ours.check(&uid, spoiled, now), "{spoiled}");
        }
        assert_ne!(challenge, ours.make(&uid, now));
    }
}
