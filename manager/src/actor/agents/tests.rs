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
