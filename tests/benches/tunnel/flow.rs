//! Bulk and small requests: through the proxy, straight over TLS, and over bare QUIC.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::tls::{self, Credentials, ServerCertificate};
use lattice_protocol::token::TokenHash;
use lattice_protocol::transport::{Priority, Session, Tag};
use lattice_tests::pki::bare;
use lattice_tests::tunnel::{Parent, https_stream, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::figure;

const BULK: usize = 256 << 20;
const CHUNK: usize = 64 << 10;
const ROUNDS: usize = 3;
const SMALL: usize = 3000;
const TOKEN: &str = "bench";

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

type Client = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn client(to: SocketAddr, ca: &str) -> Result<Client> {
    let io = https_stream(to, ca).await?;
    let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    drop(task::spawn("bench.client", Kind::Request, async move { drop(connection.await) }));
    Ok(client)
}

async fn get(client: &mut Client, path: &str) -> Result<usize> {
    client.ready().await?;
    let request = Request::get(path).header("host", "api").header("authorization", format!("Bearer {TOKEN}"));
    let response = client.send_request(request.body(Full::default())?).await?;
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
    let bytes = get(client, path).await?;
    anyhow::ensure!(bytes == BULK, "{bytes} bytes of {path}");
    Ok(mib_per_second(bytes, began.elapsed()))
}

/// Bytes on one bare stream of a session like the tunnel's.
async fn bulk_over_stream(from: &Session, to: &Session) -> Result<f64> {
    let began = Instant::now();
    let mut out = from.open(Tag::Http, Priority::Bulk).await?;
    let (_, mut into) = to.accept().await?.tagged().await?;
    drop(task::spawn("bench.write", Kind::Request, async move {
        let chunk = vec![7_u8; CHUNK];
        for _ in 0..BULK / CHUNK {
            if out.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = out.shutdown().await;
    }));
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        match into.read(&mut buffer).await? {
            0 => break,
            read => bytes += read,
        }
    }
    anyhow::ensure!(bytes == BULK, "{bytes} bytes");
    Ok(mib_per_second(bytes, began.elapsed()))
}

/// Median and 99th percentile of small requests, microseconds.
async fn small(client: &mut Client, path: &str) -> Result<(f64, f64)> {
    let mut took = Vec::with_capacity(SMALL);
    for _ in 0..SMALL {
        let began = Instant::now();
        get(client, path).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok((took[SMALL / 2].as_secs_f64() * 1e6, took[SMALL * 99 / 100].as_secs_f64() * 1e6))
}

fn best(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

pub(crate) async fn run() -> Result<()> {
    let parent = Parent::start().await?;
    let own = parent.enrol(1).await?;
    parent.gateway.register_proxy_credential(&own.cluster.parse()?, TokenHash::of(TOKEN.as_bytes()));
    let (agent, _endpoint) = parent.way().quic(&own).await?;
    serve(agent, plain().await?)?;
    parent.connected(1).await?;
    let session = parent.gateway.session(&"0b6c2d1e-9f00-4c8e-8a77-000000000001".parse()?).context("a session")?;

    let (straight, straight_ca) = direct().await?;
    let mut through = client(parent.gateway.proxy_addr(), &parent.gateway.ca_pem()).await?;
    let mut directly = client(straight, &straight_ca).await?;
    let (manager, bare_agent, _endpoints) = bare().await?;
    let prefix = format!("/clusters/{}", own.cluster);

    let (mut proxied, mut tls, mut quinn, mut tunnel) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quinn.push(bulk_over_stream(&manager, &bare_agent).await?);
        proxied.push(bulk_over(&mut through, &format!("{prefix}/bulk")).await?);
        tls.push(bulk_over(&mut directly, "/bulk").await?);
        let began = Instant::now();
        let request = Request::get("/bulk").header("host", "api").body(Full::<Bytes>::default())?;
        let bytes = drain(session.open_http(request).await?.into_body()).await?;
        tunnel.push(mib_per_second(bytes, began.elapsed()));
    }
    figure("quinn_bulk", best(&quinn), "MiB/s");
    figure("tls_bulk", best(&tls), "MiB/s");
    figure("tunnel_bulk", best(&tunnel), "MiB/s");
    figure("proxy_bulk", best(&proxied), "MiB/s");
    figure("tunnel_bulk_vs_quinn", best(&tunnel) / best(&quinn), "ratio");
    figure("proxy_bulk_vs_quinn", best(&proxied) / best(&quinn), "ratio");
    figure("proxy_bulk_vs_tls", best(&proxied) / best(&tls), "ratio");

    let (mut proxied, mut straight, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        straight.push(small(&mut directly, "/version").await?.0);
        let (median, tail) = small(&mut through, &format!("{prefix}/version")).await?;
        proxied.push(median);
        tails.push(tail);
    }
    figure("tls_get_p50", least(&straight), "us");
    figure("proxy_get_p50", least(&proxied), "us");
    figure("proxy_get_p99", least(&tails), "us");
    figure("proxy_get_p50_vs_tls", least(&proxied) / least(&straight), "ratio");
    Ok(())
}
