//! Attacks on an identity that is held: theft, clones, sleep, revocation.

use std::time::Duration;

use anyhow::Result;
use lattice_protocol::transport::{CloseCode, Closed};

use crate::rig::{Asking, FIRST, Rig, cluster, until};

#[tokio::test]
async fn attack_08_a_forgotten_identity_is_cut_and_never_let_in_again() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = cluster(1);
    let (asking, own) = rig.agent(&of).await?;
    let (session, _endpoint) = rig.way().await?.quic(&own).await?;
    rig.forget(&of).await?;
    let closed = tokio::time::timeout(Duration::from_secs(5), session.closed()).await?;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::UnknownIdentity, .. }), "{closed}");
    let again = rig.verdict(&own).await?.unwrap_or_default();
    assert!(again.contains("identity unknown"), "a fresh handshake: {again}");
    let (status, refused) = rig.recover(&of, &asking.key, FIRST, &Asking::new()?.csr).await?;
    assert_eq!((status, refused["reason"].as_str()), (403, Some("RecoveryRefused")), "{refused}");
    Ok(())
}

#[tokio::test]
async fn attack_09_a_stolen_key_that_is_used_first_locks_thief_and_victim() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = cluster(1);
    let (victim, own) = rig.agent(&of).await?;
    // The thief has the Secret: it takes the next certificate and shows it.
    let thief = Asking::new()?;
    let (status, answer) = rig.recover(&of, &victim.key, FIRST, &thief.csr).await?;
    assert_eq!((status, answer["sequence"].as_u64()), (200, Some(FIRST + 1)));
    let stolen = thief.enrolled(&of, &answer)?;
    let _shown = rig.way().await?.quic(&stolen).await?;
    until("the victim is out", async || {
        rig.verdict(&own).await.ok().flatten().filter(|why| why.contains("identity unknown"))
    })
    .await?;
    // Until then the victim's own sessions may have taken the place of the first one.
    let (session, _endpoint) = rig.way().await?.quic(&stolen).await?;
    // The victim comes back by its bound key, with a count that is behind.
    let (status, refused) = rig.recover(&of, &victim.key, FIRST, &Asking::new()?.csr).await?;
    assert_eq!((status, refused["reason"].as_str()), (403, Some("IdentityConflict")), "{refused}");
    assert!(refused["message"].as_str().is_some_and(|words| words.contains("lattice-manager enrol")), "{refused}");
    let closed = tokio::time::timeout(Duration::from_secs(5), session.closed()).await?;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Locked, .. }), "{closed}");
    for holder in [&own, &stolen] {
        assert!(rig.verdict(holder).await?.is_some_and(|why| why.contains("identity locked")));
    }
    // A person lets a new key in; both old ones stay out.
    let (_, new) = rig.agent(&of).await?;
    assert_eq!(rig.verdict(&new).await?, None, "the new agent stays connected");
    assert!(rig.verdict(&stolen).await?.is_some());
    assert_eq!(rig.recover(&of, &victim.key, 2, &Asking::new()?.csr).await?.1["reason"], "RecoveryRefused");
    Ok(())
}

#[tokio::test]
async fn attack_10_an_old_backup_of_the_agents_secret_is_noticed() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = cluster(1);
    let (bound, _) = rig.agent(&of).await?;
    for sequence in FIRST..FIRST + 3 {
        let asking = Asking::new()?;
        let (status, answer) = rig.recover(&of, &bound.key, sequence, &asking.csr).await?;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(rig.verdict(&asking.enrolled(&of, &answer)?).await?, None);
    }
    let (status, refused) = rig.recover(&of, &bound.key, FIRST + 1, &Asking::new()?.csr).await?;
    assert_eq!((status, refused["reason"].as_str()), (403, Some("IdentityConflict")), "{refused}");
    Ok(())
}

#[tokio::test]
async fn attack_12_the_bound_key_opens_and_no_other_and_not_without_end() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = cluster(1);
    let (bound, _) = rig.agent(&of).await?;
    let (status, refused) = rig.recover(&of, &Asking::new()?.key, FIRST, &Asking::new()?.csr).await?;
    assert_eq!((status, refused["reason"].as_str()), (403, Some("RecoveryRefused")), "{refused}");
    let mut granted = 0;
    let refused = loop {
        let (status, answer) = rig.recover(&of, &bound.key, granted + FIRST, &Asking::new()?.csr).await?;
        if status != 200 {
            break answer;
        }
        granted += 1;
        assert!(granted <= 100, "recovery has a limit");
    };
    assert_eq!((granted, refused["reason"].as_str()), (40, Some("RecoveryRefused")), "{refused}");
    Ok(())
}

#[tokio::test]
async fn attack_11_a_second_agent_of_one_identity_takes_over_and_the_first_hears_it() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let (_, own) = rig.agent(&cluster(1)).await?;
    let way = rig.way().await?;
    let (first, _one) = way.quic(&own).await?;
    let (second, _two) = way.quic(&own).await?;
    let closed = tokio::time::timeout(Duration::from_secs(5), first.closed()).await?;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Superseded, .. }), "{closed}");
    assert_eq!(second.close_reason(), None);
    Ok(())
}
