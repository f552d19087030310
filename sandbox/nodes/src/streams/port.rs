//! What listens on the ports of a simulated pod: a page for HTTP, an echo for all else.

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::mpsc::Receiver;

use super::spdy::Output;

/// Largest head of a request that is read.
const HEAD_MAX: usize = 64 << 10;
const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS "];

/// Talks until the client has said all.
pub(super) async fn converse(pod: &str, port: u16, mut input: Receiver<Bytes>, output: &Output) {
    let Some(first) = input.recv().await else { return };
    if METHODS.iter().any(|method| first.starts_with(method)) {
        pages(pod, port, first, &mut input, output).await;
        return;
    }
    let mut next = Some(first);
    while let Some(chunk) = next {
        if output.send(chunk).await.is_err() {
            return;
        }
        next = input.recv().await;
    }
}

/// Answers requests one after another, until the client closes or asks for it.
async fn pages(pod: &str, port: u16, first: Bytes, input: &mut Receiver<Bytes>, output: &Output) {
    let mut buffer = BytesMut::from(first);
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if buffer.len() > HEAD_MAX {
                return;
            }
            let Some(more) = input.recv().await else { return };
            buffer.extend_from_slice(&more);
        };
        let head = String::from_utf8_lossy(&buffer.split_to(end)).into_owned();
        let asked = Asked::parse(&head);
        if !skip(asked.body, &mut buffer, input).await {
            return;
        }
        let page = asked.page(pod, port);
        if output.send(page.into()).await.is_err() || asked.close {
            return;
        }
    }
}

/// Leaves the body of a request out.
async fn skip(size: u64, buffer: &mut BytesMut, input: &mut Receiver<Bytes>) -> bool {
    let mut left = size;
    loop {
        let here = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        buffer.advance(here);
        left -= u64::try_from(here).unwrap_or(left);
        if left == 0 {
            return true;
        }
        let Some(more) = input.recv().await else { return false };
        buffer.extend_from_slice(&more);
    }
}

/// What a request's head says.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    line: String,
    head_only: bool,
    body: u64,
    close: bool,
}

impl Asked {
    fn parse(head: &str) -> Self {
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default();
        let (line, version) = line.rsplit_once(' ').unwrap_or((line, ""));
        let mut asked =
            Self { line: line.to_owned(), head_only: line.starts_with("HEAD "), body: 0, close: version == "HTTP/1.0" };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                asked.body = value.trim().parse().unwrap_or(0);
            } else if name.eq_ignore_ascii_case("connection") {
                asked.close |= value.trim().eq_ignore_ascii_case("close");
            }
        }
        asked
    }

    fn page(&self, pod: &str, port: u16) -> String {
        let text = format!("simulated pod {pod}, port {port}: {}\n", self.line);
        let connection = if self.close { "close" } else { "keep-alive" };
        let body = if self.head_only { "" } else { text.as_str() };
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            text.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_what_was_asked() {
        let asked = Asked::parse("GET /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(asked, Asked { line: "GET /x?y".to_owned(), head_only: false, body: 7, close: false });
        assert!(asked.page("ns/web", 80).ends_with("\r\n\r\nsimulated pod ns/web, port 80: GET /x?y\n"));
        assert!(Asked::parse("GET / HTTP/1.0\r\n\r\n").close);
        assert!(Asked::parse("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n").close);
    }
}
