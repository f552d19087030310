//! What clients of all sorts send, to the byte, and what becomes of it.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::proxying::{TOKEN, request, world};
use super::world::{World, echo};

/// Sends bytes over a connection of its own, and reads until the other side is done or `until` has come.
async fn raw(world: &World, sent: &[&[u8]], until: &str) -> String {
    let mut io = world.tls(world.gateway.proxy_addr(), b"http/1.1", None).await;
    let mut heard = Vec::new();
    for (number, piece) in sent.iter().enumerate() {
        if number > 0 {
            // What was sent before has to be answered first.
            heard.resize(heard.len() + 1, 0);
            let last = heard.len() - 1;
            io.read_exact(&mut heard[last..]).await.unwrap();
        }
        io.write_all(piece).await.unwrap();
    }
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&heard).contains(until) {
        match io.read(&mut buffer).await {
            Ok(read @ 1..) => heard.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_path_leads_to_the_cluster_that_it_names_first_and_goes_on_untouched() {
    let (world, _agent) = world(echo()).await;
    for path in
        ["//api", "/../other/api", "/%2e%2e/other/api", "/a%2Fb", "/./x?y=//z", "/api/v1/pods?fieldSelector=a%3Db"]
    {
        let asked = format!("GET /clusters/backend{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        let heard = raw(&world, &[asked.as_bytes()], "\"}").await;
        assert!(heard.contains(&format!("\"uri\":\"{path}\"")), "{path}: {heard}");
    }
    for path in [
        "/clusters/other/../backend/api",
        "//clusters/backend/api",
        "/clusters//backend/api",
        "/clusters/%62ackend/api",
        "/clusters/backend%2fapi",
        "/clusters/Backend/api",
        "/Clusters/backend/api",
        "/clusters/../clusters/backend/api",
        "/clusters/backend;x/api",
        "*",
        "/",
    ] {
        let asked = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        let heard = raw(&world, &[asked.as_bytes()], "}").await;
        assert!(!heard.contains("\"uri\""), "{path} must not reach backend: {heard}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let (world, _agent) = world(echo()).await;
    let head = format!(
        "POST /clusters/backend/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 4\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    let heard = raw(&world, &[head.as_bytes(), b"body"], "\"body\":").await;
    assert!(heard.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{heard}");
    assert!(heard.contains("\"body\":\"body\""), "{heard}");
    assert!(!heard.contains("expect"), "it is an affair of this connection: {heard}");
}

#[tokio::test]
async fn large_heads_pass_and_larger_ones_are_refused() {
    let (world, _agent) = world(echo()).await;
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let mut asked = request("GET", "/clusters/backend/api", "");
        asked.headers_mut().insert("x-large", "y".repeat(40 << 10).parse().unwrap());
        let answer = world.https(world.gateway.proxy_addr(), alpn, asked).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["headers"]["x-large"].as_str().map(str::len), Some(40 << 10));
    }
    let mut many = format!("GET /clusters/backend/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n");
    many.extend((0..200).map(|number| format!("X-{number}: y\r\n")));
    let heard = raw(&world, &[format!("{many}\r\n").as_bytes()], "\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 431 "), "{heard}");
}

#[tokio::test]
async fn a_head_request_gets_the_head_of_the_answer() {
    let (world, _agent) = world(echo()).await;
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let answer = world.https(world.gateway.proxy_addr(), alpn, request("HEAD", "/clusters/backend/api", "")).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(answer.headers["audit-id"], "7");
    }
}

#[tokio::test]
async fn two_lengths_or_a_second_request_inside_the_first_reach_nobody() {
    let (world, _agent) = world(echo()).await;
    let smuggled = "GET /clusters/backend/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\n".to_owned(),
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned() + smuggled,
        "Transfer-Encoding: chunked, identity\r\n\r\n".to_owned() + smuggled,
        "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ] {
        let head = format!("POST /clusters/backend/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n");
        // Whoever still reads hangs up behind this one.
        let last = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let heard = raw(&world, &[format!("{head}{framing}{last}").as_bytes()], "never").await;
        assert!(!heard.contains("\"uri\":\"/smuggled\""), "{framing:?}: {heard}");
    }
}

#[tokio::test]
async fn an_unknown_protocol_is_not_upgraded_to() {
    let (world, _agent) = world(echo()).await;
    for protocol in ["h2c", "TLS/1.0", "websocket, h2c"] {
        let mut asked: Request<Full<Bytes>> = request("GET", "/clusters/backend/api", "");
        asked.headers_mut().insert("connection", "Upgrade, HTTP2-Settings".parse().unwrap());
        asked.headers_mut().insert("http2-settings", "AAMAAABkAAQAAP__".parse().unwrap());
        asked.headers_mut().insert("upgrade", protocol.parse().unwrap());
        let told = world.proxy(asked).await.json();
        for gone in ["upgrade", "connection", "http2-settings"] {
            assert!(told["headers"].get(gone).is_none(), "{protocol}: {told}");
        }
    }
}
