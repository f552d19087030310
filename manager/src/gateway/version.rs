//! The first words on a session: which versions the two sides are of.

use std::time::Duration;

use lattice_protocol::v1::Hello;
use lattice_protocol::v1::version_client::VersionClient;
use lattice_protocol::version::{self, Capabilities, MANAGER_CAPABILITIES, TooFar};
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

/// How long a session is not taken into service for want of an answer. Higher keeps clusters behind very slow links away;
/// lower lets an agent of the wrong version serve for a moment.
pub(super) const ANSWER_SOON: Duration = Duration::from_secs(2);

/// Longest wait for the answer that a round trip is measured by.
const ROUND_TRIP_AT_MOST: Duration = Duration::from_secs(10);

/// Measures a round trip by a call that costs the agent nothing; none when no answer came.
pub(super) async fn round_trip(channel: Channel) -> Option<Duration> {
    let began = Instant::now();
    let answer = tokio::time::timeout(ROUND_TRIP_AT_MOST, VersionClient::new(channel).exchange(Hello::default())).await;
    match answer {
        Ok(Err(status)) if status.code() != Code::Unimplemented => None,
        Ok(_) => Some(began.elapsed()),
        Err(_) => None,
    }
}

/// Asks the agent who it is; ends without an error when the two work together. An agent that does not know the question is
/// of a version before it.
///
/// # Errors
/// Words for people, when they are too far apart.
pub(super) async fn exchange(channel: Channel, own: &str) -> Result<(), String> {
    let hello = Hello { version: own.to_owned(), capabilities: MANAGER_CAPABILITIES.map(str::to_owned).to_vec() };
    match VersionClient::new(channel).exchange(hello).await {
        Ok(answer) => {
            let theirs = answer.into_inner();
            tracing::debug!(version = %theirs.version.escape_debug(), capabilities = %Capabilities(&theirs.capabilities), "the agent's version");
            version::agree(&theirs.version, own).map_err(|too_far: TooFar| too_far.to_string())
        }
        Err(status) if status.code() == Code::FailedPrecondition => {
            Err(status.message().chars().filter(|c| !c.is_control()).take(300).collect())
        }
        Err(status) => {
            tracing::debug!(code = ?status.code(), "the agent's version stays unknown");
            Ok(())
        }
    }
}
