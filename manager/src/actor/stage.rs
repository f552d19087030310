//! The threads that actors run on, and the one way to start an actor: watched.
//!
//! Actors live on arbiters (one thread each); tonic, quinn and the Kubernetes client live on tokio's multi-thread
//! runtime, so that a busy actor delays no connection. An actor reaches that runtime by [`Stage::enter`].

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context};
use actix_rt::{Arbiter, ArbiterHandle, System};
use futures::FutureExt;
use tokio::sync::oneshot;

/// More arbiters than cores cost throughput; a few keep one blocked handler from stopping everybody.
const ARBITERS_MAX: usize = 4;
/// Longest time that a thread of actors may need to answer before it counts as blocked.
const STALL: Duration = Duration::from_mins(1);

/// How an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It stopped, or every address of it was dropped.
    Stopped,
    /// It panicked; the text is the panic's message.
    Panicked(String),
}

/// Threads for actors. Clones share them.
#[derive(Clone, Debug)]
pub struct Stage {
    system: System,
    arbiters: Vec<ArbiterHandle>,
    runtime: tokio::runtime::Handle,
}

/// A started actor: its address, and news of its end.
#[derive(Debug)]
pub struct Started<A: Actor> {
    /// Where to send messages. Dropping the last address ends the actor.
    pub addr: Addr<A>,
    /// Resolves once, when the actor has ended for whatever reason.
    pub exit: oneshot::Receiver<Exit>,
}

/// Why the threads could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gave no thread.
    #[error("could not start a thread for actors")]
    Thread(#[source] std::io::Error),
    /// The thread ended before it was ready.
    #[error("the thread for actors ended while it started")]
    Ended,
}

impl Stage {
    /// Starts the threads. Must be called on the multi-thread runtime that the actors' tasks are to use.
    pub async fn start() -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::current();
        let (ready, started) = oneshot::channel();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let body = move || {
            let runner = System::new();
            let arbiters: Vec<Arbiter> = (0..cores.min(ARBITERS_MAX)).map(|_| Arbiter::new()).collect();
            let handles = arbiters.iter().map(Arbiter::handle).collect();
            // The receiver is gone only when the process ends; then nobody runs anything here.
            let _ = ready.send((System::current(), handles));
            if let Err(error) = runner.run() {
                tracing::error!(error = &error as &dyn std::error::Error, "the actors' system failed");
            }
            for arbiter in arbiters {
                arbiter.stop();
                // Its thread must end before the process does, or the last handlers are cut short.
                let _ = arbiter.join();
            }
        };
        std::thread::Builder::new().name("actors".to_owned()).spawn(body).map_err(Error::Thread)?;
        let (system, arbiters) = started.await.map_err(|_| Error::Ended)?;
        Ok(Self { system, arbiters, runtime })
    }

    /// Starts an actor that `build` makes, on the thread that `key` falls on. A panic in `build` counts as the actor's.
    ///
    /// # Errors
    /// How it ended, when it ended before it had an address.
    pub async fn spawn<A, F>(&self, key: usize, mailbox: usize, build: F) -> Result<Started<A>, Exit>
    where
        A: Actor<Context = Context<A>>,
        F: FnOnce() -> A + Send + 'static,
    {
        let (addr_out, addr) = oneshot::channel();
        let (exit_out, exit) = oneshot::channel();
        let birth = move || {
            let actor = match std::panic::catch_unwind(AssertUnwindSafe(build)) {
                Ok(actor) => actor,
                Err(panic) => {
                    // Whoever waited may be gone, which is an answer too; so below.
                    let _ = exit_out.send(Exit::Panicked(text(panic.as_ref())));
                    return;
                }
            };
            let mut context = Context::new();
            context.set_mailbox_capacity(mailbox);
            let _ = addr_out.send(context.address());
            let life = AssertUnwindSafe(context.into_future(actor)).catch_unwind();
            actix_rt::spawn(async move {
                let exit = match life.await {
                    Ok(()) => Exit::Stopped,
                    Err(panic) => Exit::Panicked(text(panic.as_ref())),
                };
                let _ = exit_out.send(exit);
            });
        };
        let arbiter = &self.arbiters[key % self.arbiters.len()];
        if !arbiter.spawn_fn(birth) {
            return Err(Exit::Stopped);
        }
        match addr.await {
            Ok(addr) => Ok(Started { addr, exit }),
            Err(_) => Err(exit.await.unwrap_or(Exit::Stopped)),
        }
    }

    /// Makes tasks that are started while the guard lives run on the multi-thread runtime.
    pub fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Asks every thread of actors for a sign of life; false when one did not answer in time.
    pub async fn is_alive(&self) -> bool {
        let answers = self.arbiters.iter().map(|arbiter| {
            let (answer, heard) = oneshot::channel();
            let sent = arbiter.spawn_fn(move || {
                let _ = answer.send(());
            });
            async move { sent && matches!(tokio::time::timeout(STALL, heard).await, Ok(Ok(()))) }
        });
        futures::future::join_all(answers).await.into_iter().all(|alive| alive)
    }

    /// Ends the threads.
    pub fn stop(&self) {
        self.system.stop();
    }
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Handler, Message};

    #[derive(Debug)]
    struct Echo;

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Say(u32);

    impl Actor for Echo {
        type Context = Context<Self>;
    }

    impl Handler<Say> for Echo {
        type Result = u32;
        fn handle(&mut self, Say(n): Say, _: &mut Self::Context) -> u32 {
            assert_ne!(n, 13, "thirteen is poison");
            n
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_panic_is_noticed_and_its_neighbour_on_the_same_thread_never_does() {
        let stage = Stage::start().await.expect("threads");
        let poisoned = stage.spawn(0, 16, || Echo).await.expect("an actor");
        let neighbour = stage.spawn(0, 16, || Echo).await.expect("an actor");
        assert!(poisoned.addr.send(Say(13)).await.is_err());
        let exit = poisoned.exit.await.expect("an exit");
        assert!(matches!(&exit, Exit::Panicked(why) if why.contains("thirteen is poison")), "{exit:?}");
        assert_eq!(neighbour.addr.send(Say(7)).await.expect("an answer"), 7);
        assert!(stage.is_alive().await);
        stage.stop();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_actor_that_cannot_be_built_tells_why() {
        let stage = Stage::start().await.expect("threads");
        let built = stage.spawn(0, 16, || -> Echo { panic!("no parts") }).await;
        assert_eq!(built.err(), Some(Exit::Panicked("no parts".into())));
        stage.stop();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_actor_whose_addresses_are_dropped_stops() {
        let stage = Stage::start().await.expect("threads");
        let started = stage.spawn(1, 16, || Echo).await.expect("an actor");
        drop(started.addr);
        assert_eq!(started.exit.await, Ok(Exit::Stopped));
        stage.stop();
    }
}
