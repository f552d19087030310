//! Attacks on the join token and on the signing request.

use anyhow::{Context, Result};
use base64::Engine as _;
use lattice_protocol::limits::JOIN_TOKEN_LIFETIME;
use lattice_protocol::tls::{Credentials, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};

use crate::asking::{Asking, cluster};
use crate::rig::{FIRST, Rig};
use crate::wait::until_heard;

#[tokio::test]
async fn attack_01_a_replayed_token_gives_the_same_certificate_or_nothing() -> Result<()> {
    let rig = Rig::shared().await?;
    let (of, asking) = (rig.object("replayed").await?, Asking::new()?);
    let token = rig.token(&of).await?;
    let first = rig.enrol_soon(&of, &token, &asking).await?;
    let (status, again) = rig.enrol(&of, &token, &asking).await?;
    assert_eq!((status, &again["certificate"]), (200, &first["certificate"]), "a lost answer burns nothing");
    let (status, refused) = rig.enrol(&of, &token, &Asking::new()?).await?;
    assert_eq!((status, refused["reason"].as_str()), (409, Some("EnrolmentRefused")), "{refused}");
    let told = rig.hears(&of, "JoinTokenReplay").await?;
    let from = rig.from().to_string();
    assert!(told.contains("already used by another agent") && told.contains(&from), "{told}");
    Ok(())
}

#[tokio::test]
async fn attack_03_a_token_ends_and_then_it_is_as_good_as_any_wrong_one() -> Result<()> {
    let rig = Rig::shared().await?;
    let (late, just) = (rig.object("late").await?, rig.object("just").await?);
    let day = JOIN_TOKEN_LIFETIME;
    let fresh = rig.token_made(&just, day.saturating_sub(std::time::Duration::from_secs(60))).await?;
    rig.enrol_soon(&just, &fresh, &Asking::new()?).await?;
    let stale = rig.token_made(&late, day + std::time::Duration::from_secs(1)).await?;
    let (status, refused) = rig.enrol(&late, &stale, &Asking::new()?).await?;
    assert_eq!((status, refused["reason"].as_str()), (401, Some("EnrolmentRefused")), "{refused}");
    let wrong = lattice_protocol::token::JoinToken::generate();
    assert_eq!(
        rig.enrol(&late, &wrong, &Asking::new()?).await?,
        (status, refused),
        "nobody learns that it was once good"
    );
    rig.hears(&late, "EnrolmentRefused").await?;
    Ok(())
}

#[tokio::test]
async fn attack_02_a_token_is_for_one_cluster_and_its_uid() -> Result<()> {
    let rig = Rig::shared().await?;
    let (mine, other) = (cluster(21), rig.object("not-yours").await?);
    let token = rig.token(&mine).await?;
    rig.agent(&other).await?;
    let (status, refused) = rig.enrol(&other, &token, &Asking::new()?).await?;
    assert_eq!((status, refused["reason"].as_str()), (401, Some("EnrolmentRefused")), "{refused}");
    rig.hears(&other, "EnrolmentRefused").await?;
    // The name again, for an object that was made anew.
    rig.forget(&mine).await?;
    let mut again = cluster(22);
    again.name = mine.name.clone();
    let fresh = rig.token(&again).await?;
    let asking = Asking::new()?;
    let answer = rig.enrol_soon(&again, &fresh, &asking).await?;
    assert!(rig.enrol(&mine, &token, &Asking::new()?).await?.0 >= 401);
    let credentials = Credentials::from_pem(answer["certificate"].as_str().unwrap().as_bytes(), asking.key.as_bytes())?;
    assert_eq!(credentials.identity()?.id.cluster(), Some(&again.uid));
    Ok(())
}

#[tokio::test]
async fn attack_04_of_a_hundred_uses_at_once_one_gets_a_certificate() -> Result<()> {
    let rig = Rig::shared().await?;
    let of = cluster(41);
    let token = rig.token(&of).await?;
    // Known to the manager once a manifest is given for it; the refusal of a bad request tells that as well.
    let bad = Asking { csr: "none".to_owned(), key: String::new() };
    until_heard("the token is known", async || (rig.enrol(&of, &token, &bad).await.ok()?.0 == 400).then_some(()))
        .await?;
    let askings = (0..100).map(|_| Asking::new()).collect::<Result<Vec<_>>>()?;
    let answers = futures::future::join_all(askings.iter().map(|asking| rig.enrol(&of, &token, asking))).await;
    let won = answers.iter().filter(|answer| matches!(answer, Ok((200, _)))).count();
    assert_eq!(won, 1);
    Ok(())
}

#[tokio::test]
async fn attack_05_a_manager_killed_at_any_moment_makes_no_second_identity() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    for round in 0..3_u64 {
        let (of, asking) = (cluster(u32::try_from(round)?), Asking::new()?);
        let token = rig.token(&of).await?;
        let asked =
            tokio::time::timeout(std::time::Duration::from_millis(5 + round * 20), rig.enrol(&of, &token, &asking));
        let _ = asked.await;
        rig.kill_and_start().await?;
        let first = rig.enrol_soon(&of, &token, &asking).await?;
        if round == 0 {
            // What was answered was written down before.
            rig.kill_and_start().await?;
        }
        assert_eq!(rig.enrol(&of, &token, &asking).await?.1["certificate"], first["certificate"]);
        assert_eq!(rig.enrol(&of, &token, &Asking::new()?).await?.0, 409);
    }
    Ok(())
}

#[tokio::test]
async fn attack_06_a_request_gives_its_key_and_nothing_else() -> Result<()> {
    let rig = Rig::shared().await?;
    let of = cluster(61);
    let token = rig.token(&of).await?;
    let many =
        CertificateParams::new((0..100).map(|n| format!("n{n}.of-a-very-long-name.example.org")).collect::<Vec<_>>())?;
    let mut greedy = CertificateParams::new(vec!["parent.example.org".to_owned()])?;
    greedy.subject_alt_names.push(SanType::URI("spiffe://lattice.local/manager".try_into()?));
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let greedy = Asking::with(greedy)?;
    let answer = rig.enrol_soon(&of, &token, &greedy).await?;
    let own = Credentials::from_pem(answer["certificate"].as_str().unwrap().as_bytes(), greedy.key.as_bytes())?;
    assert_eq!(
        Identity::of(&own.chain()[0])?.id.to_string(),
        format!("spiffe://lattice.local/cluster/{}/agent", of.uid)
    );
    let file = rig.folder().join("greedy.crt");
    std::fs::write(&file, answer["certificate"].as_str().unwrap())?;
    let file = file.display().to_string();
    if let Some(said) = crate::programs::run("openssl", &["x509", "-noout", "-text", "-in", &file]).await? {
        assert!(said.contains("TLS Web Client Authentication") && said.contains("Digital Signature"), "{said}");
        for asked_for in ["CA:TRUE", "Server Authentication", "Certificate Sign", "example.org", "/manager"] {
            assert!(!said.contains(asked_for), "{asked_for}: {said}");
        }
    }

    let other = cluster(62);
    let token = rig.token(&other).await?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let foreign = CertificateParams::default().serialize_request(&key)?.pem()?;
    // The signature is of another request.
    let der = CertificateParams::default().serialize_request(&KeyPair::generate()?)?;
    let mut forged = der.der().to_vec();
    *forged.last_mut().context("a signature")? ^= 1;
    let forged = base64::engine::general_purpose::STANDARD.encode(&forged);
    let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{forged}\n-----END CERTIFICATE REQUEST-----\n");
    let weak = weak_rsa().await?;
    for csr in [
        foreign,
        forged,
        weak,
        Asking::with(many)?.csr,
        "x".repeat(1 << 20),
        String::new(),
        greedy.csr.replace('A', "B"),
    ] {
        let (status, refused) = rig.enrol(&other, &token, &Asking { csr, key: String::new() }).await?;
        assert!([400, 401, 413].contains(&status), "{status} {refused}");
    }
    rig.enrol_soon(&other, &token, &Asking::new()?).await?;
    Ok(())
}

/// A request with an RSA key of 1024 bits; without openssl an empty one, which is as bad.
async fn weak_rsa() -> Result<String> {
    let args = ["req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=a", "-batch"];
    let said = crate::programs::run("openssl", &args).await?.unwrap_or_default();
    let from = said.find("-----BEGIN CERTIFICATE REQUEST").unwrap_or(said.len());
    Ok(said[from..].to_owned())
}

#[tokio::test]
async fn attack_18_no_token_and_no_key_in_what_the_manager_writes() -> Result<()> {
    let rig = Rig::shared().await?;
    let of = cluster(181);
    let (token, asking) = (rig.token(&of).await?, Asking::new()?);
    rig.enrol_soon(&of, &token, &asking).await?;
    rig.enrol(&of, &token, &Asking::new()?).await?;
    rig.recover(&of, &asking.key, FIRST, &Asking::new()?.csr).await?;
    let secret = token.expose().rsplit('.').next().unwrap_or_default().to_owned();
    let key = rig.ca_key().await?.lines().nth(1).unwrap_or_default().to_owned();
    let own = asking.key.lines().nth(1).unwrap_or_default().to_owned();
    let said = rig.log();
    for hidden in [secret, key, own] {
        assert!(hidden.len() > 20 && !said.contains(&hidden));
    }
    Ok(())
}

#[tokio::test]
async fn attack_19_an_unknown_name_and_a_wrong_token_get_one_answer() -> Result<()> {
    let rig = Rig::shared().await?;
    let known = cluster(191);
    rig.agent(&known).await?;
    let wrong = lattice_protocol::token::JoinToken::generate();
    let one = rig.enrol(&known, &wrong, &Asking::new()?).await?;
    let two = rig.enrol(&cluster(192), &wrong, &Asking::new()?).await?;
    assert_eq!(one, two);
    assert_eq!(one.0, 401);
    Ok(())
}
