//! Holding an identity: renewal, recovery after a long sleep, and how a clone is noticed.
//!
//! The record and the agent count the certificates that were shown. An agent makes one request at a time and stores it
//! before it sends it, so an honest agent never sends two requests with one count, and never one with an older count.
//! **Guarantee**: a lost answer at any point leaves an agent that can go on. **Guarantee**: as soon as one of two holders
//! has shown a new certificate, the other's next word locks both.

use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::tls::Serial;
use lattice_protocol::token::JoinToken;

use super::{Admission, Answered, Certificate, Lock, Next, Pin, Record, Refusal, Token};
use crate::store::ca::{Issued, SigningRequest};

/// Recoveries in [`RECOVERY_WINDOW`]. A machine that is switched off every night needs one on many mornings, so fewer
/// would call a person for nothing; more would let a thief of the bound key go on longer beside an agent that is off.
pub(in crate::store::identity) const RECOVERIES_MAX: usize = 40;
/// What [`RECOVERIES_MAX`] counts in.
const RECOVERY_WINDOW: Duration = Duration::from_hours(30 * 24);

/// Answered requests that are remembered. One lives for a minute at most, as its challenge does; fewer than are made in that
/// time would take a late one for a clone's.
const ANSWERED_MAX: usize = 8;

/// How far an agent's count may be ahead of ours. A parent that was restored from a backup of ten years ago is behind by
/// some 6,000; without a bound, whoever has the bound key could make the count overflow.
const AHEAD_MAX: u64 = 1_000_000;

/// What an agent without a certificate in force shows to get a new one. Its signature was checked before.
#[derive(Clone, Debug)]
pub(in crate::store::identity) struct Recovery<'a> {
    /// SHA-256 of the key that signed.
    pub(in crate::store::identity) key_sha256: &'a str,
    /// The agent's count.
    pub(in crate::store::identity) sequence: u64,
    /// `metadata.uid` of its `kube-system`.
    pub(in crate::store::identity) kube_system_uid: &'a str,
    /// From where it asks, for the words of a lock.
    pub(in crate::store::identity) from: &'a str,
}

impl Record {
    /// Why the identity is locked, if it is.
    pub(in crate::store::identity) fn lock(&self) -> Option<(Timestamp, &str)> {
        self.locked.as_ref().map(|lock| (lock.at, lock.why.as_str()))
    }

    /// The count of the certificate in force.
    pub(in crate::store::identity) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Hash of the CA bundle that the agent trusts.
    pub(in crate::store::identity) fn trusts(&self) -> Option<&str> {
        self.trusts.as_deref()
    }

    /// An agent holds a certificate, or held one.
    pub(in crate::store::identity) fn is_held(&self) -> bool {
        !self.is_revoked() && self.bound_key.is_some()
    }

    /// Notes what the agent said it trusts.
    pub(in crate::store::identity) fn trust(&mut self, bundle_sha256: &str) {
        self.trusts = Some(bundle_sha256.to_owned());
    }

    /// A certificate was shown: if it is the next one, it takes over.
    pub(in crate::store::identity) fn shown(&mut self, serial: &Serial) {
        if self.next.as_ref().is_some_and(|next| next.serial == serial.as_str()) {
            self.take_over();
        }
    }

    fn take_over(&mut self) {
        if let Some(next) = self.next.take() {
            if self.answered.len() >= ANSWERED_MAX {
                self.answered.remove(0);
            }
            self.answered.push(Answered { sequence: self.sequence, csr: next.csr });
            self.current = Some(Pin { serial: next.serial, not_after: next.not_after, issuer: next.issuer });
            self.sequence = next.sequence;
        }
    }

    /// The certificate in force is signed by another CA than `issuer`.
    pub(in crate::store::identity) fn is_of_another(&self, issuer: &str) -> bool {
        self.current.as_ref().is_some_and(|current| current.issuer != issuer)
    }

    /// Judges a renewal that the agent asks for in a session of certificate `serial`. What is promised stays promised
    /// unless another CA than `issuer` signed it. May lock.
    pub(in crate::store::identity) fn renew(
        &mut self,
        serial: &Serial,
        sequence: u64,
        request: &SigningRequest,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        self.usable()?;
        self.shown(serial);
        if self.current.as_ref().is_none_or(|current| current.serial != serial.as_str()) {
            return Err(Refusal::NotInForce);
        }
        if sequence != self.sequence {
            let why = format!("the connected agent shows count {sequence}, and {} is in force", self.sequence);
            return Err(self.lock_with(why, now));
        }
        self.answer(request, issuer, "the connected agent", now)
    }

    /// Judges a recovery. May lock.
    pub(in crate::store::identity) fn recover(
        &mut self,
        asked: &Recovery<'_>,
        request: &SigningRequest,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        // First of all, so that a stranger hears the same of every identity.
        if self.bound_key.as_deref() != Some(asked.key_sha256) {
            return Err(Refusal::BoundKey);
        }
        self.usable()?;
        if self.kube_system_uid.as_deref().is_some_and(|known| known != asked.kube_system_uid) {
            return Err(Refusal::OtherCluster);
        }
        if self.is_late(asked.sequence, request) {
            return Err(Refusal::NotInForce);
        }
        if asked.sequence < self.sequence {
            let (old, from) = (asked.sequence, asked.from);
            let why = format!("an agent at {from} came back with count {old}, and {} is in force", self.sequence);
            return Err(self.lock_with(why, now));
        }
        if asked.sequence.saturating_sub(self.sequence) > AHEAD_MAX {
            return Err(Refusal::NotInForce);
        }
        if asked.sequence > self.sequence {
            if self.next.as_ref().is_some_and(|next| next.sequence == asked.sequence) {
                // It stored the next certificate and went to sleep before it showed it.
                self.take_over();
            } else {
                // The parent was restored from a backup: its memory is the older one, the key proves the agent.
                self.sequence = asked.sequence;
                self.next = None;
            }
        }
        let admission = self.answer(request, issuer, asked.from, now)?;
        if admission == Admission::Sign {
            self.recoveries.retain(|at| *at + RECOVERY_WINDOW > now);
            if self.recoveries.len() >= RECOVERIES_MAX {
                return Err(Refusal::RecoveryLimit);
            }
        }
        Ok(admission)
    }

    /// Counts a recovery that was granted.
    pub(in crate::store::identity) fn count_recovery(&mut self, now: Timestamp) {
        self.recoveries.push(now);
    }

    /// Keeps what was signed for a request that [`Record::renew`] or [`Record::recover`] admitted.
    pub(in crate::store::identity) fn grant(&mut self, request: &SigningRequest, issued: &Issued) -> Certificate {
        let sequence = self.sequence + 1;
        self.next = Some(Next {
            serial: issued.serial.to_string(),
            not_after: issued.not_after,
            csr: request.sha256().to_owned(),
            certificate: issued.chain_pem.clone(),
            sequence,
            issuer: issued.issuer.to_string(),
        });
        let (chain_pem, serial, not_after) = (issued.chain_pem.clone(), issued.serial.clone(), issued.not_after);
        Certificate { chain_pem, serial, not_after, sequence }
    }

    /// The same request gets the same answer while that is good; a second one of the same count is a clone's.
    fn answer(
        &mut self,
        request: &SigningRequest,
        issuer: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let Some(next) = &self.next else { return Ok(Admission::Sign) };
        if next.csr != request.sha256() {
            let why =
                format!("two agents asked for a certificate with count {}, the later one is {who}", self.sequence);
            return Err(self.lock_with(why, now));
        }
        let serial = next.serial.parse().map_err(|_| Refusal::NotInForce)?;
        if now >= next.not_after || next.issuer != issuer {
            return Ok(Admission::Sign);
        }
        let (chain_pem, not_after, sequence) = (next.certificate.clone(), next.not_after, next.sequence);
        Ok(Admission::Again(Certificate { chain_pem, serial, not_after, sequence }))
    }

    /// A request that was on its way for so long that its answer, given to a repetition, has been shown meanwhile, and
    /// perhaps others after it. Nobody else can send it, so it is no clone's.
    fn is_late(&self, sequence: u64, request: &SigningRequest) -> bool {
        self.answered.iter().any(|answered| answered.sequence == sequence && answered.csr == request.sha256())
    }

    fn usable(&self) -> Result<(), Refusal> {
        match (self.is_revoked(), &self.locked) {
            (true, _) => Err(Refusal::Revoked),
            (false, Some(_)) => Err(Refusal::Locked),
            (false, None) => Ok(()),
        }
    }

    fn lock_with(&mut self, why: String, now: Timestamp) -> Refusal {
        self.locked = Some(Lock { at: now, why });
        Refusal::Locked
    }

    /// Makes a token with which a new key may take the identity over, and nobody else after it.
    pub(in crate::store::identity) fn let_in(&mut self, now: Timestamp) -> Result<JoinToken, Refusal> {
        if self.is_revoked() {
            return Err(Refusal::Revoked);
        }
        let minted = JoinToken::generate();
        self.token = Some(Token::new(&minted, now, true));
        Ok(minted)
    }
}

#[cfg(test)]
mod tests;
