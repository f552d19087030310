//! A planned stop, as those see it whose connections are open.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::proxying::{cat, request, watched, world};
use super::world::World;

const WATCH: &str = "/clusters/backend/api/v1/nodes?watch=true";
const EXEC: &str = "/clusters/backend/api/v1/namespaces/x/pods/y/exec?command=cat";

async fn open(world: &World, alpn: &[u8], asked: Request<Full<Bytes>>) -> Response<Incoming> {
    world.open(world.gateway.proxy_addr(), alpn, asked).await
}

#[tokio::test]
async fn a_watch_ends_cleanly_when_the_manager_stops() {
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let (api, events, mut gone) = watched();
        let (world, _agent) = world(api).await;
        let mut body = open(&world, alpn, request("GET", WATCH, "")).await.into_body();
        events.send("one\n").await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one\n");
        let (ended, ()) = tokio::join!(body.collect(), world.gateway.shutdown());
        let ended = ended.expect("an end, and no break: a break makes clients complain");
        assert!(ended.to_bytes().is_empty());
        assert_eq!(gone.recv().await, Some(()), "the child's API hears of it");
    }
}

#[tokio::test]
async fn an_idle_terminal_is_told_goodbye_in_its_own_protocol() {
    let (world, _agent) = world(cat()).await;
    let mut open_ones = Vec::new();
    for (protocol, goodbye) in
        [("websocket", &b"\x88\x0c\x03\xe9restarting"[..]), ("SPDY/3.1", b"\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\0")]
    {
        let mut asked = request("GET", EXEC, "");
        asked.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        asked.headers_mut().insert("upgrade", protocol.parse().unwrap());
        let response = open(&world, b"http/1.1", asked).await;
        let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        // A whole message of either protocol: it comes back, and the goodbye stands behind it.
        let message: &[u8] = if protocol == "websocket" { b"\x82\x02hi" } else { b"\0\0\0\x01\0\0\0\x02hi" };
        io.write_all(message).await.unwrap();
        let mut back = vec![0; message.len()];
        io.read_exact(&mut back).await.unwrap();
        assert_eq!(back, message);
        open_ones.push((protocol, goodbye, io));
    }
    let saying = async {
        for (protocol, goodbye, mut io) in open_ones {
            let mut heard = Vec::new();
            io.read_to_end(&mut heard).await.expect("a close, not a break");
            assert_eq!(heard, goodbye, "{protocol}");
        }
    };
    tokio::join!(saying, world.gateway.shutdown());
}

#[tokio::test]
async fn a_copy_may_finish_while_the_manager_stops() {
    let (world, _agent) = world(cat()).await;
    let mut asked = request("GET", EXEC, "");
    asked.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    asked.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let response = open(&world, b"http/1.1", asked).await;
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let (mut input, mut output) = tokio::io::split(io);
    // Pieces a little apart, each less than what counts as quiet: together longer than it.
    let copying = async {
        for _ in 0..8 {
            output.write_all(&[b"\x82\x7e\x10\0"[..].to_vec(), vec![7; 4096]].concat()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        output
    };
    let reading = async {
        let mut copied = vec![0; 8 * 4100];
        input.read_exact(&mut copied).await.expect("all of it arrives");
        let mut rest = Vec::new();
        input.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let (_output, rest, ()) = tokio::join!(copying, reading, world.gateway.shutdown());
    assert_eq!(rest, b"\x88\x0c\x03\xe9restarting");
}
