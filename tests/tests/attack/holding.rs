//! Attacks on an identity that is held: theft, clones, sleep, revocation.

use std::time::Duration;

use anyhow::Result;
use lattice_protocol::transport::{CloseCode, Closed};
use lattice_tests::tunnel::Enrolled;
use tokio::io::AsyncReadExt as _;

use crate::agent::Agent;
use crate::asking::{Asking, cluster};
use crate::rig::{FIRST, Rig};
use crate::wait::until;

#[tokio::test]
async fn attack_08_a_forgotten_identity_is_cut_and_never_let_in_again() -> Result<()> {
    let rig = Rig::shared().await?;
    let of = rig.object("forgotten").await?;
    let (asking, own) = rig.agent(&of).await?;
    let (session, _endpoint) = rig.way().await?.quic(&own).await?;
    // In service: before that, the last look at the pins would end it.
    rig.condition(&of, "AgentConnected", "connected over").await?;
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
    let rig = Rig::shared().await?;
    let of = rig.object("robbed").await?;
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
    rig.hears(&of, "IdentityRecovered").await?;
    let told = rig.hears(&of, "IdentityConflict").await?;
    assert!(told.contains("lattice-manager enrol robbed") && told.contains("docs/identity-conflict.md"), "{told}");
    rig.condition(&of, "IdentityConflict", "both are locked out").await?;
    // A person lets a new key in; both old ones stay out.
    let (_, new) = rig.agent(&of).await?;
    assert_eq!(rig.verdict(&new).await?, None, "the new agent stays connected");
    assert!(rig.verdict(&stolen).await?.is_some());
    assert_eq!(rig.recover(&of, &victim.key, 2, &Asking::new()?.csr).await?.1["reason"], "RecoveryRefused");
    Ok(())
}

#[tokio::test]
async fn attack_10_an_old_backup_of_the_agents_secret_is_noticed() -> Result<()> {
    let rig = Rig::shared().await?;
    let of = rig.object("restored").await?;
    let (bound, _) = rig.agent(&of).await?;
    for sequence in FIRST..FIRST + 3 {
        let asking = Asking::new()?;
        let (status, answer) = rig.recover(&of, &bound.key, sequence, &asking.csr).await?;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(rig.verdict(&asking.enrolled(&of, &answer)?).await?, None);
    }
    let (status, refused) = rig.recover(&of, &bound.key, FIRST + 1, &Asking::new()?.csr).await?;
    assert_eq!((status, refused["reason"].as_str()), (403, Some("IdentityConflict")), "{refused}");
    rig.hears(&of, "IdentityConflict").await?;
    Ok(())
}

#[tokio::test]
async fn attack_12_the_bound_key_opens_and_no_other_and_not_without_end() -> Result<()> {
    let rig = Rig::shared().await?;
    let of = rig.object("insatiable").await?;
    let (bound, _) = rig.agent(&of).await?;
    let (status, refused) = rig.recover(&of, &Asking::new()?.key, FIRST, &Asking::new()?.csr).await?;
    assert_eq!((status, refused["reason"].as_str()), (403, Some("RecoveryRefused")), "{refused}");
    rig.hears(&of, "RecoveryRefused").await?;
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
    let rig = Rig::shared().await?;
    let of = rig.object("doubled").await?;
    let (_, own) = rig.agent(&of).await?;
    let way = rig.way().await?;
    let (first, _one) = way.quic(&own).await?;
    let (second, _two) = way.quic(&own).await?;
    let closed = tokio::time::timeout(Duration::from_secs(5), first.closed()).await?;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Superseded, .. }), "{closed}");
    assert_eq!(second.close_reason(), None);
    rig.hears(&of, "Superseded").await?;
    Ok(())
}

#[tokio::test]
async fn attack_11_a_cloned_machine_is_noticed_both_are_out_and_a_person_lets_one_in() -> Result<()> {
    let rig = Rig::brief().await?;
    let of = rig.object("cloned").await?;
    let mut right = Agent::start(&rig, &of, &rig.token(&of).await?, &[]).await?;
    right.says("connected remote", 1).await?;
    right.kept("tls.crt").await?;
    right.signal("STOP").await?;
    let clone = right.cloned(&rig, &of).await?;
    clone.gets(1).await?;
    // The right one wakes up with a count that is behind.
    right.signal("CONT").await?;
    rig.condition(&of, "IdentityConflict", "lattice-manager enrol cloned").await?;
    clone.says("identity locked", 1).await?;
    // With a certificate that is good it would wait for a minute before it looks what a person has given it.
    let own = Enrolled {
        cluster: "cloned".to_owned(),
        chain: right.kept("tls.crt").await?,
        key: right.kept("tls.key").await?,
    };
    until("its certificate ends", async || {
        rig.verdict(&own).await.ok().flatten().filter(|why| why.contains("error 45"))
    })
    .await?;
    right.give(&rig.token(&of).await?)?;
    right.start_again(&[]).await?;
    right.says("asking for a new identity", 1).await?;
    right.says("enrolled expires", 2).await?;
    rig.clear(&of, "IdentityConflict").await?;
    Ok(())
}

#[tokio::test]
async fn attack_12_an_agent_that_slept_past_the_end_comes_back_by_itself() -> Result<()> {
    let rig = Rig::brief().await?;
    let of = rig.object("sleepy").await?;
    let mut agent = Agent::start(&rig, &of, &rig.token(&of).await?, &[]).await?;
    agent.says("connected remote", 1).await?;
    agent.falls_asleep().await?;
    let own = Enrolled {
        cluster: "sleepy".to_owned(),
        chain: agent.kept("tls.crt").await?,
        key: agent.kept("tls.key").await?,
    };
    until("its certificate ends", async || {
        rig.verdict(&own).await.ok().flatten().filter(|why| why.contains("error 45"))
    })
    .await?;
    agent.start_again(&[]).await?;
    agent.says("identity recovered", 1).await?;
    rig.hears(&of, "IdentityRecovered").await?;
    // Wiped, it has no way back but a person's.
    agent.wipe().await?;
    // However often it was refused before.
    agent.says("EnrolmentRefused", 3).await?;
    rig.hears(&of, "JoinTokenReplay").await?;
    agent.give(&rig.token(&of).await?)?;
    agent.says("enrolled expires", 2).await?;
    Ok(())
}

#[tokio::test]
async fn attack_08_a_session_is_never_resumed_so_that_every_one_shows_its_certificate() -> Result<()> {
    let rig = Rig::shared().await?;
    let (_, own) = rig.agent(&cluster(82)).await?;
    let mut config = (*rig.way().await?.tls(&own)?).clone();
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    for _ in 0..2 {
        let tcp = tokio::net::TcpStream::connect(rig.gateway()).await?;
        let mut stream = connector.connect("lattice-manager".try_into()?, tcp).await?;
        // Tickets would come with the first bytes.
        let mut bytes = [0; 64];
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut bytes)).await;
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    Ok(())
}
