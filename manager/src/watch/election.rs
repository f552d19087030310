//! Leader election by one Lease.
//!
//! The story of a holder: it renews every two seconds. When ten seconds have passed since the last renewal that
//! succeeded began, its fence is shut and its role ends; only five seconds later may another candidate take the Lease.
//! A restarted process under the same name finds its own Lease and goes on at once.

use std::time::Duration;

use lattice_protocol::task;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Error, FenceKeeper, LeaseRecord, LeaseSeen};

/// How long a candidate must see a Lease unchanged before it takes it. Lower: a slow API server makes two holders
/// likelier. Higher: a dead manager is missed for longer.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a holder goes on without a renewal. It must stay well below [`LEASE_DURATION`].
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two tries.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Tells whether this process leads.
pub type Leadership = watch::Receiver<bool>;

/// What a candidate should do about a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Write(LeaseSeen),
    Wait,
}

/// What a candidate remembers between two looks at the Lease.
#[derive(Debug)]
struct Candidate {
    holder: String,
    seen: Option<(LeaseSeen, Instant)>,
}

/// The election of this process.
#[derive(Debug)]
pub struct Election {
    record: LeaseRecord,
    keeper: FenceKeeper,
    leads: watch::Sender<bool>,
    candidate: Candidate,
    held_until: Option<Instant>,
}

impl Candidate {
    fn step(&mut self, seen: Option<LeaseSeen>, now: Instant) -> Step {
        let Some(seen) = seen else {
            self.seen = None;
            return Step::Create;
        };
        let since = match &self.seen {
            Some((last, since)) if *last == seen => *since,
            _ => now,
        };
        self.seen = Some((seen.clone(), since));
        match seen.holder.as_deref() {
            None => Step::Write(seen),
            Some(holder) if holder == self.holder => Step::Write(seen),
            // By our own clock: the holder's may be wrong.
            Some(_) if now.duration_since(since) >= seen.duration => Step::Write(seen),
            Some(_) => Step::Wait,
        }
    }
}

impl Election {
    /// Prepares to run for a Lease. The receiver says whether this process leads.
    pub fn new(record: LeaseRecord, keeper: FenceKeeper) -> (Self, Leadership) {
        let (leads, leadership) = watch::channel(false);
        let candidate = Candidate { holder: record.holder().to_owned(), seen: None };
        (Self { record, keeper, leads, candidate, held_until: None }, leadership)
    }

    /// Runs for the Lease, holds it, and loses it, until `stop`; then gives it up, once the role has ended.
    ///
    /// `drained` is cancelled by whoever plays the role when all of its writes have ended.
    pub async fn run(mut self, stop: CancellationToken, drained: CancellationToken) {
        loop {
            let retry = self.attempt().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(retry) => {}
            }
            self.expire();
        }
        self.leads.send_if_modified(|leads| std::mem::replace(leads, false));
        // Renewals go on while the role drains: its last writes must still be fenced in.
        while !drained.is_cancelled() && self.held_until.is_some() {
            tokio::select! {
                biased;
                () = drained.cancelled() => {}
                () = tokio::time::sleep(RETRY_PERIOD) => { self.attempt_silently().await; }
            }
        }
        self.release().await;
    }

    async fn attempt(&mut self) -> Duration {
        self.attempt_silently().await;
        let leads = self.held_until.is_some();
        if self.leads.send_if_modified(|held| std::mem::replace(held, leads) != leads) {
            tracing::info!(holder = self.record.holder(), leads, "leadership changed");
        }
        RETRY_PERIOD
    }

    async fn attempt_silently(&mut self) {
        let began = Instant::now();
        let limit = RENEW_DEADLINE.min(RETRY_PERIOD * 2);
        match tokio::time::timeout(limit, self.write()).await {
            Ok(Ok(Some(seen))) => {
                let until = began + RENEW_DEADLINE;
                self.candidate.seen = Some((seen, Instant::now()));
                self.held_until = Some(until);
                self.keeper.open_until(until);
            }
            Ok(Ok(None)) => self.lose(),
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "lease was not renewed");
                // Somebody else wrote it: what we knew of it is wrong, so the next look reads it again.
                self.expire();
            }
            Err(_) => self.expire(),
        }
    }

    /// One read, when nothing is known, and at most one write. `None`: another holds it.
    async fn write(&mut self) -> Result<Option<LeaseSeen>, Error> {
        let known = self.candidate.seen.as_ref().filter(|_| self.held_until.is_some()).map(|(seen, _)| seen.clone());
        if let Some(seen) = known {
            match self.record.renew(&seen).await {
                Ok(seen) => return Ok(Some(seen)),
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let seen = self.record.read().await?;
        match self.candidate.step(seen, Instant::now()) {
            Step::Create => match self.record.create().await {
                Err(error) if error.is_conflict() => Ok(None),
                other => other.map(Some),
            },
            Step::Write(seen) => match self.record.renew(&seen).await {
                Err(error) if error.is_conflict() => Ok(None),
                other => other.map(Some),
            },
            Step::Wait => Ok(None),
        }
    }

    fn expire(&mut self) {
        if self.held_until.is_some_and(|until| until <= Instant::now()) {
            self.lose();
            self.leads.send_if_modified(|leads| std::mem::replace(leads, false));
        }
    }

    fn lose(&mut self) {
        self.held_until = None;
        self.keeper.close();
    }

    async fn release(&mut self) {
        if self.held_until.take().is_none() {
            return;
        }
        if let Some((seen, _)) = self.candidate.seen.take() {
            let release = self.record.release(&seen);
            match tokio::time::timeout(RETRY_PERIOD, release).await {
                Ok(Ok(_)) => tracing::info!(holder = self.record.holder(), "lease released"),
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "lease was not released");
                }
                Err(_) => tracing::warn!("lease was not released in time"),
            }
        }
        self.keeper.close();
    }

    /// Starts [`Election::run`] as a task.
    pub fn spawn(self, stop: CancellationToken, drained: CancellationToken) -> tokio::task::JoinHandle<()> {
        task::spawn("election", task::Kind::Service, self.run(stop, drained))
    }
}

#[cfg(test)]
mod tests;
