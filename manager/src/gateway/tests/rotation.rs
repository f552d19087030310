//! What a person who rotates the CA hears, whatever happens to the write that says it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use lattice_protocol::clock;

use super::world::World;
use crate::gateway::rotation::Worker;
use crate::store::ca::rotation::{Phase, RotationStatus, SECRET_NAME, STATUS, Step, WISH, Wish};
use crate::store::vault::{Contents, Vault as _};

async fn wish(world: &World) {
    let wish = Wish { step: Step::Publish, told: false, asked_at: clock::now() };
    let data = BTreeMap::from([(WISH.to_owned(), serde_json::to_vec(&wish).unwrap())]);
    world.vault.create(SECRET_NAME, Contents { labels: BTreeMap::new(), data }).await.unwrap();
}

async fn status(world: &World) -> Option<RotationStatus> {
    let entry = world.vault.read(SECRET_NAME).await.unwrap().unwrap();
    serde_json::from_slice(entry.contents.data.get(STATUS)?).ok()
}

#[tokio::test]
async fn a_lost_race_for_the_status_does_not_lose_the_words() {
    let world = World::new().await;
    wish(&world).await;
    // The first write is the CA's own, so it wins; the one of the status meets somebody who was faster.
    let mut worker = Worker::new(world.gateway.shared());
    let steal = async {
        while world.gateway.shared().authorities.phase().0 == Phase::Standby {
            tokio::task::yield_now().await;
        }
        world.vault.lose_races.store(1, Ordering::Relaxed);
    };
    tokio::join!(worker.look(), steal);
    let said = status(&world).await.expect("a status");
    assert_eq!((said.phase, said.outcome.as_str()), (Phase::Published, "done: publish"));
}

#[tokio::test]
async fn a_manager_that_died_before_it_could_say_so_is_spoken_for_by_the_next() {
    let world = World::new().await;
    wish(&world).await;
    let steal = async {
        while world.gateway.shared().authorities.phase().0 == Phase::Standby {
            tokio::task::yield_now().await;
        }
        world.vault.lose_races.store(3, Ordering::Relaxed);
    };
    let mut killed = Worker::new(world.gateway.shared());
    tokio::join!(killed.look(), steal);
    assert!(status(&world).await.is_none(), "the step was taken and nobody said so");
    Worker::new(world.gateway.shared()).look().await;
    let said = status(&world).await.expect("a status");
    assert_eq!((said.phase, said.outcome.as_str()), (Phase::Published, "done: publish"));
    assert!(said.answers.is_some());
}
