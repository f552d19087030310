//! The tunnel over loopback: real QUIC, real TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming as HttpBody};
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::ending::Ending;
use crate::limits::STREAMS_INITIAL;
use crate::task::{self, Kind};
use crate::tls::pki::Pki;
use crate::tls::{self, Credentials, ServerCertificate};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Pair {
    agent: Session,
    manager: Session,
    _endpoints: Vec<quinn::Endpoint>,
}

fn listener(pki: &Pki) -> quinn::Endpoint {
    let own = ServerCertificate::new(&pki.manager()).unwrap();
    let tls = tls::tunnel_server(own, &pki.bundle, &pki.fleet).unwrap();
    let key = quic::reset_key(b"test");
    quic::listen(LOOPBACK, quic::server_config(Arc::new(tls)).unwrap(), Some(key)).unwrap()
}

fn client(pki: &Pki, own: &Credentials) -> quinn::ClientConfig {
    quic::client_config(Arc::new(tls::tunnel_client(own, &pki.bundle, &pki.fleet).unwrap())).unwrap()
}

async fn pair() -> Pair {
    let pki = Pki::new();
    let (listener, dialler) = (listener(&pki), quic::dialler(LOOPBACK).unwrap());
    let address = listener.local_addr().unwrap();
    let accepting = async { quic::accept(listener.accept().await.unwrap()).await };
    let (agent, manager) = tokio::join!(quic::dial(&dialler, client(&pki, &pki.agent()), address), accepting);
    Pair { agent: agent.unwrap(), manager: manager.unwrap(), _endpoints: vec![listener, dialler] }
}

async fn pair_over_tcp() -> Pair {
    let pki = Pki::new();
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let own = ServerCertificate::new(&pki.manager()).unwrap();
    let server = Arc::new(tls::tunnel_server(own, &pki.bundle, &pki.fleet).unwrap());
    let client = Arc::new(tls::tunnel_client(&pki.agent(), &pki.bundle, &pki.fleet).unwrap());
    let accepting = async {
        let (stream, from) = listener.accept().await.unwrap();
        tcp::accept(stream, server, from).await
    };
    let (agent, manager) = tokio::join!(tcp::dial(client, address), accepting);
    Pair { agent: agent.unwrap(), manager: manager.unwrap(), _endpoints: Vec::new() }
}

async fn both_carriers() -> [Pair; 2] {
    [pair().await, pair_over_tcp().await]
}

#[tokio::test]
async fn each_end_knows_the_other() {
    let [quic, tcp] = both_carriers().await;
    for (pair, transport) in [(quic, Transport::Quic), (tcp, Transport::Tcp)] {
        assert!(pair.agent.peer().id.cluster().is_none());
        assert!(pair.manager.peer().id.cluster().is_some());
        assert_eq!((pair.manager.transport(), pair.agent.transport()), (transport, transport));
    }
}

#[tokio::test]
async fn both_ends_open_streams_and_name_them() {
    for pair in both_carriers().await {
        for (opener, accepter, tag) in
            [(&pair.agent, &pair.manager, Tag::Grpc), (&pair.manager, &pair.agent, Tag::Http)]
        {
            let mut out = opener.open(tag, Priority::Control).await.unwrap();
            out.write_all(b"hello").await.unwrap();
            out.shutdown().await.unwrap();
            let (found, mut stream) = accepter.accept().await.unwrap().tagged().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!((found, text.as_str()), (tag, "hello"));
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_does_not_end_well() {
    let pair = pair().await;
    let mut out = pair.agent.open(Tag::Http, Priority::Bulk).await.unwrap();
    out.write_all(b"half of it").await.unwrap();
    let (_, mut stream) = pair.manager.accept().await.unwrap().tagged().await.unwrap();
    drop(out);
    let mut text = Vec::new();
    assert!(stream.read_to_end(&mut text).await.is_err(), "a cut is no end");
}

#[tokio::test]
async fn a_stream_says_what_it_carries_with_its_first_bytes_or_when_it_is_flushed_or_ended() {
    for pair in both_carriers().await {
        let long = vec![b'x'; 10_000];
        for (parts, flushed) in [(&[&long[..]][..], false), (&[b"", b"a", &long], false), (&[], true), (&[], false)] {
            let mut out = pair.agent.open(Tag::Http, Priority::Bulk).await.unwrap();
            let slices: Vec<_> = parts.iter().map(|part| std::io::IoSlice::new(part)).collect();
            let mut written = out.write_vectored(&slices).await.unwrap();
            let whole = parts.concat();
            assert!(written <= whole.len());
            while written < whole.len() {
                written += out.write(&whole[written..]).await.unwrap();
            }
            if flushed {
                out.flush().await.unwrap();
            }
            let ending = async {
                let (tag, mut stream) = pair.manager.accept().await.unwrap().tagged().await.unwrap();
                let mut text = Vec::new();
                stream.read_to_end(&mut text).await.unwrap();
                (tag, text)
            };
            let (ended, heard) = tokio::join!(out.shutdown(), ending);
            ended.unwrap();
            assert_eq!(heard, (Tag::Http, whole));
        }
    }
}

#[tokio::test]
async fn a_stream_with_an_unknown_beginning_is_refused() {
    let pair = pair().await;
    let mut out = pair.agent.open(Tag::Http, Priority::Bulk).await.unwrap();
    out.write_all(b"x").await.unwrap();
    let accepted = pair.manager.accept().await.unwrap().tagged().await.unwrap();
    let (_, mut stream) = accepted;
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    assert!(Tag::from_byte(b'x').is_none());
}

#[tokio::test]
async fn an_agent_lets_its_manager_open_more_streams_as_it_needs_them() {
    let pair = pair().await;
    let mut held = Vec::new();
    for _ in 0..STREAMS_INITIAL * 4 {
        let mut out = pair.manager.open(Tag::Http, Priority::Bulk).await.unwrap();
        out.flush().await.unwrap();
        let accepted = pair.agent.accept().await.unwrap();
        held.push((out, accepted));
    }
    assert_eq!(pair.agent.accepted_streams(), STREAMS_INITIAL * 4);
    held.clear();
    assert_eq!(pair.agent.accepted_streams(), 0, "and counts them back");
}

#[tokio::test]
async fn a_manager_lets_its_agent_open_no_more_streams_than_at_first() {
    let pair = pair().await;
    let mut held = Vec::new();
    for _ in 0..STREAMS_INITIAL {
        let mut out = pair.agent.open(Tag::Grpc, Priority::Bulk).await.unwrap();
        out.flush().await.unwrap();
        held.push(out);
        held.push(pair.manager.accept().await.unwrap().tagged().await.unwrap().1);
    }
    let more = pair.agent.open(Tag::Grpc, Priority::Bulk).await;
    assert!(matches!(more, Err(Error::OpenTimeout)), "{more:?}");
}

#[tokio::test]
async fn the_peer_hears_why_a_session_was_closed() {
    for pair in both_carriers().await {
        pair.manager.close(CloseCode::Superseded, "a newer one came");
        // Over TCP the last words arrive on a stream.
        let accepted = async {
            while let Ok(accepted) = pair.agent.accept().await {
                assert!(matches!(accepted.tagged().await, Err(Error::Closed(_))));
            }
        };
        let (closed, ()) = tokio::join!(pair.agent.closed(), accepted);
        assert_eq!(closed, Closed::Peer { code: CloseCode::Superseded, reason: "a newer one came".to_owned() });
        assert_eq!(pair.manager.closed().await, Closed::Here);
        assert!(matches!(pair.agent.open(Tag::Grpc, Priority::Control).await, Err(Error::Closed(_))));
    }
}

#[tokio::test]
async fn what_is_open_ends_for_both_sides_when_either_closes_the_session() {
    for turn in 0..2 {
        for pair in both_carriers().await {
            let mut out = pair.manager.open(Tag::Http, Priority::Bulk).await.unwrap();
            out.flush().await.unwrap();
            let (_, mut stream) = pair.agent.accept().await.unwrap().tagged().await.unwrap();
            let (closing, hearing) =
                if turn == 0 { (&pair.manager, pair.agent.clone()) } else { (&pair.agent, pair.manager.clone()) };
            drop(task::spawn("test.hear", Kind::Request, async move {
                while let Ok(accepted) = hearing.accept().await {
                    drop(accepted.tagged().await);
                }
            }));
            let (mut here, mut there) = ([0], [0]);
            let reading = async { tokio::join!(out.read(&mut here), stream.read(&mut there)) };
            let close = async { closing.close(CloseCode::Done, "") };
            let both = async { tokio::join!(reading, close) };
            let ended = tokio::time::timeout(std::time::Duration::from_secs(5), both).await;
            let ((here, there), ()) = ended.expect("nobody waits for ever");
            assert!(!matches!((&here, &there), (Ok(1), _) | (_, Ok(1))), "{here:?} {there:?}");
        }
    }
}

#[tokio::test]
async fn close_codes_read_back() {
    for number in 0..10 {
        assert_eq!(CloseCode::from_number(number).number(), u32::try_from(number).unwrap());
    }
}

#[tokio::test]
async fn an_agent_of_another_authority_gets_no_session() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (listener, dialler) = (listener(&pki), quic::dialler(LOOPBACK).unwrap());
    let address = listener.local_addr().unwrap();
    let accepting = async { quic::accept(listener.accept().await.unwrap()).await };
    // Its own check of the manager passes: it trusts the right authority and shows a certificate of the wrong one.
    let (dialled, accepted) = tokio::join!(quic::dial(&dialler, client(&pki, &other.agent()), address), accepting);
    assert!(matches!(accepted, Err(Error::Handshake { .. })), "{accepted:?}");
    if let Ok(session) = dialled {
        assert!(matches!(session.closed().await, Closed::Broken(_)));
    }
}

#[tokio::test]
async fn a_restarted_manager_is_noticed_at_once() {
    let pki = Pki::new();
    let (first, second) = (listener(&pki), listener(&pki));
    let dialler = quic::dialler(LOOPBACK).unwrap();
    let (address, switch) = relay(first.local_addr().unwrap()).await;
    let accepting = async { quic::accept(first.accept().await.unwrap()).await };
    let (agent, manager) = tokio::join!(quic::dial(&dialler, client(&pki, &pki.agent()), address), accepting);
    let (agent, _silent) = (agent.unwrap(), manager.unwrap());
    // A process that dies says nothing, and the one that follows has its port.
    switch.send(second.local_addr().unwrap()).unwrap();
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        if let Ok(mut out) = agent.open(Tag::Grpc, Priority::Control).await {
            let _ = out.flush().await;
        }
        agent.closed().await
    });
    assert_eq!(noticed.await.expect("long before the idle timeout"), Closed::Forgotten);
}

/// Carries packets of one client to whichever server was named last.
async fn relay(server: SocketAddr) -> (SocketAddr, watch::Sender<SocketAddr>) {
    let (front, back) = (UdpSocket::bind(LOOPBACK).await.unwrap(), UdpSocket::bind(LOOPBACK).await.unwrap());
    let (address, (switch, server)) = (front.local_addr().unwrap(), watch::channel(server));
    drop(task::spawn("test.relay", Kind::Service, async move {
        let (mut out, mut home) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((bytes, from)) = front.recv_from(&mut out) => {
                    client = Some(from);
                    let server = *server.borrow();
                    back.send_to(&out[..bytes], server).await.unwrap();
                }
                Ok((bytes, from)) = back.recv_from(&mut home) => {
                    let current = *server.borrow();
                    if let Some(client) = client && from == current {
                        front.send_to(&home[..bytes], client).await.unwrap();
                    }
                }
            }
        }
    }));
    (address, switch)
}

type Text = Full<Bytes>;

/// Serves every `H` stream of `session` with an echo of method, path and body.
fn echo(session: Session) {
    drop(task::spawn("test.echo", Kind::Request, async move {
        while let Ok(accepted) = session.accept().await {
            let (tag, stream) = accepted.tagged().await.unwrap();
            assert_eq!(tag, Tag::Http);
            let service = service_fn(async |request: Request<HttpBody>| {
                let line = format!("{} {}", request.method(), request.uri());
                let body = request.into_body().collect().await?.to_bytes();
                let text = [line.as_bytes(), b" ", &body].concat();
                Ok::<_, hyper::Error>(Response::new(Text::from(text)))
            });
            drop(task::spawn("test.exchange", Kind::Request, async move {
                serve_exchange(stream, service).await.unwrap();
            }));
        }
    }));
}

fn post(body: impl Into<Bytes>) -> Request<Text> {
    Request::post("/api/v1/x?dryRun=All").header("host", "test").body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn an_exchange_brings_the_request_and_the_answer() {
    for pair in both_carriers().await {
        echo(pair.agent.clone());
        for _ in 0..40 {
            let response = http_exchange(&pair.manager, post("body")).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&text[..], b"POST /api/v1/x?dryRun=All body");
        }
        all_streams_end(&pair.agent).await;
    }
}

async fn all_streams_end(agent: &Session) {
    for _ in 0..100 {
        if agent.accepted_streams() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{} streams are left", agent.accepted_streams());
}

#[tokio::test]
async fn a_copy_of_sixteen_megabytes_arrives_whole() {
    for pair in both_carriers().await {
        echo(pair.agent.clone());
        let response = http_exchange(&pair.manager, post(vec![b'x'; 16 << 20])).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text.len(), (16 << 20) + "POST /api/v1/x?dryRun=All ".len());
    }
}

#[tokio::test]
async fn an_upgraded_exchange_carries_bytes_both_ways_through_two_proxies() {
    for pair in both_carriers().await {
        // The agent's own end of the exchange: a server that upgrades to an echo.
        let agent = pair.agent.clone();
        drop(task::spawn("test.upgrade", Kind::Request, async move {
            let (_, stream) = agent.accept().await.unwrap().tagged().await.unwrap();
            let service = service_fn(async |mut request: Request<HttpBody>| {
                assert_eq!(request.headers()["upgrade"], "SPDY/3.1");
                let upgraded = hyper::upgrade::on(&mut request);
                drop(task::spawn("test.echo", Kind::Request, async move {
                    let mut io = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
                    let mut byte = [0];
                    while io.read(&mut byte).await.unwrap() == 1 {
                        io.write_all(&byte).await.unwrap();
                    }
                    io.shutdown().await.unwrap();
                }));
                let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
                let response = response.header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
                Ok::<_, std::io::Error>(response.body(Text::default()).unwrap())
            });
            serve_exchange(stream, service).await.unwrap();
        }));
        // The manager's end: a server for the caller whose requests go through the tunnel.
        let (caller, proxy) = tokio::io::duplex(1024);
        let manager = pair.manager.clone();
        drop(task::spawn("test.proxy", Kind::Request, async move {
            let service = service_fn(move |mut request: Request<HttpBody>| {
                let manager = manager.clone();
                async move {
                    let pending = PendingUpgrade::take(&mut request).unwrap();
                    let mut sent = Request::get("/exec").header("host", "test").body(Text::default()).unwrap();
                    pending.say(sent.headers_mut());
                    let mut response = http_exchange(&manager, sent).await.unwrap();
                    assert!(pending.join(&mut response, Ending::default(), |_, _| {}));
                    Ok::<_, std::io::Error>(response.map(|_| Text::default()))
                }
            });
            let io = hyper_util::rt::TokioIo::new(proxy);
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await.unwrap();
        }));
        let io = hyper_util::rt::TokioIo::new(caller);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        drop(task::spawn("test.caller", Kind::Request, async move { drop(connection.with_upgrades().await) }));
        let asked = Request::get("/exec").header("host", "test").header("connection", "upgrade");
        let asked = asked.header("upgrade", "SPDY/3.1").body(Text::default()).unwrap();
        let response = sender.send_request(asked).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
        let mut io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        for key in [b"l", b"s", b"\n"] {
            io.write_all(key).await.unwrap();
            assert_eq!(io.read_u8().await.unwrap(), key[0]);
        }
        io.shutdown().await.unwrap();
        assert_eq!(io.read(&mut [0]).await.unwrap(), 0, "the end comes back");
        all_streams_end(&pair.agent).await;
    }
}

#[tokio::test]
async fn without_udp_the_race_is_won_by_tcp() {
    let pki = Pki::new();
    let tcp_listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = tcp_listener.local_addr().unwrap();
    // Something has the UDP port and says nothing, as a firewall does.
    let _silent = UdpSocket::bind(address).await;
    let own = ServerCertificate::new(&pki.manager()).unwrap();
    let server = Arc::new(tls::tunnel_server(own, &pki.bundle, &pki.fleet).unwrap());
    let client = Arc::new(tls::tunnel_client(&pki.agent(), &pki.bundle, &pki.fleet).unwrap());
    let dialler = quic::dialler(LOOPBACK).unwrap();
    let accepting = async {
        let (stream, from) = tcp_listener.accept().await.unwrap();
        tcp::accept(stream, server, from).await.unwrap()
    };
    let head_start = std::time::Duration::from_millis(50);
    let race = dial::race(dial::Race { address, net: &Net::System, quic: Some(&dialler), tls: client, head_start });
    let (session, _manager) = tokio::join!(race, accepting);
    assert_eq!(session.unwrap().transport(), Transport::Tcp);
}

#[tokio::test]
async fn with_both_ways_open_the_race_is_won_by_quic() {
    let pki = Pki::new();
    let (listener, dialler) = (listener(&pki), quic::dialler(LOOPBACK).unwrap());
    let address = listener.local_addr().unwrap();
    let client = Arc::new(tls::tunnel_client(&pki.agent(), &pki.bundle, &pki.fleet).unwrap());
    let accepting = async { quic::accept(listener.accept().await.unwrap()).await.unwrap() };
    let head_start = crate::limits::TCP_HEAD_START;
    let race = dial::race(dial::Race { address, net: &Net::System, quic: Some(&dialler), tls: client, head_start });
    let (session, _manager) = tokio::join!(race, accepting);
    assert_eq!(session.unwrap().transport(), Transport::Quic);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_told_with_both_reasons() {
    let pki = Pki::new();
    let free = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap();
    let client = Arc::new(tls::tunnel_client(&pki.agent(), &pki.bundle, &pki.fleet).unwrap());
    let error = dial::race(dial::Race {
        address: free,
        net: &Net::System,
        quic: None,
        tls: client,
        head_start: std::time::Duration::ZERO,
    });
    let error = error.await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(matches!(error.tcp, Error::Connect { .. }));
}

#[tokio::test]
async fn a_peer_that_falls_silent_on_tcp_is_noticed() {
    let (here, there) = tokio::io::duplex(1 << 16);
    let mux = super::mux::Mux::start(here, true);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert_eq!(mux.closed().await, Closed::Silent);
    assert!(began.elapsed() <= crate::limits::IDLE_TIMEOUT + std::time::Duration::from_secs(5));
    drop(there);
}

#[tokio::test]
async fn a_watch_flows_and_ends_for_the_agent_when_its_reader_leaves() {
    let pair = pair().await;
    let (gone, mut left) = mpsc::channel::<()>(1);
    let agent = pair.agent.clone();
    drop(task::spawn("test.watch", Kind::Request, async move {
        let (_, stream) = agent.accept().await.unwrap().tagged().await.unwrap();
        let service = service_fn(move |_: Request<HttpBody>| {
            let gone = gone.clone();
            async move {
                let (events, body) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
                drop(task::spawn("test.events", Kind::Request, async move {
                    events.send(Ok(Frame::data(Bytes::from_static(b"event\n")))).await.unwrap();
                    // Quiet from here on, as a watch is: only the reader's leaving ends it.
                    events.closed().await;
                    gone.send(()).await.unwrap();
                }));
                Ok::<_, std::io::Error>(Response::new(StreamBody::new(ReceiverStream::new(body))))
            }
        });
        let _ = serve_exchange(stream, service).await;
    }));
    let request = Request::get("/watch").header("host", "test").body(Text::default()).unwrap();
    let mut body = http_exchange(&pair.manager, request).await.unwrap().into_body();
    let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&event[..], b"event\n");
    drop(body);
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(5), left.recv()).await;
    assert!(matches!(noticed, Ok(Some(()))), "the agent stops to work for a reader that has left");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_for_its_reader() {
    let pair = pair().await;
    let agent = pair.agent.clone();
    drop(task::spawn("test.half", Kind::Request, async move {
        let (_, mut stream) = agent.accept().await.unwrap().tagged().await.unwrap();
        let mut head = [0; 16];
        stream.read_exact(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }));
    let response = http_exchange(&pair.manager, post("")).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert!(body.frame().await.unwrap().is_err(), "half a list is no list");
}

mod grpc {
    //! gRPC from the manager to the agent: the agent serves, though it dialled.

    use std::pin::Pin;

    use tonic::{Request, Response, Status};

    use super::*;
    use crate::v1::health_client::HealthClient;
    use crate::v1::health_server::{Health, HealthServer};
    use crate::v1::{HealthReport, WatchHealthRequest};

    struct Fake;

    #[tonic::async_trait]
    impl Health for Fake {
        type WatchStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<HealthReport, Status>> + Send>>;

        async fn watch(&self, request: Request<WatchHealthRequest>) -> Result<Response<Self::WatchStream>, Status> {
            let peer = request.extensions().get::<PeerInfo>().unwrap();
            let report = HealthReport { agent_version: peer.identity.id.to_string(), ..HealthReport::default() };
            Ok(Response::new(Box::pin(tokio_stream::iter([Ok(report)]))))
        }
    }

    #[tokio::test]
    async fn the_manager_calls_the_agent_over_the_agents_connection() {
        let pair = pair().await;
        let (sender, incoming) = Incoming::channel();
        drop(task::spawn("test.server", Kind::Service, async move {
            let server = tonic::transport::Server::builder().add_service(HealthServer::new(Fake));
            server.serve_with_incoming(incoming).await.unwrap();
        }));
        let agent = pair.agent.clone();
        drop(task::spawn("test.accept", Kind::Request, async move {
            while let Ok(accepted) = agent.accept().await {
                let (tag, stream) = accepted.tagged().await.unwrap();
                assert_eq!(tag, Tag::Grpc);
                sender.hand_over(&agent, stream);
            }
        }));
        let mut client = HealthClient::new(grpc_channel(&pair.manager, Priority::Control));
        for _ in 0..3 {
            let mut reports = client.watch(WatchHealthRequest { heartbeat_ms: 1000 }).await.unwrap().into_inner();
            let report = reports.next().await.unwrap().unwrap();
            assert_eq!(report.agent_version, "spiffe://test.example/manager");
        }
        pair.agent.close(CloseCode::Done, "");
        pair.manager.closed().await;
        let after = client.watch(WatchHealthRequest { heartbeat_ms: 1000 }).await.unwrap_err();
        assert_eq!(after.code(), tonic::Code::Unavailable);
    }
}
