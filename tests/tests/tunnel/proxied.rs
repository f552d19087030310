//! Behind an HTTP proxy that is the only way out: the agent enrols and connects through it (`CONNECT`), by TCP.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use lattice_protocol::task::{self, Kind};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::pair::{Pair, Site, until};

/// A name that nobody but the proxy knows (RFC 6761, 6.4).
const NAME: &str = "parent.invalid";
/// `site:pass word`, as RFC 7617 writes it.
const AUTHORIZATION: &str = "Proxy-Authorization: Basic c2l0ZTpwYXNzIHdvcmQ=";

/// An HTTP proxy that knows the way to [`NAME`].
#[derive(Clone, Default)]
struct Proxy {
    refuses: Arc<AtomicBool>,
    /// Where it was asked to connect to, by whom it should.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Proxy {
    async fn listen(&self) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let at = listener.local_addr()?;
        let proxy = self.clone();
        drop(task::spawn("test.proxy", Kind::Request, async move {
            while let Ok((stream, _)) = listener.accept().await {
                let proxy = proxy.clone();
                drop(task::spawn("test.proxied", Kind::Request, async move { drop(proxy.serve(stream).await) }));
            }
        }));
        Ok(at)
    }

    async fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut target, mut knows_us) = (String::new(), false);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match line.trim_end() {
                "" => break,
                first if target.is_empty() => first.clone_into(&mut target),
                header => knows_us |= header == AUTHORIZATION,
            }
        }
        let asked = target.strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let port = asked.and_then(|asked| asked.strip_prefix(NAME)?.strip_prefix(':')?.parse::<u16>().ok());
        if !knows_us || self.refuses.load(Ordering::Relaxed) {
            stream.write_all(b"HTTP/1.1 403 Not from here\r\n\r\n").await?;
            return Ok(());
        }
        let port = port.context("a port of the parent")?;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(target);
        let mut there = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
        tokio::io::copy_bidirectional(&mut stream, &mut there).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_only_way_out_is_an_http_proxy_enrols_and_connects_through_it() -> Result<()> {
    let proxy = Proxy::default();
    let at = proxy.listen().await?;
    proxy.refuses.store(true, Ordering::Relaxed);
    let mut pair = Pair::start(Site::named(NAME), &[]).await?;
    pair.start_agent(&[("HTTPS_PROXY", &format!("http://site:pass%20word@{at}"))]).await?;
    let why = pair.child_event("EnrolmentFailed").await?;
    assert!(why.contains(&format!("proxy http://{at} refused to connect to {NAME}:")), "{why}");
    assert!(why.contains("403 Not from here"), "{why}");

    proxy.refuses.store(false, Ordering::Relaxed);
    pair.connected("tcp", 0.0).await?;
    pair.answers().await?;
    let wanted: BTreeSet<String> =
        pair.parents_ports().map(|port| format!("CONNECT {NAME}:{port} HTTP/1.1")).into_iter().collect();
    let all = until("both ports are asked for", async || {
        let asked = proxy.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (asked == wanted).then_some(())
    });
    all.await?;
    for said in [pair.log("agent"), why] {
        assert!(
            !said.contains("pass word") && !said.contains("pass%20word") && !said.contains("c2l0ZTpwYXNz"),
            "{said}"
        );
    }
    Ok(())
}
