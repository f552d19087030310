//! What Cluster API's controllers send through a proxied kubeconfig, replayed: every request arrives as it was sent, every
//! answer comes back as it was given, and a lost tunnel is a 503 at once.
//!
//! The sequences are those that Cluster API 1.13 was seen to send when it initialises, scales, upgrades, repairs and drains:
//! HTTP/2 for everything but upgrades; etcd by port-forward, WebSocket first, and SPDY after a 400.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, Credentials, ServerCertificate};
use lattice_protocol::token::TokenHash;
use lattice_protocol::transport::CloseCode;
use lattice_tests::tunnel::{Enrolled, Parent, https_stream, https_stream_of, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const TOKEN: &str = "cluster-api";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const FORWARD: &str = "/api/v1/namespaces/kube-system/pods/etcd-cp-0/portforward";
/// Longest that an answer of the proxy's own may take. Without a bound a silence would hang the test.
const AT_ONCE: Duration = Duration::from_secs(5);

/// One request as the child's API server saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Bytes,
}

/// The child's API server, and an etcd behind its port-forward.
#[derive(Clone)]
struct Child {
    seen: Arc<Mutex<Vec<Seen>>>,
    etcd: TlsAcceptor,
}

impl Child {
    /// Starts it; gives its address, and the certificate of its etcd.
    async fn start() -> Result<(Self, SocketAddr, String)> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
        let own = Credentials::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
        let etcd = TlsAcceptor::from(Arc::new(tls::https_server(ServerCertificate::new(&own)?)));
        let child = Self { seen: Arc::default(), etcd };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = child.clone();
        drop(task::spawn("test.child", Kind::Request, async move {
            while let Ok((io, _)) = listener.accept().await {
                let child = serving.clone();
                let answer = service_fn(move |request| child.clone().answer(request));
                drop(task::spawn("test.connection", Kind::Request, async move {
                    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), answer);
                    drop(serving.with_upgrades().await);
                }));
            }
        }));
        Ok((child, address, certificate.pem()))
    }

    async fn answer(self, mut request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        let upgrade = request.headers().get(UPGRADE).cloned();
        let upgraded = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        let uri = head.uri.to_string();
        let seen = Seen { method: head.method, uri: uri.clone(), headers: head.headers, body };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        let text = |code: StatusCode, text: &'static str| {
            let mut response = Response::new(Full::from(text).boxed());
            *response.status_mut() = code;
            response
        };
        Ok(match upgrade {
            Some(protocol) if protocol == "SPDY/3.1" => {
                let etcd = self.etcd.clone();
                drop(task::spawn("test.etcd", Kind::Request, async move {
                    let Ok(io) = upgraded.await else { return };
                    let Ok(mut io) = etcd.accept(TokioIo::new(io)).await else { return };
                    let mut asked = [0; 11];
                    if io.read_exact(&mut asked).await.is_ok() && &asked == b"member list" {
                        let _ = io.write_all(b"three members").await;
                        let _ = io.shutdown().await;
                    }
                }));
                let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
                response.headers_mut().insert(UPGRADE, protocol);
                response.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
                response
            }
            Some(_) => text(StatusCode::BAD_REQUEST, "unable to upgrade: WebSocket is not served"),
            None if uri.contains("watch=true") => {
                let event = Bytes::from_static(b"\x00\x00\x00\x05event");
                let events = futures::stream::iter([Ok(Frame::data(event))]).chain(futures::stream::pending());
                let mut response = Response::new(BodyExt::boxed(StreamBody::new(events)));
                response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(PROTOBUF));
                response
            }
            None if uri.contains("/pods/capi-controller") => text(StatusCode::NOT_FOUND, "no such pod"),
            None if uri.contains("/eviction") => text(StatusCode::TOO_MANY_REQUESTS, "a budget forbids it"),
            None => text(StatusCode::OK, "answer"),
        })
    }

    fn last(&self) -> Result<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last().cloned().context("a request")
    }
}

/// Cluster API's controllers: one HTTP/2 connection for all but upgrades.
struct Controllers {
    proxy: SocketAddr,
    ca: String,
    prefix: String,
    http2: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
}

impl Controllers {
    async fn start(parent: &Parent, own: &Enrolled) -> Result<Self> {
        let (proxy, ca) = (parent.gateway.proxy_addr(), parent.gateway.ca_pem());
        let io = https_stream_of(proxy, &ca, b"h2").await?;
        ensure!(io.get_ref().1.alpn_protocol() == Some(b"h2"), "the proxy speaks HTTP/2");
        let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
        let (http2, connection) = made?;
        drop(task::spawn("test.http2", Kind::Request, async move { drop(connection.await) }));
        Ok(Self { proxy, ca, prefix: format!("/clusters/{}", own.cluster), http2 })
    }

    fn request(&self, method: Method, path: &str, body: &'static str) -> Result<Request<Full<Bytes>>> {
        let request = Request::builder().method(method).uri(format!("https://proxy{}{path}", self.prefix));
        let request = request.header("authorization", format!("Bearer {TOKEN}")).header(ACCEPT, PROTOBUF);
        Ok(request.header(CONTENT_TYPE, PROTOBUF).body(Full::from(body))?)
    }

    async fn send(&self, method: Method, path: &str, body: &'static str) -> Result<Response<Incoming>> {
        let request = self.request(method, path, body)?;
        Ok(tokio::time::timeout(AT_ONCE, self.http2.clone().send_request(request)).await??)
    }

    /// Asks for a port-forward in one protocol, on a connection of its own.
    async fn forward(&self, method: Method, protocol: &'static str) -> Result<Response<Incoming>> {
        let io = https_stream(self.proxy, &self.ca).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        drop(task::spawn("test.http1", Kind::Request, async move { drop(connection.with_upgrades().await) }));
        let mut request = self.request(method, FORWARD, "")?;
        *request.uri_mut() = format!("{}{FORWARD}", self.prefix).parse()?;
        for (name, value) in [
            ("host", "proxy"),
            ("connection", "Upgrade"),
            ("upgrade", protocol),
            ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("x-stream-protocol-version", "portforward.k8s.io"),
        ] {
            request.headers_mut().insert(name, value.parse()?);
        }
        Ok(tokio::time::timeout(AT_ONCE, sender.send_request(request)).await??)
    }

    /// The members of etcd, as the control-plane controller asks for them.
    async fn members(&self, etcd_ca: &str) -> Result<String> {
        let refused = self.forward(Method::GET, "websocket").await?;
        let code = refused.status();
        let told = refused.into_body().collect().await?.to_bytes();
        let own = code == StatusCode::BAD_REQUEST && told.starts_with(b"unable to upgrade");
        ensure!(own, "the refusal is not the API server's own: {code} {told:?}");
        let agreed = self.forward(Method::POST, "SPDY/3.1").await?;
        ensure!(agreed.status() == StatusCode::SWITCHING_PROTOCOLS, "{}", agreed.status());
        ensure!(agreed.headers()[UPGRADE] == "SPDY/3.1", "{:?}", agreed.headers());
        let io = TokioIo::new(hyper::upgrade::on(agreed).await?);
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(tls::CaBundle::from_pem(etcd_ca.as_bytes())?.certificates().to_vec());
        let config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = std::net::Ipv4Addr::LOCALHOST;
        let mut etcd = TlsConnector::from(Arc::new(config)).connect(std::net::IpAddr::from(name).into(), io).await?;
        etcd.write_all(b"member list").await?;
        let mut members = String::new();
        tokio::time::timeout(AT_ONCE, etcd.read_to_string(&mut members)).await??;
        Ok(members)
    }
}

/// What is sent, and the code that comes back.
const REPLAYED: [(Method, &str, &str, u16); 15] = [
    (Method::GET, "/?timeout=5s", "", 200),
    (Method::GET, "/api", "", 200),
    (Method::GET, "/apis", "", 200),
    (Method::GET, "/api/v1/namespaces/capi-system/pods/capi-controller-manager-0", "", 404),
    // Initialise and join.
    (Method::GET, "/api/v1/namespaces/kube-system/configmaps/kubeadm-config", "", 200),
    (Method::POST, "/api/v1/namespaces/kube-system/secrets", "\0bootstrap-token", 200),
    (Method::PUT, "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef", "\0later", 200),
    // Upgrade.
    (Method::PUT, "/api/v1/namespaces/kube-system/configmaps/kubeadm-config", "\0version", 200),
    (Method::PATCH, "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy?fieldManager=manager", "\0image", 200),
    (
        Method::GET,
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/kubeadm:nodes-kubeadm-config",
        "",
        200,
    ),
    // Labels and taints, then repair: cordon, drain, removal.
    (Method::PATCH, "/api/v1/nodes/cp-0?fieldManager=capi-machine&force=true", "\0labels", 200),
    (Method::PATCH, "/api/v1/nodes/worker-0", "\0unschedulable", 200),
    (Method::GET, "/api/v1/pods?fieldSelector=spec.nodeName%3Dworker-0&limit=100", "", 200),
    (Method::POST, "/api/v1/namespaces/default/pods/web-0/eviction", "\0eviction", 429),
    (Method::DELETE, "/api/v1/nodes/worker-0", "", 200),
];

const WATCHES: [&str; 3] = ["/api/v1/nodes", "/api/v1/namespaces", "/api/v1/namespaces/kube-system/pods"];

/// Opens every watch that the controllers hold, as they do after each connect; each tells its first event.
async fn watch(controllers: &Controllers) -> Result<Vec<Incoming>> {
    let mut open = Vec::new();
    for path in WATCHES {
        let query = "allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeout=11m0s";
        let watched = format!("{path}?{query}&watch=true");
        let answer = controllers.send(Method::GET, &watched, "").await.with_context(|| watched.clone())?;
        ensure!(answer.status() == StatusCode::OK && answer.headers()[CONTENT_TYPE] == PROTOBUF, "{path}");
        let mut body = answer.into_body();
        let first = tokio::time::timeout(AT_ONCE, body.frame()).await.context("no event")?.context("an event")??;
        ensure!(first.data_ref().is_some_and(|data| data.ends_with(b"event")), "{path}: {first:?}");
        open.push(body);
    }
    Ok(open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cluster_api_sends_arrives_and_what_is_answered_returns() -> Result<()> {
    let parent = Parent::start().await?;
    let own = parent.enrol(1).await?;
    parent.gateway.register_proxy_credential(&own.cluster.parse()?, TokenHash::of(TOKEN.as_bytes()));
    let (child, address, etcd_ca) = Child::start().await?;
    let controllers = Controllers::start(&parent, &own).await?;

    // No agent was ever there.
    let away = controllers.send(Method::GET, "/?timeout=5s", "").await?;
    ensure!(away.status() == StatusCode::SERVICE_UNAVAILABLE, "{}", away.status());

    for carrier in ["quic", "tcp"] {
        let way = parent.way();
        let (session, _endpoint) = if carrier == "quic" {
            let (session, endpoint) = way.quic(&own).await?;
            (session, Some(endpoint))
        } else {
            (way.tcp(&own).await?, None)
        };
        serve(session.clone(), address)?;
        parent.connected(1).await?;
        for (method, path, body, code) in REPLAYED {
            let answer = controllers.send(method.clone(), path, body).await.with_context(|| path.to_owned())?;
            ensure!(answer.status() == code, "{carrier}: {method} {path}: {}", answer.status());
            let seen = child.last()?;
            ensure!(
                (&seen.method, seen.uri.as_str()) == (&method, path),
                "{carrier}: sent {method} {path}, seen {seen:?}"
            );
            ensure!(seen.body == body, "{carrier}: {method} {path}: {:?}", seen.body);
            ensure!(seen.headers[ACCEPT] == PROTOBUF && !format!("{:?}", seen.headers).contains(TOKEN), "{seen:?}");
        }
        ensure!(controllers.members(&etcd_ca).await.context("etcd")? == "three members");
        let watches = watch(&controllers).await.context(carrier)?;

        // The tunnel goes: watches end, and whatever is asked is told so at once, without an invitation to wait.
        session.close(CloseCode::Done, "");
        for mut body in watches {
            let ending = async { while let Some(Ok(_)) = body.frame().await {} };
            tokio::time::timeout(AT_ONCE, ending).await.with_context(|| format!("{carrier}: a watch hangs"))?;
        }
        parent.connected(0).await?;
        for (method, path) in [(Method::GET, "/?timeout=5s"), (Method::GET, "/api/v1/nodes"), (Method::POST, FORWARD)] {
            let answer = controllers.send(method, path, "").await.with_context(|| format!("{carrier}: {path}"))?;
            ensure!(answer.status() == StatusCode::SERVICE_UNAVAILABLE, "{path}: {}", answer.status());
            ensure!(!answer.headers().contains_key("retry-after"), "{path}: {:?}", answer.headers());
        }
    }
    Ok(())
}
