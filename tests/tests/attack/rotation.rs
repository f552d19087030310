//! The rotation of the CA by the command line, while agents are away; and a life of renewals with built daemons.
//!
//! `LATTICE_MONTHS=1` makes that life a long one, of a quarter of an hour: 200 renewals, three rotations, a sleep past the
//! end of the certificate after each step of them, clocks that jump by an hour, 25 hours and 60 days while the machine is
//! off, a manager that dies after every step. Its certificates live for six seconds.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::SignedDuration;
use lattice_protocol::tls::Credentials;
use lattice_tests::sandbox::binaries;
use tokio::process::Command;

use crate::agent::Agent;
use crate::asking::{Asking, cluster};
use crate::rig::{FIRST, Rig};
use crate::wait::until;

pub(crate) async fn ca(rig: &Rig, args: &[&str]) -> Result<(bool, String)> {
    let kubeconfig = rig.folder().join("kubeconfig");
    let mut command = Command::new(binaries()?.join("lattice-manager"));
    command.arg("ca").args(args).arg("--kubeconfig").arg(kubeconfig).kill_on_drop(true);
    let output = command.output().await?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), said))
}

#[tokio::test]
async fn attack_15_an_agent_that_slept_through_a_whole_rotation_comes_back() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = cluster(1);
    let (bound, own) = rig.agent(&of).await?;
    let before = rig.way().await?;
    let (fine, said) = ca(&rig, &["status"]).await?;
    ensure!(fine && said.contains("Standby") && said.contains("c1"), "the agent trusts nothing yet: {said}");
    for (step, phase) in [("publish", "Published"), ("sign", "Signing"), ("retire", "Standby")] {
        if step != "publish" {
            let (fine, said) = ca(&rig, &["rotate"]).await?;
            ensure!(!fine && said.contains("c1"), "{step} with laggards is refused, by name: {said}");
        }
        let (fine, said) = ca(&rig, &["rotate", "--without-laggards"]).await?;
        ensure!(fine && said.contains(phase), "{step}: {said}");
        rig.kill_and_start().await?;
        let (fine, said) = ca(&rig, &["status"]).await?;
        ensure!(fine && said.contains(phase), "a restart goes on where it was: {said}");
    }
    // Its own certificate is worth nothing now; the manager is recognised all the same, by a bridge.
    let why = match before.quic(&own).await {
        Ok((session, _endpoint)) => session.closed().await.to_string(),
        Err(error) => format!("{error:#}"),
    };
    ensure!(why.contains("aborted by peer"), "the manager's verdict, not ours: {why}");
    let asking = Asking::new()?;
    let (status, answer) = rig.recover(&of, &bound.key, FIRST, &asking.csr).await?;
    ensure!(status == 200 && answer["caBundle"] != before.ca.as_str(), "{answer}");
    let back = asking.enrolled(&of, &answer)?;
    ensure!(rig.verdict(&back).await?.is_none(), "it is back");
    Ok(())
}

/// Stops the agent until its certificate has ended, and wakes it up.
async fn sleeps(rig: &Rig, agent: &Agent) -> Result<()> {
    agent.signal("STOP").await?;
    let (chain, key) = (agent.kept("tls.crt").await?, agent.kept("tls.key").await?);
    let ends = Credentials::from_pem(chain.as_bytes(), key.as_bytes())?.identity()?.not_after;
    until("its certificate ends", async || (rig.now() > ends).then_some(())).await?;
    agent.signal("CONT").await
}

/// Turns the machine off for so long.
async fn is_off(rig: &Rig, agent: &mut Agent, hours: i64) -> Result<()> {
    let asleep = SignedDuration::from_hours(hours);
    agent.falls_asleep().await?;
    rig.time_passes(asleep).await?;
    agent.wakes_after(asleep)?;
    agent.gets(1).await
}

#[tokio::test]
async fn renewals_a_whole_rotation_and_dead_managers_need_nobody() -> Result<()> {
    let long = std::env::var_os("LATTICE_MONTHS").is_some();
    let (certificates, rotations) = if long { (200, 3) } else { (3, 1) };
    let life = Duration::from_secs(6);
    let rig = Rig::start(&["--certificate-lifetime", &life.as_secs().to_string()]).await?;
    let of = rig.object("a").await?;
    let mut agent = Agent::start(&rig, &of, &rig.token(&of).await?, &[]).await?;
    agent.says("connected remote", 1).await?;
    for rotation in 0..rotations {
        if long {
            is_off(&rig, &mut agent, [1, 25, 60 * 24][rotation % 3]).await?;
        }
        for step in ["publish", "sign", "retire"] {
            // Nothing but the time that Cluster API has to follow is cut short: nobody may be left behind.
            let args: &[&str] = if step == "sign" { &["rotate", "--without-laggards"] } else { &["rotate"] };
            let done = async || ca(&rig, args).await.ok().filter(|(fine, _)| *fine);
            until(&format!("{step} of rotation {rotation}"), done).await?;
            rig.kill_and_start().await?;
            if long {
                agent.gets(2).await?;
                sleeps(&rig, &agent).await?;
                agent.gets(1).await?;
            }
        }
    }
    while agent.certificates() < certificates {
        agent.gets(1).await?;
    }
    rig.condition(&of, "AgentConnected", "connected over").await?;
    let status = rig.status(&of).await?;
    ensure!(!status.to_string().contains("IdentityConflict"), "{status}");
    ensure!(agent.kept("sequence").await?.parse::<usize>()? > certificates, "every certificate is counted");
    Ok(())
}
