//! Whom a certificate speaks for: its SPIFFE id, serial number and times.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Unacceptable;
use crate::spiffe::SpiffeId;

/// Longest serial number, bytes (RFC 5280, 4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;

/// A certificate's serial number: lower-case hexadecimal digits without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(String);

/// What we take from a certificate. It is as trustworthy as the chain that was verified before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The one URI among the subject's alternative names.
    pub id: SpiffeId,
    /// Serial number of the leaf.
    pub serial: Serial,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// SHA-256 of the public key (DER `SubjectPublicKeyInfo`).
    pub key_sha256: [u8; 32],
}

impl Identity {
    /// Reads the identity from a leaf certificate.
    ///
    /// # Errors
    /// [`Unacceptable`] when the certificate does not parse or does not carry exactly one SPIFFE id of ours.
    pub fn of(leaf: &CertificateDer<'_>) -> Result<Self, Unacceptable> {
        let (rest, parsed) = X509Certificate::from_der(leaf).map_err(|_| Unacceptable::Malformed)?;
        if !rest.is_empty() {
            return Err(Unacceptable::Malformed);
        }
        Ok(Self {
            id: spiffe_id(&parsed)?,
            serial: Serial::from_bytes(parsed.raw_serial()),
            not_before: timestamp(parsed.validity().not_before.timestamp())?,
            not_after: timestamp(parsed.validity().not_after.timestamp())?,
            key_sha256: Sha256::digest(parsed.public_key().raw).into(),
        })
    }
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, Unacceptable> {
    let names = certificate.subject_alternative_name().map_err(|_| Unacceptable::Malformed)?;
    let mut uris = names.iter().flat_map(|san| &san.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        // A name that is no text may be a URI as well: it counts, and is nobody's id.
        GeneralName::Invalid(..) => Some(""),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(Unacceptable::Id),
        (None, _) => Err(Unacceptable::NoUri),
        (Some(_), Some(_)) => Err(Unacceptable::SeveralUris),
    }
}

fn timestamp(seconds: i64) -> Result<Timestamp, Unacceptable> {
    Timestamp::from_second(seconds).map_err(|_| Unacceptable::Malformed)
}

impl Serial {
    /// Takes the big-endian bytes of a serial number.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let hex = super::hex(bytes);
        Self(hex.trim_start_matches('0').to_owned())
    }

    /// The serial as hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = Unacceptable;

    fn from_str(text: &str) -> Result<Self, Unacceptable> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let ok =
            !text.is_empty() && text.len() <= SERIAL_BYTES_MAX * 2 && !text.starts_with('0') && text.bytes().all(digit);
        if ok { Ok(Self(text.to_owned())) } else { Err(Unacceptable::Malformed) }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
