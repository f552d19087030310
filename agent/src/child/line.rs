//! Connections to the API server: TCP without Nagle's algorithm, then TLS with the CA that the pod mounts.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use lattice_protocol::tls;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

/// Longest wait for a connection to the API server, which runs on this node or beside it.
const CONNECT_AT_MOST: Duration = Duration::from_secs(5);

/// Dials the API server. Clones share the settings.
#[derive(Clone)]
pub(super) struct Dialler {
    host: String,
    port: u16,
    name: ServerName<'static>,
    ca: Arc<Authority>,
}

/// The CA: a file that is looked at for each connection, since it is replaced when the cluster's CA is rotated.
struct Authority {
    file: PathBuf,
    /// What was in the file, and the settings that were made of it.
    read: Mutex<(Vec<u8>, Arc<ClientConfig>)>,
}

/// One connection.
pub(super) struct Line(TlsStream<TcpStream>);

impl Dialler {
    pub(super) fn new(host: &str, port: u16, ca: PathBuf) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(unfit)?;
        Ok(Self { host: host.to_owned(), port, name, ca: Arc::new(Authority::new(ca)?) })
    }

    async fn connect(self) -> io::Result<TokioIo<Line>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // With it the second of two key strokes in an `exec` would wait until the first one was acknowledged: 40 ms.
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(self.ca.settings()?).connect(self.name, tcp).await?;
        Ok(TokioIo::new(Line(tls)))
    }
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<Line>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Line>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.clone().connect();
        async { timeout(CONNECT_AT_MOST, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) }
            .boxed()
    }
}

impl Authority {
    fn new(file: PathBuf) -> io::Result<Self> {
        let pem = std::fs::read(&file)?;
        let settings = settings(&pem)?;
        Ok(Self { file, read: Mutex::new((pem, settings)) })
    }

    /// The settings of the file's present content; of the last good one when it has none.
    fn settings(&self) -> io::Result<Arc<ClientConfig>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match std::fs::read(&self.file) {
            Ok(pem) if pem != read.0 => *read = (pem.clone(), settings(&pem)?),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %error, "the cluster's CA cannot be read again"),
        }
        Ok(Arc::clone(&read.1))
    }
}

fn settings(pem: &[u8]) -> io::Result<Arc<ClientConfig>> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(unfit)?;
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(certificates);
    if good == 0 {
        return Err(unfit("there is no certificate in it"));
    }
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn unfit(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
