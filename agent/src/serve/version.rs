//! `Version`: agent and parent say who they are, first thing on a session.

use lattice_protocol::v1::Hello;
use lattice_protocol::v1::version_server::Version;
use lattice_protocol::version::{self, AGENT_CAPABILITIES, Capabilities};
use tonic::{Request, Response, Status};

use crate::notice::Notices;

/// Answers with this agent's version.
pub(super) struct Service {
    own: String,
    notices: Notices,
}

impl Service {
    pub(super) fn new(own: String, notices: Notices) -> Self {
        Self { own, notices }
    }
}

#[tonic::async_trait]
impl Version for Service {
    async fn exchange(&self, request: Request<Hello>) -> Result<Response<Hello>, Status> {
        let parent = request.into_inner();
        if let Err(too_far) = version::agree(&self.own, &parent.version) {
            let words = too_far.to_string();
            tracing::warn!(error = %words, "the parent's version does not fit");
            self.notices.warn("VersionsApart", "Connect", &words);
            return Err(Status::failed_precondition(words));
        }
        let can = Capabilities(&parent.capabilities);
        tracing::debug!(version = %parent.version.escape_debug(), capabilities = %can, "the parent's version");
        let capabilities = AGENT_CAPABILITIES.map(str::to_owned).to_vec();
        Ok(Response::new(Hello { version: self.own.clone(), capabilities }))
    }
}
