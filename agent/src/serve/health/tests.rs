//! When health reports come, and what they say.

use super::*;
use crate::observe::facts::Verdict;

fn watcher(observed: &Observed, kinds: &watch::Sender<Arc<Kinds>>) -> Watcher {
    Watcher {
        observed: observed.clone(),
        world: observed.changes(),
        kinds: kinds.subscribe(),
        heartbeat: Duration::from_secs(10),
        sequence: 0,
        told: None,
        told_at: Instant::now(),
    }
}

fn with_node(observed: &Observed, name: &str, ready: bool) {
    observed.change(|world| {
        let node = NodeFacts { ready: Verdict { holds: ready, ..Verdict::default() }, ..NodeFacts::default() };
        world.nodes =
            world.nodes.rows().cloned().unwrap_or_default().into_iter().chain([(name.to_owned(), node)]).collect();
        true
    });
}

#[tokio::test(start_paused = true)]
async fn reports_come_at_once_on_change_and_at_every_heartbeat() {
    let (observed, kinds) = (Observed::default(), watch::Sender::new(Arc::default()));
    let mut watcher = watcher(&observed, &kinds);
    let began = Instant::now();
    let first = watcher.next().await;
    assert!(!first.nodes_known && first.sequence == 1, "nodes that were not listed are not told as none");
    assert_eq!(began.elapsed(), Duration::ZERO);

    with_node(&observed, "edge-1", true);
    let second = watcher.next().await;
    assert!(second.nodes_known && second.nodes[0].ready);
    assert!(began.elapsed() <= APART);

    let third = watcher.next().await;
    assert_eq!((third.sequence, third.nodes), (3, second.nodes));
    assert!(began.elapsed() >= Duration::from_secs(10), "nothing changed, so the heartbeat was due");
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_none_are_not_told() {
    let (observed, kinds) = (Observed::default(), watch::Sender::new(Arc::default()));
    let mut watcher = watcher(&observed, &kinds);
    with_node(&observed, "edge-1", true);
    watcher.next().await;
    let told = Instant::now();
    // Something else in the world changed, a pod say.
    observed.change(|_| true);
    watcher.next().await;
    assert!(told.elapsed() >= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn the_list_of_kinds_is_sent_when_it_changed_only() {
    let (observed, kinds) = (Observed::default(), watch::Sender::new(Arc::default()));
    let mut watcher = watcher(&observed, &kinds);
    watcher.next().await;
    let mut known = Kinds { version: "v1.36.0".to_owned(), ..Kinds::default() };
    let gvk = kube::core::GroupVersionKind::gvk("apps", "v1", "DaemonSet");
    known.served.insert(gvk, crate::observe::Resource { plural: "daemonsets".to_owned(), namespaced: true });
    kinds.send_replace(Arc::new(known.clone()));
    assert_eq!(watcher.next().await.api_resources, ["apps/v1/DaemonSet"]);
    known.version = "v1.36.1".to_owned();
    kinds.send_replace(Arc::new(known));
    let report = watcher.next().await;
    assert!(report.api_resources.is_empty() && report.kubernetes_version == "v1.36.1");
}
