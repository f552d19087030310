//! The watches of one cluster, one per kind, merged into one stream.

use std::fmt::Debug;

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

/// An event of one of the watched kinds.
#[derive(Debug)]
pub(super) enum Watched {
    Pod(Event<Pod>),
    Node(Event<Node>),
    Deployment(Event<Deployment>),
    ReplicaSet(Event<ReplicaSet>),
    DaemonSet(Event<DaemonSet>),
    StatefulSet(Event<StatefulSet>),
    Job(Event<Job>),
}

/// Watches everything; a watch that breaks starts anew after a backoff, for ever.
pub(super) fn all(client: &Client) -> impl Stream<Item = Watched> + Unpin + Send + use<> {
    let mut all: SelectAll<BoxStream<'static, Watched>> = SelectAll::new();
    all.push(one(client, Watched::Pod));
    all.push(one(client, Watched::Node));
    all.push(one(client, Watched::Deployment));
    all.push(one(client, Watched::ReplicaSet));
    all.push(one(client, Watched::DaemonSet));
    all.push(one(client, Watched::StatefulSet));
    all.push(one(client, Watched::Job));
    all
}

fn one<K>(client: &Client, wrap: fn(Event<K>) -> Watched) -> BoxStream<'static, Watched>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher::watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
    let wrapped = events.filter_map(move |event| {
        let event = match event {
            Ok(event) => Some(wrap(event)),
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), %error, "watch broke");
                None
            }
        };
        std::future::ready(event)
    });
    wrapped.boxed()
}
