//! The proxy against an API server that does nothing but what one test needs.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lattice_agent::serve::{Acceptor, Exchanges, Proxy};
use lattice_protocol::limits::REQUEST_BODY_BYTES_MAX;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::transport::{self, Session, http_exchange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::parent::Parent;
use crate::session::within;

/// Answers with what it was asked; `Upgrade: echo` gets the bytes back that it sends.
async fn echo(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = Response::builder();
    if request.headers().get("upgrade").is_some_and(|to| to == "echo") {
        assert_eq!(request.headers()["connection"], "Upgrade");
        let upgraded = hyper::upgrade::on(&mut request);
        task::spawn("test.echo", Kind::Request, async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        });
        let switching = response.status(StatusCode::SWITCHING_PROTOCOLS).header("connection", "upgrade");
        return Ok(switching.header("upgrade", "echo").body(Full::default()).unwrap());
    }
    let seen = serde_json::json!({
        "uri": request.uri().to_string(),
        "headers": request.headers().keys().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        "as": request.headers().get("impersonate-user").map(|user| user.to_str().unwrap()),
        "bytes": request.into_body().collect().await.unwrap().to_bytes().len(),
    });
    Ok(response.header("connection", "x-hop").header("x-hop", "1").body(Full::from(seen.to_string())).unwrap())
}

async fn api() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    task::spawn("test.api", Kind::Service, async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(io), service_fn(echo))
                .with_upgrades();
            // A client that breaks off is part of a test.
            task::spawn("test.connection", Kind::Request, async { drop(served.await) });
        }
    });
    address
}

/// The parent's end of a session whose agent proxies to `api`.
async fn proxied(api: SocketAddr) -> Session {
    lattice_protocol::tls::install_provider();
    let parent = Parent::start().await;
    let (agent, session) = parent.pair().await;
    let mut config = kube::Config::new(format!("http://{api}").parse().unwrap());
    config.default_retry = false;
    let client = kube::Client::try_from(config).unwrap();
    let acceptor = Acceptor::new(transport::Incoming::channel().0, Proxy::new(client));
    task::spawn("test.accept", Kind::Service, async move { acceptor.accept(&agent, &Exchanges::default()).await });
    session
}

fn request(path: &str) -> http::request::Builder {
    Request::get(path).header("host", "child")
}

#[tokio::test]
async fn requests_go_on_as_they_came_without_what_belongs_to_one_hop() {
    let session = proxied(api().await).await;
    let request = request("/api/v1/pods?limit=5&labelSelector=a%3Db")
        .header("authorization", "Bearer of-the-parent")
        .header("connection", "x-secret-hop, keep-alive")
        .header("x-secret-hop", "1")
        .header("accept", "application/json")
        .header("impersonate-user", "ann")
        .body(Full::<Bytes>::from("12345"))
        .unwrap();
    let answer = within("an answer", http_exchange(&session, request)).await.unwrap();
    assert!(!answer.headers().contains_key("x-hop"), "what the answer's Connection names is of that hop too");
    let seen: serde_json::Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(seen["uri"], "/api/v1/pods?limit=5&labelSelector=a%3Db");
    assert_eq!((seen["bytes"].as_u64(), seen["as"].as_str()), (Some(5), Some("ann")));
    let headers = seen["headers"].to_string();
    assert!(headers.contains("accept") && !headers.contains("authorization") && !headers.contains("hop"), "{headers}");
}

#[tokio::test]
async fn an_upgraded_exchange_carries_raw_bytes_both_ways() {
    let session = proxied(api().await).await;
    let request = request("/api/v1/namespaces/n/pods/p/exec")
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(Full::<Bytes>::default())
        .unwrap();
    let mut answer = within("an answer", http_exchange(&session, request)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["upgrade"], "echo");
    let mut io = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let said = vec![7_u8; 300_000];
    let (mut read, mut write) = tokio::io::split(&mut io);
    let heard = within("the echo", async {
        let write = async {
            write.write_all(&said).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let read = async { read.read_to_end(&mut heard).await.unwrap() };
        tokio::join!(write, read);
        heard
    })
    .await;
    assert_eq!(heard, said, "every byte came back, and then the end");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_in_kubernetes_words() {
    let session = proxied(api().await).await;
    let body = Full::<Bytes>::from(vec![0; REQUEST_BODY_BYTES_MAX + 1]);
    let answer = within("an answer", http_exchange(&session, request("/").body(body).unwrap())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let status: serde_json::Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((status["kind"].as_str(), status["code"].as_u64()), (Some("Status"), Some(413)));
}

#[tokio::test]
async fn an_api_server_that_is_away_is_said_so_at_once() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let session = proxied(closed).await;
    let empty = Full::<Bytes>::default();
    let answer = within("an answer", http_exchange(&session, request("/api").body(empty).unwrap())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_persons_request_that_lost_its_user_is_refused_and_not_sent_as_the_agent() {
    let session = proxied(api().await).await;
    let ask = async |lines: &[(&str, &str)]| {
        let request = lines.iter().fold(request("/api"), |request, (name, value)| request.header(*name, *value));
        let answer = http_exchange(&session, request.body(Full::<Bytes>::default()).unwrap());
        let (head, body) = within("an answer", answer).await.unwrap().into_parts();
        let told: serde_json::Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        (head.status.as_u16(), told)
    };
    let person = ("lattice-acts-as", "user");
    let (code, seen) = ask(&[person, ("impersonate-user", "ann")]).await;
    assert_eq!((code, seen["as"].as_str()), (200, Some("ann")));
    assert!(!seen["headers"].to_string().contains("lattice"), "{seen}");
    for lines in [
        &[person][..],
        &[person, ("impersonate-group", "system:masters")],
        &[person, ("impersonate-user", "ann"), ("connection", "impersonate-user")],
        &[person, ("impersonate-user", "ann"), ("impersonate-user", "root")],
        &[("lattice-acts-as", "agent"), ("impersonate-user", "ann")],
    ] {
        let (code, told) = ask(lines).await;
        assert_eq!((code, told["reason"].as_str()), (403, Some("Forbidden")), "{lines:?}");
    }
    let (code, seen) = ask(&[("lattice-acts-as", "agent")]).await;
    assert_eq!((code, seen["as"].as_str()), (200, None), "Cluster API's requests go as the agent");
}

#[tokio::test]
async fn a_path_is_the_api_servers_to_understand() {
    let session = proxied(api().await).await;
    for path in ["//api", "/api/../x", "/a%2Fb/%2e%2e/c", "/a/./b?x=//y&z=%20", "/", "/?timeout=5s", "/a;b=c@d:e"] {
        let asked = request(path).body(Full::<Bytes>::default()).unwrap();
        let answer = within("an answer", http_exchange(&session, asked)).await.unwrap();
        let seen: serde_json::Value =
            serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(seen["uri"], path);
    }
}
