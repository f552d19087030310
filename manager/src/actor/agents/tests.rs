use super::*;

fn uid() -> ClusterUid {
    "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().expect("a uid")
}

fn session() -> Session {
    Session {
        since: Timestamp::UNIX_EPOCH,
        transport: "quic".into(),
        rtt_ms: None,
        certificate_expires: None,
        certificate_late: None,
    }
}

fn report(component: &str, synced: bool) -> v1::ComponentReport {
    v1::ComponentReport { component: component.into(), synced, ..v1::ComponentReport::default() }
}

#[test]
fn reports_count_once_the_agent_has_named_all_it_holds() {
    let agents = Agents::default();
    agents.connected_with(&uid(), 1, session());
    agents.heard_report(&uid(), 1, report("cilium", false));
    assert!(agents.facts(&uid()).reports.is_unknown());
    agents.heard_report(&uid(), 1, report("istio", true));
    let reports = agents.facts(&uid()).reports;
    assert_eq!(reports.known().map(BTreeMap::len), Some(2));
}

#[test]
fn a_replaced_session_is_not_heard_any_more() {
    let agents = Agents::default();
    agents.connected_with(&uid(), 1, session());
    agents.connected_with(&uid(), 2, session());
    assert!(!agents.heard_report(&uid(), 1, report("cilium", true)), "the old session speaks");
    agents.lost(&uid(), 1, "superseded".into());
    assert!(agents.facts(&uid()).session.is_some(), "the end of the old session is not the end of the new one");
    agents.lost(&uid(), 2, "idle".into());
    assert!(agents.facts(&uid()).session.is_none());
}

#[test]
fn an_attacker_who_tries_again_is_one_incident_and_many_kinds_are_bounded() {
    let (agents, from) = (Agents::default(), IpAddr::from([192, 0, 2, 7]));
    for _ in 0..100 {
        agents.happened(&uid(), Reason::JoinTokenReplay, "the join token was already used", from);
    }
    let incidents = agents.facts(&uid()).incidents;
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0].note, "the join token was already used (from 192.0.2.7)");
    for kind in 0..100 {
        agents.happened(&uid(), Reason::HandshakeFailed, &format!("kind {kind}"), from);
    }
    let incidents = agents.facts(&uid()).incidents;
    assert_eq!((incidents.len(), incidents.last().map(|last| last.number)), (INCIDENTS_MAX, Some(101)));
}

#[test]
fn a_heartbeat_that_says_the_same_is_no_news() {
    let agents = Agents::default();
    agents.connected_with(&uid(), 1, session());
    let beat = |sequence| v1::HealthReport {
        agent_version: "0.1.0".into(),
        sent_at_unix_ms: clock::now().as_millisecond(),
        sequence,
        ..v1::HealthReport::default()
    };
    assert!(agents.heard_health(&uid(), 1, &beat(1)));
    assert!(!agents.heard_health(&uid(), 1, &beat(2)));
}

#[test]
fn a_handshake_without_a_name_is_put_down_to_the_absent_agents_of_that_place_once() {
    let agents = Agents::default();
    let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    agents.was_at(&uid(), here);
    assert_eq!(agents.failed_at(there, "no"), [], "somebody else's");
    assert_eq!(agents.failed_at(here, "certificate expired"), [uid()]);
    let sighting = agents.facts(&uid()).sighting.expect("a sighting");
    let Seen::HandshakeFailed(words) = sighting.seen else { panic!("{sighting:?}") };
    assert!(words.starts_with("certificate expired (from 192.0.2.1"), "{words}");
    assert_eq!(agents.failed_at(here, "certificate expired"), [], "a flood of them makes no writes");
    agents.connected_with(&uid(), 1, session());
    assert_eq!(agents.failed_at(here, "a stranger's"), [], "a connected agent is not blamed");
}
