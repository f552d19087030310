//! A child that is itself a parent: it has a CA of its own, and neither generation takes the other's certificates.

use anyhow::{Result, ensure};

use crate::agent::Agent;
use crate::asking::cluster;
use crate::rig::Rig;

#[tokio::test]
async fn a_child_that_is_a_parent_has_a_ca_of_its_own() -> Result<()> {
    let parent = Rig::shared().await?;
    let of = parent.object("middle").await?;
    // The child's API has an agent of the parent's, and a manager for children of its own.
    let agent = Agent::start(&parent, &of, &parent.token(&of).await?, &[]).await?;
    parent.condition(&of, "AgentConnected", "connected over").await?;
    let child = Rig::over(agent.api.clone(), &agent.kubeconfig()?, &[]).await?;
    ensure!(child.ca().await? != parent.ca().await? && child.ca_key().await? != parent.ca_key().await?);
    // One and the same cluster, by name and uid, at both.
    let twin = cluster(601);
    let (_, of_parent) = parent.agent(&twin).await?;
    let (_, of_child) = child.agent(&twin).await?;
    ensure!(parent.verdict(&of_parent).await?.is_none() && child.verdict(&of_child).await?.is_none());
    let mut way = parent.way().await?;
    way.ca = [parent.ca().await?, child.ca().await?].concat();
    for (address, foreign) in [(child.gateway(), &of_parent), (parent.gateway(), &of_child)] {
        way.address = address;
        let why = crate::asking::verdict(&way, foreign).await?.unwrap_or_default();
        ensure!(why.contains("certificate") || why.contains("UnknownCA") || why.contains("error 48"), "{why:?}");
    }
    // Nor does an agent of the one take the manager of the other.
    for (rig, other, own) in [(&parent, &child, &of_parent), (&child, &parent, &of_child)] {
        let mut way = rig.way().await?;
        way.address = other.gateway();
        ensure!(way.quic(own).await.is_err(), "the other generation's manager");
    }
    ensure!(agent.log().matches("connection lost").count() == 0, "{}", agent.log());
    Ok(())
}
