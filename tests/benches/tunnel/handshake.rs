//! Handshakes against the signatures, verifications and key exchanges that one cannot do without.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use futures::TryStreamExt;
use lattice_protocol::task::{self, Kind};
use lattice_protocol::transport::{CloseCode, quic, tcp};
use lattice_tests::pki::Pki;
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey as PublicShare, X25519, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};

use tokio::time::Instant;

use crate::{cpu_seconds, figure};

const COUNT: u32 = 2000;

/// Handshakes under way at a time: a fleet that comes back, not one agent after another.
const AT_ONCE: usize = 32;

/// CPU seconds of both sides' bare cryptography for `count` mutual handshakes.
fn bare(count: u32) -> Result<f64> {
    let random = SystemRandom::new();
    let refused = |_| anyhow::anyhow!("ring refused");
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(refused)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    let began = cpu_seconds()?;
    let transcript = [7_u8; 130];
    for _ in 0..count {
        let mut shares = Vec::new();
        for _side in 0..2 {
            let signature = key.sign(&random, &transcript).map_err(refused)?;
            // The certificate by its CA, and the handshake by the certificate.
            for _ in 0..2 {
                public.verify(&transcript, signature.as_ref()).map_err(refused)?;
            }
            let private = EphemeralPrivateKey::generate(&X25519, &random).map_err(refused)?;
            let share = private.compute_public_key().map_err(refused)?;
            shares.push((private, share));
        }
        let publics: Vec<_> = shares.iter().map(|(_, share)| share.as_ref().to_vec()).collect();
        for ((private, _), other) in shares.into_iter().zip(publics.iter().rev()) {
            agree_ephemeral(private, &PublicShare::new(&X25519, other), |_| ()).map_err(refused)?;
        }
    }
    Ok(cpu_seconds()? - began)
}

pub(crate) async fn run() -> Result<()> {
    let fleet = "bench.example".parse()?;
    let pki = Pki::new(&fleet, &rcgen::KeyPair::generate()?)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let floor = bare(COUNT)?;

    let listener = quic::listen(any, quic::server_config(Arc::clone(&pki.server))?, None)?;
    let to = listener.local_addr()?;
    let dialler = quic::dialler(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    let accepting = task::spawn("bench.accept", Kind::Request, async move {
        while let Some(incoming) = listener.accept().await {
            drop(task::spawn("bench.accepted", Kind::Request, async move {
                if let Ok(session) = quic::accept(incoming).await {
                    session.closed().await;
                }
            }));
        }
    });
    let (cpu, wall) = (cpu_seconds()?, Instant::now());
    futures::stream::iter((0..COUNT).map(anyhow::Ok))
        .try_for_each_concurrent(AT_ONCE, async |_| {
            let config = quic::client_config(Arc::clone(&pki.client))?;
            quic::dial(&dialler, config, to).await?.close(CloseCode::Done, "");
            Ok(())
        })
        .await?;
    let (over_quic, quic_wall) = (cpu_seconds()? - cpu, wall.elapsed());

    let listener = tokio::net::TcpListener::bind(any).await?;
    let to = listener.local_addr()?;
    let server = Arc::clone(&pki.server);
    accepting.abort();
    let accepting = task::spawn("bench.accept", Kind::Request, async move {
        while let Ok((io, from)) = listener.accept().await {
            let server = Arc::clone(&server);
            drop(task::spawn("bench.accepted", Kind::Request, async move {
                if let Ok(session) = tcp::accept(io, server, from).await {
                    session.closed().await;
                }
            }));
        }
    });
    let (cpu, wall) = (cpu_seconds()?, Instant::now());
    futures::stream::iter((0..COUNT).map(anyhow::Ok))
        .try_for_each_concurrent(AT_ONCE, async |_| {
            tcp::dial(Arc::clone(&pki.client), to).await?.close(CloseCode::Done, "");
            Ok(())
        })
        .await?;
    let (over_tcp, tcp_wall) = (cpu_seconds()? - cpu, wall.elapsed());
    accepting.abort();

    let each = f64::from(COUNT);
    figure("crypto_cpu_per_handshake", floor / each * 1e6, "us, both sides");
    figure("quic_cpu_per_handshake", over_quic / each * 1e6, "us, both sides");
    figure("tcp_cpu_per_handshake", over_tcp / each * 1e6, "us, both sides");
    figure("quic_handshakes_per_second", each / quic_wall.as_secs_f64(), "1/s");
    figure("tcp_handshakes_per_second", each / tcp_wall.as_secs_f64(), "1/s");
    figure("handshake_vs_crypto", floor / over_quic, "ratio of CPU time");
    figure("tcp_handshake_vs_crypto", floor / over_tcp, "ratio of CPU time");
    Ok(())
}
