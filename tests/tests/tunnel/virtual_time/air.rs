//! A network in virtual time: turmoil's, with loss and duplicates of single packets drawn from a seed.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use lattice_protocol::transport::net::{Accept, Arrival, Duplex, Network};
use quinn::{AsyncUdpSocket, UdpPoller, udp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What the air does to datagrams. Reordering comes from the spread of turmoil's latencies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// Share of datagrams that are lost.
    pub(super) loss: f64,
    /// Share of datagrams that arrive twice.
    pub(super) twice: f64,
    /// No datagram gets through at all, as behind a firewall that knows TCP only.
    pub(super) no_udp: bool,
}

/// The network. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Air(Arc<Mutex<(Weather, StdRng)>>);

impl Air {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new((weather, StdRng::seed_from_u64(seed)))))
    }

    pub(super) fn set(&self, weather: Weather) {
        self.lock().0 = weather;
    }

    fn lock(&self) -> MutexGuard<'_, (Weather, StdRng)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a datagram arrives.
    fn copies(&self) -> usize {
        let (weather, random) = &mut *self.lock();
        if weather.no_udp || random.random_bool(weather.loss) {
            0
        } else {
            1 + usize::from(random.random_bool(weather.twice))
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

struct Datagrams {
    air: Air,
    socket: Arc<turmoil::net::UdpSocket>,
    readable: Mutex<Option<Waiting>>,
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

/// A socket of this network never pushes back.
#[derive(Debug)]
struct Always;

impl UdpPoller for Always {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Datagrams {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Always)
    }

    fn try_send(&self, transmit: &udp::Transmit<'_>) -> io::Result<()> {
        for _ in 0..self.air.copies() {
            // A host that is not there is no error of the sender's.
            drop(self.socket.try_send_to(transmit.contents, transmit.destination));
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [udp::RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut readable = self.readable.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.socket.try_recv_from(&mut bufs[0]) {
                Ok((len, addr)) => {
                    meta[0] = udp::RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
            let socket = Arc::clone(&self.socket);
            let waiting = readable.get_or_insert_with(|| async move { socket.readable().await }.boxed());
            match waiting.as_mut().poll(cx) {
                Poll::Ready(outcome) => {
                    *readable = None;
                    outcome?;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

struct Listening(turmoil::net::TcpListener);

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listening")
    }
}

impl Accept for Listening {
    fn accept(&self) -> BoxFuture<'_, io::Result<Arrival>> {
        async {
            let (stream, from) = self.0.accept().await?;
            let stream: Pin<Box<dyn Duplex>> = Box::pin(stream);
            Ok((stream, from))
        }
        .boxed()
    }
}

impl Network for Air {
    fn datagrams(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn AsyncUdpSocket>>> {
        async move {
            let socket = Arc::new(turmoil::net::UdpSocket::bind(at).await?);
            let socket: Arc<dyn AsyncUdpSocket> =
                Arc::new(Datagrams { air: self.clone(), socket, readable: Mutex::new(None) });
            Ok(socket)
        }
        .boxed()
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Pin<Box<dyn Duplex>>>> {
        async move {
            let stream: Pin<Box<dyn Duplex>> = Box::pin(turmoil::net::TcpStream::connect(to).await?);
            Ok(stream)
        }
        .boxed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Accept>>> {
        async move {
            let listener: Box<dyn Accept> = Box::new(Listening(turmoil::net::TcpListener::bind(at).await?));
            Ok(listener)
        }
        .boxed()
    }
}
