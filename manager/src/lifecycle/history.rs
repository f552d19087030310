//! How long clusters like this one took: read from the operations in their status, so nothing is kept for it.

use jiff::SignedDuration;

use crate::api::{LatticeCluster, OperationType, Phase};

/// Median time from the first step past Pending to Ready of other clusters of the same provider type, of those with half
/// to double as many nodes where there are any.
pub fn typical<'c>(cluster: &LatticeCluster, all: impl Iterator<Item = &'c LatticeCluster>) -> Option<SignedDuration> {
    let like = |other: &&LatticeCluster| {
        other.metadata.uid != cluster.metadata.uid
            && other.spec.provider.config.types() == cluster.spec.provider.config.types()
    };
    let mut took: Vec<(i64, SignedDuration)> =
        all.filter(like).filter_map(|other| Some((nodes(other), provisioning(other)?))).collect();
    let own = nodes(cluster);
    let near = |count: i64| count <= own.saturating_mul(2) && count.saturating_mul(2) >= own;
    if took.iter().any(|(count, _)| near(*count)) {
        took.retain(|(count, _)| near(*count));
    }
    took.sort_unstable_by_key(|(_, took)| *took);
    took.get(took.len() / 2).map(|(_, took)| *took)
}

/// Nodes that a cluster asks for; of a pool that grows by itself, the least.
fn nodes(cluster: &LatticeCluster) -> i64 {
    let nodes = &cluster.spec.nodes;
    let pools = nodes.worker_pools.values().map(|pool| i64::from(pool.replicas.or(pool.min).unwrap_or(0)));
    i64::from(nodes.control_plane.replicas) + pools.sum::<i64>()
}

/// How long a finished provisioning took, the wait in Pending apart.
fn provisioning(cluster: &LatticeCluster) -> Option<SignedDuration> {
    let operation = cluster.status.as_ref()?.operation.as_ref()?;
    if operation.type_ != OperationType::Provision {
        return None;
    }
    let began = operation.steps.iter().find(|step| step.name == Phase::Provisioning.as_str())?;
    Some(operation.finished_at.as_ref()?.0.duration_since(began.started_at.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::homelab;
    use serde_json::json;

    fn took(name: &str, workers: u32, seconds: u32) -> LatticeCluster {
        let mut value = serde_json::to_value(homelab()).expect("a cluster is JSON");
        value["metadata"] = json!({"name": name, "uid": name});
        value["spec"]["nodes"]["workerPools"]["default"]["replicas"] = json!(workers);
        let at = |seconds: u32| format!("2026-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60);
        value["status"] = json!({"operation": {
            "type": "provision", "id": "1", "startedAt": at(0), "finishedAt": at(100 + seconds),
            "steps": [
                {"name": "Pending", "startedAt": at(0), "finishedAt": at(100)},
                {"name": "Provisioning", "startedAt": at(100), "finishedAt": at(101)},
            ],
        }});
        serde_json::from_value(value).expect("a cluster")
    }

    #[track_caller]
    fn expects(others: &[LatticeCluster], seconds: Option<i64>) {
        let typical = typical(&homelab(), others.iter());
        assert_eq!(typical, seconds.map(SignedDuration::from_secs));
    }

    #[test]
    fn nothing_is_expected_without_a_like_cluster() {
        expects(&[], None);
        let mut running = took("a", 3, 60);
        running.status.as_mut().expect("set").operation.as_mut().expect("set").finished_at = None;
        expects(&[running], None);
        let mut own = took("b", 3, 60);
        own.metadata.uid = homelab().metadata.uid;
        expects(&[own], None);
    }

    #[test]
    fn the_wait_in_pending_does_not_count_and_one_slow_cluster_does_not_decide() {
        expects(&[took("a", 3, 60), took("b", 4, 70), took("c", 2, 900)], Some(70));
    }

    #[test]
    fn clusters_of_a_like_size_count_before_others() {
        expects(&[took("a", 3, 60), took("b", 40, 900), took("c", 41, 910)], Some(60));
        expects(&[took("b", 40, 900)], Some(900));
    }
}
