//! Attacks on the handshake with certificates that the parent's CA would never sign, and with those of other parents.

use std::sync::Arc;

use anyhow::{Context, Result};
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::tls;
use lattice_tests::tunnel::Enrolled;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::agent::Agent;
use crate::asking::{Asking, Cluster, cluster};
use crate::rig::{FIRST, Rig};
use crate::wait::until;

/// A certificate of the parent's own CA (or of another) that it would never sign.
async fn forged(rig: &Rig, of: &Cluster, uri: &str, usage: ExtendedKeyUsagePurpose, foreign: bool) -> Result<Enrolled> {
    forged_until(rig, of, uri, usage, foreign, 2099).await
}

/// What a stranger can make: the right words, signed by nobody's CA.
pub(crate) async fn foreign(rig: &Rig, of: &Cluster) -> Result<Enrolled> {
    let uri = format!("spiffe://lattice.local/cluster/{}/agent", of.uid);
    forged(rig, of, &uri, ExtendedKeyUsagePurpose::ClientAuth, true).await
}

pub(crate) async fn forged_until(
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
    let rig = Rig::shared().await?;
    let of = cluster(141);
    let (_, own) = rig.agent(&of).await?;
    assert_eq!(rig.verdict(&own).await?, None, "the right one is taken");
    let right = format!("spiffe://lattice.local/cluster/{}/agent", of.uid);
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let nobody = "spiffe://lattice.local/cluster/0b6c2d1e-9f00-4c8e-8a77-000000000099/agent";
    let elsewhere = "spiffe://other.local/cluster/0b6c2d1e-9f00-4c8e-8a77-000000000001/agent";
    // The handshake itself is refused, or the session that has no pin.
    let (shaken, unpinned) = ("the cryptographic handshake failed", "identity unknown");
    for (what, uri, usage, foreign, words) in [
        ("a foreign CA", right.as_str(), ClientAuth, true, shaken),
        ("a server certificate as client", right.as_str(), ServerAuth, false, shaken),
        ("the manager's own id", "spiffe://lattice.local/manager", ClientAuth, false, shaken),
        ("another fleet", elsewhere, ClientAuth, false, shaken),
        ("a serial that was never issued", right.as_str(), ClientAuth, false, unpinned),
        ("a cluster that nobody has", nobody, ClientAuth, false, unpinned),
    ] {
        let forged = forged(&rig, &of, uri, usage, foreign).await?;
        let why = rig.verdict(&forged).await?.with_context(|| format!("{what} was let in"))?;
        assert!(why.contains(words), "{what}: {why:?} instead of {words:?}");
    }
    assert_eq!(rig.verdict(&own).await?, None, "and it is still taken");
    Ok(())
}

/// Takes one connection of an agent with any server's settings; gives what the agent was told.
async fn met_by(server: rustls::ServerConfig, rig: &Rig, own: &Enrolled) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut way = rig.way().await?;
    way.address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let serving = async { anyhow::Ok(acceptor.accept(listener.accept().await?.0).await) };
    let (_server, dialled) = tokio::join!(serving, way.tcp(own));
    Ok(format!("{:#}", dialled.err().context("the agent took it for its manager")?))
}

#[tokio::test]
async fn attack_14_an_agents_certificate_makes_no_manager() -> Result<()> {
    let rig = Rig::shared().await?;
    let (thief, own) = (rig.agent(&cluster(143)).await?.1, rig.agent(&cluster(144)).await?.1);
    let manager = rig.way().await?.fleet.parse::<TrustDomain>()?.manager().to_string();
    let usurper = forged(&rig, &cluster(143), &manager, ExtendedKeyUsagePurpose::ClientAuth, false).await?;
    for (what, shown) in [("an agent's own", thief), ("the manager's id, for clients only", usurper)] {
        let why = met_by(server(&shown, b"lattice/1")?, &rig, &own).await?;
        assert!(why.contains("certificate"), "{what}: {why}");
    }
    Ok(())
}

#[tokio::test]
async fn attack_16_an_agent_speaks_its_own_protocol_only() -> Result<()> {
    use ExtendedKeyUsagePurpose::ServerAuth;
    let rig = Rig::shared().await?;
    let (_, own) = rig.agent(&cluster(161)).await?;
    // Whoever could get a certificate of the manager for another service is no tunnel.
    let manager = rig.way().await?.fleet.parse::<TrustDomain>()?.manager().to_string();
    let good = forged(&rig, &cluster(161), &manager, ServerAuth, false).await?;
    for (what, alpn) in [("of another service", &b"http/1.1"[..]), ("that names no protocol", b"")] {
        let why = met_by(server(&good, alpn)?, &rig, &own).await?;
        assert!(why.contains("ApplicationProtocol") || why.contains("does not speak"), "a server {what}: {why}");
    }
    Ok(())
}

/// A server that asks nobody for a certificate.
fn server(own: &Enrolled, alpn: &[u8]) -> Result<rustls::ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes())?;
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = Some(alpn.to_vec()).into_iter().filter(|alpn| !alpn.is_empty()).collect();
    Ok(config)
}

#[tokio::test]
async fn attack_13_an_agent_refuses_a_manager_of_another_authority() -> Result<()> {
    let (rig, other) = (Rig::shared().await?, Rig::brief().await?);
    let (_, own) = rig.agent(&cluster(131)).await?;
    let mut way = rig.way().await?;
    way.address = other.gateway();
    let why = way.quic(&own).await.err().context("the manager of another CA was taken")?;
    assert!(format!("{why:#}").contains("certificate"), "{why:#}");
    // The daemon itself, given a CA that is not this parent's; then one that has not the pinned key.
    let of = cluster(132);
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
    let rig = Rig::brief().await?;
    let of = cluster(121);
    let (asking, own) = rig.agent(&of).await?;
    let why = until("the certificate ends", async || rig.verdict(&own).await.ok().flatten()).await?;
    assert!(why.contains("error 45") || why.contains("xpired"), "{why}");
    let next = Asking::new()?;
    let (status, answer) = rig.recover(&of, &asking.key, FIRST, &next.csr).await?;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sequence"], FIRST + 1);
    Ok(())
}
