//! Probes of real containers: HTTP and TCP, as their pods describe them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Most bytes of an answer that are read: the status line is all that counts.
const ANSWER_MAX: usize = 512;

/// Probes once; `Err` says what was wrong. Kinds that are not simulated (exec, gRPC) pass.
pub(super) async fn once(probe: &Probe, container: &Container, host: &str) -> Result<(), String> {
    let timeout = Duration::from_secs(seconds(probe.timeout_seconds, 1));
    let attempt = async {
        if let Some(http) = &probe.http_get {
            get(http, container, host).await
        } else if let Some(tcp) = &probe.tcp_socket {
            let port = port(&tcp.port, container).ok_or("the probe's port has no number")?;
            let host = target(tcp.host.as_deref(), host);
            TcpStream::connect((host, port)).await.map(drop).map_err(|error| format!("dial tcp {host}:{port}: {error}"))
        } else {
            Ok(())
        }
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

/// A number of seconds, or its default; never 0.
pub(super) fn seconds(value: Option<i32>, default: u64) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
}

/// Where a probe goes: a simulated node's own address is all the loopback it has, so 127.0.0.1 means that.
fn target<'a>(asked: Option<&'a str>, node: &'a str) -> &'a str {
    match asked {
        None | Some("127.0.0.1" | "localhost") => node,
        Some(other) => other,
    }
}

async fn get(http: &HTTPGetAction, container: &Container, host: &str) -> Result<(), String> {
    let port = port(&http.port, container).ok_or("the probe's port has no number")?;
    let host = target(http.host.as_deref(), host);
    let path = http.path.as_deref().unwrap_or("/");
    let url = format!("http://{host}:{port}{path}");
    let failed = |error: std::io::Error| format!("Get \"{url}\": {error}");
    let mut stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: kube-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let code = status_code(&mut stream).await.map_err(failed)?;
    match code {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
        None => Err(format!("Get \"{url}\": malformed HTTP response")),
    }
}

async fn status_code(stream: &mut TcpStream) -> std::io::Result<Option<u16>> {
    let mut answer = Vec::with_capacity(ANSWER_MAX);
    let mut buffer = [0; 128];
    while answer.len() < ANSWER_MAX && !answer.contains(&b'\n') {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let mut words = text.split_ascii_whitespace();
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/"));
    Ok(words.next().filter(|_| is_http).and_then(|code| code.parse().ok()))
}

fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port)
        }
    };
    number.and_then(|number| u16::try_from(number).ok())
}
