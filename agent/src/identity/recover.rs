//! The way back when no certificate is in force: a challenge, signed with the key that the identity is bound to.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lattice_protocol::clock;
use lattice_protocol::recovery::{Challenge, ChallengeRequest, Claim};
use lattice_protocol::tls::CaBundle;
use serde::Serialize;

use super::ask::{self, Answer, BootstrapUrl, Way};
use super::secret::Kept;
use super::{Enrolment, Error};

/// Clocks may differ by this much before it is worth a word.
const SKEW_TOLD: SignedDuration = SignedDuration::from_secs(60);

/// Asks every bootstrap port in turn until one answers. `csr` is stored already.
pub(super) async fn recover(
    what: &Enrolment,
    kept: &Kept,
    csr: &str,
    ca: &CaBundle,
    kube_system_uid: &str,
) -> Result<Answer, Error> {
    let way = Way::new(ca, what);
    ask::first_that_answers(&what.urls, |url| at(what, kept, csr, kube_system_uid, &way, url)).await
}

async fn at(
    what: &Enrolment,
    kept: &Kept,
    csr: &str,
    kube_system_uid: &str,
    way: &Way<'_>,
    url: BootstrapUrl,
) -> Result<Answer, Error> {
    let cluster_uid = what.cluster_uid()?;
    let asked = body(&ChallengeRequest { cluster_uid: cluster_uid.clone() });
    let given: Challenge = ask::post(&url, way, "/v1/recover/challenge", asked).await?;
    tell_skew(given.now_unix_ms);
    let claim = Claim {
        cluster_uid,
        sequence: kept.sequence,
        kube_system_uid: kube_system_uid.to_owned(),
        csr: csr.to_owned(),
        challenge: given.challenge,
    };
    let failed =
        |error: lattice_protocol::recovery::Error| Error::Answer { url: url.to_string(), why: error.to_string() };
    let signed = claim.sign(kept.bound_key()).map_err(failed)?;
    ask::post::<Answer>(&url, way, "/v1/recover", body(&signed)).await?.check(&url, what)
}

fn tell_skew(now_unix_ms: i64) {
    let Ok(theirs) = Timestamp::from_millisecond(now_unix_ms) else { return };
    let ours = clock::now();
    if ours.duration_since(theirs).abs() > SKEW_TOLD {
        tracing::warn!(%ours, %theirs, "the clocks of agent and parent differ");
    }
}

fn body(message: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(message).unwrap_or_default())
}
