//! HTTP proxies on the way to the parent: `HTTPS_PROXY` and `NO_PROXY`, as curl and Kubernetes' programs read them.
//!
//! A proxy carries TCP only (`CONNECT`), so QUIC is still tried straight; names are resolved by the proxy.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest head of a proxy's answer, bytes.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// An HTTP proxy. `Debug` and `Display` never show its password.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpProxy {
    host: String,
    port: u16,
    authorization: Option<String>,
}

/// A proxy as an option or variable gives it: empty means none.
#[derive(Clone, Debug)]
pub struct ProxyArg(pub Option<HttpProxy>);

impl FromStr for ProxyArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() { Ok(Self(None)) } else { text.parse().map(|proxy| Self(Some(proxy))) }
    }
}

/// Which connections go through which proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxying {
    proxy: Option<HttpProxy>,
    except: Vec<Except>,
}

/// Whom to connect to without the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Except {
    Everybody,
    /// The name itself and whatever ends with it after a dot.
    Domain(String),
    Network(IpAddr, u8),
}

/// What a proxy said instead of connecting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error("proxy {0} cannot be reached")]
    Unreachable(HttpProxy, #[source] std::io::Error),
    /// It refused.
    #[error("proxy {proxy} refused to connect to {target}: {answer:?}")]
    Refused {
        /// The proxy.
        proxy: HttpProxy,
        /// Where to.
        target: String,
        /// Its status line.
        answer: String,
    },
}

impl Proxying {
    /// Sends what is not in `except` (as in `NO_PROXY`: names, domains, addresses, networks, `*`) through `proxy`.
    pub fn new(proxy: Option<HttpProxy>, except: &str) -> Self {
        let except = except.split(',').map(str::trim).filter(|item| !item.is_empty()).map(except_of).collect();
        Self { proxy, except }
    }

    /// The proxy for a host, if there is one.
    pub fn to(&self, host: &str) -> Option<&HttpProxy> {
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let excepted = loopback || self.except.iter().any(|except| except.holds(host));
        self.proxy.as_ref().filter(|_| !excepted)
    }

    /// Connects to `host:port`, through the proxy where one is meant.
    ///
    /// # Errors
    /// The system's words, or the proxy's.
    pub async fn connect(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        match self.to(host) {
            Some(proxy) => proxy.connect(host, port).await.map_err(std::io::Error::other),
            None => TcpStream::connect((host, port)).await,
        }
    }
}

impl HttpProxy {
    /// Asks the proxy to connect to `host:port`; the stream then leads there. Without a bound on time: callers know theirs.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Error> {
        let away = |source| Error::Unreachable(self.clone(), source);
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(away)?;
        let authorization = match &self.authorization {
            Some(secret) => format!("Proxy-Authorization: Basic {secret}\r\n"),
            None => String::new(),
        };
        let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
        stream.write_all(ask.as_bytes()).await.map_err(away)?;
        let head = head(&mut stream).await.map_err(away)?;
        let line = head.lines().next().unwrap_or_default();
        let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        if code.is_some_and(|code| code.starts_with('2')) {
            return Ok(stream);
        }
        let answer = line.chars().take(200).collect();
        Err(Error::Refused { proxy: self.clone(), target, answer })
    }
}

/// Reads the head of an answer and nothing beyond it. What follows is the peer's.
async fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= ANSWER_BYTES_MAX {
            return Err(std::io::Error::other("its answer is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn except_of(item: &str) -> Except {
    if item == "*" {
        return Except::Everybody;
    }
    let (address, bits) = item.split_once('/').map_or((item, None), |(address, bits)| (address, bits.parse().ok()));
    if let Ok(address) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
        let all = if address.is_ipv4() { 32 } else { 128 };
        return Except::Network(address, bits.unwrap_or(all).min(all));
    }
    let name = item.trim_start_matches("*.").trim_start_matches('.');
    Except::Domain(name.to_ascii_lowercase())
}

impl Except {
    fn holds(&self, host: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Domain(name) => {
                let host = host.to_ascii_lowercase();
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::Network(network, bits) => {
                host.parse::<IpAddr>().is_ok_and(|address| shares_prefix(*network, address, *bits))
            }
        }
    }
}

fn shares_prefix(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let (one, other, width) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits()), u128::from(other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    (one ^ other).checked_shr(width - u32::from(bits)).unwrap_or(0) == 0
}

impl FromStr for HttpProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text may hold a password: it is not repeated.
        let refuse = || "no HTTP proxy: expected http://[USER:PASSWORD@]HOST[:PORT]".to_owned();
        let rest = match text.trim().split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(refuse()),
            None => text.trim(),
        };
        let (user, authority) =
            rest.trim_end_matches('/').rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let uri: http::Uri = format!("http://{}", authority.trim_end_matches('/')).parse().map_err(|_| refuse())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refuse)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse());
        }
        let authorization = user.map(|user| STANDARD.encode(unescape(user)));
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port: uri.port_u16().unwrap_or(80), authorization })
    }
}

/// Undoes `%XX`, which user names and passwords in URLs are written with.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        (bytes, rest) = match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (push(bytes, byte), &tail[2..]),
            None => (push(bytes, *first), tail),
        };
    }
    bytes
}

fn push(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}

impl fmt::Display for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpProxy({self})")
    }
}

#[cfg(test)]
mod tests;
