//! The Kubernetes API through the tunnel.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::token::TokenHash;
use lattice_protocol::transport::CloseCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::world::{Agent, Api, World, echo, text};
use crate::gateway::TunnelEvent;
use crate::store::{Kind as ObjectKind, KindState};

pub(super) const TOKEN: &str = "capi-token";

pub(super) async fn world(api: Api) -> (World, Agent) {
    let mut world = World::new().await;
    let agent = world.agent(api).await;
    assert!(matches!(world.event().await, TunnelEvent::Connected(_)));
    world.gateway.register_proxy_credential(&world.name, TokenHash::of(TOKEN.as_bytes()));
    (world, agent)
}

pub(super) fn request(method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
    builder.body(Full::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn requests_cross_with_their_path_body_and_headers_and_without_claims() {
    let (world, _agent) = world(echo()).await;
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let mut asked = request("POST", "/clusters/backend/api/v1/namespaces/x/pods?dryRun=All", "{\"kind\":\"Pod\"}");
        for (name, value) in [
            ("content-type", "application/vnd.kubernetes.protobuf"),
            ("impersonate-user", "admin"),
            ("x-remote-user", "admin"),
            ("x-forwarded-for", "10.0.0.1"),
        ] {
            asked.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = world.https(world.gateway.proxy_addr(), alpn, asked).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.headers["audit-id"], "7");
        assert!(!answer.headers.contains_key("keep-alive"));
        let told = answer.json();
        assert_eq!(told["method"], "POST");
        assert_eq!(told["uri"], "/api/v1/namespaces/x/pods?dryRun=All");
        assert_eq!(told["body"], "{\"kind\":\"Pod\"}");
        assert_eq!(told["headers"]["content-type"], "application/vnd.kubernetes.protobuf");
        for gone in ["authorization", "impersonate-user", "x-remote-user", "x-forwarded-for"] {
            assert!(told["headers"].get(gone).is_none(), "{gone} must not cross");
        }
    }
    for (method, body) in [("GET", ""), ("DELETE", ""), ("POST", ""), ("PUT", "x"), ("PATCH", "y")] {
        let told = world.proxy(request(method, "/clusters/backend/", body)).await.json();
        assert_eq!((told["method"].as_str(), told["body"].as_str()), (Some(method), Some(body)));
        assert!(told["headers"].get("transfer-encoding").is_none(), "{told}");
    }
}

#[tokio::test]
async fn a_long_list_arrives_whole() {
    let list = Bytes::from(vec![b'x'; 10 << 20]);
    let served = list.clone();
    let api: Api = Arc::new(move |_| {
        let served = served.clone();
        async move { Response::new(text(served)) }.boxed()
    });
    let (world, _agent) = world(api).await;
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let answer = world.https(world.gateway.proxy_addr(), alpn, request("GET", "/clusters/backend/list", "")).await;
        assert_eq!((answer.status, answer.body.len()), (200, list.len()));
    }
}

/// A watch: events as they are sent, and word when its reader has left.
pub(super) fn watched() -> (Api, mpsc::Sender<&'static str>, mpsc::Receiver<()>) {
    let (events, source) = mpsc::channel::<&'static str>(8);
    let (left, gone) = mpsc::channel(8);
    let source = Arc::new(tokio::sync::Mutex::new(source));
    let api: Api = Arc::new(move |_| {
        let (source, left) = (Arc::clone(&source), left.clone());
        async move {
            let (sender, body) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
            drop(lattice_protocol::task::spawn("test.watch", lattice_protocol::task::Kind::Request, async move {
                let mut source = source.lock().await;
                loop {
                    tokio::select! {
                        event = source.recv() => match event {
                            Some(event) => sender.send(Ok(Frame::data(Bytes::from(event)))).await.unwrap(),
                            None => return,
                        },
                        () = sender.closed() => return left.send(()).await.unwrap(),
                    }
                }
            }));
            Response::new(StreamBody::new(ReceiverStream::new(body)).boxed())
        }
        .boxed()
    });
    (api, events, gone)
}

#[tokio::test]
async fn a_watch_flows_event_by_event_and_ends_with_its_reader() {
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let (api, events, mut gone) = watched();
        let (world, _agent) = world(api).await;
        let asked = request("GET", "/clusters/backend/api/v1/nodes?watch=1", "");
        let mut body = world.open(world.gateway.proxy_addr(), alpn, asked).await.into_body();
        for event in ["one\n", "two\n", "three\n"] {
            events.send(event).await.unwrap();
            let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("at once");
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), event);
        }
        drop(body);
        let heard = tokio::time::timeout(Duration::from_secs(5), gone.recv()).await;
        assert_eq!(heard, Ok(Some(())), "the API hears that its reader has left");
    }
}

#[tokio::test]
async fn a_watch_whose_agent_goes_breaks_and_does_not_end() {
    let (api, events, _gone) = watched();
    let (world, agent) = world(api).await;
    let asked = request("GET", "/clusters/backend/api/v1/nodes?watch=1", "");
    let mut body = world.open(world.gateway.proxy_addr(), b"http/1.1", asked).await.into_body();
    events.send("one\n").await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    agent.session.close(CloseCode::Done, "");
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn an_absent_agent_is_answered_for_at_once() {
    let (mut world, agent) = world(echo()).await;
    agent.session.close(CloseCode::Done, "");
    assert!(matches!(world.event().await, TunnelEvent::Lost { .. }));
    let answer = world.proxy(request("GET", "/clusters/backend/?timeout=5s", "")).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.headers.contains_key("retry-after"));
    assert_eq!(
        answer.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 503,
            "reason": "ServiceUnavailable",
            "message": "no agent of cluster backend is connected; the request was not sent",
        })
    );
}

#[tokio::test]
async fn only_a_credential_that_was_never_good_is_unauthorized() {
    let (world, _agent) = world(echo()).await;
    let with = |token: &str, path: &str| {
        Request::get(path).header("authorization", format!("Bearer {token}")).body(Full::default()).unwrap()
    };
    let bare = Request::get("/clusters/backend/api").body(Full::default()).unwrap();
    for (asked, status) in [
        (with(TOKEN, "/clusters/backend/api"), 200),
        (with("wrong", "/clusters/backend/api"), 401),
        (bare, 401),
        (with(TOKEN, "/clusters/unheard-of/api"), 503),
        (with(TOKEN, "/api"), 404),
    ] {
        let what = format!("{asked:?}");
        let answer = world.proxy(asked).await;
        assert_eq!(answer.status, status, "{what}");
        if status != 200 {
            assert_eq!(answer.json()["kind"], "Status");
        }
    }
    // Once it is known which clusters there are, a wrong credential does not tell them apart.
    world.cache.set_kind(&ObjectKind::new("lattice.dev", "LatticeCluster"), KindState::Synced);
    for cluster in ["backend", "unheard-of"] {
        let answer = world.proxy(with("wrong", &format!("/clusters/{cluster}/api"))).await;
        assert_eq!(answer.status, 401, "{cluster}");
        assert!(!answer.json().to_string().contains(cluster));
    }
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused() {
    let (world, _agent) = world(echo()).await;
    let answer = world.proxy(request("POST", "/clusters/backend/api", &"x".repeat(5 << 20))).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn what_an_api_server_refuses_is_passed_on_as_it_is() {
    let api: Api = Arc::new(|_| {
        async { Response::builder().status(409).header("retry-after", "1").body(text("conflict")).unwrap() }.boxed()
    });
    let (world, _agent) = world(api).await;
    let answer = world.proxy(request("PUT", "/clusters/backend/x", "y")).await;
    assert_eq!((answer.status, &answer.body[..]), (409, &b"conflict"[..]));
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn running_exchanges_end_before_a_shutdown_cuts_them() {
    let (reached, mut waiting) = mpsc::channel(1);
    let (go, release) = tokio::sync::watch::channel(false);
    let api: Api = Arc::new(move |_| {
        let (reached, mut release) = (reached.clone(), release.clone());
        async move {
            reached.send(()).await.unwrap();
            release.wait_for(|go| *go).await.unwrap();
            Response::new(text("done"))
        }
        .boxed()
    });
    let (world, _agent) = world(api).await;
    let asking = world.proxy(request("GET", "/clusters/backend/slow", ""));
    let stopping = async {
        waiting.recv().await.unwrap();
        let ((), ()) = tokio::join!(world.gateway.shutdown(), async {
            go.send(true).unwrap();
        });
    };
    let (answer, ()) = tokio::join!(asking, stopping);
    assert_eq!((answer.status, &answer.body[..]), (200, &b"done"[..]));
}

/// An API whose every request upgrades to an echo, as `exec` of `cat` would.
pub(super) fn cat() -> Api {
    Arc::new(|mut request| {
        async move {
            let protocol = request.headers()["upgrade"].clone();
            let upgraded = hyper::upgrade::on(&mut request);
            drop(task::spawn("test.cat", Kind::Request, async move {
                let (mut input, mut output) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
                drop(tokio::io::copy(&mut input, &mut output).await);
                drop(output.shutdown().await);
            }));
            let response = Response::builder().status(101).header("connection", "Upgrade").header("upgrade", protocol);
            response.header("sec-websocket-accept", "x").body(text("")).unwrap()
        }
        .boxed()
    })
}

#[tokio::test]
async fn an_upgrade_is_carried_to_its_end() {
    let (world, agent) = world(cat()).await;
    let session = world.gateway.session(&world.uid).unwrap();
    let free = session.exchanges_free();
    for protocol in ["websocket", "SPDY/3.1"] {
        let mut asked = request("GET", "/clusters/backend/api/v1/namespaces/x/pods/y/exec?command=cat", "");
        asked.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        asked.headers_mut().insert("upgrade", protocol.parse().unwrap());
        let response = world.open(world.gateway.proxy_addr(), b"http/1.1", asked).await;
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["upgrade"], protocol);
        assert_eq!(response.headers()["sec-websocket-accept"], "x");
        let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        io.write_all(b"one key at a time").await.unwrap();
        let mut back = [0; 17];
        io.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"one key at a time");
        assert_eq!(session.exchanges_free(), free - 1, "it keeps its place while it lives");
        if protocol == "websocket" {
            io.shutdown().await.unwrap();
            assert_eq!(io.read(&mut back).await.unwrap(), 0, "the end comes back");
        } else {
            agent.session.close(CloseCode::Done, "");
            let end = tokio::time::timeout(Duration::from_secs(5), io.read(&mut back)).await;
            assert!(matches!(end, Ok(Ok(0) | Err(_))), "a lost agent ends it: {end:?}");
        }
        for _ in 0..100 {
            if session.exchanges_free() == free {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(session.exchanges_free(), free, "and gives it back");
    }
}

#[tokio::test]
async fn places_are_given_back() {
    let (world, _agent) = world(echo()).await;
    let session = world.gateway.session(&world.uid).unwrap();
    let before = session.exchanges_free();
    for _ in 0..50 {
        assert_eq!(world.proxy(request("GET", "/clusters/backend/", "")).await.status, 200);
    }
    for _ in 0..100 {
        if session.exchanges_free() == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} of {before} places are left", session.exchanges_free());
}
