//! Attacks on the handshake: what `openssl s_client`, `curl` and certificates of our own CA get, when it signs what it
//! never would.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use lattice_tests::tunnel::Enrolled;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use tokio::process::Command;

use crate::agent::Agent;
use crate::rig::{Cluster, FIRST, Rig, cluster};

/// Runs a program of the machine; none, loudly, where it is not installed.
pub(crate) async fn run(program: &str, args: &[&str]) -> Result<Option<String>> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(Duration::from_secs(20), command.output()).await? {
        Ok(output) => output,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a check that is left out is said")]
            {
                eprintln!("SKIPPED: {program} cannot be run: {error}");
            }
            return Ok(None);
        }
    };
    let text = [output.stdout, output.stderr].concat();
    Ok(Some(format!("{}\nexit {:?}", String::from_utf8_lossy(&text), output.status.code())))
}

async fn openssl(to: SocketAddr, args: &[&str]) -> Result<Option<String>> {
    let to = to.to_string();
    run("openssl", &[&["s_client", "-connect", &to, "-servername", "lattice-manager"], args].concat()).await
}

#[tokio::test]
async fn attack_16_nothing_below_tls_1_3_no_other_alpn_and_no_client_without_certificate() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    for port in [rig.gateway(), rig.bootstrap()] {
        for version in ["-tls1_2", "-tls1_1"] {
            let Some(said) = openssl(port, &[version]).await? else { return Ok(()) };
            assert!(said.contains("alert") || said.contains("no protocols available"), "{version}: {said}");
            assert!(said.contains("Cipher is (NONE)"), "{version}: {said}");
        }
    }
    let other = openssl(rig.gateway(), &["-tls1_3", "-alpn", "h2"]).await?.unwrap_or_default();
    assert!(other.contains("no application protocol") || other.contains("alert number 120"), "{other}");
    // In TLS 1.3 the client's own handshake is done before the verdict: an unread byte brings the alert.
    let ca = rig.folder().join("ca.crt");
    std::fs::write(&ca, rig.ca().await?)?;
    let url = format!("https://{}/v1/enrol", rig.bootstrap());
    let ca = ca.to_string_lossy().into_owned();
    let old = run("curl", &["-sS", "--cacert", &ca, "--tls-max", "1.2", &url]).await?.unwrap_or_default();
    assert!(old.contains("alert") || old.contains("exit Some(35)"), "{old}");
    let fine = run("curl", &["-sS", "--cacert", &ca, &url]).await?.unwrap_or_default();
    assert!(fine.contains("NotFound"), "over TLS 1.3 it answers: {fine}");
    Ok(())
}

#[tokio::test]
async fn attack_17_no_session_ticket_and_no_early_data() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    for port in [rig.gateway(), rig.bootstrap()] {
        let alpn = if port == rig.gateway() { "lattice/1" } else { "http/1.1" };
        let Some(said) = openssl(port, &["-tls1_3", "-alpn", alpn]).await? else { return Ok(()) };
        assert!(!said.contains("New Session Ticket arrived"), "{said}");
        assert!(said.contains("Early data was not sent") || !said.contains("Max Early Data"), "{said}");
    }
    Ok(())
}

/// A certificate of the parent's own CA (or of another) that it would never sign.
async fn forged(rig: &Rig, of: &Cluster, uri: &str, usage: ExtendedKeyUsagePurpose, foreign: bool) -> Result<Enrolled> {
    forged_until(rig, of, uri, usage, foreign, 2099).await
}

async fn forged_until(
    rig: &Rig,
    of: &Cluster,
    uri: &str,
    usage: ExtendedKeyUsagePurpose,
    foreign: bool,
    year: i32,
) -> Result<Enrolled> {
    let ca_key = if foreign {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?
    } else {
        KeyPair::from_pem(&rig.ca_key().await?)?
    };
    let issuer = Issuer::from_ca_cert_pem(&rig.ca().await?, ca_key)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.extended_key_usages = vec![usage];
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let chain = params.signed_by(&key, &issuer)?.pem();
    Ok(Enrolled { cluster: of.name.to_string(), chain, key: key.serialize_pem() })
}

#[tokio::test]
async fn attack_14_foreign_wrong_unpinned_and_server_certificates_are_refused() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = cluster(1);
    let (_, own) = rig.agent(&of).await?;
    assert_eq!(rig.verdict(&own).await?, None, "the right one is taken");
    let right = format!("spiffe://lattice.local/cluster/{}/agent", of.uid);
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    for (what, uri, usage, foreign) in [
        ("a foreign CA", right.as_str(), ClientAuth, true),
        ("a server certificate as client", right.as_str(), ServerAuth, false),
        ("the manager's own id", "spiffe://lattice.local/manager", ClientAuth, false),
        ("another fleet", "spiffe://other.local/cluster/0b6c2d1e-9f00-4c8e-8a77-000000000001/agent", ClientAuth, false),
        ("a serial that was never issued", right.as_str(), ClientAuth, false),
        (
            "a cluster that nobody has",
            "spiffe://lattice.local/cluster/0b6c2d1e-9f00-4c8e-8a77-000000000099/agent",
            ClientAuth,
            false,
        ),
    ] {
        let forged = forged(&rig, &of, uri, usage, foreign).await?;
        let why = rig.verdict(&forged).await?;
        assert!(why.is_some(), "{what} was let in");
    }
    assert_eq!(rig.verdict(&own).await?, None, "and it is still taken");
    Ok(())
}

#[tokio::test]
async fn attack_13_an_agent_refuses_a_manager_of_another_authority() -> Result<()> {
    let (rig, other) = (Rig::start(&[]).await?, Rig::start(&[]).await?);
    let (_, own) = rig.agent(&cluster(1)).await?;
    let mut way = rig.way().await?;
    way.address = other.gateway();
    let why = way.quic(&own).await.err().context("the manager of another CA was taken")?;
    assert!(format!("{why:#}").contains("certificate"), "{why:#}");
    // The daemon itself, given a CA that is not this parent's; then one that has not the pinned key.
    let of = cluster(2);
    let mut agent = Agent::start_with(&rig, &of, &rig.token(&of).await?, &other.ca().await?, None, &[]).await?;
    let told = agent.tells("EnrolmentFailed").await?;
    assert!(told.contains("invalid peer certificate"), "{told}");
    agent.trust(&rig.ca().await?)?;
    agent.start_again(&[]).await?;
    agent.says("no CA certificate has the pinned key sha256:", 1).await?;
    Ok(())
}

#[tokio::test]
async fn attack_12_an_expired_certificate_is_refused_and_its_key_comes_back() -> Result<()> {
    let rig = Rig::start(&["--certificate-lifetime", "5"]).await?;
    let of = cluster(1);
    let (asking, own) = rig.agent(&of).await?;
    let why = crate::rig::until("the certificate ends", async || rig.verdict(&own).await.ok().flatten()).await?;
    assert!(why.contains("error 45") || why.contains("xpired"), "{why}");
    let next = crate::rig::Asking::new()?;
    let (status, answer) = rig.recover(&of, &asking.key, FIRST, &next.csr).await?;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sequence"], FIRST + 1);
    Ok(())
}

#[tokio::test]
async fn attack_14_openssl_with_each_wrong_certificate_is_refused_by_an_alert() -> Result<()> {
    let rig = Rig::start(&[]).await?;
    let of = cluster(1);
    rig.agent(&of).await?;
    let right = format!("spiffe://lattice.local/cluster/{}/agent", of.uid);
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    for (what, uri, usage, foreign, year) in [
        ("expired", right.as_str(), ClientAuth, false, 2020),
        ("a foreign CA", right.as_str(), ClientAuth, true, 2099),
        ("the right CA and a wrong URI", "spiffe://lattice.local/manager", ClientAuth, false, 2099),
        ("a server certificate", right.as_str(), ServerAuth, false, 2099),
    ] {
        let own = forged_until(&rig, &of, uri, usage, foreign, year).await?;
        let [cert, key] = ["forged.crt", "forged.key"].map(|name| rig.folder().join(name).display().to_string());
        std::fs::write(&cert, &own.chain)?;
        std::fs::write(&key, &own.key)?;
        let args = ["-tls1_3", "-alpn", "lattice/1", "-cert", &cert, "-key", &key, "-ign_eof"];
        let Some(said) = openssl(rig.gateway(), &args).await? else { return Ok(()) };
        assert!(said.contains("alert"), "{what}: {said}");
    }
    // Without any certificate as well.
    let Some(said) = openssl(rig.gateway(), &["-tls1_3", "-alpn", "lattice/1", "-ign_eof"]).await? else {
        return Ok(());
    };
    assert!(said.contains("alert"), "{said}");
    Ok(())
}
