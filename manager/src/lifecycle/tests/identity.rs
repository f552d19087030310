//! What a person hears of an agent's identity and of clocks that differ.

use super::world::World;
use crate::api::condition::CLOCK_SKEW;
use crate::api::{ConditionStatus, Reason};
use crate::lifecycle::{Incident, Observed};

fn ready() -> World {
    let mut world = World::new();
    world.run();
    world
}

/// The condition, as a person reads it.
fn skew(world: &World) -> Option<(ConditionStatus, String)> {
    let found = world.status().conditions.into_iter().find(|condition| condition.type_ == CLOCK_SKEW);
    found.map(|condition| (condition.status, condition.message))
}

fn agent_ahead_ms(world: &mut World, ahead_ms: i64) {
    let Observed::Known(health) = &mut world.facts.agent.health else { panic!("the agent is heard") };
    health.clock_ahead_ms = ahead_ms;
}

#[test]
fn an_incident_is_told_once_and_again_only_when_it_happens_again() {
    let mut world = ready();
    let incident = |number| Incident { number, reason: Reason::JoinTokenReplay, note: "seen".to_owned() };
    world.facts.agent.incidents = vec![incident(1)];
    let told =
        |world: &mut World| world.look_again().events.iter().filter(|e| e.reason == Reason::JoinTokenReplay).count();
    assert_eq!((told(&mut world), told(&mut world)), (1, 0));
    world.facts.agent.incidents.push(incident(2));
    assert_eq!((told(&mut world), told(&mut world)), (1, 0));
}

#[test]
fn a_minute_is_tolerated_and_more_is_told_with_the_amount() {
    let mut world = ready();
    agent_ahead_ms(&mut world, 60_000);
    world.look_again();
    assert_eq!(skew(&world), None);
    agent_ahead_ms(&mut world, 93_000);
    let told =
        world.look_again().events.iter().any(|event| event.reason == Reason::ClockSkew && event.note.contains("+93 s"));
    let (status, message) = skew(&world).expect("the condition");
    assert!(told && status == ConditionStatus::True && message.contains("the agent's clock is +93 s"), "{message}");
    world.facts.agent.health = Observed::Unknown;
    world.look_again();
    assert_eq!(skew(&world).expect("it stands").0, ConditionStatus::True, "nothing is known of a clock that is away");
}

#[test]
fn a_manager_that_goes_by_its_api_servers_clock_says_so_on_every_cluster() {
    let mut world = ready();
    world.facts.parent.clock_ahead_ms = 93_600_000;
    agent_ahead_ms(&mut world, -120_000);
    world.look_again();
    let (_, message) = skew(&world).expect("the condition");
    assert!(message.contains("+93600 s") && message.contains("-120 s"), "{message}");
    world.facts.parent.clock_ahead_ms = 0;
    agent_ahead_ms(&mut world, 0);
    world.look_again();
    assert_eq!(skew(&world).expect("the condition").0, ConditionStatus::False);
}
