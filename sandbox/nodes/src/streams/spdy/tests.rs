use lattice_protocol::task;
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::*;

/// Two header blocks as zlib packs them from the dictionary: those of a port-forward's error and data stream.
const BLOCKS: [&str; 2] = [
    "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c6061606100a4398b20d198094ade8c0600000000ffff",
    "02c960680695438944e9452fc1b8105e07000000ffff",
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn open(id: u32, block: &[u8]) -> Vec<u8> {
    frame::control(1, &[&id.to_be_bytes()[..], &[0; 6], block].concat())
}

fn data(id: u32, finish: bool, data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).expect("small").to_be_bytes();
    [&id.to_be_bytes()[..], &[u8::from(finish)], &size[1..], data].concat()
}

/// Reads one frame: its first four bytes, its flags, and the rest.
async fn next(client: &mut DuplexStream) -> ([u8; 4], u8, Vec<u8>) {
    let mut head = [0; 8];
    client.read_exact(&mut head).await.expect("a frame");
    let size = u32::from_be_bytes([0, head[5], head[6], head[7]]);
    let mut rest = vec![0; usize::try_from(size).expect("small")];
    client.read_exact(&mut rest).await.expect("all of it");
    ([head[0], head[1], head[2], head[3]], head[4], rest)
}

#[test]
fn the_dictionary_is_the_one_that_clients_name() {
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in headers::dictionary() {
        low = (low + u32::from(byte)) % 65521;
        high = (high + low) % 65521;
    }
    assert_eq!((high << 16 | low).to_be_bytes(), [0xe3, 0xc6, 0xa7, 0xc2]);
}

#[test]
fn header_blocks_of_one_connection_are_unpacked_in_order() {
    let mut inflate = headers::Inflate::new();
    let [error, data] =
        BLOCKS.map(|block| headers::parse(&inflate.next(&bytes(block)).expect("unpacked")).expect("headers"));
    assert_eq!((error["streamtype"].as_str(), error["port"].as_str()), ("error", "8080"));
    assert_eq!((data["streamtype"].as_str(), data["content-type"].as_str()), ("data", "text/plain"));
}

#[test]
fn what_is_packed_is_unpacked_the_same() {
    let (mut deflate, mut inflate) = (headers::Deflate::default(), headers::Inflate::new());
    for size in [4, 70_000, 0, 9] {
        let block: Vec<u8> = (0..=255).cycle().take(size).collect();
        assert!(inflate.next(&deflate.next(&block)).expect("unpacked") == block, "{size}");
    }
}

#[test]
fn broken_headers_are_refused() {
    for block in [&b""[..], b"\x78", b"\x78\xbb\0\0\0\0", b"\x78\x9c\xff\xff\xff\xff"] {
        assert!(headers::Inflate::new().next(block).is_err(), "{block:?}");
    }
    for block in [&b""[..], b"\0\0\0\x01", b"\0\0\0\x01\0\0\0\x09ab"] {
        assert!(headers::parse(block).is_err(), "{block:?}");
    }
}

#[tokio::test]
async fn streams_carry_data_both_ways_and_end() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let serving = task::spawn(
        "test.serve",
        task::Kind::Request,
        serve(server, |mut streams| async move {
            let mut stream = streams.recv().await.expect("a stream");
            while let Some(chunk) = stream.input.recv().await {
                stream.output.send(chunk).await.expect("a client");
            }
            stream.output.finish().await;
        }),
    );
    client.write_all(&frame::control(6, &[0, 0, 0, 7])).await.expect("written");
    assert_eq!(next(&mut client).await, ([0x80, 3, 0, 6], 0, vec![0, 0, 0, 7]));
    client.write_all(&open(1, &bytes(BLOCKS[0]))).await.expect("written");
    let (kind, _, rest) = next(&mut client).await;
    assert_eq!((kind, &rest[..4]), ([0x80, 3, 0, 2], &[0, 0, 0, 1][..]));
    client.write_all(&data(1, true, b"hello")).await.expect("written");
    assert_eq!(next(&mut client).await, ([0, 0, 0, 1], 0, b"hello".to_vec()));
    assert_eq!(next(&mut client).await, ([0, 0, 0, 1], 1, Vec::new()));
    assert_eq!(client.read(&mut [0]).await.expect("an end"), 0);
    drop(client);
    serving.await.expect("no panic");
}

#[tokio::test]
async fn a_reset_stream_ends_and_its_room_is_used_again() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let serving = task::spawn(
        "test.serve",
        task::Kind::Request,
        serve(server, |mut streams| async move {
            while let Some(stream) = streams.recv().await {
                stream.output.reset().await;
                assert_eq!(stream.output.send(Bytes::from_static(b"x")).await, Err(Gone));
            }
        }),
    );
    let mut deflate = headers::Deflate::default();
    for number in 0..u32::try_from(STREAMS_MAX).expect("small") + 9 {
        let id = 2 * number + 1;
        client.write_all(&open(id, &deflate.next(&headers::none()))).await.expect("written");
        let (kind, _, _) = next(&mut client).await;
        assert_eq!(kind, [0x80, 3, 0, 2], "stream {number} is taken");
        client.write_all(&frame::control(3, &[&id.to_be_bytes()[..], &[0; 4]].concat())).await.expect("written");
    }
    drop(client);
    serving.await.expect("no panic");
}

/// A stream that is not read holds up the connection, and with it the client's end.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_a_stream_is_full_is_noticed() {
    let (mut client, server) = tokio::io::duplex(16 << 10);
    let serving = task::spawn(
        "test.serve",
        task::Kind::Request,
        serve(server, |mut streams| async move {
            let _held = streams.recv().await;
            std::future::pending::<()>().await;
        }),
    );
    client.write_all(&open(1, &bytes(BLOCKS[0]))).await.expect("written");
    let full = async {
        loop {
            client.write_all(&data(1, false, &[0; 1 << 10])).await.expect("written");
        }
    };
    assert!(tokio::time::timeout(PING_EVERY / 2, full).await.is_err(), "the stream is never full");
    drop(client);
    tokio::time::timeout(3 * PING_EVERY, serving).await.expect("noticed").expect("no panic");
}
