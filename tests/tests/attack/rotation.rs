//! The rotation of the CA by the command line, while agents are away.

use anyhow::{Result, ensure};
use lattice_tests::sandbox::binaries;
use tokio::process::Command;

use crate::rig::{Asking, FIRST, Rig, cluster};

async fn ca(rig: &Rig, args: &[&str]) -> Result<(bool, String)> {
    let kubeconfig = rig.folder().join("kubeconfig");
    let mut command = Command::new(binaries()?.join("lattice-manager"));
    command.arg("ca").args(args).arg("--kubeconfig").arg(kubeconfig).kill_on_drop(true);
    let output = command.output().await?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), said))
}

#[tokio::test]
async fn attack_15_an_agent_that_slept_through_a_whole_rotation_comes_back() -> Result<()> {
    let mut rig = Rig::start(&[]).await?;
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
