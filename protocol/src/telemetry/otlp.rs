//! Sends spans to an OTLP collector, by gRPC or by HTTP with protobuf bodies.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use super::Error;
use super::exporter::{Exporter, Taken};

/// Most spans of our own in one request.
const BATCH_SPANS: usize = 512;

/// Pause between requests, so that spans gather. Higher makes traces appear late; lower makes more requests.
const GATHER: Duration = Duration::from_millis(500);

/// Longest wait for the collector's answer to one request.
const ANSWER_AT_MOST: Duration = Duration::from_secs(5);

/// Waits before the second and third try of one request. A collector that restarts is back within their sum or costs spans.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Most bytes of an answer that are read: a collector's answer is nearly empty.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a collector speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// OTLP over gRPC, usually port 4317.
    #[default]
    #[value(name = "grpc")]
    Grpc,
    /// OTLP over HTTP with protobuf bodies, usually port 4318.
    #[value(name = "http/protobuf")]
    HttpProtobuf,
}

/// A collector and how to reach it. Connects on first use.
#[derive(Debug)]
pub(super) enum Collector {
    Grpc(TraceServiceClient<Channel>),
    Http { client: Box<Client<HttpConnector, Full<Bytes>>>, url: http::Uri },
}

impl Collector {
    pub(super) fn new(url: &str, protocol: Protocol) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Endpoint { url: url.to_owned(), why: why.to_owned() };
        let uri: http::Uri = url.parse().map_err(|_| refuse("it is no URL"))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(refuse("it must begin with http://; for TLS run a collector beside the daemon and name that"));
        }
        match protocol {
            Protocol::Grpc => {
                let endpoint = Endpoint::from(uri).connect_timeout(ANSWER_AT_MOST).timeout(ANSWER_AT_MOST);
                Ok(Self::Grpc(TraceServiceClient::new(endpoint.connect_lazy())))
            }
            Protocol::HttpProtobuf => {
                let url = format!("{}/v1/traces", url.trim_end_matches('/'));
                let url = url.parse().map_err(|_| refuse("it is no URL"))?;
                Ok(Self::Http { client: Box::new(Client::builder(TokioExecutor::new()).build_http()), url })
            }
        }
    }

    /// Sends one request once.
    async fn send(&mut self, request: Bytes) -> Result<(), Refused> {
        match self {
            Self::Grpc(client) => {
                // The bytes may come from an agent; what does not decode is not worth a second try.
                let request = ExportTraceServiceRequest::decode(request).map_err(|_| Refused::Never)?;
                client.export(request).await.map(drop).map_err(|status| Refused::of_grpc(&status))
            }
            Self::Http { client, url } => {
                let request = http::Request::post(url.clone())
                    .header(http::header::CONTENT_TYPE, "application/x-protobuf")
                    .body(Full::new(request))
                    .map_err(|_| Refused::Never)?;
                let answer = client.request(request).await.map_err(|_| Refused::TryAgain)?;
                let status = answer.status();
                // Read to the end, so that the connection is used again.
                let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
                if status.is_success() { Ok(()) } else { Err(Refused::of_http(status)) }
            }
        }
    }
}

/// Why a request did not reach the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    TryAgain,
    Never,
}

impl Refused {
    fn of_grpc(status: &tonic::Status) -> Self {
        use tonic::Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, ResourceExhausted, Unavailable};
        match status.code() {
            Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss | ResourceExhausted => {
                Self::TryAgain
            }
            _ => Self::Never,
        }
    }

    fn of_http(status: http::StatusCode) -> Self {
        if matches!(status.as_u16(), 429 | 502..=504) { Self::TryAgain } else { Self::Never }
    }
}

/// Sends our own spans and those of agents until the process ends.
pub(super) async fn export(exporter: Exporter, mut collector: Collector, mut requests: mpsc::Receiver<Taken>) {
    let mut away = false;
    loop {
        let taken = tokio::select! {
            biased;
            request = requests.recv() => {
                let Some(request) = request else { return };
                request
            }
            () = exporter.filled() => {
                tokio::time::sleep(GATHER).await;
                exporter.take(BATCH_SPANS)
            }
        };
        let sent = send_with_patience(&mut collector, &taken.request).await;
        if sent.is_ok() {
            exporter.count_sent(taken.spans);
        } else {
            exporter.count_lost(taken.spans);
        }
        note(&mut away, sent.is_err());
    }
}

/// Logs when the collector goes and comes back, and nothing in between.
fn note(away: &mut bool, failed: bool) {
    if failed && !*away {
        tracing::warn!("spans are lost while the collector does not take them");
    }
    if !failed && *away {
        tracing::info!("the collector takes spans again");
    }
    *away = failed;
}

async fn send_with_patience(collector: &mut Collector, request: &Bytes) -> Result<(), Refused> {
    let mut last = Refused::TryAgain;
    for pause in std::iter::once(None).chain(RETRY_AFTER.map(Some)) {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        last = match tokio::time::timeout(ANSWER_AT_MOST, collector.send(request.clone())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Refused::Never)) => return Err(Refused::Never),
            Ok(Err(Refused::TryAgain)) | Err(_) => Refused::TryAgain,
        };
    }
    Err(last)
}
