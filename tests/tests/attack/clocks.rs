//! Clocks that are wrong: the manager's against its API server, the agent's against the manager.

use anyhow::{Context, Result};
use lattice_protocol::clock;
use lattice_protocol::tls::Credentials;

use crate::agent::Agent;
use crate::asking::Asking;
use crate::rig::{FIRST, Rig};

#[tokio::test]
async fn attack_22_a_manager_whose_clock_is_a_day_wrong_loses_no_agent() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = rig.object("a").await?;
    let (bound, mut own) = rig.agent(&of).await?;
    for (round, offset, words) in [(0, "93600", "clock is +93"), (1, "-93600", "clock is -93")] {
        rig.kill_and_start_with(&["--simulated-clock-offset", offset]).await?;
        assert_eq!(rig.verdict(&own).await?, None, "{offset}: its certificate is good by every clock that is right");
        let told = rig.condition(&of, "ClockSkew", words).await?;
        assert!(told.contains("lattice-manager's own clock"), "{told}");
        // What it signs meanwhile is dated by the time that is right.
        let next = Asking::new()?;
        let (status, answer) = rig.recover(&of, &bound.key, FIRST + round, &next.csr).await?;
        assert_eq!(status, 200, "{answer}");
        own = next.enrolled(&of, &answer)?;
        let made = Credentials::from_pem(own.chain.as_bytes(), own.key.as_bytes())?.identity()?;
        let left = made.not_after.duration_since(clock::now());
        assert!((23..=24).contains(&left.as_hours()), "{offset}: {left} left");
        assert_eq!(rig.verdict(&own).await?, None);
    }
    rig.hears(&of, "ClockSkew").await?;
    rig.kill_and_start_with(&[]).await?;
    rig.clear(&of, "ClockSkew").await
}

#[tokio::test]
async fn a_skewed_agent_is_tolerated_within_bounds_and_both_sides_say_so_beyond() -> Result<()> {
    let rig = Rig::shared().await?;
    for (name, offset, words) in [("behind", "-200", "clock is -20"), ("ahead", "36000", "clock is +3600")] {
        let of = rig.object(name).await?;
        let agent = Agent::start(&rig, &of, &rig.token(&of).await?, &["--simulated-clock-offset", offset]).await?;
        let told = rig.condition(&of, "ClockSkew", "the agent's clock").await?;
        // A second may lie between the two clocks' readings.
        let about = told.contains(words) || told.contains("clock is -19") || told.contains("clock is +3599");
        assert!(about, "{offset}: {told}");
        let told = agent.tells("ClockSkew").await?;
        assert!(told.contains("against the parent's"), "{told}");
        assert_eq!(agent.log().matches("coming back with the bound key").count(), 0, "its own clock is nobody's judge");
    }
    // Behind the start of the manager's certificate, and past its end.
    for (name, offset) in [("beyond", "-900"), ("far-beyond", "90000")] {
        let of = rig.object(name).await?;
        let agent = Agent::start(&rig, &of, &rig.token(&of).await?, &["--simulated-clock-offset", offset]).await?;
        let told = agent.tells("EnrolmentFailed").await?;
        let both_times = told.contains("valid from") && told.contains("and the clock here shows");
        assert!(both_times && told.contains("compare the clocks of both machines"), "{offset}: {told}");
    }
    let said = rig.log();
    let words = "refused this manager's certificate: compare the clocks of both machines";
    said.lines().find(|line| line.contains(words)).context(said.clone())?;
    Ok(())
}
