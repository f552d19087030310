//! Why there is no session, in words that people on the child may read.

/// Why there is no session. Never carries a secret.
pub(super) enum Failure {
    /// No identity.
    Enrolment(String),
    /// No handshake.
    DialFailed(String),
    /// The session ended.
    ConnectionLost(String),
}

impl Failure {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Enrolment(_) => "EnrolmentFailed",
            Self::DialFailed(_) => "DialFailed",
            Self::ConnectionLost(_) => "ConnectionLost",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Enrolment(why) | Self::DialFailed(why) | Self::ConnectionLost(why) => f.write_str(why),
        }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Whether the parent refused our certificate, as against us refusing the parent's. Both transports report the TLS alert
/// of the other side in words only.
pub(super) fn is_refused_certificate(why: &str) -> bool {
    const ALERTS: [&str; 8] = [
        "error 42",
        "error 45",
        "error 46",
        "error 48",
        "BadCertificate",
        "CertificateExpired",
        "CertificateUnknown",
        "UnknownCA",
    ];
    !why.contains("invalid peer certificate") && ALERTS.iter().any(|alert| why.contains(alert))
}
