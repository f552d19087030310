//! What ends at a drain, where, and what does not.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full, StreamBody};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

#[test]
fn watches_and_followed_logs_have_no_end() {
    let asks = |method: Method, uri: &str| has_no_end(&method, &uri.parse().unwrap());
    for endless in [
        "/api/v1/nodes?watch=true",
        "/api/v1/nodes?watch=1&resourceVersion=7",
        "/apis/apps/v1/deployments?limit=5&watch",
        "/api/v1/watch/nodes",
        "/apis/apps/v1/watch/namespaces/x/deployments",
        "/api/v1/namespaces/x/pods/y/log?follow=true",
    ] {
        assert!(asks(Method::GET, endless), "{endless}");
    }
    for ended in [
        "/api/v1/nodes",
        "/api/v1/nodes?watch=false",
        "/api/v1/nodes?watch=0",
        "/api/v1/namespaces/watch/pods",
        "/apis/watch/v1/things",
        "/watch/nodes",
        "/?timeout=5s",
        "/",
    ] {
        assert!(!asks(Method::GET, ended), "{ended}");
    }
    assert!(!asks(Method::DELETE, "/api/v1/nodes?watch=true"));
}

/// A WebSocket frame as a server sends it.
fn web_socket(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    match payload.len() {
        short @ 0..126 => frame.push(u8::try_from(short).unwrap()),
        middle @ 126..65536 => {
            frame.push(126);
            frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

fn spdy(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0, 0, 0, 1, 0], &length[1..], payload].concat()
}

fn protobuf(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
}

proptest! {
    #[test]
    fn a_stream_is_whole_between_its_messages_only(
        lengths in prop::collection::vec(prop_oneof![0_usize..300, 65_530_usize..65_540], 1..6), cut in 1_usize..4096,
    ) {
        type Of = fn(&[u8]) -> Vec<u8>;
        let kinds: [(Framing, Of); 3] = [
            (Framing::web_socket(), web_socket), (Framing::spdy(), spdy), (Framing::kubernetes_protobuf(), protobuf),
        ];
        for (fresh, framed) in kinds {
            let (mut stream, mut ends) = (Vec::new(), vec![0]);
            for length in &lengths {
                stream.extend(framed(&vec![0xff; *length]));
                ends.push(stream.len());
            }
            let (mut framing, mut at) = (fresh, 0);
            for piece in stream.chunks(cut) {
                framing.feed(piece);
                at += piece.len();
                prop_assert_eq!(framing.is_whole(), ends.contains(&at), "{:?} at {}", framing, at);
            }
        }
    }
}

#[test]
fn a_masked_frame_is_longer_by_its_mask() {
    let mut framing = Framing::web_socket();
    framing.feed(&[0x81, 0x85, 1, 2, 3, 4, b'h', b'e', b'l', b'l']);
    assert!(!framing.is_whole());
    framing.feed(b"o");
    assert!(framing.is_whole());
}

type Pieces = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

fn answer(kind: &str, ending: &Ending) -> (Pieces, Response<EndingBody<impl Body<Data = Bytes> + Unpin>>) {
    let (pieces, body) = mpsc::channel(8);
    let response = Response::builder().header("content-type", kind).body(StreamBody::new(ReceiverStream::new(body)));
    (pieces, EndingBody::wrap(response.unwrap(), true, ending))
}

async fn piece<B: Body<Data = Bytes> + Unpin>(response: &mut Response<EndingBody<B>>) -> Option<Bytes> {
    let frame = response.body_mut().frame().await?;
    Some(frame.unwrap_or_else(|_| panic!("it does not fail")).into_data().unwrap_or_default())
}

#[tokio::test]
async fn a_watch_ends_behind_the_event_that_it_is_in() {
    for (kind, first, second) in [
        ("application/json", &b"{\"type\":"[..], &b"\"ADDED\"}\n"[..]),
        ("application/vnd.kubernetes.protobuf;stream=watch", &[0, 0, 0, 3, 1], &[2, 3]),
    ] {
        let ending = Ending::default();
        let (pieces, mut response) = answer(kind, &ending);
        pieces.send(Ok(Frame::data(Bytes::copy_from_slice(first)))).await.unwrap();
        assert_eq!(piece(&mut response).await.unwrap(), first);
        ending.drain.cancel();
        pieces.send(Ok(Frame::data(Bytes::copy_from_slice(second)))).await.unwrap();
        pieces.send(Ok(Frame::data(Bytes::from_static(b"the next one")))).await.unwrap();
        assert_eq!(piece(&mut response).await.unwrap(), second, "{kind}: the event is not cut");
        assert_eq!(piece(&mut response).await, None, "{kind}: behind it is the end");
    }
}

#[tokio::test]
async fn a_watch_that_waits_for_its_next_event_ends_at_once() {
    let ending = Ending::default();
    let (_pieces, mut response) = answer("application/json", &ending);
    let (read, ()) = tokio::join!(piece(&mut response), async { ending.drain.cancel() });
    assert_eq!(read, None);
}

#[tokio::test]
async fn an_answer_that_has_an_end_is_not_cut_short() {
    let ending = Ending::default();
    ending.drain.cancel();
    let whole = Response::new(Full::new(Bytes::from_static(b"{\"items\":[]}")));
    let read = EndingBody::wrap(whole, true, &ending).into_body().collect().await.unwrap().to_bytes();
    assert_eq!(read, "{\"items\":[]}", "its length was said");
    let (pieces, body) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    pieces.try_send(Ok(Frame::data(Bytes::from_static(b"{\"items\":[]}\n")))).unwrap();
    drop(pieces);
    let asked_without = Response::new(StreamBody::new(ReceiverStream::new(body)));
    let read = EndingBody::wrap(asked_without, false, &ending).into_body().collect().await.unwrap().to_bytes();
    assert_eq!(read, "{\"items\":[]}\n");
}
