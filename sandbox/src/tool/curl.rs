//! `curl`: one HTTP request over TLS or plain, with the options and exit codes that scripts rely on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Failure;
use super::args::{Word, Words};
use crate::control::{self, Request};
use crate::node::folder::NodeFile;

/// Most bytes of an answer. Too low: manifests are cut off; too high: a bad server fills the node's memory.
const BODY_MAX: usize = 64 << 20;

/// What was asked for.
#[derive(Debug, Default)]
struct Options {
    url: String,
    method: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    ca: Option<PathBuf>,
    output: Option<PathBuf>,
    fail: bool,
    silent: bool,
    show_error: bool,
    connect: Option<Duration>,
    total: Option<Duration>,
    retries: u32,
    retry_delay: Duration,
    retry_refused: bool,
}

pub(super) async fn run(node: &NodeFile, words: &[String]) -> Result<String, Failure> {
    let options = parse(words)?;
    let mut left = options.retries;
    loop {
        match once(node, &options).await {
            Err(failure) if left > 0 && passing(failure.code, &options) => {
                left -= 1;
                tokio::time::sleep(options.retry_delay.max(Duration::from_secs(1))).await;
            }
            Err(failure) if options.silent && !options.show_error => return Err(Failure::new(failure.code, "")),
            other => return other,
        }
    }
}

/// Whether curl would try again after this exit code.
fn passing(code: u8, options: &Options) -> bool {
    code == 28 || code == 22 || (code == 7 && options.retry_refused)
}

fn parse(words: &[String]) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut words = Words::new(words);
    let seconds = |text: &str| {
        text.parse()
            .ok()
            .and_then(|number| Duration::try_from_secs_f64(number).ok())
            .ok_or_else(|| Failure::new(2, format!("{text:?} is no number of seconds")))
    };
    while let Some(word) = words.next() {
        match word {
            Word::Long("fail") | Word::Short('f') => options.fail = true,
            Word::Long("silent") | Word::Short('s') => options.silent = true,
            Word::Long("show-error") | Word::Short('S') => options.show_error = true,
            Word::Long("location" | "tlsv1.2" | "tlsv1.3") | Word::Short('L') => {}
            Word::Long("retry-connrefused" | "retry-all-errors") => options.retry_refused = true,
            Word::Long("cacert") => options.ca = Some(words.value("--cacert")?.into()),
            Word::Long("header") | Word::Short('H') => header(&mut options, words.value("-H")?)?,
            Word::Long("output") | Word::Short('o') => options.output = Some(words.value("-o")?.into()),
            Word::Long("request") | Word::Short('X') => options.method = Some(words.value("-X")?.to_owned()),
            Word::Long("data" | "data-binary" | "data-raw") | Word::Short('d') => {
                options.body = Some(body(words.value("-d")?)?);
            }
            Word::Long("connect-timeout") => options.connect = Some(seconds(words.value("--connect-timeout")?)?),
            Word::Long("max-time") | Word::Short('m') => options.total = Some(seconds(words.value("-m")?)?),
            Word::Long("retry") => {
                let text = words.value("--retry")?;
                options.retries = text.parse().map_err(|_| Failure::new(2, format!("{text:?} is no number")))?;
            }
            Word::Long("retry-delay") => options.retry_delay = seconds(words.value("--retry-delay")?)?,
            Word::Plain(url) if options.url.is_empty() => url.clone_into(&mut options.url),
            Word::Plain(more) => return Err(Failure::new(2, format!("a second URL ({more}) is not simulated"))),
            Word::Long(name) => return Err(Failure::new(2, format!("option --{name} is not simulated"))),
            Word::Short(letter) => return Err(Failure::new(2, format!("option -{letter} is not simulated"))),
        }
    }
    if options.url.is_empty() { Err(Failure::new(2, "no URL specified")) } else { Ok(options) }
}

/// `Name: value`, or `@FILE` with one of these a line.
fn header(options: &mut Options, text: &str) -> Result<(), Failure> {
    let lines = match text.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|error| Failure::new(26, format!("header file {file}: {error}")))?
        }
        None => text.to_owned(),
    };
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| Failure::new(2, "a header without a colon"))?;
        options.headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(())
}

fn body(text: &str) -> Result<Vec<u8>, Failure> {
    match text.strip_prefix('@') {
        Some(file) => std::fs::read(file).map_err(|error| Failure::new(26, format!("data file {file}: {error}"))),
        None => Ok(text.as_bytes().to_vec()),
    }
}

async fn once(node: &NodeFile, options: &Options) -> Result<String, Failure> {
    let exchange = exchange(node, options);
    let (status, body) = match options.total {
        Some(limit) => tokio::time::timeout(limit, exchange)
            .await
            .map_err(|_| Failure::new(28, format!("(28) operation timed out after {} ms", limit.as_millis())))??,
        None => exchange.await?,
    };
    if options.fail && status.as_u16() >= 400 {
        return Err(Failure::new(22, format!("(22) the requested URL returned error: {}", status.as_u16())));
    }
    match &options.output {
        Some(path) if path.as_os_str() != "-" => {
            std::fs::write(path, body)
                .map_err(|error| Failure::new(23, format!("(23) {} could not be written: {error}", path.display())))?;
            Ok(String::new())
        }
        _ => Ok(String::from_utf8_lossy(&body).into_owned()),
    }
}

async fn exchange(node: &NodeFile, options: &Options) -> Result<(http::StatusCode, Vec<u8>), Failure> {
    let uri: http::Uri = options.url.parse().map_err(|_| Failure::new(3, "(3) URL using bad format"))?;
    let host = uri.host().ok_or_else(|| Failure::new(3, "(3) URL without a host"))?.trim_matches(['[', ']']).to_owned();
    let https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let stream = connect(node, &host, port, options.connect).await?;
    if !https {
        return send(stream, &uri, &host, port, options).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(|_| Failure::new(6, "(6) bad host name"))?;
    let connector = tokio_rustls::TlsConnector::from(tls(options)?);
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| Failure::new(60, format!("(60) TLS with {host}:{port} failed: {error}")))?;
    send(stream, &uri, &host, port, options).await
}

/// Connects by the way that the sandbox knows from this node to that address.
async fn connect(node: &NodeFile, host: &str, port: u16, limit: Option<Duration>) -> Result<TcpStream, Failure> {
    let target = format!("{host}:{port}");
    let refused = |why: String| Failure::new(7, format!("(7) failed to connect to {host} port {port}: {why}"));
    let request =
        Request::Route { namespace: node.namespace.clone(), machine: node.machine.clone(), target: target.clone() };
    let address = control::call(&node.control, &request).await.map_err(|error| refused(error.to_string()))?;
    let limit = limit.unwrap_or(Duration::from_mins(1));
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Err(_) => Err(Failure::new(28, format!("(28) connection to {target} timed out"))),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Ok(Ok(stream)) => Ok(stream),
    }
}

fn tls(options: &Options) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let Some(path) = &options.ca else {
        return Err(Failure::new(60, "(60) no certificate authority: the simulated node has none but --cacert's"));
    };
    let bad = |why: String| Failure::new(77, format!("(77) {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

async fn send<S>(
    stream: S,
    uri: &http::Uri,
    host: &str,
    port: u16,
    options: &Options,
) -> Result<(http::StatusCode, Vec<u8>), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken =
        |error: &dyn std::fmt::Display| Failure::new(56, format!("(56) exchange with {host}:{port} failed: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    lattice_protocol::task::spawn("curl.connection", lattice_protocol::task::Kind::Request, async move {
        // Its errors reach the request.
        let _ = connection.await;
    });
    let method =
        options.method.clone().unwrap_or_else(|| if options.body.is_some() { "POST" } else { "GET" }.to_owned());
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = http::Request::builder()
        .method(method.as_str())
        .uri(path)
        .header("host", format!("{host}:{port}"))
        .header("user-agent", "curl/8 (simulated node)")
        .header("accept", "*/*");
    for (name, value) in &options.headers {
        request = request.header(name, value);
    }
    let body = Full::new(bytes::Bytes::from(options.body.clone().unwrap_or_default()));
    let request = request.body(body).map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = response.status();
    let limited = http_body_util::Limited::new(response.into_body(), BODY_MAX);
    let body = limited.collect().await.map_err(|error| broken(&error))?;
    Ok((status, body.to_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_options_of_bootstrap_scripts_are_read() {
        let options =
            parse(&words("-fsS --connect-timeout 5 --max-time 30 --cacert /a -H A:b -o /o https://x/y")).ok().unwrap();
        assert!(options.fail && options.silent && options.show_error);
        assert_eq!(options.url, "https://x/y");
        assert_eq!(options.headers, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(options.total, Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_is_not_simulated_is_refused() {
        for line in ["-k https://x", "--insecure https://x", "https://x https://y", ""] {
            let failure = parse(&words(line)).err().unwrap_or_else(|| panic!("{line} should be refused"));
            assert_eq!(failure.code, 2);
        }
    }
}
