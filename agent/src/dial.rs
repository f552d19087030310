//! Keeps one session with the parent: Resolving → Dialing → Connected → Resolving …, and Draining at the end.
//!
//! Each state is a function that returns the next one. **Guarantees**: every wait has a bound; failures wait with full
//! jitter, 1 to 30 s, and the wait starts anew only after 30 s of a stable session; the end of the process lets open
//! exchanges finish for a bounded time.

mod address;
mod failure;
mod handover;
mod race;
pub mod via;

use std::sync::Arc;
use std::time::Duration;

use lattice_protocol::limits::DRAIN_TIMEOUT;
use lattice_protocol::transport::{CloseCode, Closed, Net, Session, Transport, slot_of};
use lattice_protocol::{clock, tls};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use address::Address;
pub(crate) use failure::chain;
pub use handover::QUIC_AGAIN;

use address::Target;
use failure::Failure;
use race::Ways;

use crate::backoff::{Backoff, Draws};
use crate::identity::{Identity, Wallet};
use crate::notice::Notices;
use crate::observe;
use crate::serve::{Acceptor, Exchanges};

/// First and longest wait between failed dials. Lower makes a storm when a parent returns; higher keeps clusters away.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A session that lived this long proves that the way works: the next failure starts with a short wait.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Wait after a newer session took over: another agent runs with this identity, and the two must not fight. The same after
/// a refusal that only an upgrade changes.
const WAIT_SUPERSEDED: Duration = Duration::from_mins(1);

/// Wait after the parent took the identity away: nothing but a person can change that.
const WAIT_REVOKED: Duration = Duration::from_mins(10);

/// Shortest time between two recoveries of a certificate that has not ended. The parent grants a limited number of them.
const RECOVER_APART: Duration = Duration::from_mins(10);

/// Longest wait for a name to resolve.
const RESOLVE_AT_MOST: Duration = Duration::from_secs(5);

/// How the connection to the parent stands, for metrics and `/readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Since when it is connected, and by what; none while it is not.
    pub connected: Option<(jiff::Timestamp, Transport)>,
    /// Why it is not, or was not before.
    pub last_failure: String,
    /// Sessions so far.
    pub sessions: u64,
    /// Failed tries so far.
    pub failures: u64,
}

/// What the dialler needs.
#[derive(Debug)]
pub struct Dialler {
    /// Where the parent listens.
    pub endpoints: Vec<Address>,
    /// The identity, and how it is had.
    pub wallet: Wallet,
    /// Who the cluster is.
    pub api: observe::Api,
    /// A newer identity than the one that is in use, as soon as there is one: a session is dialled with it, and takes the
    /// place of the present one.
    pub renewed: watch::Receiver<Option<Arc<Identity>>>,
    /// The network that is dialled through.
    pub net: Net,
    /// Where waits are drawn from.
    pub draws: Draws,
    /// Shortest time on TCP before QUIC is tried again: [`QUIC_AGAIN`].
    pub quic_again: Duration,
    /// Takes the parent's streams.
    pub acceptor: Acceptor,
    /// Tells people on the child.
    pub notices: Notices,
    /// Tells the rest of the process.
    pub link: watch::Sender<Link>,
    /// The end of the process.
    pub stop: CancellationToken,
}

/// Where the machine is. A state owns what it needs.
enum State {
    /// Getting an identity and addresses.
    Resolving,
    /// Trying every address.
    Dialing(Arc<Identity>, Vec<Target>),
    /// Serving the parent.
    Connected(Session),
    /// Letting open exchanges finish.
    Draining(Session, Exchanges),
    /// The process ends.
    Stopped,
}

/// Runs until the process ends.
pub async fn run(dialler: Dialler) {
    let mut machine = Machine {
        backoff: Backoff::new(WAIT.0, WAIT.1).drawing(&dialler.draws),
        dialler,
        identity: None,
        last: None,
        refused: false,
        perhaps_ended: false,
        recovered: None,
    };
    let mut state = State::Resolving;
    loop {
        state = match state {
            State::Resolving => machine.resolve().await,
            State::Dialing(identity, targets) => machine.dial(identity, targets).await,
            State::Connected(session) => machine.serve(session).await,
            State::Draining(session, open) => machine.drain(session, open).await,
            State::Stopped => return,
        };
    }
}

/// A recovery that was granted.
#[derive(Debug)]
struct Recovered {
    at: Instant,
    /// The same moment by the clock that goes on while the machine sleeps.
    wall: jiff::Timestamp,
    /// How long the next one waits.
    apart: Duration,
}

impl Recovered {
    fn now(own: &Identity) -> Self {
        let life = own.credentials.identity().map(|certificate| {
            certificate.not_after.duration_since(lattice_protocol::renewal::issued_at(&certificate))
        });
        let life = life.ok().and_then(|life| Duration::try_from(life).ok()).unwrap_or(RECOVER_APART);
        Self { at: Instant::now(), wall: clock::now(), apart: RECOVER_APART.min(life) }
    }

    fn is_long_ago(&self) -> bool {
        let asleep_too = Duration::try_from(clock::now().duration_since(self.wall)).unwrap_or_default();
        self.at.elapsed().max(asleep_too) >= self.apart
    }
}

struct Machine {
    dialler: Dialler,
    backoff: Backoff,
    identity: Option<Arc<Identity>>,
    /// What carried the last session.
    last: Option<Transport>,
    /// The parent did not take the certificate.
    refused: bool,
    /// Nothing came of the last dial, and the clock here says that the certificate has ended. The parent's clock counts, but
    /// its verdict may have been lost on the way.
    perhaps_ended: bool,
    /// When the identity was recovered last because of that.
    recovered: Option<Recovered>,
}

impl Machine {
    /// Gets an identity, then the addresses of every endpoint.
    async fn resolve(&mut self) -> State {
        let stop = self.dialler.stop.clone();
        let resolving = async {
            let identity = match &self.identity {
                Some(identity) => Arc::clone(identity),
                None => self.obtain().await?,
            };
            let targets = self.targets().await;
            if targets.is_empty() {
                let names: Vec<_> = self.dialler.endpoints.iter().map(ToString::to_string).collect();
                return Err(Failure::DialFailed(format!("no address is known for {}", names.join(", "))));
            }
            Ok((identity, targets))
        };
        match stop.run_until_cancelled(resolving).await {
            None => State::Stopped,
            Some(Ok((identity, targets))) => {
                self.identity = Some(Arc::clone(&identity));
                State::Dialing(identity, targets)
            }
            Some(Err(failure)) => self.fail(failure, None).await,
        }
    }

    async fn obtain(&mut self) -> Result<Arc<Identity>, Failure> {
        let uid = self.dialler.api.kube_system_uid().await;
        let uid = uid.map_err(|error| Failure::Enrolment(format!("the cluster's own API does not answer: {error}")))?;
        let (refused, perhaps) = (std::mem::take(&mut self.refused), std::mem::take(&mut self.perhaps_ended));
        let recover = (refused || perhaps) && self.may_recover();
        let obtained = Box::pin(self.dialler.wallet.obtain(&uid, recover)).await;
        if recover {
            match &obtained {
                Ok(own) => self.recovered = Some(Recovered::now(own)),
                // A guess by the clock is not repeated before the next dial.
                Err(_) => self.refused = refused,
            }
        }
        obtained.map_err(|error| Failure::Enrolment(chain(&error)))
    }

    /// A certificate that was recovered just now and is refused as well will not be taken after the next recovery either.
    fn may_recover(&self) -> bool {
        self.recovered.as_ref().is_none_or(Recovered::is_long_ago)
    }

    async fn targets(&self) -> Vec<Target> {
        address::targets(&self.dialler.endpoints, &self.dialler.wallet.enrolment().proxying, RESOLVE_AT_MOST).await
    }

    /// Dials, unless the process ends meanwhile.
    async fn dial(&mut self, identity: Arc<Identity>, targets: Vec<Target>) -> State {
        let stop = self.dialler.stop.clone();
        match stop.run_until_cancelled(self.handshake(&identity, targets, Ways::after(self.last))).await {
            None => State::Stopped,
            Some(Ok(session)) => State::Connected(session),
            Some(Err(why)) => {
                // Perhaps another one is stored by now.
                self.identity = None;
                self.refused |= failure::is_refused_certificate(&why);
                self.perhaps_ended = identity.not_after <= clock::now();
                self.fail(Failure::DialFailed(why), None).await
            }
        }
    }

    /// Dials every address, a little apart; the first handshake wins.
    #[tracing::instrument(name = "tunnel.dial", skip_all, fields(
        cluster.name = %self.dialler.wallet.enrolment().cluster, attempt = self.backoff.failures() + 1,
        otel.status_code = tracing::field::Empty, otel.status_description = tracing::field::Empty,
    ))]
    async fn handshake(&self, own: &Identity, targets: Vec<Target>, ways: Ways) -> Result<Session, String> {
        let dialled = async {
            let fleet = &self.dialler.wallet.enrolment().trust_domain;
            let config = tls::tunnel_client(&own.credentials, &own.ca, fleet).map_err(|error| chain(&error))?;
            race::first(&self.dialler.net, targets, &Arc::new(config), ways).await
        };
        dialled.await.inspect_err(|why| {
            let span = tracing::Span::current();
            span.record("otel.status_code", "ERROR").record("otel.status_description", why.as_str());
        })
    }

    /// Takes the parent's streams until the session or the process ends, or a better session is up.
    async fn serve(&mut self, session: Session) -> State {
        let began = Instant::now();
        let transport = session.transport();
        self.dialler.link.send_modify(|link| {
            link.connected = Some((clock::now(), transport));
            link.sessions += 1;
        });
        tracing::info!(remote = %session.remote(), transport = transport.as_str(), "connected");
        self.last = Some(transport);
        let (acceptor, open, stop) = (self.dialler.acceptor.clone(), Exchanges::default(), self.dialler.stop.clone());
        tokio::select! {
            biased;
            () = stop.cancelled() => return State::Draining(session, open),
            () = acceptor.accept(&session, &open) => {}
            () = session.silence() => {}
            successor = self.successor(&session) => {
                handover::retire(session, acceptor.clone(), open);
                return State::Connected(successor);
            }
        }
        let closed = session.closed().await;
        if began.elapsed() >= STABLE_AFTER {
            self.backoff.reset();
        }
        tracing::info!(reason = %closed, seconds = began.elapsed().as_secs(), "connection lost");
        let refused = match &closed {
            Closed::Peer { code, .. } => matches!(code, CloseCode::UnknownIdentity | CloseCode::Locked),
            // Over TLS 1.3 the parent's verdict comes after the dialling side thinks that it is connected.
            Closed::Broken(why) => failure::is_refused_certificate(why),
            _ => false,
        };
        let short = began.elapsed() < STABLE_AFTER;
        self.perhaps_ended = short && self.identity.as_ref().is_some_and(|own| own.not_after <= clock::now());
        if refused || self.perhaps_ended {
            // The certificate is not the last one that was issued: perhaps a newer one is stored by now.
            self.identity = None;
            self.refused |= refused;
        }
        self.fail(Failure::ConnectionLost(closed.to_string()), wait_after(&closed, &self.dialler.draws)).await
    }

    /// Lets open exchanges finish. New ones are told that the agent restarts: without an answer their callers would hang.
    async fn drain(&mut self, session: Session, open: Exchanges) -> State {
        let acceptor = self.dialler.acceptor.clone();
        tokio::select! {
            biased;
            drained = tokio::time::timeout(DRAIN_TIMEOUT, open.idle()) => if drained.is_err() {
                tracing::debug!("open exchanges are cut");
            },
            () = acceptor.accept(&session, &open) => {}
        }
        session.close(CloseCode::Draining, "the agent stops");
        // Lets the close leave; the process may end right after this.
        tokio::time::sleep(Duration::from_millis(50)).await;
        State::Stopped
    }

    /// Tells of a failure and waits, for `wait` or by the backoff.
    async fn fail(&mut self, failure: Failure, wait: Option<Duration>) -> State {
        let wait = wait.unwrap_or_else(|| self.backoff.next_wait());
        let why = failure.to_string();
        self.dialler.link.send_modify(|link| {
            link.connected = None;
            link.failures += 1;
            link.last_failure.clone_from(&why);
        });
        tracing::warn!(reason = failure.word(), error = %why, wait_ms = wait.as_millis(), "not connected");
        self.dialler.notices.warn(failure.word(), "Connect", &why);
        match self.dialler.stop.run_until_cancelled(tokio::time::sleep(wait)).await {
            Some(()) => State::Resolving,
            None => State::Stopped,
        }
    }
}

/// How long to wait after a session that ended like this; none: by the backoff.
fn wait_after(closed: &Closed, draws: &Draws) -> Option<Duration> {
    let Closed::Peer { code, reason } = closed else { return None };
    match code {
        CloseCode::Superseded | CloseCode::Locked | CloseCode::Incompatible => Some(WAIT_SUPERSEDED),
        CloseCode::Revoked => Some(WAIT_REVOKED),
        // It said so itself, and its successor is there or coming: at the time that it named, else a little jitter.
        CloseCode::Draining => Some(slot_of(reason).unwrap_or_else(|| WAIT.0.mul_f64(draws.share()))),
        CloseCode::Busy => slot_of(reason),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn waits(code: CloseCode, reason: &str, expected: Option<Duration>) {
        let closed = Closed::Peer { code, reason: reason.to_owned() };
        assert_eq!(wait_after(&closed, &Draws::default()), expected, "{code}: {reason}");
    }

    #[test]
    fn a_slot_that_the_parent_gave_is_kept() {
        waits(CloseCode::Draining, "the manager stops; dial again in 1250 ms", Some(Duration::from_millis(1_250)));
        waits(CloseCode::Busy, "too many; dial again in 9 ms", Some(Duration::from_millis(9)));
        waits(CloseCode::Busy, "too many", None);
        waits(CloseCode::Superseded, "; dial again in 1 ms", Some(WAIT_SUPERSEDED));
        waits(CloseCode::Revoked, "; dial again in 1 ms", Some(WAIT_REVOKED));
        let draining = Closed::Peer { code: CloseCode::Draining, reason: String::new() };
        let soon = wait_after(&draining, &Draws::default());
        assert!(soon.is_some_and(|soon| soon <= WAIT.0));
        assert_eq!(wait_after(&Closed::Silent, &Draws::default()), None, "by the backoff");
    }
}
