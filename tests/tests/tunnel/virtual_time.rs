//! The dialler, the gateway and the session between them, in virtual time, against everything that a network does.
//!
//! Both ends are the real code, from the dialler's states to the component engine; only sockets are turmoil's. Each run
//! prints its seed when it fails. `LATTICE_SEEDS=<count>` runs so many seeds of each scene instead of one, and more shares of
//! loss.

mod air;
mod scene;
mod story;

use std::time::Duration;

use anyhow::Result;
use lattice_protocol::transport::Transport;

use self::air::Weather;
use self::scene::{AGENT, MANAGER, RIVAL, Scene};
use self::story::Note;

const SECOND: Duration = Duration::from_secs(1);
/// A dead peer is noticed within this, on both sides.
const NOTICED: Duration = Duration::from_secs(20);
/// Longest wait between dials, the handshake, and what the manager takes to hear of it.
const BACK: Duration = Duration::from_secs(37);

/// Whether a longer run is asked for.
fn is_long() -> bool {
    std::env::var_os("LATTICE_SEEDS").is_some()
}

/// Runs a scene with several seeds.
fn seeds(first: u64, few: u64, run: impl Fn(u64) -> Result<()>) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
    let count = std::env::var("LATTICE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(few);
    (first..first + count).try_for_each(|seed| run(seed).map_err(|error| error.context(format!("seed {seed}"))))
}

fn is_lost(note: &Note) -> bool {
    matches!(note, Note::Lost(_))
}

fn is_connected(note: &Note) -> bool {
    matches!(note, Note::Connected(_))
}

fn is_down(note: &Note) -> bool {
    matches!(note, Note::Down(AGENT, _))
}

/// Both sides notice within 20 s that the other is gone.
fn both_notice(scene: &mut Scene, from: Duration) -> Result<()> {
    scene.until_since(from, "the agent notices", NOTICED, is_down)?;
    scene.until_since(from, "the manager notices", NOTICED, is_lost)?;
    Ok(())
}

const NO_UDP: Weather = Weather { loss: 0.0, twice: 0.0, no_udp: true };

#[test]
fn work_is_neither_lost_nor_doubled_by_loss_reordering_and_duplicates() -> Result<()> {
    let shares: &[(f64, u64)] = if is_long() { &[(0.01, 40), (0.1, 40), (0.3, 12)] } else { &[(0.1, 15)] };
    for &(loss, work) in shares {
        seeds(1, 1, |seed| {
            let mut scene = Scene::new(seed, Weather { loss, twice: 0.05, no_udp: false }, work)?;
            scene.connected()?;
            scene.finish(300 * SECOND)?;
            scene.one_session()?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_partition_is_noticed_by_both_and_work_goes_on_after_it() -> Result<()> {
    for (weather, transport) in [(Weather::default(), Transport::Quic), (NO_UDP, Transport::Tcp)] {
        seeds(10, 1, |seed| {
            let mut scene = Scene::new(seed, weather, 30)?;
            scene.connected()?;
            scene.ensure(scene.one_session()?.transport() == transport, "the carrier that there is")?;
            scene.pass(4 * SECOND)?;
            let from = scene.now();
            scene.sim.partition(MANAGER, AGENT);
            both_notice(&mut scene, from)?;
            scene.pass(15 * SECOND)?;
            scene.sim.repair(MANAGER, AGENT);
            scene.until("the agent is back", BACK, is_connected)?;
            scene.finish(120 * SECOND)?;
            scene.one_session()?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn what_gets_through_one_way_only_is_noticed_by_both() -> Result<()> {
    for (from_host, to_host) in [(MANAGER, AGENT), (AGENT, MANAGER)] {
        // With seed 21 the manager's window is full when it closes: its last words must go out all the same.
        seeds(20, 2, |seed| {
            let mut scene = Scene::new(seed, Weather::default(), 20)?;
            scene.connected()?;
            scene.pass(5 * SECOND)?;
            let from = scene.now();
            scene.sim.partition_oneway(from_host, to_host);
            both_notice(&mut scene, from)?;
            // While it lasts nothing is taken for a session.
            scene.pass(20 * SECOND)?;
            let shown = scene.notes.first(from, is_connected);
            scene.ensure(shown.is_none(), "no session comes up over a link that works one way")?;
            scene.sim.repair_oneway(from_host, to_host);
            scene.until("the agent is back", BACK, is_connected)?;
            scene.finish(120 * SECOND)
        })?;
    }
    Ok(())
}

#[test]
fn a_peer_that_loses_its_power_is_noticed() -> Result<()> {
    for weather in [Weather::default(), NO_UDP] {
        seeds(30, 1, |seed| {
            let mut scene = Scene::new(seed, weather, 20)?;
            scene.connected()?;
            // No word gets out at the end.
            let from = scene.now();
            scene.sim.partition(MANAGER, AGENT);
            scene.crash(AGENT);
            scene.until_since(from, "the manager notices", NOTICED, is_lost)?;
            scene.sim.repair(MANAGER, AGENT);
            scene.bounce(AGENT);
            scene.until("the agent is back", BACK, is_connected)?;
            let from = scene.now();
            scene.sim.partition(MANAGER, AGENT);
            scene.crash(MANAGER);
            scene.until_since(from, "the agent notices", NOTICED, is_down)?;
            scene.sim.repair(MANAGER, AGENT);
            scene.bounce(MANAGER);
            scene.until("the agent is back", BACK, is_connected)?;
            scene.finish(120 * SECOND)
        })?;
    }
    Ok(())
}

#[test]
fn waits_grow_while_the_manager_restarts_again_and_again_and_start_anew_after_30_s() -> Result<()> {
    seeds(40, 1, |seed| {
        let mut scene = Scene::new(seed, Weather::default(), 0)?;
        scene.connected()?;
        let mut waits = Vec::new();
        for _ in 0..7 {
            scene.pass(4 * SECOND)?;
            scene.bounce(MANAGER);
            // A restarted manager answers with a reset: no need to wait for silence.
            let from = scene.now();
            let noticed = scene.until_since(from, "the restart is noticed", 6 * SECOND, is_down)?;
            let up = |note: &Note| matches!(note, Note::Up(AGENT, _));
            let back = scene.until_since(from + noticed, "the agent is back", BACK, up)?;
            waits.push(back);
        }
        let handshake = SECOND;
        for (wait, ceiling) in waits.iter().zip([1, 2, 4, 8, 16, 30, 30]) {
            scene.ensure(
                *wait <= ceiling * SECOND + handshake,
                &format!("waits stay below their ceilings: {waits:?}"),
            )?;
        }
        let all: Duration = waits.iter().sum();
        scene.ensure(all > 14 * SECOND, &format!("waits grow, as no session was stable: {waits:?}"))?;
        scene.pass(31 * SECOND)?;
        scene.bounce(MANAGER);
        let from = scene.now();
        let noticed = scene.until_since(from, "the restart is noticed", 6 * SECOND, is_down)?;
        let up = |note: &Note| matches!(note, Note::Up(AGENT, _));
        scene.until_since(from + noticed, "a stable session makes the wait short", SECOND + handshake, up)?;
        Ok(())
    })
}

#[test]
fn a_link_that_flaps_costs_no_work_and_no_session() -> Result<()> {
    seeds(50, 1, |seed| {
        let mut scene = Scene::new(seed, Weather::default(), 20)?;
        scene.connected()?;
        let from = scene.now();
        for _ in 0..8 {
            scene.pass(3 * SECOND)?;
            scene.sim.partition(MANAGER, AGENT);
            scene.pass(3 * SECOND)?;
            scene.sim.repair(MANAGER, AGENT);
        }
        scene.finish(120 * SECOND)?;
        let lost = scene.notes.first(from, is_lost);
        scene.ensure(lost.is_none(), "three seconds of darkness are no reason to dial again")
    })
}

#[test]
fn without_udp_the_agent_is_up_in_10_s_and_returns_to_quic_without_a_gap() -> Result<()> {
    seeds(60, 1, |seed| {
        let mut scene = Scene::new(seed, NO_UDP, 20)?;
        let tcp = |note: &Note| *note == Note::Connected(Transport::Tcp);
        scene.until_since(Duration::ZERO, "connected over TCP", 10 * SECOND, tcp)?;
        scene.air.set(Weather::default());
        let from = scene.now();
        let quic = |note: &Note| *note == Note::Connected(Transport::Quic);
        scene.until("QUIC is tried again", 70 * SECOND, quic)?;
        scene.pass(5 * SECOND)?;
        let gap = scene.notes.first(from, |note| is_down(note) || is_lost(note));
        scene.ensure(gap.is_none(), "the new session is up before the old one ends")?;
        scene.one_session()?;
        scene.finish(60 * SECOND)
    })
}

#[test]
fn a_second_agent_takes_over_and_the_first_stays_away_and_can_write_no_more() -> Result<()> {
    seeds(70, 1, |seed| {
        let mut scene = Scene::new(seed, Weather::default(), 0)?;
        scene.connected()?;
        let first = scene.one_session()?;
        // What the first one still has on its way arrives after it was replaced.
        scene.sim.hold(MANAGER, AGENT);
        scene.agent(RIVAL)?;
        scene.until("the second one takes over", 10 * SECOND, is_connected)?;
        let from = scene.now();
        scene.sim.release(MANAGER, AGENT);
        let second = scene.one_session()?;
        scene.ensure(second.generation() > first.generation(), "the newer session is the live one")?;
        scene.ensure(first.close_reason().is_some(), "the replaced session is closed for good")?;
        scene.until_since(
            from,
            "the first one hears it",
            5 * SECOND,
            |note| matches!(note, Note::Down(AGENT, why) if why.contains("superseded")),
        )?;
        scene.pass(50 * SECOND)?;
        let fights = scene.notes.first(from, |note| matches!(note, Note::Up(AGENT, _)));
        scene.ensure(fights.is_none(), "the two do not take the place from each other again and again")?;
        let alive = scene.one_session()?.generation() == second.generation();
        scene.ensure(alive, "the second one's session goes on")
    })
}

#[test]
fn the_slot_that_a_closing_manager_gives_is_kept() -> Result<()> {
    seeds(80, 1, |seed| {
        let mut scene = Scene::new(seed, Weather::default(), 0)?;
        scene.connected()?;
        let slot = 7 * SECOND;
        let from = scene.now();
        scene.send_away(slot);
        let up = |note: &Note| matches!(note, Note::Up(AGENT, _));
        let back = scene.until_since(from, "the agent is back", slot + 3 * SECOND, up)?;
        scene.ensure(back >= slot, &format!("not before its slot: {back:?}"))
    })
}
