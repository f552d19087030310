//! What programs that everybody has get from the gateway, the bootstrap port and the proxy: `openssl s_client`, `curl`, and
//! plain text.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::asking::cluster;
use crate::handshake::forged_until;
use crate::rig::Rig;

/// Runs a program of the machine; none, loudly, where it is not installed.
pub(crate) async fn run(program: &str, args: &[&str]) -> Result<Option<String>> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(Duration::from_secs(60), command.output()).await? {
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

/// The three ports, each with what it speaks and what it does not.
fn ports(rig: &Rig) -> [(&'static str, SocketAddr, &'static str, &'static str); 3] {
    [
        ("gateway", rig.gateway(), "lattice/1", "h2"),
        ("bootstrap", rig.bootstrap(), "http/1.1", "lattice/1"),
        ("proxy", rig.proxy(), "http/1.1", "lattice/1"),
    ]
}

#[tokio::test]
async fn attack_16_nothing_below_tls_1_3_no_other_alpn_and_no_plain_text() -> Result<()> {
    let rig = Rig::shared().await?;
    let ca = rig.folder().join("ca.crt");
    std::fs::write(&ca, rig.ca().await?)?;
    let ca = ca.to_string_lossy().into_owned();
    for (name, port, _, foreign) in ports(&rig) {
        for version in ["-tls1_2", "-tls1_1", "-tls1"] {
            let Some(said) = openssl(port, &[version]).await? else { return Ok(()) };
            assert!(said.contains("alert") || said.contains("no protocols available"), "{name} {version}: {said}");
            assert!(said.contains("Cipher is (NONE)"), "{name} {version}: {said}");
        }
        let other = openssl(port, &["-tls1_3", "-alpn", foreign]).await?.unwrap_or_default();
        assert!(other.contains("no application protocol") || other.contains("alert number 120"), "{name}: {other}");
        let url = format!("https://{port}/v1/enrol");
        let Some(old) = run("curl", &["-sS", "--cacert", &ca, "--tls-max", "1.2", &url]).await? else { return Ok(()) };
        assert!(old.contains("alert") || old.contains("exit Some(35)"), "{name}: {old}");
        // Without TLS there is nothing at all.
        let mut plain = TcpStream::connect(port).await?;
        plain.write_all(b"GET / HTTP/1.1\r\nhost: manager\r\n\r\n").await?;
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{name}: {answer:?}");
    }
    // A good certificate without any ALPN is shaken hands with, and not served: the connection ends by itself.
    let (_, own) = rig.agent(&cluster(163)).await?;
    let [cert, key] = ["alpn.crt", "alpn.key"].map(|name| rig.folder().join(name));
    std::fs::write(&cert, &own.chain)?;
    std::fs::write(&key, &own.key)?;
    let [cert, key] = [cert, key].map(|path| path.display().to_string());
    let said =
        openssl(rig.gateway(), &["-tls1_3", "-ign_eof", "-cert", &cert, "-key", &key]).await?.unwrap_or_default();
    assert!(said.contains("No ALPN negotiated") && said.contains("exit"), "{said}");
    // And what is right is answered.
    for (port, path, words) in [(rig.bootstrap(), "/v1/enrol", "NotFound"), (rig.proxy(), "/version", "40")] {
        let url = format!("https://{port}{path}");
        let fine = run("curl", &["-sS", "--cacert", &ca, "--tlsv1.3", &url]).await?.unwrap_or_default();
        assert!(fine.contains(words) && fine.contains("exit Some(0)"), "over TLS 1.3 it answers: {fine}");
    }
    Ok(())
}

#[tokio::test]
async fn attack_17_no_session_ticket_and_no_early_data() -> Result<()> {
    let rig = Rig::shared().await?;
    for (name, port, alpn, _) in ports(&rig) {
        let Some(said) = openssl(port, &["-tls1_3", "-alpn", alpn]).await? else { return Ok(()) };
        assert!(said.contains(&format!("ALPN protocol: {alpn}")), "{name}: the handshake was done: {said}");
        assert!(!said.contains("New Session Ticket arrived"), "{name}: {said}");
        assert!(said.contains("Early data was not sent") || !said.contains("Max Early Data"), "{name}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn attack_14_each_wrong_certificate_gets_an_alert_of_the_gateway_and_401_of_the_proxy() -> Result<()> {
    let rig = Rig::shared().await?;
    let of = cluster(142);
    let (_, good) = rig.agent(&of).await?;
    let right = format!("spiffe://lattice.local/cluster/{}/agent", of.uid);
    let [ca, cert, key] = ["programs.ca", "forged.crt", "forged.key"].map(|name| rig.folder().join(name));
    std::fs::write(&ca, rig.ca().await?)?;
    let [ca_file, cert_file, key_file] = [&ca, &cert, &key].map(|path| path.display().to_string());
    for (what, uri, usage, foreign, year) in [
        ("expired", right.as_str(), ClientAuth, false, 2020),
        ("a foreign CA", right.as_str(), ClientAuth, true, 2099),
        ("the right CA and a wrong URI", "spiffe://lattice.local/manager", ClientAuth, false, 2099),
        ("a server certificate", right.as_str(), ServerAuth, false, 2099),
        ("the agent's own, which is nobody's at the proxy", "", ClientAuth, false, 0),
    ] {
        let own = match uri {
            "" => good.clone(),
            uri => forged_until(&rig, &of, uri, usage, foreign, year).await?,
        };
        std::fs::write(&cert, &own.chain)?;
        std::fs::write(&key, &own.key)?;
        let shown = ["-cert", &cert_file, "-key", &key_file];
        if !uri.is_empty() {
            let args = [&["-tls1_3", "-alpn", "lattice/1", "-ign_eof"][..], &shown].concat();
            let Some(said) = openssl(rig.gateway(), &args).await? else { return Ok(()) };
            assert!(said.contains("alert"), "{what}: {said}");
        }
        let url = format!("https://{}/clusters/{}/version", rig.proxy(), of.name);
        let args = ["-sS", "--cacert", &ca_file, "--cert", &cert_file, "--key", &key_file, &url];
        let Some(said) = run("curl", &args).await? else { return Ok(()) };
        assert!(said.contains("401") && said.contains("Unauthorized"), "{what} at the proxy: {said}");
        // The bootstrap port asks for none, and none helps: it is the token that counts.
        let url = format!("https://{}/v1/clusters/{}/agent.yaml", rig.bootstrap(), of.name);
        let args = ["-sS", "--cacert", &ca_file, "--cert", &cert_file, "--key", &key_file, &url];
        let said = run("curl", &args).await?.unwrap_or_default();
        assert!(said.contains("EnrolmentRefused"), "{what} at the bootstrap port: {said}");
    }
    // Without any certificate as well.
    let Some(said) = openssl(rig.gateway(), &["-tls1_3", "-alpn", "lattice/1", "-ign_eof"]).await? else {
        return Ok(());
    };
    assert!(said.contains("alert"), "{said}");
    Ok(())
}
