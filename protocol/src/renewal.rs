//! When a certificate is renewed: at a random point of its life, the same one however often somebody asks.

use jiff::Timestamp;

use crate::limits::CERTIFICATE_BACKDATE;
use crate::tls::Identity;

/// Renewal comes between these shares of a certificate's life, in millionths: coarser steps would have certificates of one
/// moment renewed at one moment. Earlier signs more than needed; later
/// leaves too little time for a parent that is away.
const WINDOW: (i64, i64) = (600_000, 720_000);
/// From this share on, in millionths, a certificate that is not renewed is worth a warning.
const LATE: i64 = 850_000;

/// When a certificate was signed: its validity begins a little before that.
pub fn issued_at(certificate: &Identity) -> Timestamp {
    certificate.not_before + CERTIFICATE_BACKDATE
}

/// When a certificate is due for renewal. The serial number is random and so is the point in the window; after a restart
/// it is the same.
pub fn due_at(certificate: &Identity) -> Timestamp {
    let digits = certificate.serial.as_str();
    let tail = u32::from_str_radix(&digits[digits.len().saturating_sub(6)..], 16).unwrap_or_default();
    let share = WINDOW.0 + (WINDOW.1 - WINDOW.0) * i64::from(tail) / i64::from(0x00ff_ffff_u32);
    at_share(certificate, share)
}

/// From when on a certificate that is not renewed is a reason to warn.
pub fn late_at(certificate: &Identity) -> Timestamp {
    at_share(certificate, LATE)
}

fn at_share(certificate: &Identity, millionths: i64) -> Timestamp {
    let issued = issued_at(certificate);
    let life_ms = certificate.not_after.as_millisecond() - issued.as_millisecond();
    let at = issued.as_millisecond().saturating_add(life_ms.saturating_mul(millionths) / 1_000_000);
    Timestamp::from_millisecond(at).unwrap_or(certificate.not_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(serial: u128, life_s: i64) -> Identity {
        let issued = Timestamp::from_second(1_800_000_000).unwrap();
        Identity {
            id: "spiffe://td/cluster/0b6c2d1e-9f00-4c8e-8a77-0123456789ab/agent".parse().unwrap(),
            serial: format!("4{serial:031x}").parse().unwrap(),
            not_before: issued - CERTIFICATE_BACKDATE,
            not_after: issued + jiff::SignedDuration::from_secs(life_s),
            key_sha256: [0; 32],
        }
    }

    proptest! {
        #[test]
        fn renewal_comes_between_sixty_and_seventy_two_hundredths(serial in 0u128..(1 << 123), life in 10i64..1_000_000) {
            let certificate = certificate(serial, life);
            let due = due_at(&certificate).as_millisecond() - issued_at(&certificate).as_millisecond();
            prop_assert!((life * 600..=life * 720).contains(&due), "{} of {}", due, life * 1000);
            prop_assert!(due_at(&certificate) < late_at(&certificate));
        }
    }

    #[test]
    fn certificates_of_one_moment_are_not_due_at_one_moment() {
        let due: std::collections::BTreeSet<_> =
            (0..1000u128).map(|serial| due_at(&certificate(serial * 7_777_777, 86_400)).as_second()).collect();
        assert!(due.len() > 500, "{} moments", due.len());
    }
}
