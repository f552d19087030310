//! Bounds that both daemons keep: sizes, counts and times that a peer may use up before it is cut.
//!
//! Every one is checked before the memory that it bounds is taken.

use std::time::Duration;

/// Longest handshake (QUIC, TLS) in either direction. Lower cuts agents on slow links; higher lets half-open ones pile up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long QUIC is dialled alone before TCP joins. Lower makes two handshakes of every one; higher keeps agents behind a
/// firewall waiting.
pub const TCP_HEAD_START: Duration = Duration::from_millis(500);

/// Longest wait for a stream to open, and for the opener to say its first byte. A peer at its stream limit blocks an
/// opener without an error, so without this bound a caller would hang.
pub const STREAM_OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence after which a keep-alive goes out. Higher than about 15 s loses the binding in some NATs; lower costs CPU
/// (54 µs a time at the manager).
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Silence after which the peer counts as gone. Cluster API forgives outages below 40 s, so a lost connection must be
/// noticed and made anew in less; below three keep-alives a little loss would cut healthy sessions.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Silence after which a side closes the session itself, and says so: the peer may hear us though we do not hear it. Looked
/// at every [`SILENCE_LOOK_EVERY`], so the end comes within 20 s of the last word. QUIC's own timer starts anew with the
/// first packet that is sent into the silence, up to [`KEEP_ALIVE_INTERVAL`] later, and says nothing to the peer.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);

/// How often a session is looked at for silence. Lower costs a wake-up per session; higher finds silence later.
pub const SILENCE_LOOK_EVERY: Duration = Duration::from_secs(2);

/// Streams that a peer may have open at the start of a session. quinn takes 84 bytes for each in advance, in every
/// connection: 4,096 would cost 374 KiB per idle agent.
pub const STREAMS_INITIAL: u32 = 16;

/// Streams that an agent lets its manager have open once it needs them: Cluster API alone holds a dozen watches.
pub const STREAMS_MAX: u32 = 1024;

/// Send and receive buffer of a UDP socket, bytes. With the kernel's default of 208 KiB a storm of 2,000 agents takes
/// 21 s instead of 1.9 s. The kernel may give less (`net.core.rmem_max`).
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Unsent bytes that the kernel keeps for a TCP connection. All streams share it, so a heartbeat waits behind this much of a
/// copy: 128 KiB are 0.1 s at 10 Mbit/s. Lower wakes us more often; without it, it is megabytes.
pub const TCP_UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Largest certificate signing request, bytes of PEM. A P-256 one is under 500.
pub const CSR_BYTES_MAX: usize = 4 << 10;

/// Largest body of an enrolment request, bytes.
pub const ENROL_BODY_BYTES_MAX: usize = 16 << 10;

/// Largest head of an HTTP request or response on the proxy and in the tunnel, bytes.
pub const HTTP_HEAD_BYTES_MAX: u32 = 64 << 10;

/// Most header fields of an HTTP message on the proxy and in the tunnel.
pub const HTTP_HEADERS_MAX: usize = 128;

/// Largest body of a proxied request, bytes. The Kubernetes API itself refuses bodies above 3 MiB.
pub const REQUEST_BODY_BYTES_MAX: usize = 4 << 20;

/// Largest gRPC message, bytes: a bundle of 4 MiB of objects and what goes with it.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 6 << 20;

/// Longest that the manager waits for the head of a proxied response. The Kubernetes API answers or gives up within 60 s.
pub const RESPONSE_HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Longest that a client may take over the head of its request.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest a shutdown waits for open exchanges before it cuts them.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Life of an agent's certificate. Renewed at 60 to 72 % of it.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(24);

/// How far a certificate is dated back, so that a peer whose clock is behind accepts it.
pub const CERTIFICATE_BACKDATE: Duration = Duration::from_mins(5);

/// Longest life of a join token that nobody has used.
pub const JOIN_TOKEN_LIFETIME: Duration = Duration::from_hours(24);
