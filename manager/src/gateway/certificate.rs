//! The manager's own certificate: made from the CA at start, held in memory only, renewed while it serves.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::clock;
use lattice_protocol::limits::CERTIFICATE_LIFETIME;
use lattice_protocol::task::Kind;
use lattice_protocol::tls::ServerCertificate;

use super::Error;
use super::stop::Stop;
use crate::store::ca::CertificateAuthority;

/// How often the wall clock is compared: timers stop while a machine sleeps, certificates go on ageing.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Renewed at half of its life, so that a day of failures costs nothing.
const RENEW_AFTER: Duration = Duration::from_secs(CERTIFICATE_LIFETIME.as_secs() / 2);

/// Makes the certificate that all listeners show.
pub(super) fn issue(authority: &CertificateAuthority, names: &[String]) -> Result<Arc<ServerCertificate>, Error> {
    Ok(ServerCertificate::new(&authority.issue_server(names, clock::now())?)?)
}

/// Renews it for as long as the gateway is open. Connections that are up stay up.
pub(super) fn keep_fresh(
    stop: &Stop,
    authority: Arc<CertificateAuthority>,
    names: Vec<String>,
    shown: Arc<ServerCertificate>,
) {
    let drain = stop.drain.clone();
    stop.spawn("gateway.certificate", Kind::Service, async move {
        let mut issued = clock::now();
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = clock::now();
            if is_due(issued, now) {
                match renew(&authority, &names, &shown, now) {
                    Ok(()) => issued = now,
                    Err(error) => tracing::error!(error = %error, "the manager's certificate cannot be renewed"),
                }
            }
        }
    });
}

fn renew(
    authority: &CertificateAuthority,
    names: &[String],
    shown: &ServerCertificate,
    now: Timestamp,
) -> Result<(), Error> {
    shown.replace(&authority.issue_server(names, now)?)?;
    tracing::info!("the manager's certificate is renewed");
    Ok(())
}

/// A clock that went back also makes it due: the certificate could lie in the future.
fn is_due(issued: Timestamp, now: Timestamp) -> bool {
    now < issued || now >= issued + RENEW_AFTER
}
