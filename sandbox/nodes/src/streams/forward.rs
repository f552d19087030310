//! `portforward`: SPDY streams, directly or in a WebSocket tunnel; a pair of them for each connection to a port.
//!
//! A simulated pod listens on the TCP ports that its containers name, or on every port where they name none. Who speaks
//! HTTP there gets a page that tells the pod, the port and the request; everything else comes back as it went in. Ports
//! of a real container are those of its process.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use lattice_protocol::task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use super::remote::TYPE;
use super::spdy::{self, Stream};
use super::upgrade::{self, Offer};
use super::{Body, Refusal, Streams, port, websocket};
use crate::meta;

const OVER_WEBSOCKET: &str = "SPDY/3.1+portforward.k8s.io";
const OVER_SPDY: &str = "portforward.k8s.io";
/// Bytes that are read from a real port at once.
const CHUNK: usize = 32 << 10;

/// What is behind the ports of a pod.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    /// Namespace and name of the pod.
    pub(super) pod: String,
    uid: String,
    /// Ports that its containers name.
    named: Vec<u16>,
    /// Where the ports of a real process are.
    real: Option<std::net::IpAddr>,
}

impl Ports {
    fn of(streams: &Streams, pod: &Pod) -> Self {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
        let named = tcp.filter_map(|port| u16::try_from(port.container_port).ok()).collect();
        let real = streams.is_real(pod).then(|| pod.status.as_ref()?.host_ip.as_ref()?.parse().ok()).flatten();
        let full = format!("{}/{}", meta::namespace(&pod.metadata), meta::name(&pod.metadata));
        Self { pod: full, uid: meta::uid(&pod.metadata).to_owned(), named, real }
    }
}

pub(super) fn answer<B: Send>(streams: &Streams, pod: &Pod, request: Request<B>) -> Result<Response<Body>, Refusal> {
    if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_none() {
        let name = meta::name(&pod.metadata);
        return Err(Refusal::bad_request(format!("pod {name} does not have a host assigned")));
    }
    if meta::phase(pod) != "Running" {
        let message = format!("pod not found (\"{}_{}\")", meta::name(&pod.metadata), meta::namespace(&pod.metadata));
        return Err(Refusal::internal(message));
    }
    let ports = Ports::of(streams, pod);
    let offer = Offer::of(request.headers())?;
    let known = match offer {
        Offer::WebSocket { .. } => OVER_WEBSOCKET,
        Offer::Spdy { .. } => OVER_SPDY,
    };
    let response = offer.accept(offer.choose(&[known])?)?;
    let upgrade = upgrade::take(request)?;
    let stop = streams.stop.clone();
    task::spawn("kubelet.forward", task::Kind::Request, async move {
        let serving = async {
            match offer {
                Offer::WebSocket { .. } => {
                    websocket::tunnel(upgrade, |io| spdy::serve(io, |streams| forward(streams, ports))).await;
                }
                Offer::Spdy { .. } => match upgrade.await {
                    Ok(io) => spdy::serve(TokioIo::new(io), |streams| forward(streams, ports)).await,
                    Err(error) => tracing::debug!(%error, "upgrade for a port-forward did not come about"),
                },
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = serving => {}
        }
    });
    Ok(response)
}

/// Brings the streams of each connection together.
async fn forward(mut streams: Receiver<Stream>, ports: Ports) {
    let mut halves: HashMap<String, Stream> = HashMap::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a forwarded connection ended badly");
                }
                continue;
            }
            stream = streams.recv() => stream,
        };
        let Some(stream) = stream else { break };
        // Half of a connection whose client gave up.
        halves.retain(|_, half| !half.output.is_reset());
        let id = stream.headers.get("requestid").cloned().unwrap_or_default();
        match halves.remove(&id) {
            None => {
                halves.insert(id, stream);
            }
            Some(other) => {
                let is_data = |stream: &Stream| stream.headers.get(TYPE).is_some_and(|kind| kind == "data");
                let (data, error) = if is_data(&stream) { (stream, other) } else { (other, stream) };
                connections.spawn(connection(data, error, ports.clone()));
            }
        }
    }
}

/// Serves one connection; what goes wrong is told on the error stream.
async fn connection(data: Stream, error: Stream, ports: Ports) {
    let number = data.headers.get("port").and_then(|port| port.parse().ok()).unwrap_or(0);
    let output = data.output.clone();
    let serving = async {
        match ports.real {
            Some(ip) => real(SocketAddr::new(ip, number), data).await,
            None if number != 0 && (ports.named.is_empty() || ports.named.contains(&number)) => {
                port::converse(&ports.pod, number, data.input, &data.output).await;
                Ok(())
            }
            None => Err(std::io::ErrorKind::ConnectionRefused.into()),
        }
    };
    let result = tokio::select! {
        biased;
        () = output.reset() => Ok(()),
        result = serving => result,
    };
    if let Err(why) = result {
        let why = if why.kind() == std::io::ErrorKind::ConnectionRefused {
            "connection refused".to_owned()
        } else {
            why.to_string()
        };
        let text = format!(
            "error forwarding port {number} to pod {uid}, uid : failed to execute portforward in network namespace \
             \"simulated\": failed to connect to localhost:{number} inside namespace \"{uid}\", IPv4: dial tcp4 \
             127.0.0.1:{number}: connect: {why}",
            uid = ports.uid
        );
        let _ = error.output.send(Bytes::from(text)).await;
    }
    error.output.finish().await;
    output.finish().await;
}

/// Joins a stream with a socket.
async fn real(to: SocketAddr, mut data: Stream) -> std::io::Result<()> {
    let (mut read, mut write) = TcpStream::connect(to).await?.into_split();
    let inwards = async {
        while let Some(chunk) = data.input.recv().await {
            if write.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let _ = write.shutdown().await;
    };
    let outwards = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(size @ 1..) = read.read(&mut buffer).await {
            if data.output.send(Bytes::copy_from_slice(&buffer[..size])).await.is_err() {
                break;
            }
        }
        data.output.finish().await;
    };
    tokio::join!(inwards, outwards);
    Ok(())
}
