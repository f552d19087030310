//! The server: the one thing that embedders hold.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lattice_protocol::task::{self, Kind};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::auth::tokens::{Claims, EXPIRATION_SECONDS};
use crate::auth::{self, User};
use crate::certs::Authority;
use crate::config::Config;
use crate::core::Core;
use crate::error::Error;
use crate::faults::{Dropped, Faults};
use crate::http::handle::{Peer, handle};
use crate::http::{Body, BoxError, Request, Response};
use crate::kubelets::PodCall;

/// Connections that one listener serves at a time. Too low: large sandboxes wait; too high: descriptors run out.
const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take for its TLS handshake.
const HANDSHAKE_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// An embedded Kubernetes-style API server.
pub struct ApiServer {
    core: Arc<Core>,
    authority: Authority,
    stop: CancellationToken,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("config", &self.core.config).finish_non_exhaustive()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A listener; it stops when this is dropped.
#[derive(Debug)]
pub struct Serving {
    addr: SocketAddr,
    _stop: DropGuard,
}

impl Serving {
    /// Returns the address that is listened on, with the port that was chosen where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl ApiServer {
    /// Makes a server, with the objects of the state folder where there is one. Call it on a tokio runtime.
    ///
    /// # Errors
    /// When the state folder cannot be used, or certificates cannot be made.
    pub fn new(config: Config) -> Result<Arc<Self>, Error> {
        let authority = Authority::load_or_new(config.state.as_deref(), config.clock.now())?;
        let core = Core::open(config, authority.pem().to_owned())?;
        let stop = CancellationToken::new();
        if core.config.controllers {
            crate::controllers::start(&core, stop.child_token());
        }
        Ok(Arc::new(Self { core, authority, stop }))
    }

    /// Serves the API over TLS on one address; call it again for more addresses.
    ///
    /// # Errors
    /// When the address is taken or no certificate can be made for it.
    pub async fn serve(self: &Arc<Self>, addr: SocketAddr) -> Result<Serving, Error> {
        let fail = |source| Error::Bind { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(fail)?;
        let addr = listener.local_addr().map_err(fail)?;
        let tls = self.authority.tls(self.alt_names(addr.ip()), self.core.config.clock.now())?;
        let stop = self.stop.child_token();
        task::spawn("apiserver.listen", Kind::Service, listen(Arc::clone(self), listener, tls, stop.clone()));
        Ok(Serving { addr, _stop: stop.drop_guard() })
    }

    fn alt_names(&self, ip: IpAddr) -> Vec<String> {
        let mut names: Vec<String> =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1"]
                .map(String::from)
                .into();
        let ip = if ip.is_unspecified() { "127.0.0.1".to_owned() } else { ip.to_string() };
        for name in self.core.config.alt_names.iter().chain([&ip]) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Returns a client with an administrator's rights that reaches the server without sockets.
    pub fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let request = request.map(|body| body.map_err(|error| Box::new(error) as BoxError).boxed_unsync());
            answer(Arc::clone(&server), request, Some(User::admin()))
        });
        kube::Client::new(service, "default")
    }

    /// Makes a kubeconfig with an administrator's client certificate for an address.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn kubeconfig(&self, addr: &SocketAddr) -> Result<String, Error> {
        let pair = self.authority.client("kubernetes-admin", &["system:masters"], self.core.config.clock.now())?;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        Ok(format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: local\n  cluster:\n    server: https://{addr}\n    \
             certificate-authority-data: {ca}\nusers:\n- name: admin\n  user:\n    client-certificate-data: {certificate}\n    \
             client-key-data: {key}\ncontexts:\n- name: local\n  context:\n    cluster: local\n    user: admin\n\
             current-context: local\n",
            ca = encode(self.authority.pem()),
            certificate = encode(&pair.certificate),
            key = encode(&pair.key),
        ))
    }

    /// Returns the faults of this server, to add some.
    pub fn faults(&self) -> Faults {
        self.core.faults.clone()
    }

    /// Sets who answers for pods' `log`, `exec`, `attach` and `portforward`; access is decided before it is asked.
    pub fn set_kubelets<F, A>(&self, answer: F)
    where
        F: Fn(PodCall, http::Request<Body>) -> A + Send + Sync + 'static,
        A: Future<Output = http::Response<Body>> + Send + 'static,
    {
        self.core.kubelets.set(Arc::new(move |call, request| Box::pin(answer(call, request))));
    }

    /// Returns the certificate of the authority that signs the server's certificates, PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Issues a token of a ServiceAccount, as a kubelet mounts it into pods.
    ///
    /// # Errors
    /// When there is no such ServiceAccount.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> Result<String, Error> {
        let claims = Claims {
            namespace: namespace.to_owned(),
            account: name.to_owned(),
            seconds: EXPIRATION_SECONDS,
            ..Claims::default()
        };
        let missing = || Error::NoServiceAccount { namespace: namespace.into(), name: name.into() };
        self.core.tokens.issue(&self.core, &claims).ok_or_else(missing)
    }
}

/// Answers a request of a user that the transport vouches for.
fn answer(
    server: Arc<ApiServer>,
    mut request: Request,
    user: Option<User>,
) -> futures::future::BoxFuture<'static, Result<Response, Dropped>> {
    Box::pin(async move {
        if let Some(user) = user {
            request.extensions_mut().insert(Peer(user));
        }
        handle(&server.core, request).await
    })
}

async fn listen(
    server: Arc<ApiServer>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (server, acceptor, stop) = (Arc::clone(&server), acceptor.clone(), stop.clone());
        task::spawn("apiserver.connection", Kind::Request, async move {
            let _slot = slot;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = connection(server, acceptor, stream) => {}
            }
        });
    }
}

async fn connection(server: Arc<ApiServer>, acceptor: TlsAcceptor, stream: tokio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|der| auth::of_certificate(der));
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let request = request.map(|body| body.map_err(|error| Box::new(error) as BoxError).boxed_unsync());
        answer(Arc::clone(&server), request, user.clone())
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(error, "connection ended");
    }
}
