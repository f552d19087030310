//! An agent with a good certificate that says whatever it likes.

use std::pin::Pin;

use anyhow::Result;
use futures::{Stream, StreamExt as _};
use lattice_protocol::clock;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::transport::{Incoming, Session, Tag};
use lattice_protocol::v1::components_server::{Components, ComponentsServer};
use lattice_protocol::v1::health_server::{Health, HealthServer};
use lattice_protocol::v1::{
    ApplyRequest, ApplyResponse, ComponentReport, HealthReport, NodeHealth, RemoveRequest, RemoveResponse,
    WatchComponentsRequest, WatchHealthRequest,
};
use tonic::{Request, Response, Status};

use crate::asking::Asking;
use crate::rig::{FIRST, Rig};
use crate::wait::until;

type Reports<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Speaks in the name of another cluster.
struct Liar {
    of: String,
}

#[tonic::async_trait]
impl Health for Liar {
    type WatchStream = Reports<HealthReport>;

    async fn watch(&self, _: Request<WatchHealthRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let node = NodeHealth {
            name: format!("{}-cp-00000", self.of),
            ready: true,
            control_plane: true,
            ..NodeHealth::default()
        };
        let report = HealthReport {
            agent_version: format!("the agent of {}", self.of),
            kubernetes_version: "v1.32.0".to_owned(),
            sent_at_unix_ms: clock::now().as_millisecond(),
            nodes_known: true,
            nodes: vec![node],
            ..HealthReport::default()
        };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(report)]).chain(futures::stream::pending()))))
    }
}

#[tonic::async_trait]
impl Components for Liar {
    type WatchStream = Reports<ComponentReport>;

    async fn apply(&self, _: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        Ok(Response::new(ApplyResponse::default()))
    }

    async fn remove(&self, _: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        Ok(Response::new(RemoveResponse::default()))
    }

    async fn watch(&self, _: Request<WatchComponentsRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let report = ComponentReport { component: "cilium".to_owned(), synced: true, ..ComponentReport::default() };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(report)]).chain(futures::stream::pending()))))
    }
}

fn lie(session: Session, of: &str) {
    let (sender, incoming) = Incoming::channel();
    let (health, components) = (Liar { of: of.to_owned() }, Liar { of: of.to_owned() });
    drop(task::spawn("attack.grpc", Kind::Request, async move {
        let server = tonic::transport::Server::builder().add_service(HealthServer::new(health));
        drop(server.add_service(ComponentsServer::new(components)).serve_with_incoming(incoming).await);
    }));
    drop(task::spawn("attack.liar", Kind::Request, async move {
        while let Ok(accepted) = session.accept().await {
            if let Ok((Tag::Grpc, stream)) = accepted.tagged().await {
                sender.hand_over(&session, stream);
            }
        }
    }));
}

#[tokio::test]
async fn attack_07_who_an_agent_is_comes_from_its_certificate_whatever_it_says() -> Result<()> {
    let rig = Rig::shared().await?;
    let (mine, other) = (rig.object("liar").await?, rig.object("slandered").await?);
    let (asking, own) = rig.agent(&mine).await?;
    rig.agent(&other).await?;
    let (session, _endpoint) = rig.way().await?.quic(&own).await?;
    lie(session.clone(), "slandered");
    let said = until("what it says is taken for its own", async || {
        let status = rig.status(&mine).await.ok()?;
        (status["agent"]["version"] == "the agent of slandered").then_some(status)
    })
    .await?;
    assert_eq!(said["agent"]["connected"], true);
    // The other has its own status, which says that nobody has spoken for it yet.
    let status = until("the other's status", async || {
        rig.status(&other).await.ok().filter(|status| status["components"].is_array())
    })
    .await?;
    assert!(!status.to_string().contains("the agent of"), "{status}");
    assert_eq!(status["nodes"]["controlPlane"]["ready"], 0, "{status}");
    for component in status["components"].as_array().into_iter().flatten() {
        assert_eq!(component["state"], "Waiting", "{status}");
    }
    // Nor can its key ask in the other's name.
    let (status, refused) = rig.recover(&other, &asking.key, FIRST, &Asking::new()?.csr).await?;
    assert_eq!((status, refused["reason"].as_str()), (403, Some("RecoveryRefused")), "{refused}");
    rig.hears(&other, "RecoveryRefused").await?;
    assert_eq!(session.close_reason(), None, "what it says of itself is its own affair");
    Ok(())
}
