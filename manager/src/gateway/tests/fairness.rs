//! Many who want much at once, and those beside them.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lattice_protocol::task::{self, Kind};

use super::people::NODES;
use super::proxying::{request, world};
use super::world::{Api, World, text};

/// More than a person may have at once on one agent.
const GREEDY: usize = 420;
/// Requests of one connection; the listener takes 250.
const PER_CONNECTION: usize = 210;

/// An API whose watches never say anything and whose lists are there at once.
fn api() -> Api {
    Arc::new(|request| {
        async move {
            if request.uri().query().is_some_and(|query| query.contains("watch")) {
                return Response::new(StreamBody::new(futures::stream::pending()).boxed());
            }
            Response::new(text("[]"))
        }
        .boxed()
    })
}

/// Opens `count` watches as fast as it can.
async fn watches(world: &World, token: &str, count: usize) -> Vec<Response<Incoming>> {
    let to = world.gateway.proxy_addr();
    let io = TokioIo::new(world.tls(to, b"h2", None).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    drop(task::spawn("test.client", Kind::Request, async move { drop(connection.await) }));
    let mut opened = Vec::new();
    for _ in 0..count {
        let asked = Request::get(format!("https://{to}/clusters/backend/api/v1/nodes?watch=1"));
        let asked = asked.header("authorization", format!("Bearer {token}")).body(Full::<Bytes>::default()).unwrap();
        opened.push(sender.send_request(asked).await.unwrap());
    }
    opened
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_with_hundreds_of_watches_is_in_nobodys_way() {
    let (world, _agent) = world(api()).await;
    for (token, name) in [("greeds", "greedy"), ("janes", "jane")] {
        world.people.knows(token, name, &[]);
        world.people.lets(&format!("{name} get latticeclusters/proxy backend"));
    }
    let mut held = Vec::new();
    for _ in 0..GREEDY / PER_CONNECTION {
        held.extend(watches(&world, "greeds", PER_CONNECTION).await);
    }
    let told: Vec<_> = held.iter().map(|answer| answer.status().as_u16()).collect();
    let open = told.iter().filter(|status| **status == 200).count();
    assert!(open >= 300, "there was plenty for {open}");
    assert!(open < GREEDY && told.iter().all(|status| [200, 429].contains(status)), "the rest is told to slow down");
    let refused = held.pop().unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    let said = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&said).contains("fair share"), "{said:?}");

    let jane = Request::get(NODES).header("authorization", "Bearer janes").body(Full::default()).unwrap();
    assert_eq!(world.proxy(jane).await.status, 200, "another person is let through");
    assert_eq!(world.proxy(request("GET", NODES, "")).await.status, 200, "and Cluster API");
    let metrics = world.metrics.text().unwrap();
    for line in [
        format!("lattice_proxy_requests_open{{caller=\"person\"}} {open}"),
        format!("lattice_proxy_refused_total{{why=\"user_share\"}} {}", GREEDY - open),
    ] {
        assert!(metrics.contains(&line), "no {line:?} in {metrics}");
    }
    assert!(!metrics.contains("greedy") && !metrics.contains("backend"), "no label names a person or a cluster");
}
