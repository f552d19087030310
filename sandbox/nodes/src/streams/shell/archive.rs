//! `tar`, as far as `kubectl cp` needs it: one archive in from stdin, or out to stdout.

use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender};

use super::command::{Done, about, wrong};
use super::{CHUNK, Streams, Surroundings, clean};

/// Exit code of a `tar` that could not do all.
const FAILED: i32 = 2;

/// Runs `tar` with its words; it works on a thread of its own, since archives are read in order.
pub(super) async fn run(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> Done {
    let mode = |letter: char| {
        let mut flags = arguments.iter().enumerate().filter(|(at, word)| *at == 0 || word.starts_with('-'));
        flags.any(|(_, word)| !word.starts_with("--") && word.contains(letter))
    };
    let after = |flag: &str| {
        let at = arguments.iter().position(|word| *word == flag)?;
        arguments.get(at + 1).copied()
    };
    let folder = after("-C").unwrap_or(".");
    let base = surroundings.path(folder);
    let stdout = streams.stdout.clone();
    let done = if mode('x') {
        // Whoever unpacks is the last to read.
        let stdin = std::mem::replace(&mut streams.stdin, tokio::sync::mpsc::channel(1).1);
        if !base.is_dir() {
            streams.complain(format!("tar: {folder}: Cannot open: No such file or directory\n")).await;
            streams.complain("tar: Error is not recoverable: exiting now\n").await;
            return Ok(Some(FAILED));
        }
        tokio::task::spawn_blocking(move || unpack(stdin, &base)).await
    } else if mode('c') {
        let names = names(arguments.get(1..).unwrap_or_default());
        let (mut paths, mut missing) = (Vec::new(), false);
        for name in names {
            let path = if name.starts_with('/') { surroundings.path(name) } else { base.join(clean("", name)) };
            if path.exists() {
                paths.push((name.to_owned(), path));
            } else {
                missing = true;
                streams.complain(format!("tar: {name}: Cannot stat: No such file or directory\n")).await;
            }
        }
        let done = tokio::task::spawn_blocking(move || pack(stdout, &paths)).await;
        if missing {
            streams.complain("tar: Exiting with failure status due to previous errors\n").await;
            return Ok(Some(FAILED));
        }
        done
    } else {
        return Err(wrong("one of -c and -x is needed"));
    };
    done.map_err(io::Error::other).and_then(|done| done).map_err(about(""))?;
    Ok(Some(0))
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
