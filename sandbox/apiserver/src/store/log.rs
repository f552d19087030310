//! The log of a state folder: a line per write, rewritten with what is live when a server starts and whenever stale lines
//! outweigh live ones.
//!
//! Each line is JSON: `{"r":revision,"k":kind,"n":namespace,"m":name,"o":object}`; without `o` the object was removed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Key, Stored};
use crate::error::Error;

const FILE: &str = "objects.log";
/// Bytes that a log may hold beyond what a rewrite left, whatever its size. Too low: small stores are rewritten often; too
/// high: folders of idle servers are large.
const STALE_BYTES_MIN: u64 = 4 << 20;
/// How many times its size after a rewrite a log may grow by. Too low: more is rewritten than written.
const STALE_FACTOR: u64 = 2;
/// Writes between two tries to write everything anew after one that failed. Too low: a full disk slows every write down.
const RETRY_WRITES: u32 = 256;

/// An open log. Each write goes to the file at once, so that nothing is lost when the process is killed.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    folder: PathBuf,
    /// Length up to the last whole line.
    bytes: u64,
    /// Length after the last rewrite.
    fresh_bytes: u64,
    /// A write is missing in the file; after so many more everything is written anew.
    behind: Option<u32>,
}

/// A line of the log.
pub(super) struct Entry {
    pub(super) revision: u64,
    pub(super) kind: String,
    pub(super) key: Key,
    pub(super) bytes: Option<Bytes>,
}

#[derive(Deserialize)]
struct Line {
    r: u64,
    #[serde(default)]
    k: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    m: String,
    #[serde(default)]
    o: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Out<'a> {
    r: u64,
    k: &'a str,
    n: &'a str,
    m: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    o: Option<&'a RawValue>,
}

/// Reads the log of a folder. A last line that was cut off by a crash is left out.
pub(super) fn load(folder: &Path, take: &mut dyn FnMut(Entry)) -> Result<(), Error> {
    let path = folder.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::State { path, source }),
    };
    let mut lines = BufReader::new(file).lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let line = line.map_err(|source| Error::State { path: path.clone(), source })?;
        match serde_json::from_str::<Line>(&line) {
            Ok(line) => take(Entry {
                revision: line.r,
                key: Key::new(&line.n, &line.m),
                kind: line.k,
                bytes: line.o.map(|raw| Bytes::from(raw.get().to_owned())),
            }),
            Err(_) if lines.peek().is_none() => {}
            Err(_) => return Err(Error::Corrupt { path, line: index + 1 }),
        }
    }
    Ok(())
}

impl Log {
    /// Writes a new log of what is live and puts it in the old one's place.
    pub(super) fn rewrite<'a>(
        folder: &Path,
        live: impl Iterator<Item = (&'a Arc<str>, &'a Stored)>,
        revision: u64,
    ) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let fresh: PathBuf = folder.join("objects.log.new");
        let fail = |source| Error::State { path: fresh.clone(), source };
        std::fs::create_dir_all(folder).map_err(fail)?;
        let mut out = BufWriter::new(private(&fresh).map_err(fail)?);
        let mut bytes = 0;
        for (kind, stored) in live {
            bytes += put(&mut out, &line(kind, stored, false)).map_err(fail)?;
        }
        bytes += put(&mut out, format!("{{\"r\":{revision}}}\n").as_bytes()).map_err(fail)?;
        out.flush().map_err(fail)?;
        std::fs::rename(&fresh, &path).map_err(fail)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|source| Error::State { path, source })?;
        Ok(Self { file, folder: folder.to_owned(), bytes, fresh_bytes: bytes, behind: None })
    }

    /// Adds a write. A full disk is told once; the server goes on in memory and tries again later.
    pub(super) fn append(&mut self, kind: &str, stored: &Stored, gone: bool) {
        if let Some(left) = &mut self.behind {
            *left = left.saturating_sub(1);
            return;
        }
        match put(&mut self.file, &line(kind, stored, gone)) {
            Ok(bytes) => self.bytes += bytes,
            Err(error) => {
                tracing::error!(%error, "state is not written for now");
                self.behind = Some(RETRY_WRITES);
                // Half a line would spoil those after it.
                let _ = self.file.set_len(self.bytes);
            }
        }
    }

    /// Says whether everything that is live is to be written anew.
    pub(super) fn wants_rewrite(&self) -> bool {
        match self.behind {
            Some(left) => left == 0,
            None => self.bytes - self.fresh_bytes > STALE_BYTES_MIN.max(self.fresh_bytes * STALE_FACTOR),
        }
    }

    /// Writes everything that is live anew; where that fails, the old log stays in use.
    pub(super) fn renew<'a>(&mut self, live: impl Iterator<Item = (&'a Arc<str>, &'a Stored)>, revision: u64) {
        match Self::rewrite(&self.folder, live, revision) {
            Ok(fresh) => {
                if self.behind.is_some() {
                    tracing::info!("state is written again");
                }
                *self = fresh;
            }
            Err(error) => {
                tracing::debug!(%error, "state was not written anew");
                // Not again with the next write.
                self.fresh_bytes = self.bytes;
                self.behind = self.behind.map(|_| RETRY_WRITES);
            }
        }
    }
}

fn put(out: &mut impl std::io::Write, bytes: &[u8]) -> std::io::Result<u64> {
    out.write_all(bytes)?;
    Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn line(kind: &str, stored: &Stored, gone: bool) -> Vec<u8> {
    let raw = if gone { None } else { serde_json::from_slice::<&RawValue>(&stored.bytes).ok() };
    let out = Out { r: stored.revision, k: kind, n: &stored.key.namespace, m: &stored.key.name, o: raw };
    let mut bytes = serde_json::to_vec(&out).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
