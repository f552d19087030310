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
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = words(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = words(error);
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// What one error says. Of an answer of the cluster's API that is the server's message: the client library would add the
/// whole answer as it is seen by a programmer.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let boxed = error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match boxed.or_else(|| error.downcast_ref::<kube::Error>()) {
        Some(kube::Error::Api(status)) => answered(status),
        Some(kube::Error::Service(source)) => source.to_string(),
        // It comes as the cause of the error that holds it.
        _ => {
            error.downcast_ref::<Box<kube::core::Status>>().map_or_else(|| error.to_string(), |status| answered(status))
        }
    }
}

fn answered(status: &kube::core::Status) -> String {
    if status.message.is_empty() { format!("the API server answered {}", status.code) } else { status.message.clone() }
}

/// Whether the parent refused our certificate, as against us refusing the parent's. Both transports report the TLS alert
/// of the other side in words only; a certificate of a CA that has gone is a bad signature to one with the same name.
pub(super) fn is_refused_certificate(why: &str) -> bool {
    const OF_THE_PEER: [&str; 2] = ["aborted by peer", "received fatal alert"];
    const ALERTS: [&str; 10] = [
        "error 42",
        "error 45",
        "error 46",
        "error 48",
        "error 51",
        "BadCertificate",
        "CertificateExpired",
        "CertificateUnknown",
        "UnknownCA",
        "DecryptError",
    ];
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    says(&OF_THE_PEER) && says(&ALERTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_clusters_api_is_told_in_the_servers_words_once() {
        let status = kube::core::Status::failure("pods \"a\" is forbidden", "Forbidden").with_code(403).boxed();
        let error =
            crate::apply::Error::Api { what: "apply Pod a".to_owned(), source: Box::new(kube::Error::Api(status)) };
        assert_eq!(chain(&error), "apply Pod a: pods \"a\" is forbidden");
        let silent = kube::Error::Api(kube::core::Status::default().with_code(502).boxed());
        assert_eq!(chain(&silent), "the API server answered 502");
        let unreachable = kube::Error::Service(std::io::Error::other("nobody there").into());
        assert_eq!(chain(&unreachable), "nobody there");
    }

    #[test]
    fn the_parents_verdict_is_told_from_our_own() {
        for theirs in [
            "aborted by peer: the cryptographic handshake failed: error 51: invalid peer certificate: BadSignature",
            "aborted by peer: the cryptographic handshake failed: error 45: invalid peer certificate: Expired",
            "the TLS handshake with 192.0.2.1:50051 failed: received fatal alert: CertificateExpired",
        ] {
            assert!(is_refused_certificate(theirs), "{theirs}");
        }
        for other in [
            "the cryptographic handshake failed: error 48: invalid peer certificate: UnknownIssuer",
            "aborted by peer: the cryptographic handshake failed: error 120: no application protocol",
            "the peer fell silent",
        ] {
            assert!(!is_refused_certificate(other), "{other}");
        }
    }
}
