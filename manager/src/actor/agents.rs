//! What is known of every cluster's agent: its session, what was seen of it before, and what it says.
//!
//! **Invariant.** What an agent said counts only while the session lives that it said it in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lattice_protocol::clock;
use lattice_protocol::ids::ClusterUid;
use lattice_protocol::reason::Reason;
use lattice_protocol::v1;
use tokio::time::Instant;

use crate::lifecycle::{
    AgentFacts, Health, Incident, NodeFacts, Observed, Report, ReportState, Seen, Session, Sighting,
};

/// A clock that moved less than this, milliseconds, is no news: heartbeats would otherwise be writes.
const CLOCK_STEP_MS: i64 = 10_000;

/// Handshakes that fail alike within this time are told once: whoever makes them fail must not make us write.
const HANDSHAKES_TOLD_APART: SignedDuration = SignedDuration::from_secs(60);

/// Incidents of one cluster that are kept for whoever has not told them yet.
const INCIDENTS_MAX: usize = 8;

/// Shortest time between two incidents of one cluster that say the same: somebody who tries again and again is one Event.
const INCIDENTS_APART: Duration = Duration::from_mins(10);

/// Every agent. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Agents(Arc<Mutex<HashMap<ClusterUid, Agent>>>);

#[derive(Debug, Default)]
struct Agent {
    session: Option<(u64, Session)>,
    sighting: Option<Sighting>,
    /// Where it was seen last.
    place: Option<IpAddr>,
    health: Option<Health>,
    reports: BTreeMap<String, v1::ComponentReport>,
    synced: bool,
    incidents: VecDeque<Told>,
    incident_count: u64,
}

/// An incident, and what it is known by.
#[derive(Debug)]
struct Told {
    incident: Incident,
    what: String,
    at: Instant,
}

impl Agents {
    /// What a decision may know of a cluster's agent.
    pub fn facts(&self, uid: &ClusterUid) -> AgentFacts {
        let agents = self.lock();
        let Some(agent) = agents.get(uid) else { return AgentFacts::default() };
        let live = agent.session.is_some();
        AgentFacts {
            session: agent.session.as_ref().map(|(_, session)| session.clone()),
            sighting: agent.sighting.clone(),
            health: agent.health.clone().filter(|_| live).map_or(Observed::Unknown, Observed::Known),
            incidents: agent.incidents.iter().map(|told| told.incident.clone()).collect(),
            locked: None,
            reports: if live && agent.synced {
                Observed::Known(agent.reports.iter().map(|(name, report)| (name.clone(), read(report))).collect())
            } else {
                Observed::Unknown
            },
        }
    }

    /// Digest and revision of a component that the agent holds.
    pub fn held(&self, uid: &ClusterUid, component: &str) -> Option<(String, u64)> {
        let agents = self.lock();
        let report = agents.get(uid)?.reports.get(component)?;
        Some((report.digest.clone(), report.revision))
    }

    /// Version of the child's API server.
    pub fn kubernetes(&self, uid: &ClusterUid) -> Option<String> {
        let agents = self.lock();
        let version = agents.get(uid)?.health.as_ref()?.kubernetes_version.clone();
        Some(version).filter(|version| !version.is_empty())
    }

    /// How many agents are connected.
    pub fn connected(&self) -> usize {
        self.lock().values().filter(|agent| agent.session.is_some()).count()
    }

    /// Forgets the agents of clusters that are gone.
    pub fn forget(&self, uid: &ClusterUid) {
        self.lock().remove(uid);
    }

    pub(super) fn saw(&self, uid: &ClusterUid, seen: Seen) {
        self.edit(uid, |agent| agent.sighting = Some(Sighting { at: clock::now(), seen }));
    }

    /// Remembers where an agent was seen, or the node that fetched its manifest.
    pub(super) fn was_at(&self, uid: &ClusterUid, place: IpAddr) {
        self.edit(uid, |agent| agent.place = Some(place));
    }

    /// A handshake failed before it said whose it was: it is put down to the agents that are away and were last seen
    /// there. Gives those for whom it is news.
    pub(super) fn failed_at(&self, place: IpAddr, why: &str) -> Vec<ClusterUid> {
        let now = clock::now();
        let mut agents = self.lock();
        let theirs = agents.iter_mut().filter(|(_, agent)| agent.session.is_none() && agent.place == Some(place));
        let news = theirs.filter(|(_, agent)| {
            let told = agent.sighting.as_ref().is_some_and(|told| {
                matches!(&told.seen, Seen::HandshakeFailed(_)) && now.duration_since(told.at) < HANDSHAKES_TOLD_APART
            });
            !told
        });
        news.map(|(uid, agent)| {
            let words = format!("{why} (from {place}, where this cluster's agent was last seen)");
            agent.sighting = Some(Sighting { at: now, seen: Seen::HandshakeFailed(words) });
            uid.clone()
        })
        .collect()
    }

    /// Keeps an incident for the next look; `what` tells it from others, `where_from` is said as well.
    pub(super) fn happened(&self, uid: &ClusterUid, reason: Reason, what: &str, where_from: IpAddr) {
        self.edit(uid, |agent| {
            let same = |told: &Told| told.incident.reason == reason && told.what == what;
            if agent.incidents.iter().any(|told| same(told) && told.at.elapsed() < INCIDENTS_APART) {
                return;
            }
            agent.incident_count += 1;
            let note = format!("{what} (from {where_from})");
            let incident = Incident { number: agent.incident_count, reason, note };
            agent.incidents.push_back(Told { incident, what: what.to_owned(), at: Instant::now() });
            if agent.incidents.len() > INCIDENTS_MAX {
                agent.incidents.pop_front();
            }
        });
    }

    pub(super) fn connected_with(&self, uid: &ClusterUid, generation: u64, session: Session) {
        self.edit(uid, |agent| {
            if agent.session.as_ref().is_none_or(|(held, _)| *held < generation) {
                agent.session = Some((generation, session));
                agent.health = None;
                agent.reports.clear();
                agent.synced = false;
            }
        });
    }

    pub(super) fn lost(&self, uid: &ClusterUid, generation: u64, why: String) {
        self.edit(uid, |agent| {
            if agent.session.as_ref().is_some_and(|(held, _)| *held <= generation) {
                agent.session = None;
                agent.sighting = Some(Sighting { at: clock::now(), seen: Seen::Lost(why) });
            }
        });
    }

    /// Takes in what an agent says of its cluster; true when it is news.
    pub(super) fn heard_health(&self, uid: &ClusterUid, generation: u64, report: &v1::HealthReport) -> bool {
        self.edit_live(uid, generation, |agent| {
            let mut health = read_health(report);
            if let Some(held) = &agent.health
                && (held.clock_ahead_ms - health.clock_ahead_ms).abs() < CLOCK_STEP_MS
            {
                health.clock_ahead_ms = held.clock_ahead_ms;
            }
            let news = agent.health.as_ref() != Some(&health);
            agent.health = Some(health);
            news
        })
    }

    /// Takes in what an agent says of a component; true when it is news.
    pub(super) fn heard_report(&self, uid: &ClusterUid, generation: u64, report: v1::ComponentReport) -> bool {
        self.edit_live(uid, generation, |agent| {
            let synced = agent.synced;
            agent.synced |= report.synced;
            // An agent that holds nothing says so with a report without a name.
            if report.component.is_empty() {
                return synced != agent.synced;
            }
            let held = agent.reports.insert(report.component.clone(), report.clone());
            held.as_ref() != Some(&report) || synced != agent.synced
        })
    }

    fn edit(&self, uid: &ClusterUid, change: impl FnOnce(&mut Agent)) {
        change(self.lock().entry(uid.clone()).or_default());
    }

    fn edit_live(&self, uid: &ClusterUid, generation: u64, change: impl FnOnce(&mut Agent) -> bool) -> bool {
        let mut agents = self.lock();
        let agent = agents.get_mut(uid);
        let live = agent.filter(|agent| agent.session.as_ref().is_some_and(|(held, _)| *held == generation));
        live.is_some_and(change)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterUid, Agent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_health(report: &v1::HealthReport) -> Health {
    let nodes = report.nodes.iter().map(|node| NodeFacts {
        name: node.name.clone(),
        ready: node.ready,
        control_plane: node.control_plane,
        kubelet_version: node.kubelet_version.clone(),
        reason: node.reason.clone(),
        message: node.message.clone(),
        provider_id: node.provider_id.clone(),
    });
    Health {
        agent_version: report.agent_version.clone(),
        kubernetes_version: report.kubernetes_version.clone(),
        nodes: report.nodes_known.then(|| nodes.collect()),
        clock_ahead_ms: report.sent_at_unix_ms.saturating_sub(clock::now().as_millisecond()),
    }
}

fn read(report: &v1::ComponentReport) -> Report {
    use v1::component_report::State;
    let at = |ms: i64| (ms > 0).then(|| Timestamp::from_millisecond(ms).ok()).flatten();
    Report {
        digest: report.digest.clone(),
        state: match report.state() {
            State::Pending | State::Unspecified => ReportState::Pending,
            State::Applying => ReportState::Applying,
            State::Waiting => ReportState::Waiting,
            State::Healthy => ReportState::Healthy,
            State::Failed => ReportState::Failed,
            State::Removing => ReportState::Removing,
            State::Removed => ReportState::Removed,
        },
        reason: report.reason.clone(),
        message: report.message.clone(),
        since: at(report.since_unix_ms),
        attempt: report.attempt,
        next_attempt: at(report.next_attempt_unix_ms),
        version: report.version.clone(),
    }
}

#[cfg(test)]
mod tests;
