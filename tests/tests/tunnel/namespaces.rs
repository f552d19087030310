//! The built daemons in network namespaces of their own, with a router between them that drops what it is told to.
//!
//! `LATTICE_NETWORK_FAULTS=1` adds the faults that need half a minute each to be noticed: a live session
//! whose UDP is dropped, one that works in one direction only, and one whose link is dead.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lattice_protocol::task::{self, Kind};
use tokio::process::{Child, Command};

use crate::enter::{Where, enter, is_set, say, sh};
use crate::pair::{Pair, Site, until};

/// The manager's side, the agent's side, and the address that the agent moves to.
const MANAGER: &str = "10.77.0.1";
const AGENT: &str = "10.78.0.2";
const AGENT_LATER: &str = "10.78.0.3";

/// A namespace, held by a process that sleeps in it.
struct Held {
    holder: Child,
    prefix: Vec<String>,
}

impl Held {
    async fn new() -> Result<Self> {
        let holder = Command::new("unshare").args(["-n", "sleep", "600"]).kill_on_drop(true).spawn()?;
        let pid = holder.id().context("a holder")?;
        let own = std::fs::read_link("/proc/self/ns/net")?;
        until("a namespace", async || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).ok().filter(|found| *found != own)
        })
        .await?;
        let prefix = ["nsenter", "-t", &pid.to_string(), "-n"].map(str::to_owned).to_vec();
        Ok(Self { holder, prefix })
    }

    fn pid(&self) -> u32 {
        self.holder.id().unwrap_or_default()
    }

    async fn run(&self, line: &str) -> Result<()> {
        sh(&self.prefix, line).await
    }
}

/// Manager's namespace (this one), router, and agent's namespace.
struct Net {
    router: Held,
    agent: Held,
}

impl Net {
    async fn new() -> Result<Self> {
        let (router, agent) = (Held::new().await?, Held::new().await?);
        let (r, a) = (router.pid(), agent.pid());
        sh(
            &[],
            &format!(
                "ip link set lo up; ip link add m0 type veth peer name r0 netns {r}; ip addr add {MANAGER}/24 dev m0; \
                 ip link set m0 up; ip route add 10.78.0.0/24 via 10.77.0.2"
            ),
        )
        .await?;
        router
            .run(&format!(
                "ip link set lo up; ip addr add 10.77.0.2/24 dev r0; ip link set r0 up; \
                 ip link add r1 type veth peer name a0 netns {a}; ip addr add 10.78.0.1/24 dev r1; ip link set r1 up; \
                 echo 1 > /proc/sys/net/ipv4/ip_forward"
            ))
            .await?;
        agent
            .run(&format!(
                "ip link set lo up; ip addr add {AGENT}/24 dev a0; ip link set a0 up; ip route add default via 10.78.0.1"
            ))
            .await?;
        Ok(Self { router, agent })
    }

    /// The router drops what a rule of `ip rule` says, without a word to anybody.
    async fn drop_what(&self, rule: &str) -> Result<()> {
        self.router.run(&format!("ip rule add {rule} blackhole")).await
    }

    async fn pass_again(&self, rule: &str) -> Result<()> {
        self.router.run(&format!("ip rule del {rule} blackhole")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_find_each_other_through_what_networks_do() -> Result<()> {
    match enter("namespaces::daemons_find_each_other_through_what_networks_do").await? {
        Where::Inside => inside().await,
        Where::Outside => Ok(()),
    }
}

async fn inside() -> Result<()> {
    let net = match Net::new().await {
        Ok(net) => net,
        Err(error) => {
            say(&format!("SKIPPED: virtual links cannot be made here: {error:#}"));
            return Ok(());
        }
    };
    let site = Site { manager: MANAGER.parse::<IpAddr>()?, agent_prefix: net.agent.prefix.clone(), name: None };
    let mut pair = Pair::start(site, &[]).await?;
    let tunnel = pair.gateway().port();
    let udp = "ipproto udp";

    // UDP goes nowhere: TCP within ten seconds; then UDP works again, and so does QUIC.
    net.drop_what(udp).await?;
    pair.start_agent(&[("LATTICE_QUIC_AGAIN_SECONDS", "1")]).await?;
    let took = pair.connected("tcp", 0.0).await?;
    ensure!(took < Duration::from_secs(10), "connected by TCP only after {took:?}");
    pair.answers().await?;
    let ended = disconnects(&pair).await?;
    net.pass_again(udp).await?;
    let back = pair.connected("quic", 0.0).await?;
    pair.answers().await?;
    say(&format!("measured: connected by TCP after {took:?}, on QUIC {back:?} after UDP returned"));

    // The replaced session ends in order, not by silence or a break.
    until("the TCP session ends", async || disconnects(&pair).await.ok().filter(|now| *now > ended)).await?;
    ensure!(pair.figure("lattice_tunnel_disconnects_total{why=\"silent\"}").await? == 0.0, "{}", pair.log("manager"));

    // The agent gets another address, as behind a NAT that forgot it: the session goes on.
    let sessions = (pair.connects("quic").await?, pair.connects("tcp").await?, disconnects(&pair).await?);
    net.agent
        .run(&format!(
            "ip addr add {AGENT_LATER}/24 dev a0; ip addr del {AGENT}/24 dev a0; \
             ip addr show dev a0 | grep -q {AGENT_LATER} || ip addr add {AGENT_LATER}/24 dev a0; \
             ip route replace default via 10.78.0.1"
        ))
        .await?;
    pair.answers().await?;
    let now = (pair.connects("quic").await?, pair.connects("tcp").await?, disconnects(&pair).await?);
    ensure!(sessions == now, "the session goes on under the new address: {sessions:?}, then {now:?}");

    // A link that carries no more than IPv6's least.
    for (held, links) in [(&net.router, "r0 r1"), (&net.agent, "a0")] {
        held.run(&format!("for link in {links}; do ip link set $link mtu 1280; done")).await?;
    }
    let before = pair.connects("quic").await?;
    pair.start_agent(&[]).await?;
    pair.connected("quic", before).await?;
    bulky(&pair).await.context("a large answer over MTU 1280")?;

    if is_set("LATTICE_NETWORK_FAULTS") {
        noticed(&net, &mut pair, tunnel).await?;
        beside_a_copy(&net, &mut pair).await.context("over TCP at 20 Mbit/s")?;
    }
    Ok(())
}

async fn disconnects(pair: &Pair) -> Result<f64> {
    let metrics = pair.metrics().await?;
    Ok(metrics.iter().filter(|(name, _)| name.starts_with("lattice_tunnel_disconnects_total")).map(|(_, n)| n).sum())
}

/// An answer of many packets.
async fn bulky(pair: &Pair) -> Result<()> {
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bulk", "namespace": "default"},
        "data": {"text": "x".repeat(900_000)},
    });
    let request = http::Request::post("/api/v1/namespaces/default/configmaps")
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())?;
    let client = pair.through().await?;
    let answer = tokio::time::timeout(Duration::from_secs(20), client.request_text(request)).await??;
    ensure!(answer.len() > 900_000, "{} bytes came back", answer.len());
    Ok(())
}

/// Faults of a live session: noticed on both sides within 20 s, and healed.
async fn noticed(net: &Net, pair: &mut Pair, tunnel: u16) -> Result<()> {
    let out = format!("iif r1 ipproto udp dport {tunnel}");
    let back = format!("iif r0 ipproto udp sport {tunnel}");
    let (tcp_out, tcp_back) = (out.replace("udp", "tcp"), back.replace("udp", "tcp"));
    for (what, rules) in [
        ("UDP is dropped", vec![&out, &back]),
        ("nothing reaches the agent", vec![&back, &tcp_back]),
        ("nothing reaches the manager", vec![&out, &tcp_out]),
        ("nothing gets through", vec![&out, &back, &tcp_out, &tcp_back]),
    ] {
        let before = pair.connects("quic").await?;
        pair.start_agent(&[("LATTICE_QUIC_AGAIN_SECONDS", "1")]).await?;
        pair.connected("quic", before).await?;
        pair.answers().await?;
        let (ended, lost) = (disconnects(pair).await?, lines(pair, "connection lost"));
        for rule in &rules {
            net.drop_what(rule).await?;
        }
        let began = tokio::time::Instant::now();
        let (mut manager, mut agent) = (None, None);
        while manager.is_none() || agent.is_none() {
            if began.elapsed() > Duration::from_secs(40) {
                bail!("{what}: manager {manager:?}, agent {agent:?}\n{}\n{}", pair.log("manager"), pair.log("agent"));
            }
            if manager.is_none() && disconnects(pair).await? > ended {
                manager = Some(began.elapsed());
            }
            if agent.is_none() && lines(pair, "connection lost") > lost {
                agent = Some(began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        say(&format!("measured: {what}: the manager noticed after {manager:?}, the agent after {agent:?}"));
        for rule in &rules {
            net.pass_again(rule).await?;
        }
        pair.answers().await?;
        // A little room for a machine that is busy.
        let noticed = Duration::from_secs(21);
        ensure!(manager < Some(noticed) && agent < Some(noticed), "{what}: {manager:?}, {agent:?}");
    }
    Ok(())
}

fn lines(pair: &Pair, words: &str) -> usize {
    pair.log("agent").lines().filter(|line| line.contains(words)).count()
}

/// Over TCP all streams share one connection: small requests and heartbeats must not wait behind a copy.
async fn beside_a_copy(net: &Net, pair: &mut Pair) -> Result<()> {
    net.drop_what("ipproto udp").await?;
    let before = pair.connects("tcp").await?;
    pair.start_agent(&[]).await?;
    pair.connected("tcp", before).await?;
    let client = pair.through().await?;
    for number in 0..8 {
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("bulk-{number}"), "namespace": "default"},
            "data": {"text": "x".repeat(900_000)},
        });
        let request = http::Request::post("/api/v1/namespaces/default/configmaps")
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes())?;
        client.request_text(request).await?;
    }
    if let Err(error) = net.router.run("tc qdisc add dev r0 root tbf rate 20mbit burst 64k latency 50ms").await {
        say(&format!("SKIPPED: a slow link cannot be made here: {error:#}"));
        return net.pass_again("ipproto udp").await;
    }
    let (ended, copying) = (disconnects(pair).await?, pair.through().await?);
    let copy = task::spawn("test.copy", Kind::Request, async move {
        for _ in 0..5 {
            let list = http::Request::get("/api/v1/namespaces/default/configmaps").body(Vec::new());
            if let Ok(list) = list {
                drop(copying.request_text(list).await);
            }
        }
    });
    let mut took = Vec::new();
    while !copy.is_finished() {
        let began = tokio::time::Instant::now();
        tokio::time::timeout(Duration::from_secs(10), client.apiserver_version()).await??;
        took.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    took.sort_unstable();
    let (median, longest) = (took.get(took.len() / 2).copied().unwrap_or_default(), took.last().copied());
    say(&format!(
        "measured: {} small requests beside a copy at 20 Mbit/s: median {median:?}, longest {longest:?}",
        took.len()
    ));
    ensure!(took.len() > 20 && median < Duration::from_millis(500), "{median:?} of {}", took.len());
    ensure!(disconnects(pair).await? <= ended, "the session goes on");
    net.router.run("tc qdisc del dev r0 root").await?;
    net.pass_again("ipproto udp").await
}
