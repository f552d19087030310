//! Which connections go through a proxy, and how it is asked.

use lattice_protocol::task::{self, Kind};
use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;

#[track_caller]
fn goes(except: &str, host: &str, through: bool) {
    let proxying = Proxying::new(Some("http://proxy:3128".parse().unwrap()), except);
    assert_eq!(proxying.to(host).is_some(), through, "NO_PROXY={except:?}, {host}");
}

#[test]
fn no_proxy_is_read_as_others_read_it() {
    goes("", "parent.example.org", true);
    goes("example.org", "parent.example.org", false);
    goes(".example.org, other", "parent.EXAMPLE.org", false);
    goes("*.example.org", "parent.example.org", false);
    goes("ample.org", "parent.example.org", true);
    goes("10.0.0.0/8", "10.9.8.7", false);
    goes("10.0.0.0/8", "11.9.8.7", true);
    goes("10.0.0.1", "10.0.0.1", false);
    goes("fd00::/8", "fd12::1", false);
    goes("*", "anything", false);
    goes("", "127.0.0.1", false);
    goes("", "localhost", false);
}

#[test]
fn a_proxy_is_read_and_its_password_never_shown() {
    let proxy: HttpProxy = "http://me:p%40ss@proxy.example.org:3128/".parse().unwrap();
    assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy.example.org:3128 HttpProxy(http://proxy.example.org:3128)");
    assert_eq!(proxy.authorization.as_deref(), Some(STANDARD.encode("me:p@ss").as_str()));
    assert_eq!("proxy".parse::<HttpProxy>().unwrap().to_string(), "http://proxy:80");
    assert_eq!("[::1]:8080".parse::<HttpProxy>().unwrap().host, "::1");
    for bad in ["", "https://proxy", "socks5://proxy", "http://", "http://a/b", "http://a?b", "http://secret@"] {
        let said = bad.parse::<HttpProxy>().unwrap_err();
        assert!(!said.contains("secret"), "{bad:?}: {said}");
    }
}

/// A proxy that gives `answer` to whatever it is asked; what it was asked comes back.
async fn proxy(answer: &'static str) -> (HttpProxy, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://me:secret@{}", listener.local_addr().unwrap()).parse().unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    drop(task::spawn("test.proxy", Kind::Request, async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = head(&mut stream).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_ok() {
            stream.write_all(&byte).await.unwrap();
        }
        tell.send(asked).unwrap();
    }));
    (proxy, told)
}

#[tokio::test]
async fn a_stream_leads_to_the_target_once_the_proxy_agrees() {
    let (proxy, told) = proxy("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
    let mut stream = proxy.connect("2001:db8::1", 50051).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x', "nothing of the answer is left in the way");
    let asked = told.await.unwrap();
    assert!(asked.starts_with("CONNECT [2001:db8::1]:50051 HTTP/1.1\r\nHost: [2001:db8::1]:50051\r\n"), "{asked}");
    assert!(asked.contains(&format!("Proxy-Authorization: Basic {}", STANDARD.encode("me:secret"))));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_proxys_words_and_without_the_password() {
    let (proxy, _told) = proxy("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let error = proxy.connect("parent", 50051).await.unwrap_err().to_string();
    assert!(error.contains("407 Proxy Authentication Required") && !error.contains("secret"), "{error}");
}

proptest! {
    #[test]
    fn no_text_panics_the_readers(text in "\\PC{0,40}", host in "[a-z0-9.:]{0,20}") {
        drop(text.parse::<HttpProxy>());
        let _ = Proxying::new(None, &text).to(&host);
        let _ = Proxying::new(Some("proxy".parse().unwrap()), &text).to(&host);
    }
}
