//! Machines that are off for a while, and what goes on meanwhile: built daemons whose clocks jump.

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;

use crate::agent::Agent;
use crate::rig::Rig;
use crate::rotation::ca;
use crate::wait::until;

#[tokio::test]
async fn an_agent_that_was_off_for_an_hour_a_day_or_two_months_comes_back_by_itself() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = rig.object("sleeper").await?;
    let mut agent = Agent::start(&rig, &of, &rig.token(&of).await?, &[]).await?;
    agent.says("connected remote", 1).await?;
    for (hours, recovered) in [(1, 0), (25, 1), (60 * 24, 2)] {
        agent.falls_asleep().await?;
        if hours > 25 {
            // Nobody waits for it: what it trusts and what signed its certificate are both gone when it wakes up.
            for _ in 0..3 {
                let (fine, said) = ca(&rig, &["rotate", "--without-laggards"]).await?;
                ensure!(fine, "{said}");
            }
        }
        let asleep = SignedDuration::from_hours(hours);
        rig.time_passes(asleep).await?;
        agent.wakes_after(asleep)?;
        // What counts is what the parent says: over TLS 1.3 its verdict comes after the agent's own handshake is done.
        until(&format!("it is back after {hours} h"), async || {
            let status = rig.status(&of).await.ok()?;
            let ends: jiff::Timestamp = status["agent"]["certificateExpires"].as_str()?.parse().ok()?;
            (status["agent"]["connected"] == true && ends > rig.now()).then_some(())
        })
        .await
        .with_context(|| agent.log())?;
        ensure!(agent.log().matches("identity recovered").count() == recovered, "{hours} h: {}", agent.log());
    }
    until("it follows what signs and is trusted now", async || {
        let (fine, said) = ca(&rig, &["status"]).await.ok()?;
        (fine && !said.contains("lagging")).then_some(())
    })
    .await
    .with_context(|| rig.log())?;
    rig.condition(&of, "AgentConnected", "connected over").await?;
    let status = rig.status(&of).await?;
    ensure!(!status.to_string().contains("IdentityConflict"), "nobody is asked for anything: {status}");
    rig.hears(&of, "IdentityRecovered").await?;
    Ok(())
}
