//! The kinds that are watched, with the fields that [`super::facts`] reads and no others: whatever else an object has is
//! skipped as it arrives. The full types would be a tenth of the program, and reading a CRD's schemas a large part of its
//! memory.
//!
//! Names are Kubernetes' own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeAffinity, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

/// A kind of Kubernetes' own: its name and path are those of the full type.
macro_rules! kind {
    ($name:ident, $full:tt, $($field:ident: $of:ty),+) => {
        #[doc = concat!("A ", stringify!($name), ".")]
        #[derive(Clone, Debug, Default, Deserialize, kube::Resource)]
        #[resource(inherit = $full)]
        #[serde(default)]
        pub struct $name {
            /// Its metadata.
            pub metadata: ObjectMeta,
            $(
                #[doc = concat!("Its ", stringify!($field), ".")]
                pub $field: Option<$of>,
            )+
        }
    };
}

/// Parts of objects: absent fields are empty.
macro_rules! part {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[serde($($rename:tt)*)])? $field:ident: $of:ty),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $(
                #[doc = concat!("`", stringify!($field), "`")]
                $(#[serde($($rename)*)])?
                pub $field: $of,
            )+
        }
    };
}

kind!(Node, "k8s_openapi::api::core::v1::Node", spec: NodeSpec, status: NodeStatus);
kind!(Pod, "k8s_openapi::api::core::v1::Pod", spec: PodSpec, status: PodStatus);
kind!(DaemonSet, "k8s_openapi::api::apps::v1::DaemonSet", spec: WorkloadSpec, status: DaemonSetStatus);
kind!(Deployment, "k8s_openapi::api::apps::v1::Deployment", spec: WorkloadSpec, status: ReplicasStatus);
kind!(StatefulSet, "k8s_openapi::api::apps::v1::StatefulSet", spec: WorkloadSpec, status: ReplicasStatus);
kind!(Job, "k8s_openapi::api::batch::v1::Job", spec: WorkloadSpec, status: JobStatus);
kind!(
    CustomResourceDefinition,
    "k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition",
    status: Conditions
);
kind!(APIService, "k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService", status: Conditions);

part! {
    /// One condition of any object.
    Condition {
        #[serde(rename = "type")] type_: String,
        status: String,
        reason: Option<String>,
        message: Option<String>,
        last_transition_time: Option<Time>,
    }
}

part! {
    /// A status of which only the conditions matter.
    Conditions { conditions: Option<Vec<Condition>> }
}

part! {
    /// What a Node should be.
    NodeSpec { #[serde(rename = "providerID")] provider_id: Option<String>, taints: Option<Vec<Taint>> }
}

part! {
    /// What a Node is.
    NodeStatus { conditions: Option<Vec<Condition>>, node_info: Option<NodeSystemInfo> }
}

part! {
    /// What runs on a Node.
    NodeSystemInfo { kubelet_version: String }
}

part! {
    /// Where a pod may run.
    PodSpec {
        node_name: Option<String>,
        node_selector: Option<BTreeMap<String, String>>,
        affinity: Option<Affinity>,
        tolerations: Option<Vec<Toleration>>,
        host_network: Option<bool>,
    }
}

part! {
    /// Which nodes a pod likes.
    Affinity { node_affinity: Option<NodeAffinity> }
}

part! {
    /// How a pod does.
    PodStatus {
        phase: Option<String>,
        reason: Option<String>,
        conditions: Option<Vec<Condition>>,
        init_container_statuses: Option<Vec<ContainerStatus>>,
        container_statuses: Option<Vec<ContainerStatus>>,
    }
}

part! {
    /// How a container does.
    ContainerStatus {
        name: String,
        ready: bool,
        started: Option<bool>,
        restart_count: i32,
        state: Option<ContainerState>,
    }
}

part! {
    /// What a container does now.
    ContainerState { waiting: Option<ContainerStateWaiting>, terminated: Option<ContainerStateTerminated> }
}

part! {
    /// Why a container waits.
    ContainerStateWaiting { reason: Option<String> }
}

part! {
    /// How a container ended.
    ContainerStateTerminated { exit_code: i32, reason: Option<String> }
}

part! {
    /// What a workload should be.
    WorkloadSpec {
        replicas: Option<i32>,
        completions: Option<i32>,
        selector: Option<LabelSelector>,
        template: PodTemplateSpec,
    }
}

part! {
    /// Which pods are a workload's own.
    LabelSelector { match_labels: Option<BTreeMap<String, String>> }
}

part! {
    /// What a workload's pods are like.
    PodTemplateSpec { spec: Option<PodSpec> }
}

part! {
    /// How a DaemonSet does.
    DaemonSetStatus {
        observed_generation: Option<i64>,
        desired_number_scheduled: i32,
        current_number_scheduled: i32,
        updated_number_scheduled: Option<i32>,
        number_ready: i32,
        number_available: Option<i32>,
    }
}

part! {
    /// How a Deployment or a StatefulSet does.
    ReplicasStatus {
        observed_generation: Option<i64>,
        replicas: Option<i32>,
        updated_replicas: Option<i32>,
        ready_replicas: Option<i32>,
        available_replicas: Option<i32>,
        conditions: Option<Vec<Condition>>,
    }
}

part! {
    /// How a Job does.
    JobStatus { succeeded: Option<i32>, conditions: Option<Vec<Condition>> }
}
