//! What the parent may ask on a session: gRPC on `G` streams, the Kubernetes API on `H` streams.

mod components;
mod health;
mod identity;
mod proxy;
mod spans;
mod version;

use std::time::Duration;

use lattice_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::telemetry::Exporter;
use lattice_protocol::transport::{Accepted, Incoming, IncomingSender, Session, Tag};
use lattice_protocol::v1::components_server::ComponentsServer;
use lattice_protocol::v1::health_server::HealthServer;
use lattice_protocol::v1::identity_server::IdentityServer;
use lattice_protocol::v1::telemetry_server::TelemetryServer;
use lattice_protocol::v1::version_server::VersionServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

pub use proxy::Proxy;

use crate::apply::Engine;
use crate::identity::Wallet;
use crate::notice::Notices;
use crate::observe::{Api, Observed};

/// HTTP/2 windows of a gRPC stream and of its connection, bytes. Larger ones make bundles faster on long links; smaller
/// ones bound what a parent can make us hold.
const WINDOWS: (u32, u32) = (1 << 20, 2 << 20);

/// Longest that one call may take to be answered; streams are not bound by it.
const CALL_AT_MOST: Duration = Duration::from_mins(1);

/// Serves gRPC until the process ends.
pub async fn grpc(
    incoming: Incoming,
    observed: Observed,
    api: Api,
    engine: Engine,
    exporter: Exporter,
    (wallet, notices, version): (Wallet, Notices, String),
    stop: CancellationToken,
) {
    let components = ComponentsServer::new(components::Service::new(engine))
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let served = Server::builder()
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .timeout(CALL_AT_MOST)
        .add_service(HealthServer::new(health::Service::new(observed, api)))
        .add_service(components)
        .add_service(VersionServer::new(version::Service::new(version, notices.clone())))
        .add_service(IdentityServer::new(identity::Service::new(wallet, notices)))
        .add_service(TelemetryServer::new(spans::Service::new(exporter)))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(error = %error, "grpc server ended");
    }
}

/// Hands the parent's streams to those who serve them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Acceptor {
    grpc: IncomingSender,
    proxy: Proxy,
}

/// The exchanges that are open on one session, upgraded connections included.
#[derive(Clone, Debug)]
pub struct Exchanges(TaskTracker);

impl Default for Exchanges {
    fn default() -> Self {
        let tracker = TaskTracker::new();
        // So that waiting ends whenever none is open; more may come after it.
        tracker.close();
        Self(tracker)
    }
}

impl Exchanges {
    /// Waits until none is open.
    pub async fn idle(&self) {
        self.0.wait().await;
    }
}

impl Acceptor {
    /// Hands `G` streams to `grpc` and `H` streams to `proxy`.
    pub fn new(grpc: IncomingSender, proxy: Proxy) -> Self {
        Self { grpc, proxy }
    }

    /// Accepts streams until the session ends, and counts what is `open`.
    ///
    /// # Cancel safety
    /// May be dropped; streams that were accepted go on.
    pub async fn accept(&self, session: &Session, open: &Exchanges) {
        while let Ok(accepted) = session.accept().await {
            let (grpc, proxy, session) = (self.grpc.clone(), self.proxy.clone(), session.clone());
            let upgraded = open.0.token();
            let serve = async move {
                if let Some(stream) = route(accepted, &grpc, &session).await {
                    proxy.serve(stream, upgraded).await;
                }
            };
            task::spawn("serve.stream", Kind::Request, open.0.track_future(serve));
        }
    }
}

/// Hands a gRPC stream over; returns an HTTP one.
async fn route(
    accepted: Accepted,
    grpc: &IncomingSender,
    session: &Session,
) -> Option<lattice_protocol::transport::Stream> {
    match accepted.tagged().await {
        Ok((Tag::Grpc, stream)) => {
            grpc.hand_over(session, stream);
            None
        }
        Ok((Tag::Http, stream)) => Some(stream),
        // A parent has no successor to announce: it says when to dial again as it closes.
        Ok((Tag::Handover, _)) => None,
        Err(error) => {
            tracing::debug!(error = %error, "stream refused");
            None
        }
    }
}
