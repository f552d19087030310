//! `Identity`: the parent renews our certificate and tells whom to trust.

use jiff::{SignedDuration, Timestamp};
use lattice_protocol::clock;
use lattice_protocol::v1::identity_server::Identity;
use lattice_protocol::v1::{GreetReply, GreetRequest, InstallReply, InstallRequest, PrepareReply, PrepareRequest};
use tonic::{Request, Response, Status};

use crate::dial::chain;
use crate::identity::{Error, Wallet};
use crate::notice::Notices;

/// Clocks may differ by this much before it is told.
const SKEW_TOLD: SignedDuration = SignedDuration::from_secs(60);

pub(super) struct Service {
    wallet: Wallet,
    notices: Notices,
}

impl Service {
    pub(super) fn new(wallet: Wallet, notices: Notices) -> Self {
        Self { wallet, notices }
    }

    fn compare_clocks(&self, theirs_unix_ms: i64) {
        let Ok(theirs) = Timestamp::from_millisecond(theirs_unix_ms) else { return };
        let ours = clock::now();
        let ahead = ours.duration_since(theirs);
        if ahead.abs() > SKEW_TOLD {
            let note = format!(
                "the clock here is {:+} s against the parent's: here {}, there {}; check time synchronisation on both",
                ahead.as_secs(),
                clock::to_seconds(ours),
                clock::to_seconds(theirs)
            );
            tracing::warn!(seconds = ahead.as_secs(), "the clocks of agent and parent differ");
            self.notices.warn("ClockSkew", "Identify", &note);
        }
    }
}

#[tonic::async_trait]
impl Identity for Service {
    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetReply>, Status> {
        let request = request.into_inner();
        self.compare_clocks(request.now_unix_ms);
        let ca_bundle_sha256 = self.wallet.trust(&request.ca_bundle).await.map_err(|error| status(&error))?;
        Ok(Response::new(GreetReply { ca_bundle_sha256, now_unix_ms: clock::now().as_millisecond() }))
    }

    async fn prepare(&self, _: Request<PrepareRequest>) -> Result<Response<PrepareReply>, Status> {
        let prepared = self.wallet.prepare().await.map_err(|error| status(&error))?;
        let (csr, sequence, serial) = (prepared.csr, prepared.sequence, prepared.serial);
        Ok(Response::new(PrepareReply { csr, sequence, serial }))
    }

    async fn install(&self, request: Request<InstallRequest>) -> Result<Response<InstallReply>, Status> {
        let InstallRequest { certificate, ca_bundle, sequence } = request.into_inner();
        self.wallet.install(certificate, ca_bundle, sequence).await.map_err(|error| status(&error))?;
        Ok(Response::new(InstallReply {}))
    }
}

fn status(error: &Error) -> Status {
    let words = chain(error);
    match error {
        Error::Raced { .. } | Error::Secret { .. } => Status::unavailable(words),
        Error::Ca(_) | Error::Damaged { .. } => Status::invalid_argument(words),
        Error::None => Status::failed_precondition(words),
        Error::File { .. }
        | Error::Token { .. }
        | Error::Key(_)
        | Error::Refused { .. }
        | Error::Unreachable { .. }
        | Error::Answer { .. } => Status::internal(words),
    }
}
