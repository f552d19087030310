//! A safe behind a Unix socket: a program of the parent's owner makes the CA's keys and signs with them.
//!
//! One request and one answer for each connection, a line of JSON each, at most [`LINE_BYTES_MAX`] bytes; bytes are base64.
//! docs/signer.md has the words for whoever writes such a program.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Safe, Signer, SignerError};

/// Longest line. A certificate to be signed has about 1 KiB.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Longest wait for one answer. A module signs in milliseconds; longer would hold up whoever asks for a certificate.
const ANSWER_AT_MOST: Duration = Duration::from_secs(5);
/// Bytes of an uncompressed P-256 point, and the first of them.
const POINT: (usize, u8) = (65, 4);
/// Longest name of a key that is kept.
const NAME_BYTES_MAX: usize = 512;

/// The program that listens at a path.
#[derive(Clone, Debug)]
pub struct SocketSafe {
    path: Arc<PathBuf>,
}

/// One key of that program.
#[derive(Debug)]
struct SocketSigner {
    safe: SocketSafe,
    name: String,
    point: Vec<u8>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "do")]
enum Request<'a> {
    Make,
    Find { key: &'a str },
    Sign { key: &'a str, message: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Refused { error: String },
    Given(T),
}

#[derive(Debug, Deserialize)]
struct Made {
    key: String,
}

#[derive(Debug, Deserialize)]
struct Found {
    point: String,
}

#[derive(Debug, Deserialize)]
struct Signed {
    signature: String,
}

impl SocketSafe {
    /// Asks the program that listens at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path: Arc::new(path) }
    }

    fn ask<T: DeserializeOwned>(&self, request: &Request<'_>) -> Result<T, SignerError> {
        let failed = |what: &str, why: &dyn std::fmt::Display| {
            SignerError(format!("cannot {what} the socket {}: {why}", self.path.display()))
        };
        let mut stream = UnixStream::connect(&*self.path).map_err(|error| failed("connect to", &error))?;
        for bounded in [stream.set_read_timeout(Some(ANSWER_AT_MOST)), stream.set_write_timeout(Some(ANSWER_AT_MOST))] {
            bounded.map_err(|error| failed("use", &error))?;
        }
        let mut line = serde_json::to_vec(request).map_err(|error| failed("use", &error))?;
        line.push(b'\n');
        stream.write_all(&line).map_err(|error| failed("write to", &error))?;
        let mut answer = Vec::new();
        BufReader::new(stream.take(LINE_BYTES_MAX))
            .read_until(b'\n', &mut answer)
            .map_err(|error| failed("read from", &error))?;
        match serde_json::from_slice(&answer) {
            Ok(Answer::Given(given)) => Ok(given),
            Ok(Answer::Refused { error }) => Err(SignerError(format!("it refused: {error}"))),
            Err(_) => Err(failed("read from", &"what came is no answer")),
        }
    }
}

impl Safe for SocketSafe {
    fn make(&self) -> Result<String, SignerError> {
        let Made { key } = self.ask(&Request::Make)?;
        if key.is_empty() || key.len() > NAME_BYTES_MAX || key.chars().any(char::is_control) {
            return Err(SignerError("the name of the key that it made cannot be kept".to_owned()));
        }
        Ok(key)
    }

    fn find(&self, name: &str) -> Result<Arc<dyn Signer>, SignerError> {
        let Found { point } = self.ask(&Request::Find { key: name })?;
        let point = STANDARD.decode(point).unwrap_or_default();
        if (point.len(), point.first().copied().unwrap_or_default()) != POINT {
            return Err(SignerError(format!("key {name:?} is no uncompressed P-256 point")));
        }
        Ok(Arc::new(SocketSigner { safe: self.clone(), name: name.to_owned(), point }))
    }
}

impl Signer for SocketSigner {
    fn public_point(&self) -> &[u8] {
        &self.point
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let Signed { signature } =
            self.safe.ask(&Request::Sign { key: &self.name, message: STANDARD.encode(message) })?;
        STANDARD.decode(signature).map_err(|_| SignerError("the signature is no base64".to_owned()))
    }
}
