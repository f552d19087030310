//! Small requests: one bare QUIC stream each, as the least that a tunnel could cost, and many at once on every way.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use futures::future::try_join_all;
use lattice_protocol::transport::{Priority, Session, Stream, Tag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::figure;
use crate::flow::{Place, ROUNDS, SMALL, TOKEN, client, get, least, party};

/// Clients that ask at once, each on a connection of its own.
const CLIENTS: usize = 16;
/// Requests of each.
const EACH: usize = 500;
/// Longest question of a bare stream, bytes.
const ASKED_MAX: u64 = 4096;
/// About what a request's head, and a short answer with its head, take.
const QUESTION: [u8; 120] = [1; 120];
const ANSWER: [u8; 160] = [2; 160];

/// Median and 99th percentile, microseconds.
pub(crate) fn percentiles(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).map_or(f64::NAN, |one| one.as_secs_f64() * 1e6);
    (at(50), at(99))
}

/// Answers one question.
pub(crate) async fn answer_stream(mut asked: Stream) {
    let mut question = Vec::new();
    if (&mut asked).take(ASKED_MAX).read_to_end(&mut question).await.is_ok() && asked.write_all(&ANSWER).await.is_ok() {
        let _ = asked.shutdown().await;
    }
}

async fn ask(session: &Session) -> Result<()> {
    let mut stream = session.open(Tag::Grpc, Priority::Bulk).await?;
    stream.write_all(&QUESTION).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    ensure!(answer.len() == ANSWER.len(), "{} bytes", answer.len());
    Ok(())
}

/// Median and 99th percentile of questions on bare streams, one after another, microseconds.
pub(crate) async fn over_bare_streams(session: &Session) -> Result<(f64, f64)> {
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        let mut took = Vec::with_capacity(SMALL);
        for _ in 0..SMALL {
            let began = Instant::now();
            ask(session).await?;
            took.push(began.elapsed());
        }
        let (p50, p99) = percentiles(took);
        best = (best.0.min(p50), best.1.min(p99));
    }
    Ok(best)
}

async fn many(to: Place, path: String) -> Result<f64> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(client(to.0, &to.1).await?);
    }
    let began = Instant::now();
    let asking = clients.into_iter().map(async |mut client| {
        for _ in 0..EACH {
            get(&mut client, &path, TOKEN).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(asking).await?;
    Ok(began.elapsed().as_secs_f64())
}

async fn many_bare(session: &Session) -> Result<f64> {
    let began = Instant::now();
    let asking = (0..CLIENTS).map(async |_| {
        for _ in 0..EACH {
            ask(session).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(asking).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Requests per second of many clients at once: through the proxy, straight, and on bare streams.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn at_once(proxy: &Place, path: &str, straight: &Place, session: &Session) -> Result<()> {
    let (mut proxied, mut direct, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (to, path) = (proxy.clone(), path.to_owned());
        proxied.push(party(move || many(to, path).boxed()).await?);
        let to = straight.clone();
        direct.push(party(move || many(to, "/version".to_owned()).boxed()).await?);
        bare.push(many_bare(session).await?);
    }
    let rate = |seconds: Vec<f64>| (CLIENTS * EACH) as f64 / least(seconds);
    let (proxied, direct, bare) = (rate(proxied), rate(direct), rate(bare));
    figure("tls_gets_per_second", direct, "1/s");
    figure("quinn_gets_per_second", bare, "1/s");
    figure("proxy_gets_per_second", proxied, "1/s");
    figure("proxy_gets_vs_tls", proxied / direct, "ratio");
    figure("proxy_gets_vs_quinn", proxied / bare, "ratio");
    Ok(())
}
