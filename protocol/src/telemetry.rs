//! Logs and traces of both daemons, set up once at the start of the process.
//!
//! Logs go to standard error. Spans at level `info` of our own crates become OpenTelemetry spans; they wait in a bounded
//! [`buffer`] and leave by one of two ways: straight to an OTLP collector (the manager), or over the tunnel (the agent,
//! which has one way out). A collector that is away costs its spans and nothing else: no call here ever waits for it.

use std::fmt;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

mod buffer;
mod exporter;
mod finished;
mod otlp;
mod propagate;
mod traceparent;
mod tunnel;

pub use exporter::Exporter;
pub use finished::Finished;
pub use otlp::Protocol;
pub use propagate::{extract, extract_headers, inject, inject_headers};
pub use traceparent::{Invalid, Traceparent, adopt, follow, link};
pub use tunnel::{CLUSTER_NAME, CLUSTER_UID, forward, serve};

/// Longest wait for spans to leave when the process ends. Higher delays the end of every rollout while a collector is
/// away; lower loses the last operation's spans on a slow link.
pub const FLUSH_AT_MOST: Duration = Duration::from_secs(2);

/// The prefix of the targets that become spans: our own crates. It keeps out h2, hyper, tonic and quinn, whose spans about
/// exporting would themselves be exported.
const OUR_TARGETS: &str = "lattice";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The part of the command line that both daemons share.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct Options {
    /// How log lines look on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Which log lines are written: a level, and levels of targets, for example info,lattice_agent=debug.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "DIRECTIVES")]
    pub log_filter: String,

    /// OTLP collector that spans go to, for example http://127.0.0.1:4317; without it no span is exported from here.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// What the collector speaks.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", value_enum, default_value_t = Protocol::Grpc)]
    pub otlp_protocol: Protocol,

    /// service.name of the exported spans (default: the daemon's own name).
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub service_name: Option<String>,
}

/// Where spans go when no collector is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Nowhere: no span is recorded.
    Off,
    /// Into a bounded buffer that [`serve`] empties over the tunnel.
    Tunnel,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is no filter.
    #[error("log filter {text:?} cannot be read")]
    Filter {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The collector's URL cannot be used.
    #[error("OTLP endpoint {url:?} cannot be used: {why}")]
    Endpoint {
        /// What was given.
        url: String,
        /// What is wrong with it, and the cure.
        why: String,
    },
    /// A subscriber is installed already.
    #[error("logs are set up already in this process")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// Telemetry of this process; keep it until the end and call [`Telemetry::shutdown`].
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    exporter: Exporter,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("exporter", &self.exporter).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// The way out for spans that were made by hand or come from an agent.
    pub fn exporter(&self) -> Exporter {
        self.exporter.clone()
    }

    /// Lets finished spans leave, for at most [`FLUSH_AT_MOST`]. Spans that are still open are lost.
    pub async fn shutdown(self) {
        self.exporter.drain(FLUSH_AT_MOST).await;
        if let Some(provider) = self.provider {
            // Nothing is left to do in our processor; the result only repeats that.
            let _ = provider.shutdown_with_timeout(Duration::ZERO);
        }
    }
}

/// Sets up logs and traces for the whole process: `name` is the daemon's own name, `attributes` describe it further
/// (OpenTelemetry resource attributes).
///
/// # Panics
/// Outside a tokio runtime when a collector is set: the task that exports starts here.
pub fn init(
    name: &'static str,
    version: &'static str,
    attributes: &[(&'static str, String)],
    options: &Options,
    fallback: Fallback,
) -> Result<Telemetry, Error> {
    // Directives about spans and fields would bring a regular expression engine into every agent.
    let filter = options
        .log_filter
        .parse::<Targets>()
        .map_err(|source| Error::Filter { text: options.log_filter.clone(), source })?;
    let resource = resource(options.service_name.as_deref().unwrap_or(name), version, attributes);
    let exporter = match (&options.otlp_endpoint, fallback) {
        (Some(url), _) if !url.is_empty() => {
            Exporter::collector(otlp::Collector::new(url, options.otlp_protocol)?, &resource)
        }
        (_, Fallback::Tunnel) => Exporter::tunnel(&resource),
        (_, Fallback::Off) => Exporter::off(),
    };
    let provider = exporter
        .processor()
        .map(|processor| SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build());
    tracing_subscriber::registry()
        .with(provider.as_ref().map(|provider| spans(provider, name)))
        .with(lines(options.log_format).with_filter(filter))
        .try_init()
        .map_err(Error::Installed)?;
    Ok(Telemetry { provider, exporter })
}

fn resource(name: &str, version: &'static str, attributes: &[(&'static str, String)]) -> Resource {
    let attributes = attributes.iter().map(|(key, value)| opentelemetry::KeyValue::new(*key, value.clone()));
    Resource::builder()
        .with_service_name(name.to_owned())
        .with_attribute(opentelemetry::KeyValue::new("service.version", version))
        .with_attributes(attributes)
        .build()
}

/// The layer that turns our spans into OpenTelemetry's.
fn spans(provider: &SdkTracerProvider, name: &'static str) -> impl Layer<Registry> + use<> {
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(name))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(Targets::new().with_target(OUR_TARGETS, LevelFilter::INFO))
}

/// The layer that writes log lines.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let plain = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => plain.with_ansi(false).boxed(),
        LogFormat::Json => plain.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests;
