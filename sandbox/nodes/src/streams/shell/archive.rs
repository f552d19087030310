//! `tar`, as far as `kubectl cp` needs it: one archive in from stdin, or out to stdout.

use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender};

use super::{CHUNK, Streams, Surroundings};

/// Runs `tar` with its words; it works on a thread of its own, since archives are read in order.
pub(super) async fn run(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> io::Result<i32> {
    let Some((flags, rest)) = arguments.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let folder = rest.iter().position(|word| *word == "-C").and_then(|at| rest.get(at + 1)).copied().unwrap_or("/");
    let base = surroundings.path(folder);
    let names: Vec<&str> = names(rest);
    let stdout = streams.stdout.clone();
    let work = if flags.contains('x') {
        // Whoever unpacks is the last to read.
        let stdin = std::mem::replace(&mut streams.stdin, tokio::sync::mpsc::channel(1).1);
        tokio::task::spawn_blocking(move || unpack(stdin, &base))
    } else if flags.contains('c') {
        let paths = names.into_iter().map(|name| Ok((name.to_owned(), surroundings.path(&format!("{folder}/{name}")))));
        let paths: Vec<(String, std::path::PathBuf)> = paths.collect::<io::Result<_>>()?;
        tokio::task::spawn_blocking(move || pack(stdout, &paths))
    } else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    work.await.map_err(io::Error::other)??;
    Ok(0)
}

/// The words that name files: neither flags nor what belongs to them.
fn names<'w>(words: &[&'w str]) -> Vec<&'w str> {
    let mut names = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "-C" | "-f" => {
                words.next();
            }
            "-" => {}
            word if word.starts_with('-') => {}
            word => names.push(word),
        }
    }
    names
}

fn unpack(stdin: Receiver<Bytes>, base: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(Incoming { stdin, chunk: Bytes::new() });
    archive.set_preserve_permissions(false);
    archive.set_preserve_mtime(false);
    archive.set_overwrite(true);
    // Paths that would lead out are left out by the crate.
    archive.unpack(base)?;
    // The client sends padding after the end; it must not meet a closed pipe.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
}

fn pack(stdout: Sender<Bytes>, paths: &[(String, std::path::PathBuf)]) -> io::Result<()> {
    let out = io::BufWriter::with_capacity(CHUNK, Outgoing(stdout));
    let mut archive = tar::Builder::new(out);
    archive.follow_symlinks(false);
    for (name, path) in paths {
        let name = name.trim_start_matches('/');
        if path.is_dir() {
            archive.append_dir_all(name, path)?;
        } else {
            archive.append_path_with_name(path, name)?;
        }
    }
    archive.into_inner()?.flush()
}

/// Stdin as a reader of its own thread.
struct Incoming {
    stdin: Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.stdin.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

/// Stdout as a writer of its own thread.
struct Outgoing(Sender<Bytes>);

impl Write for Outgoing {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(data);
        self.0.blocking_send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
