//! What a failed handshake most likely means, for the manager's log: the other side is nobody that we could tell, and its
//! own log may be out of reach.

use std::sync::atomic::{AtomicI64, Ordering};

use lattice_protocol::clock;

/// Shortest time between two words of one kind, seconds: strangers can make handshakes fail as often as they like.
const APART_SECONDS: i64 = 60;

/// When each of the two was said last, seconds since the Unix epoch.
static SAID: [AtomicI64; 2] = [const { AtomicI64::new(0) }; 2];

/// Says it, unless it was said a moment ago.
pub(super) fn say(from: impl std::fmt::Display, why: &str) {
    let Some((kind, words)) = meaning(why) else { return };
    let (now, said) = (clock::now().as_second(), &SAID[kind]);
    let last = said.load(Ordering::Relaxed);
    if (now - last).abs() >= APART_SECONDS
        && said.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        tracing::warn!(%from, why, here = %clock::to_seconds(clock::now()), "{words}");
    }
}

/// Which kind it is, and the words.
fn meaning(why: &str) -> Option<(usize, &'static str)> {
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    // What the library says of an alert of the other side, over QUIC and over TCP.
    if says(&["aborted by peer", "received fatal alert"]) {
        let of_our_certificate = [
            "error 42",
            "error 45",
            "error 46",
            "error 48",
            "BadCertificate",
            "CertificateExpired",
            "CertificateUnknown",
            "UnknownCA",
        ];
        return says(&of_our_certificate)
            .then_some((0, "a caller refused this manager's certificate: compare the clocks of both machines, then the CA that it trusts"));
    }
    let of_time = ["certificate expired", "Expired", "not valid yet", "NotValidYet"];
    says(&of_time).then_some((
        1,
        "a caller's certificate is not valid by the clock here: it comes back by recovery; if that fails, compare the clocks of both machines",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_is_told_from_a_bad_one_and_from_noise() {
        for (why, kind) in [
            ("aborted by peer: the cryptographic handshake failed: error 46", Some(0)),
            ("received fatal alert: CertificateUnknown", Some(0)),
            ("invalid peer certificate: certificate expired: verification time 1", Some(1)),
            ("aborted by peer: error 120: no application protocol", None),
            ("tls handshake eof", None),
        ] {
            assert_eq!(meaning(why).map(|(kind, _)| kind), kind, "{why}");
        }
    }
}
