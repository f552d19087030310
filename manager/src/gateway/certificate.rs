//! The manager's own certificate: made from the CA at start, held in memory only, renewed while it serves; and whom the
//! tunnel's listener trusts. Both follow the CA through a rotation without touching an open connection.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::task::Kind;
use lattice_protocol::tls::{ClientTrust, ServerCertificate};

use super::Error;
use super::stop::Stop;
use crate::store::ca::{Authorities, CertificateAuthority};

/// How often the wall clock is compared: timers stop while a machine sleeps, certificates go on ageing.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the listeners show, and whom they trust.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The certificate of all listeners.
    pub(super) own: Arc<ServerCertificate>,
    /// Whose certificates the tunnel takes.
    pub(super) clients: Arc<ClientTrust>,
    names: Arc<[String]>,
}

impl Shown {
    pub(super) async fn new(authority: &Arc<CertificateAuthority>, names: Vec<String>) -> Result<Self, Error> {
        let own = ServerCertificate::new(&authority.certify_server(&names, clock::now()).await?)?;
        let clients = ClientTrust::new(authority.bundle(), authority.fleet())?;
        Ok(Self { own, clients, names: names.into() })
    }

    async fn follow(&self, authority: &Arc<CertificateAuthority>, now: Timestamp) -> Result<(), Error> {
        self.clients.replace(authority.bundle())?;
        self.own.replace(&authority.certify_server(&self.names, now).await?)?;
        tracing::info!(ca.pin = %authority.pin(), "the manager's certificate is renewed");
        Ok(())
    }
}

/// Renews it for as long as the gateway is open. Connections that are up stay up.
pub(super) fn keep_fresh(stop: &Stop, authorities: Arc<Authorities>, shown: Shown) {
    let drain = stop.drain.clone();
    let mut changes = authorities.changes();
    stop.spawn("gateway.certificate", Kind::Service, async move {
        let mut issued = clock::now();
        let mut changed = false;
        loop {
            let lifetime = authorities.present().lifetime();
            tokio::select! {
                biased;
                () = drain.cancelled() => return,
                Ok(()) = changes.changed() => changed = true,
                () = tokio::time::sleep(LOOK_EVERY.min(lifetime / 8)) => {}
            }
            let now = clock::now();
            if changed || is_due(issued, lifetime, now) {
                match shown.follow(&authorities.present(), now).await {
                    Ok(()) => (issued, changed) = (now, false),
                    Err(error) => tracing::error!(error = %error, "the manager's certificate cannot be renewed"),
                }
            }
        }
    });
}

/// Due at half of its life, so that half a life of failures costs nothing. A clock that went back also makes it due: the
/// certificate could lie in the future.
fn is_due(issued: Timestamp, lifetime: Duration, now: Timestamp) -> bool {
    now < issued || now >= issued + lifetime / 2
}
