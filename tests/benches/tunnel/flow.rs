//! Bulk and small requests: through the proxy, straight over TLS, and over bare QUIC. Small ones of an API that answers
//! without any work, which shows what the way costs, and of a Kubernetes API, which shows what a user sees. The manager has a runtime of many
//! threads, every other party one thread of its own, as the programs have.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::PostParams;
use lattice_apiserver::{ApiServer, Serving};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, Credentials, ServerCertificate};
use lattice_protocol::token::TokenHash;
use lattice_protocol::transport::{Priority, Session, Stream, Tag, quic};
use lattice_tests::pki::Pki;
use lattice_tests::tunnel::{Parent, https_stream, serve, serve_with};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::{figure, small};

const BULK: usize = 256 << 20;
const CHUNK: usize = 64 << 10;
pub(crate) const ROUNDS: usize = 3;
pub(crate) const SMALL: usize = 3000;
pub(crate) const TOKEN: &str = "bench";

/// An API with one long and one short answer.
async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    if request.uri().path() != "/bulk" {
        return Ok(Response::new(
            Full::from("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Success\"}").boxed(),
        ));
    }
    let chunk = Bytes::from(vec![7_u8; CHUNK]);
    let frames = futures::stream::iter((0..BULK / CHUNK).map(move |_| Ok(Frame::data(chunk.clone()))));
    Ok(Response::new(BodyExt::boxed(StreamBody::new(frames))))
}

fn http_over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    drop(task::spawn("bench.serve", Kind::Request, async move {
        drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service_fn(answer)).await);
    }));
}

async fn plain() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(task::spawn("bench.plain", Kind::Request, async move {
        while let Ok((io, _)) = listener.accept().await {
            let _ = io.set_nodelay(true);
            http_over(io);
        }
    }));
    Ok(address)
}

/// A TLS server of the same API with a certificate of its own; gives its CA too.
async fn direct() -> Result<(SocketAddr, String)> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    let own = Credentials::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
    let acceptor = TlsAcceptor::from(Arc::new(tls::https_server(ServerCertificate::new(&own)?)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(task::spawn("bench.direct", Kind::Request, async move {
        while let Ok((io, _)) = listener.accept().await {
            let _ = io.set_nodelay(true);
            let acceptor = acceptor.clone();
            drop(task::spawn("bench.tls", Kind::Request, async move {
                if let Ok(io) = acceptor.accept(io).await {
                    http_over(io);
                }
            }));
        }
    }));
    Ok((address, certificate.pem()))
}

pub(crate) type Client = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

pub(crate) async fn client(to: SocketAddr, ca: &str) -> Result<Client> {
    let io = https_stream(to, ca).await?;
    let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    drop(task::spawn("bench.client", Kind::Request, async move { drop(connection.await) }));
    Ok(client)
}

pub(crate) async fn get(client: &mut Client, path: &str, token: &str) -> Result<usize> {
    client.ready().await?;
    let request = Request::get(path).header("host", "api").header("authorization", format!("Bearer {token}"));
    let response = client.send_request(request.body(Full::default())?).await?;
    anyhow::ensure!(response.status() == 200, "{} of {path}", response.status());
    drain(response.into_body()).await
}

async fn drain(
    mut body: impl hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Unpin,
) -> Result<usize> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mib_per_second(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / took.as_secs_f64()
}

async fn bulk_over(client: &mut Client, path: &str) -> Result<f64> {
    let began = Instant::now();
    let bytes = get(client, path, TOKEN).await?;
    anyhow::ensure!(bytes == BULK, "{bytes} bytes of {path}");
    Ok(mib_per_second(bytes, began.elapsed()))
}

/// Bytes on one bare stream of a session like the tunnel's, from the agent's end.
async fn bulk_over_stream(manager: &Session) -> Result<f64> {
    let began = Instant::now();
    let mut stream = manager.open(Tag::Http, Priority::Bulk).await?;
    stream.shutdown().await?;
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => bytes += read,
        }
    }
    anyhow::ensure!(bytes == BULK, "{bytes} bytes");
    Ok(mib_per_second(bytes, began.elapsed()))
}

/// Answers each stream of a bare session by its tag: with much, or with little when the question has come.
async fn answer_bare(agent: Session) {
    while let Ok(accepted) = agent.accept().await {
        match accepted.tagged().await {
            Ok((Tag::Http, out)) => write_bulk(out).await,
            Ok((_, asked)) => drop(task::spawn("bench.answer", Kind::Request, small::answer_stream(asked))),
            Err(_) => return,
        }
    }
}

async fn write_bulk(mut out: Stream) {
    let chunk = vec![7_u8; CHUNK];
    for _ in 0..BULK / CHUNK {
        if out.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = out.shutdown().await;
}

/// Median and 99th percentile of small requests, microseconds.
async fn one_by_one(client: &mut Client, path: &str, token: &str) -> Result<(f64, f64)> {
    let mut took = Vec::with_capacity(SMALL);
    for _ in 0..SMALL {
        let began = Instant::now();
        get(client, path, token).await?;
        took.push(began.elapsed());
    }
    Ok(small::percentiles(took))
}

/// The manager's end of a bare QUIC session with the tunnel's settings; the other one writes.
async fn bare() -> Result<(Session, [quinn::Endpoint; 2])> {
    let key = rcgen::KeyPair::generate()?;
    let fleet: lattice_protocol::spiffe::TrustDomain = "bench.example".parse()?;
    let pki = Pki::new(&fleet, &key)?;
    let listener = quic::listen(SocketAddr::from(([127, 0, 0, 1], 0)), quic::server_config(pki.server)?, None)?;
    let address = listener.local_addr()?;
    let dialled = party(move || {
        async move {
            let dialler = quic::dialler(SocketAddr::from(([0, 0, 0, 0], 0)))?;
            let session = quic::dial(&dialler, quic::client_config(pki.client)?, address).await?;
            drop(task::spawn("bench.write", Kind::Request, answer_bare(session)));
            Ok(dialler)
        }
        .boxed()
    });
    let accepted = async { Ok(quic::accept(listener.accept().await.context("a connection")?).await?) };
    let (dialler, accepted) = tokio::try_join!(dialled, accepted)?;
    Ok((accepted, [listener, dialler]))
}

/// Sets one party up on a thread and a runtime of its own, as agents, APIs and clients have; it goes on from there.
pub(crate) async fn party<T: Send + 'static>(
    set_up: impl FnOnce() -> BoxFuture<'static, Result<T>> + Send + 'static,
) -> Result<T> {
    let (tell, told) = tokio::sync::oneshot::channel();
    drop(std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.block_on(async {
            let _ = tell.send(set_up().await);
            std::future::pending::<()>().await;
        });
    }));
    told.await?
}

/// One client's figures of one round.
struct Seen {
    proxied_bulk: f64,
    direct_bulk: f64,
    proxied_get: (f64, f64),
    direct_get: (f64, f64),
}

/// Where a server is, and whom to trust there.
pub(crate) type Place = (SocketAddr, String);

async fn look(proxy: Place, prefix: String, direct: Place) -> Result<Seen> {
    let mut through = client(proxy.0, &proxy.1).await?;
    let mut directly = client(direct.0, &direct.1).await?;
    Ok(Seen {
        proxied_bulk: bulk_over(&mut through, &format!("{prefix}/bulk")).await?,
        direct_bulk: bulk_over(&mut directly, "/bulk").await?,
        direct_get: one_by_one(&mut directly, "/version", TOKEN).await?,
        proxied_get: one_by_one(&mut through, &format!("{prefix}/version"), TOKEN).await?,
    })
}

/// A Kubernetes API with its own sign-on and rights, as the child of an agent has it; and the agent's credentials there.
struct Api {
    at: Place,
    token: String,
    folder: tempfile::TempDir,
    _serving: (Arc<ApiServer>, Serving),
}

async fn api() -> Result<Api> {
    let server = ApiServer::new(lattice_apiserver::Config::default())?;
    let serving = server.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let at = (serving.addr(), server.ca_pem().to_owned());
    let group = "rbac.authorization.k8s.io";
    let account = serde_json::json!({"metadata": {"name": "agent", "namespace": "default"}});
    let binding = serde_json::json!({
        "metadata": {"name": "agent"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "default"}],
    });
    let params = PostParams::default();
    let accounts = kube::Api::<ServiceAccount>::namespaced(server.client(), "default");
    accounts.create(&params, &serde_json::from_value(account)?).await?;
    let bindings = kube::Api::<ClusterRoleBinding>::all(server.client());
    bindings.create(&params, &serde_json::from_value(binding)?).await?;
    let token = server.service_account_token("default", "agent")?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("token"), &token)?;
    std::fs::write(folder.path().join("ca.crt"), &at.1)?;
    Ok(Api { at, token, folder, _serving: (server, serving) })
}

/// A small object of an API that does its work, through the proxy and straight: what `kubectl get` waits for.
async fn object(parent: &Parent) -> Result<()> {
    let own = parent.enrol(2).await?;
    let path = "/api/v1/namespaces/default/serviceaccounts/agent";
    let through = format!("/clusters/{}{path}", own.cluster);
    parent.gateway.register_proxy_credential(&own.cluster.parse()?, TokenHash::of(TOKEN.as_bytes()));
    let api = party(|| api().boxed()).await?;
    let (way, at, mounted) = (parent.way(), api.at.0, api.folder.path().to_owned());
    let _endpoint = party(move || {
        async move {
            let (agent, endpoint) = way.quic(&own).await?;
            let client = lattice_agent::child::connect(&at.ip().to_string(), at.port(), &mounted, "default")?;
            serve_with(agent, client);
            Ok(endpoint)
        }
        .boxed()
    })
    .await?;
    parent.connected(2).await?;
    let proxy = (parent.gateway.proxy_addr(), parent.gateway.ca_pem());
    let (mut proxied, mut straight) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (proxy, through, direct, token) = (proxy.clone(), through.clone(), api.at.clone(), api.token.clone());
        let look = async move {
            let mut directly = client(direct.0, &direct.1).await?;
            let mut proxied = client(proxy.0, &proxy.1).await?;
            let direct = one_by_one(&mut directly, path, &token).await?;
            Ok((one_by_one(&mut proxied, &through, TOKEN).await?, direct))
        };
        let (through, direct) = party(move || look.boxed()).await?;
        proxied.push(through.0);
        straight.push(direct.0);
    }
    let (proxied, straight) = (least(proxied), least(straight));
    figure("tls_object_get_p50", straight, "us");
    figure("proxy_object_get_p50", proxied, "us");
    figure("proxy_object_get_p50_vs_tls", proxied / straight, "ratio");
    Ok(())
}

fn most(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

pub(crate) fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

pub(crate) async fn run() -> Result<()> {
    let parent = Parent::start().await?;
    let own = parent.enrol(1).await?;
    let prefix = format!("/clusters/{}", own.cluster);
    parent.gateway.register_proxy_credential(&own.cluster.parse()?, TokenHash::of(TOKEN.as_bytes()));
    let child = party(|| plain().boxed()).await?;
    let way = parent.way();
    let _endpoint = party(move || {
        async move {
            let (agent, endpoint) = way.quic(&own).await?;
            serve(agent, child)?;
            Ok(endpoint)
        }
        .boxed()
    })
    .await?;
    parent.connected(1).await?;
    let session = parent.gateway.session(&"0b6c2d1e-9f00-4c8e-8a77-000000000001".parse()?).context("a session")?;
    let direct_place = party(|| direct().boxed()).await?;
    let (manager, _endpoints) = bare().await?;

    let (mut seen, mut quinn, mut tunnel) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quinn.push(bulk_over_stream(&manager).await?);
        let began = Instant::now();
        let request = Request::get("/bulk").header("host", "api").body(Full::<Bytes>::default())?;
        let bytes = drain(session.open_http(request).await?.into_body()).await?;
        tunnel.push(mib_per_second(bytes, began.elapsed()));
        let (proxy, prefix) = ((parent.gateway.proxy_addr(), parent.gateway.ca_pem()), prefix.clone());
        let straight = direct_place.clone();
        seen.push(party(move || look(proxy, prefix, straight).boxed()).await?);
    }
    let quinn = most(quinn);
    let proxied = most(seen.iter().map(|seen| seen.proxied_bulk));
    let tls = most(seen.iter().map(|seen| seen.direct_bulk));
    let tunnel = most(tunnel);
    figure("quinn_bulk", quinn, "MiB/s");
    figure("tls_bulk", tls, "MiB/s");
    figure("tunnel_bulk", tunnel, "MiB/s");
    figure("proxy_bulk", proxied, "MiB/s");
    figure("tunnel_bulk_vs_quinn", tunnel / quinn, "ratio");
    figure("proxy_bulk_vs_quinn", proxied / quinn, "ratio");
    figure("proxy_bulk_vs_tls", proxied / tls, "ratio");

    let proxied = least(seen.iter().map(|seen| seen.proxied_get.0));
    let straight = least(seen.iter().map(|seen| seen.direct_get.0));
    figure("tls_get_p50", straight, "us");
    figure("tls_get_p99", least(seen.iter().map(|seen| seen.direct_get.1)), "us");
    figure("proxy_get_p50", proxied, "us");
    figure("proxy_get_p99", least(seen.iter().map(|seen| seen.proxied_get.1)), "us");
    figure("proxy_get_p50_vs_tls", proxied / straight, "ratio");
    let bare_get = small::over_bare_streams(&manager).await?;
    figure("quinn_get_p50", bare_get.0, "us");
    figure("quinn_get_p99", bare_get.1, "us");
    figure("proxy_get_p50_vs_quinn", proxied / bare_get.0, "ratio");
    let proxy = (parent.gateway.proxy_addr(), parent.gateway.ca_pem());
    small::at_once(&proxy, &format!("{prefix}/version"), &direct_place, &manager).await?;
    object(&parent).await
}
