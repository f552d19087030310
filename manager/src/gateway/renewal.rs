//! Renews the certificate of a connected agent, and tells it whom to trust.
//!
//! The manager asks: the agent makes a key and a request, gets the certificate, dials anew with it and lets the old
//! session end. Every answer may be lost; the same request gets the same certificate. The point in time comes from the
//! certificate alone ([`lattice_protocol::renewal`]), so a manager that restarts goes on where the last one was.

use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::v1::identity_client::IdentityClient;
use lattice_protocol::v1::{GreetRequest, InstallRequest, PrepareRequest};
use lattice_protocol::{clock, renewal};
use tonic::Code;
use tonic::transport::Channel;

use super::{AgentSession, Shared, TunnelEvent};
use crate::store::ca::{CsrRefused, SigningRequest};
use crate::store::identity::{self, Refusal};

/// Longest time between two looks at the wall clock: timers stop while a machine sleeps, certificates go on ageing.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Shares of a certificate's life between two tries: at least and at most. Of 24 hours, 30 s and 10 min.
const RETRY_SHARES: (u32, u32) = (2880, 144);
/// Share of a certificate's life over which agents are spread that change to a new CA. Of 24 hours, 14 min.
const SPREAD_SHARE: u32 = 100;
/// Longest wait for one answer of an agent; it writes a Secret before it answers.
const ANSWER_AT_MOST: Duration = Duration::from_secs(30);

/// Why a certificate was not renewed this time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the agent did not answer: {}", .0.message())]
    Agent(#[from] tonic::Status),
    #[error("the agent's request: {0}")]
    Request(#[from] CsrRefused),
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

/// Keeps the agent's certificate and bundle fresh for as long as its session lives. Ends when the agent has a new
/// certificate, or is of a version without this service.
///
/// # Cancel safety
/// May be dropped at any point: whatever was promised is stored and promised again.
pub(super) async fn keep(shared: &Shared, session: &AgentSession) {
    let mut client = IdentityClient::new(session.channel());
    let mut changes = shared.authorities.changes();
    let mut pace = Pace::new(session);
    let mut greeted = None;
    loop {
        changes.mark_unchanged();
        let bundle = shared.authorities.present().bundle_sha256();
        if greeted.as_ref() != Some(&bundle) {
            match greet(shared, session, &mut client).await {
                Ok(()) => greeted = Some(bundle),
                Err(Failure::Agent(status)) if status.code() == Code::Unimplemented => {
                    tracing::warn!(cluster.name = %session.name(), "the agent's version cannot renew its certificate");
                    return std::future::pending().await;
                }
                Err(error) => tracing::info!(cluster.name = %session.name(), error = %error, "greeting failed"),
            }
        }
        let signed_by_another =
            shared.identities.identified(session.uid()).is_some_and(|identified| identified.of_another_ca);
        let now = clock::now();
        pace.look(signed_by_another, now);
        if pace.tell_late(now) {
            shared.events.note(TunnelEvent::CertificateChanged { uid: session.uid().clone() });
        }
        if now >= pace.due {
            match renew(shared, session, &mut client).await {
                Ok(()) => return std::future::pending().await,
                Err(error) => failed(shared, session, &mut pace, &error),
            }
        }
        let wait = if greeted.is_some() { pace.wait(clock::now()) } else { pace.retry() };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = changes.changed() => {}
        }
    }
}

async fn greet(shared: &Shared, session: &AgentSession, client: &mut IdentityClient<Channel>) -> Result<(), Failure> {
    let authority = shared.authorities.present();
    let request =
        GreetRequest { ca_bundle: authority.bundle_pem().to_owned(), now_unix_ms: clock::now().as_millisecond() };
    let reply = answered(client.greet(bounded(request))).await?;
    if reply.ca_bundle_sha256 == authority.bundle_sha256() {
        shared.identities.trusts(session.uid(), &reply.ca_bundle_sha256).await?;
    }
    Ok(())
}

async fn renew(shared: &Shared, session: &AgentSession, client: &mut IdentityClient<Channel>) -> Result<(), Failure> {
    let prepared = answered(client.prepare(bounded(PrepareRequest {}))).await?;
    if prepared.serial != session.serial().as_str() {
        // It has a newer one already and is about to dial with it.
        return Ok(());
    }
    let request = SigningRequest::parse(&prepared.csr)?;
    let renewed =
        shared.identities.renew(session.uid(), session.serial(), prepared.sequence, &request, clock::now()).await?;
    let install = InstallRequest {
        certificate: renewed.chain_pem,
        ca_bundle: shared.authorities.present().bundle_pem().to_owned(),
        sequence: renewed.sequence,
    };
    answered(client.install(bounded(install))).await?;
    tracing::info!(
        cluster.name = %session.name(), expires = %renewed.not_after, repeated = renewed.repeated, "certificate renewed"
    );
    Ok(())
}

fn failed(shared: &Shared, session: &AgentSession, pace: &mut Pace, error: &Failure) {
    tracing::warn!(cluster.name = %session.name(), error = %error, "the certificate could not be renewed");
    match error {
        Failure::Identity(identity::Error::Refused(Refusal::Locked)) => shared.locked(session.uid()),
        Failure::Agent(_) | Failure::Request(_) | Failure::Identity(_) => pace.due = clock::now() + pace.retry(),
    }
}

fn bounded<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_AT_MOST);
    request
}

async fn answered<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, tonic::Status> {
    match tokio::time::timeout(ANSWER_AT_MOST, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(tonic::Status::deadline_exceeded("no answer in time")),
    }
}

/// When to do what, by the certificate's own life.
struct Pace {
    due: Timestamp,
    late: Option<Timestamp>,
    life: Duration,
    /// The CA changed, and when this agent is due was chosen.
    spread: bool,
}

impl Pace {
    fn new(session: &AgentSession) -> Self {
        let certificate = session.identity();
        let life = certificate.not_after.duration_since(renewal::issued_at(certificate));
        let life = Duration::try_from(life).unwrap_or(Duration::ZERO);
        Self { due: renewal::due_at(certificate), late: Some(renewal::late_at(certificate)), life, spread: false }
    }

    /// A certificate of the CA before the present one is replaced soon, but not everybody's at once.
    fn look(&mut self, signed_by_another: bool, now: Timestamp) {
        if signed_by_another && !self.spread {
            self.spread = true;
            self.due = self.due.min(now + (self.life / SPREAD_SHARE).mul_f64(rand::random()));
        }
    }

    fn tell_late(&mut self, now: Timestamp) -> bool {
        self.late.take_if(|late| now >= *late).is_some()
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let until = Duration::try_from(self.due.duration_since(now)).unwrap_or(Duration::ZERO);
        until.clamp(Duration::from_millis(10), LOOK_EVERY)
    }

    /// Full jitter, so that a fleet that failed at once does not come back at once.
    fn retry(&self) -> Duration {
        let (least, most) = (self.life / RETRY_SHARES.0, self.life / RETRY_SHARES.1);
        least.max(Duration::from_millis(50)) + most.mul_f64(rand::random())
    }
}
