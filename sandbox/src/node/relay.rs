//! The line from a cluster's machines to the rest of the world, which can be cut.
//!
//! Machines live on loopback, where nothing can be unplugged without root. So what leaves a machine for an address
//! outside of its cluster goes through a relay on this host, for UDP and TCP alike. While the line is down, datagrams
//! vanish and connections break, as on a dead line.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lattice_protocol::task;
use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Ports that are tried until one is free for both UDP and TCP.
const PORT_TRIES_MAX: usize = 50;
/// Peers of one relayed address at a time. A new one takes the place of the one that was silent longest.
const PEERS_MAX: usize = 64;
/// Silence after which a peer is forgotten. Longer than the idle timeout of what runs over it.
const PEER_IDLE_MAX: Duration = Duration::from_mins(2);
/// Largest datagram.
const DATAGRAM_MAX: usize = 65_535;
/// Connections of one relayed address at a time.
const CONNECTIONS_MAX: usize = 256;
/// Bytes that a socket buffers; bursts beyond them are lost.
const BUFFER: usize = 4 << 20;

/// The line of one cluster.
#[derive(Debug)]
pub(crate) struct Line {
    down: watch::Sender<bool>,
    stop: CancellationToken,
    routes: tokio::sync::Mutex<HashMap<String, SocketAddr>>,
}

impl Line {
    /// Makes a line that is up or down.
    pub(crate) fn new(down: bool) -> Self {
        Self { down: watch::Sender::new(down), stop: CancellationToken::new(), routes: tokio::sync::Mutex::default() }
    }

    /// Cuts the line, or mends it.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.send_if_modified(|old| std::mem::replace(old, down) != down);
    }

    /// Whether it is cut.
    pub(crate) fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// The address of the relay to `target` (`host:port`); made on first use.
    pub(crate) async fn route(&self, target: &str) -> std::io::Result<SocketAddr> {
        let mut routes = self.routes.lock().await;
        if let Some(known) = routes.get(target) {
            return Ok(*known);
        }
        let upstream = lookup_host(target)
            .await?
            .next()
            .ok_or_else(|| std::io::Error::other(format!("{target} has no address")))?;
        let (udp, tcp, local) = bind().await?;
        let (stop, down) = (self.stop.clone(), self.down.subscribe());
        task::spawn("relay.udp", task::Kind::Service, datagrams(Arc::new(udp), upstream, down.clone(), stop.clone()));
        task::spawn("relay.tcp", task::Kind::Service, connections(tcp, upstream, down, stop));
        routes.insert(target.to_owned(), local);
        Ok(local)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Binds one port for both.
async fn bind() -> std::io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut last = None;
    for _ in 0..PORT_TRIES_MAX {
        let tcp = TcpListener::bind(any).await?;
        let local = tcp.local_addr()?;
        match UdpSocket::bind(local).await {
            Ok(udp) => {
                enlarge(&udp);
                return Ok((udp, tcp, local));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("no free port")))
}

fn enlarge(socket: &UdpSocket) {
    let socket = socket2::SockRef::from(socket);
    // The kernel gives what it allows.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
}

struct Peer {
    upstream: Arc<UdpSocket>,
    seen: Arc<Mutex<tokio::time::Instant>>,
    _stop: tokio_util::sync::DropGuard,
}

/// Passes datagrams on, each peer by a socket of its own, so that answers find their way back.
async fn datagrams(socket: Arc<UdpSocket>, upstream: SocketAddr, down: watch::Receiver<bool>, stop: CancellationToken) {
    let mut peers: HashMap<SocketAddr, Peer> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let Ok((length, from)) = received else { continue };
        if *down.borrow() {
            continue;
        }
        if !peers.contains_key(&from) {
            make_room(&mut peers);
            match open(&socket, from, upstream, down.clone(), &stop).await {
                Ok(peer) => peers.insert(from, peer),
                Err(error) => {
                    tracing::debug!(%error, "datagram dropped");
                    continue;
                }
            };
        }
        if let Some(peer) = peers.get(&from) {
            *peer.seen.lock().unwrap_or_else(PoisonError::into_inner) = tokio::time::Instant::now();
            // A lost datagram is what datagrams are for.
            let _ = peer.upstream.send(&buffer[..length]).await;
        }
    }
}

fn make_room(peers: &mut HashMap<SocketAddr, Peer>) {
    let seen = |peer: &Peer| *peer.seen.lock().unwrap_or_else(PoisonError::into_inner);
    peers.retain(|_, peer| seen(peer).elapsed() < PEER_IDLE_MAX);
    if peers.len() >= PEERS_MAX
        && let Some(oldest) = peers.iter().min_by_key(|(_, peer)| seen(peer)).map(|(at, _)| *at)
    {
        peers.remove(&oldest);
    }
}

async fn open(
    socket: &Arc<UdpSocket>,
    from: SocketAddr,
    to: SocketAddr,
    down: watch::Receiver<bool>,
    stop: &CancellationToken,
) -> std::io::Result<Peer> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let upstream = Arc::new(UdpSocket::bind(any).await?);
    enlarge(&upstream);
    upstream.connect(to).await?;
    let seen = Arc::new(Mutex::new(tokio::time::Instant::now()));
    let stop = stop.child_token();
    let (back, socket, stopped, seen_back) =
        (Arc::clone(&upstream), Arc::clone(socket), stop.clone(), Arc::clone(&seen));
    task::spawn("relay.back", task::Kind::Request, async move {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let received = tokio::select! {
                biased;
                () = stopped.cancelled() => return,
                received = back.recv(&mut buffer) => received,
            };
            let Ok(length) = received else { continue };
            if !*down.borrow() {
                *seen_back.lock().unwrap_or_else(PoisonError::into_inner) = tokio::time::Instant::now();
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        }
    });
    Ok(Peer { upstream, seen, _stop: stop.drop_guard() })
}

/// Passes connections on; while the line is down they break at once.
async fn connections(
    listener: TcpListener,
    upstream: SocketAddr,
    down: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut near, _)) = accepted else { continue };
        let (mut down, stop) = (down.clone(), stop.clone());
        task::spawn("relay.connection", task::Kind::Request, async move {
            let _slot = slot;
            let pass = async {
                let mut far = TcpStream::connect(upstream).await?;
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = down.wait_for(|down| *down) => {}
                _ = pass => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn echo() -> String {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(at).await.unwrap();
        task::spawn("test.udp", task::Kind::Service, async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                let _ = udp.send_to(&buffer[..length], from).await;
            }
        });
        task::spawn("test.tcp", task::Kind::Service, async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        at.to_string()
    }

    async fn ask(at: SocketAddr) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(at).await.unwrap();
        socket.send(b"hi").await.unwrap();
        let mut buffer = [0; 64];
        let answer = tokio::time::timeout(Duration::from_millis(300), socket.recv(&mut buffer)).await;
        answer.ok().map(|length| buffer[..length.unwrap()].to_vec())
    }

    #[tokio::test]
    async fn datagrams_and_connections_pass_until_the_line_is_cut_and_again_once_it_is_mended() {
        let line = Line::new(false);
        let at = line.route(&echo().await).await.unwrap();
        assert_eq!(ask(at).await.as_deref(), Some(&b"hi"[..]));
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"ho").await.unwrap();
        let mut buffer = [0; 2];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ho");
        line.set_down(true);
        assert_eq!(stream.read(&mut buffer).await.unwrap_or(0), 0, "a connection breaks when the line is cut");
        assert_eq!(ask(at).await, None);
        line.set_down(false);
        assert_eq!(ask(at).await.as_deref(), Some(&b"hi"[..]));
    }
}
