//! The fleet's actor: one child per cluster, watched, rebuilt after a panic, left alone after too many.
//!
//! **Invariant.** Nothing about a cluster is kept here but how its actor fared. A rebuilt actor begins with the API.

mod warden;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use jiff::Timestamp;
use kube::ResourceExt;
use lattice_protocol::clock;
use lattice_protocol::task::{self, Kind as TaskKind};
use tokio::time::Instant;

use super::cluster::{ClusterActor, ClusterHandle};
use super::crew::Crew;
use super::restart::{Panics, Verdict};
use super::stage::{Exit, Started};
use crate::api::LatticeCluster;
use crate::lifecycle::Quarantine;

/// Messages that may wait: looks come as sets, ends of children are as many as children fail.
const MAILBOX: usize = 64;

/// Asks for a look at clusters.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LookAt(pub std::collections::BTreeSet<String>);

/// A child has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct ChildEnded {
    name: String,
    incarnation: u64,
    exit: Exit,
}

/// The actor.
#[derive(Debug)]
pub struct Fleet {
    crew: Arc<Crew>,
    children: BTreeMap<String, Child>,
    incarnations: u64,
}

/// What is known of one cluster's actor.
#[derive(Debug)]
struct Child {
    incarnation: u64,
    state: ChildState,
    panics: Panics,
    uid: Option<String>,
}

#[derive(Debug)]
enum ChildState {
    /// Being built.
    Starting,
    /// At work.
    Running(ClusterHandle),
    /// Dead; rebuilt after a pause.
    Pausing,
    /// Dead, and left so until the spec changes or the object is deleted.
    Quarantined { generation: Option<i64>, why: Quarantine },
    /// Left alone and being deleted: taken apart without its actor.
    TakenApart { why: Quarantine },
}

impl Fleet {
    /// Mailbox bound of the actor.
    pub const MAILBOX: usize = MAILBOX;

    /// Makes a fleet without children.
    pub fn new(crew: Arc<Crew>) -> Self {
        Self { crew, children: BTreeMap::new(), incarnations: 0 }
    }

    fn look(&mut self, name: &str, ctx: &mut Context<Self>) {
        let Some(cluster) = self.crew.performer.cache.cluster(name) else {
            self.remove(name);
            return;
        };
        let uid = cluster.uid();
        let Some(child) = self.children.get_mut(name) else {
            self.start(name, Panics::default(), uid, ctx);
            return;
        };
        let reborn = child.uid != uid;
        match &child.state {
            ChildState::Starting | ChildState::Pausing => {}
            ChildState::Running(handle) => handle.look(&self.crew),
            ChildState::Quarantined { .. } | ChildState::TakenApart { .. } if reborn => {
                self.start(name, Panics::default(), uid, ctx);
            }
            ChildState::Quarantined { why, .. } if cluster.metadata.deletion_timestamp.is_some() => {
                let why = why.clone();
                child.state = ChildState::TakenApart { why: why.clone() };
                self.take_apart(&cluster, why);
            }
            ChildState::Quarantined { generation, .. } if *generation != cluster.metadata.generation => {
                tracing::info!(cluster.name = name, "the spec changed, the quarantine ends");
                self.start(name, Panics::default(), uid, ctx);
            }
            ChildState::Quarantined { why, .. } | ChildState::TakenApart { why } => {
                let why = why.clone();
                self.take_apart(&cluster, why);
            }
        }
        self.count();
    }

    fn remove(&mut self, name: &str) {
        if let Some(child) = self.children.remove(name) {
            if let Some(uid) = child.uid.and_then(|uid| uid.parse().ok()) {
                self.crew.agents.forget(&uid);
            }
            self.crew.wardens.forget(name);
            self.count();
        }
    }

    fn start(&mut self, name: &str, panics: Panics, uid: Option<String>, ctx: &mut Context<Self>) {
        self.incarnations += 1;
        let incarnation = self.incarnations;
        self.crew.wardens.forget(name);
        let child = Child { incarnation, state: ChildState::Starting, panics, uid };
        self.children.insert(name.to_owned(), child);
        let (crew, pending) = (self.crew.clone(), Arc::new(AtomicBool::new(false)));
        let (owned, key) = (name.to_owned(), usize::try_from(incarnation).unwrap_or_default());
        let (stage, flag) = (crew.stage.clone(), pending.clone());
        let build_name = owned.clone();
        let spawned = async move {
            stage.spawn(key, ClusterActor::MAILBOX, move || ClusterActor::new(build_name, crew, flag)).await
        };
        ctx.spawn(spawned.into_actor(self).map(move |result, fleet, ctx| match result {
            Ok(started) => fleet.started(&owned, incarnation, started, pending, ctx),
            Err(exit) => fleet.ended(&owned, incarnation, exit, ctx),
        }));
    }

    fn started(
        &mut self,
        name: &str,
        incarnation: u64,
        Started { addr, exit }: Started<ClusterActor>,
        pending: Arc<AtomicBool>,
        ctx: &mut Context<Self>,
    ) {
        let Some(child) = self.children.get_mut(name).filter(|child| child.incarnation == incarnation) else { return };
        let handle = ClusterActor::handle(addr, pending);
        handle.look(&self.crew);
        child.state = ChildState::Running(handle);
        let (fleet, name) = (ctx.address().downgrade(), name.to_owned());
        let _runtime = self.crew.stage.enter();
        task::spawn("actor.watch", TaskKind::Request, async move {
            // A sender that is gone without a word was cut down with its thread.
            let exit = exit.await.unwrap_or(Exit::Stopped);
            if let Some(fleet) = fleet.upgrade() {
                let _ = fleet.send(ChildEnded { name, incarnation, exit }).await;
            }
        });
    }

    fn ended(&mut self, name: &str, incarnation: u64, exit: Exit, ctx: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(name).filter(|child| child.incarnation == incarnation) else { return };
        let Exit::Panicked(why) = exit else {
            // It found its object gone; should there be one again, the next look starts another.
            self.children.remove(name);
            if self.crew.performer.cache.cluster(name).is_some() {
                self.crew.attention.mark(name);
            }
            return;
        };
        let verdict = child.panics.record(Instant::now());
        let restarts = child.panics.count();
        match verdict {
            Verdict::Restart(pause) => {
                tracing::error!(cluster.name = name, why, restarts, next_in = ?pause, "cluster actor panicked");
                child.state = ChildState::Pausing;
                let (panics, uid, owned) = (child.panics.clone(), child.uid.clone(), name.to_owned());
                ctx.run_later(pause, move |fleet, ctx| fleet.rebuild(&owned, incarnation, panics, uid, ctx));
            }
            Verdict::Quarantine => {
                tracing::error!(cluster.name = name, why, restarts, "cluster actor is left alone");
                let cluster = self.crew.performer.cache.cluster(name);
                let generation = cluster.as_ref().and_then(|cluster| cluster.metadata.generation);
                let why = quarantine(&why, restarts, cluster.as_deref());
                child.state = ChildState::Quarantined { generation, why };
                self.crew.attention.mark(name);
            }
        }
        self.count();
    }

    fn rebuild(&mut self, name: &str, incarnation: u64, panics: Panics, uid: Option<String>, ctx: &mut Context<Self>) {
        let waits = self.children.get(name).is_some_and(|child| child.incarnation == incarnation);
        let Some(cluster) = self.crew.performer.cache.cluster(name).filter(|_| waits) else {
            self.children.remove(name);
            return;
        };
        self.crew.metrics.actor_restarted("cluster");
        // Another object of the name has done nothing wrong yet.
        let panics = if cluster.uid() == uid { panics } else { Panics::default() };
        self.start(name, panics, cluster.uid(), ctx);
    }

    /// Shows, and if need be deletes, a cluster whose actor is left alone.
    fn take_apart(&self, cluster: &Arc<LatticeCluster>, why: Quarantine) {
        self.crew.wardens.step(&self.crew, cluster.clone(), why);
    }

    fn count(&self) {
        let alone =
            |child: &&Child| matches!(child.state, ChildState::Quarantined { .. } | ChildState::TakenApart { .. });
        self.crew.metrics.set_quarantined(self.children.values().filter(alone).count());
    }
}

pub use warden::Wardens;

/// Says why a cluster is left alone. The time is that of its condition, if it was left alone for the same before: a
/// restarted manager writes nothing new.
fn quarantine(why: &str, panics: usize, cluster: Option<&LatticeCluster>) -> Quarantine {
    let stored = cluster.and_then(|cluster| cluster.status.as_ref());
    let ready = stored.and_then(|status| status.conditions.iter().find(|c| c.type_ == crate::api::condition::READY));
    let since: Option<Timestamp> = ready
        .filter(|ready| ready.reason == crate::api::Reason::Quarantined.as_str())
        .map(crate::api::Condition::since);
    Quarantine {
        since: since.unwrap_or_else(clock::now),
        message: format!("its actor panicked {panics} times within ten minutes, last with: {why}"),
    }
}

impl Actor for Fleet {
    type Context = Context<Self>;
}

impl Handler<LookAt> for Fleet {
    type Result = ();

    fn handle(&mut self, LookAt(names): LookAt, ctx: &mut Self::Context) {
        for name in names {
            self.look(&name, ctx);
        }
    }
}

impl Handler<ChildEnded> for Fleet {
    type Result = ();

    fn handle(&mut self, ended: ChildEnded, ctx: &mut Self::Context) {
        self.ended(&ended.name, ended.incarnation, ended.exit, ctx);
    }
}
