//! Commands that read and write files.

use std::io;

use bytes::Bytes;
use lattice_protocol::task;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, Receiver};

use super::command::{Done, Failure, about, wrong};
use super::{CHUNK, PIPE_MAX, Streams, Surroundings};

pub(super) async fn run(name: &str, arguments: &[&str], at: &mut Surroundings, streams: &mut Streams) -> Done {
    let files: Vec<&str> = arguments.iter().copied().filter(|word| !word.starts_with('-') || *word == "-").collect();
    match name {
        "cat" => cat(&files, at, streams).await?,
        "head" => head(arguments, at, streams).await?,
        "tail" => tail(arguments, at, streams).await?,
        "wc" => count(arguments, &files, at, streams).await?,
        "grep" => return search(arguments, at, streams).await,
        "sha256sum" => sum(&files, at, streams).await?,
        "tee" => tee(&files, at, streams).await?,
        "ls" => list(&files, at, streams).await?,
        "dd" => copy_blocks(arguments, at, streams).await?,
        "cp" | "mv" => copy(name == "mv", &files, at)?,
        "mkdir" => each(&files, at, |path| std::fs::create_dir_all(path))?,
        "touch" => each(&files, at, |path| std::fs::OpenOptions::new().create(true).append(true).open(path).map(drop))?,
        "rm" => {
            let force = arguments.iter().any(|word| word.starts_with('-') && word.contains('f'));
            each(&files, at, |path| remove(path, force))?;
        }
        "test" | "[" => return Ok(Some(i32::from(!test(arguments, at)))),
        _ => return Ok(None),
    }
    Ok(Some(0))
}

/// What a command reads: stdin, a file, or as many zeros as anybody wants, chunk by chunk.
struct Source {
    from: From,
    left: u64,
}

enum From {
    Stdin,
    Zeros(Bytes),
    Nothing,
    File(tokio::fs::File),
}

impl Source {
    async fn open(path: Option<&str>, limit: u64, at: &Surroundings) -> Result<Self, Failure> {
        let from = match path {
            None | Some("-" | "/dev/stdin") => From::Stdin,
            Some("/dev/zero" | "/dev/urandom") => From::Zeros(Bytes::from(vec![0; CHUNK])),
            Some("/dev/null") => From::Nothing,
            Some(path) if at.path(path).is_dir() => return Err(about(path)(io::ErrorKind::IsADirectory.into())),
            Some(path) => From::File(tokio::fs::File::open(at.path(path)).await.map_err(about(path))?),
        };
        Ok(Self { from, left: limit })
    }

    async fn next(&mut self, streams: &mut Streams) -> Result<Option<Bytes>, Failure> {
        let most = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        if most == 0 {
            return Ok(None);
        }
        let chunk = match &mut self.from {
            From::Stdin => match streams.stdin.recv().await {
                Some(mut chunk) => {
                    chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                    chunk
                }
                None => Bytes::new(),
            },
            From::Zeros(zeros) => zeros.slice(..most),
            From::Nothing => Bytes::new(),
            From::File(file) => {
                let mut chunk = vec![0; most];
                let size = file.read(&mut chunk).await.map_err(about(""))?;
                chunk.truncate(size);
                chunk.into()
            }
        };
        self.left -= u64::try_from(chunk.len()).unwrap_or(self.left).min(self.left);
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Everything, for commands that must see it whole; a bound keeps that from growing without end.
    async fn all(&mut self, streams: &mut Streams) -> Result<String, Failure> {
        const ALL_MAX: usize = 16 << 20;
        let mut all = Vec::new();
        while let Some(chunk) = self.next(streams).await? {
            if all.len() + chunk.len() > ALL_MAX {
                return Err(wrong("the input is too large for a simulated container"));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }
}

/// A file as a command's input.
pub(super) async fn reader(path: &str, at: &Surroundings) -> Result<Receiver<Bytes>, Failure> {
    let (sender, receiver) = mpsc::channel(PIPE_MAX);
    if path != "/dev/null" {
        let mut file = tokio::fs::File::open(at.path(path)).await.map_err(about(path))?;
        task::spawn("kubelet.input", task::Kind::Request, async move {
            loop {
                let mut chunk = vec![0; CHUNK];
                let Ok(size @ 1..) = file.read(&mut chunk).await else { return };
                chunk.truncate(size);
                if sender.send(chunk.into()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

/// A file for a command's output; `None` swallows all.
pub(super) async fn writer(path: &str, append: bool, at: &Surroundings) -> io::Result<Option<tokio::fs::File>> {
    if path == "/dev/null" {
        return Ok(None);
    }
    let mut options = tokio::fs::OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append).open(at.path(path)).await.map(Some)
}

async fn say(streams: &Streams, text: impl Into<Bytes>) -> Result<(), Failure> {
    streams.print(text).await.map_err(about(""))
}

async fn cat(files: &[&str], at: &Surroundings, streams: &mut Streams) -> Result<(), Failure> {
    for path in if files.is_empty() { &["-"][..] } else { files } {
        let mut source = Source::open(Some(path), u64::MAX, at).await?;
        while let Some(chunk) = source.next(streams).await? {
            say(streams, chunk).await?;
        }
    }
    Ok(())
}

/// Reads a size with `K`, `M` or `G`.
fn size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.char_indices().last()? {
        (at, 'K' | 'k') => (&text[..at], 1 << 10),
        (at, 'M') => (&text[..at], 1 << 20),
        (at, 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// What `head` and `tail` are asked for: lines or bytes, and of which file.
fn part<'w>(arguments: &[&'w str]) -> (bool, Option<u64>, Option<&'w str>) {
    match arguments {
        ["-c", bytes, rest @ ..] => (true, size(bytes), rest.first().copied()),
        ["-n", lines, rest @ ..] => (false, size(lines), rest.first().copied()),
        [flag, rest @ ..] if flag.starts_with("-c") => (true, size(&flag[2..]), rest.first().copied()),
        [flag, rest @ ..] if flag.len() > 1 && flag.starts_with('-') => {
            (false, size(flag[1..].trim_start_matches('n')), rest.first().copied())
        }
        rest => (false, Some(10), rest.first().copied()),
    }
}

async fn head(arguments: &[&str], at: &Surroundings, streams: &mut Streams) -> Result<(), Failure> {
    let (bytes, most, path) = part(arguments);
    let most = most.ok_or_else(|| wrong("invalid number"))?;
    let mut source = Source::open(path, if bytes { most } else { u64::MAX }, at).await?;
    let mut left = most;
    while let Some(mut chunk) = source.next(streams).await? {
        if !bytes {
            let ends = chunk.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
            let ends: Vec<usize> = ends.take(usize::try_from(left).unwrap_or(usize::MAX)).collect();
            left -= u64::try_from(ends.len()).unwrap_or(left);
            if left == 0 {
                chunk.truncate(ends.last().copied().unwrap_or(0));
            }
        }
        say(streams, chunk).await?;
        if !bytes && left == 0 {
            break;
        }
    }
    Ok(())
}

async fn tail(arguments: &[&str], at: &Surroundings, streams: &mut Streams) -> Result<(), Failure> {
    let (bytes, most, path) = part(arguments);
    let most = usize::try_from(most.ok_or_else(|| wrong("invalid number"))?).unwrap_or(usize::MAX);
    let text = Source::open(path, u64::MAX, at).await?.all(streams).await?;
    let from = if bytes {
        text.len().saturating_sub(most)
    } else {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.iter().take(lines.len().saturating_sub(most)).map(|line| line.len()).sum()
    };
    say(streams, text.get(from..).unwrap_or_default().to_owned()).await
}

async fn count(arguments: &[&str], files: &[&str], at: &Surroundings, streams: &mut Streams) -> Result<(), Failure> {
    let (lines, bytes) = (arguments.contains(&"-l"), arguments.contains(&"-c"));
    let (mut all_lines, mut all_bytes, mut words, mut inside) = (0, 0, 0, false);
    let mut source = Source::open(files.first().copied(), u64::MAX, at).await?;
    while let Some(chunk) = source.next(streams).await? {
        all_bytes += chunk.len();
        for byte in &chunk {
            all_lines += usize::from(*byte == b'\n');
            let space = byte.is_ascii_whitespace();
            words += usize::from(!space && !inside);
            inside = !space;
        }
    }
    let name = files.first().map(|name| format!(" {name}")).unwrap_or_default();
    say(
        streams,
        match (lines, bytes) {
            (true, _) => format!("{all_lines}{name}\n"),
            (_, true) => format!("{all_bytes}{name}\n"),
            _ => format!("{all_lines} {words} {all_bytes}{name}\n"),
        },
    )
    .await
}

/// `grep [-v] [-q] [-i] TEXT [FILE]`, without patterns.
async fn search(arguments: &[&str], at: &Surroundings, streams: &mut Streams) -> Done {
    let flag = |letter: char| arguments.iter().any(|word| word.starts_with('-') && word.contains(letter));
    let mut words = arguments.iter().filter(|word| !word.starts_with('-'));
    let wanted = words.next().ok_or_else(|| wrong("no pattern"))?;
    let text = Source::open(words.next().copied(), u64::MAX, at).await?.all(streams).await?;
    let fold = |text: &str| if flag('i') { text.to_lowercase() } else { text.to_owned() };
    let wanted = fold(wanted);
    let hits: Vec<&str> = text.lines().filter(|line| fold(line).contains(&wanted) != flag('v')).collect();
    if !flag('q') && !hits.is_empty() {
        say(streams, hits.join("\n") + "\n").await?;
    }
    Ok(Some(i32::from(hits.is_empty())))
}

async fn sum(files: &[&str], at: &Surroundings, streams: &mut Streams) -> Result<(), Failure> {
    for path in if files.is_empty() { &["-"][..] } else { files } {
        let mut hash = Sha256::new();
        let mut source = Source::open(Some(path), u64::MAX, at).await?;
        while let Some(chunk) = source.next(streams).await? {
            hash.update(&chunk);
        }
        say(streams, format!("{}  {path}\n", lattice_protocol::tls::hex(&hash.finalize()))).await?;
    }
    Ok(())
}

async fn tee(files: &[&str], at: &Surroundings, streams: &mut Streams) -> Result<(), Failure> {
    let path = files.first().ok_or_else(|| wrong("no file"))?;
    let mut file = tokio::fs::File::create(at.path(path)).await.map_err(about(path))?;
    while let Some(chunk) = streams.stdin.recv().await {
        file.write_all(&chunk).await.map_err(about(path))?;
        say(streams, chunk).await?;
    }
    file.flush().await.map_err(about(path))
}

async fn list(files: &[&str], at: &Surroundings, streams: &mut Streams) -> Result<(), Failure> {
    for name in if files.is_empty() { &["."][..] } else { files } {
        let path = at.path(name);
        let mut names: Vec<String> = if path.is_dir() {
            let entries = std::fs::read_dir(&path).map_err(about(name))?;
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        } else {
            std::fs::metadata(&path).map_err(about(name))?;
            vec![(*name).to_owned()]
        };
        names.sort();
        say(streams, names.iter().map(|name| format!("{name}\n")).collect::<String>()).await?;
    }
    Ok(())
}

/// `dd if=… of=… bs=… count=…`
async fn copy_blocks(arguments: &[&str], at: &Surroundings, streams: &mut Streams) -> Result<(), Failure> {
    let option = |name: &str| arguments.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let block = option("bs").map_or(Some(512), size).ok_or_else(|| wrong("invalid number"))?;
    let limit = option("count").map_or(Some(u64::MAX), |count| size(count)?.checked_mul(block));
    let mut source = Source::open(option("if"), limit.ok_or_else(|| wrong("invalid number"))?, at).await?;
    let mut file = match option("of") {
        Some(path) => writer(path, false, at).await.map_err(about(path))?,
        None => None,
    };
    let mut total = 0;
    while let Some(chunk) = source.next(streams).await? {
        total += chunk.len();
        match &mut file {
            Some(file) => file.write_all(&chunk).await.map_err(about(""))?,
            None if option("of").is_none() => say(streams, chunk).await?,
            None => {}
        }
    }
    if let Some(file) = &mut file {
        file.flush().await.map_err(about(""))?;
    }
    streams.complain(format!("{total} bytes copied\n")).await;
    Ok(())
}

fn copy(away: bool, files: &[&str], at: &Surroundings) -> Result<(), Failure> {
    let &[from, to] = files else { return Err(wrong("missing file operand")) };
    let (source, mut target) = (at.path(from), at.path(to));
    if target.is_dir() {
        target.push(source.file_name().unwrap_or_default());
    }
    let done = if away { std::fs::rename(&source, &target) } else { std::fs::copy(&source, &target).map(drop) };
    done.map_err(about(from))
}

fn each(files: &[&str], at: &Surroundings, act: impl Fn(&std::path::Path) -> io::Result<()>) -> Result<(), Failure> {
    files.iter().try_for_each(|path| act(&at.path(path)).map_err(about(path)))
}

fn remove(path: &std::path::Path, force: bool) -> io::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if force && error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// `cd`: the folder must be there.
pub(super) fn change(arguments: &[&str], at: &mut Surroundings) -> Result<(), Failure> {
    let name = arguments.first().copied().unwrap_or("/root");
    let path = at.path(name);
    if !path.is_dir() {
        let kind = if path.exists() { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound };
        return Err((name.to_owned(), io::Error::new(kind, "No such file or directory")));
    }
    at.folder = format!("/{}", super::clean(&at.folder, name).display());
    Ok(())
}

fn test(arguments: &[&str], at: &Surroundings) -> bool {
    let arguments = arguments.strip_suffix(&["]"]).unwrap_or(arguments);
    match arguments {
        ["!", rest @ ..] => !test(rest, at),
        ["-d", path] => at.path(path).is_dir(),
        ["-f", path] => at.path(path).is_file(),
        ["-e", path] => at.path(path).exists(),
        ["-s", path] => std::fs::metadata(at.path(path)).is_ok_and(|meta| meta.len() > 0),
        ["-z", text] => text.is_empty(),
        ["-n", text] => !text.is_empty(),
        [one, "=" | "==", other] => one == other,
        [one, "!=", other] => one != other,
        _ => false,
    }
}
