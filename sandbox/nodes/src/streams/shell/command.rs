//! The single commands.

use std::io;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{CHUNK, Streams, Surroundings, archive, is_shell, script_of, seconds};

/// Runs one command with its words; an unknown one ends with 127.
pub(super) async fn run(words: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> i32 {
    let (words, into) = redirection(words);
    let result = match into {
        Some((path, append)) => into_file(words, surroundings, streams, path, append).await,
        None => plain(words, surroundings, streams).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let name = words.first().copied().unwrap_or_default();
            streams.complain(format!("{name}: {error}\n")).await;
            1
        }
    }
}

/// Takes `> file` or `>> file` off the end.
fn redirection<'w, 's>(words: &'w [&'s str]) -> (&'w [&'s str], Option<(&'s str, bool)>) {
    match words {
        [command @ .., ">", path] => (command, Some((path, false))),
        [command @ .., ">>", path] => (command, Some((path, true))),
        all => (all, None),
    }
}

async fn into_file(
    words: &[&str],
    surroundings: &Surroundings,
    streams: &mut Streams,
    path: &str,
    append: bool,
) -> io::Result<i32> {
    let mut options = tokio::fs::OpenOptions::new();
    let options = options.create(true).write(true).append(append).truncate(!append);
    let mut file = options.open(surroundings.path(path)).await?;
    let (stdout, mut written) = tokio::sync::mpsc::channel::<Bytes>(4);
    let outer = std::mem::replace(&mut streams.stdout, stdout);
    let writing = async move {
        while let Some(chunk) = written.recv().await {
            file.write_all(&chunk).await?;
        }
        file.flush().await
    };
    let running = async {
        let code = plain(words, surroundings, streams).await;
        streams.stdout = outer;
        code
    };
    let (code, written) = tokio::join!(running, writing);
    written?;
    code
}

async fn plain(words: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> io::Result<i32> {
    let Some((name, arguments)) = words.split_first() else { return Ok(0) };
    match name.rsplit('/').next().unwrap_or(name) {
        "true" | ":" => {}
        "false" => return Ok(1),
        "echo" => streams.print(echo(arguments)).await?,
        "env" | "printenv" => streams.print(environment(surroundings, arguments)).await?,
        "hostname" => streams.print(format!("{}\n", surroundings.host_name)).await?,
        "pwd" => streams.print("/\n").await?,
        "whoami" => streams.print("root\n").await?,
        "id" => streams.print("uid=0(root) gid=0(root) groups=0(root)\n").await?,
        "uname" => streams.print("Linux\n").await?,
        "date" => streams.print(format!("{:.0}\n", lattice_protocol::clock::now())).await?,
        "sleep" => {
            let time = arguments.first().and_then(|text| seconds(text));
            tokio::time::sleep(time.ok_or(io::ErrorKind::InvalidInput)?).await;
        }
        "cat" => cat(arguments, surroundings, streams).await?,
        "head" => head(arguments, surroundings, streams).await?,
        "wc" => count(arguments, surroundings, streams).await?,
        "sha256sum" => sum(arguments, surroundings, streams).await?,
        "tee" => tee(arguments, surroundings, streams).await?,
        "ls" => list(arguments, surroundings, streams).await?,
        "mkdir" => each(arguments, surroundings, |path| std::fs::create_dir_all(path))?,
        "touch" => each(arguments, surroundings, |path| std::fs::File::create(path).map(drop))?,
        "rm" => each(arguments, surroundings, remove)?,
        "test" | "[" => return Ok(i32::from(!test(arguments, surroundings))),
        "tar" => return archive::run(arguments, surroundings, streams).await,
        shell if is_shell(shell) && arguments.first() == Some(&"-c") => {
            let script = arguments.get(1).copied().unwrap_or_default();
            return Ok(script_of(script, surroundings, streams).await);
        }
        unknown => {
            streams.complain(format!("sh: {unknown}: not found (simulated container)\n")).await;
            return Ok(127);
        }
    }
    Ok(0)
}

fn echo(arguments: &[&str]) -> String {
    match arguments {
        ["-n", rest @ ..] => rest.join(" "),
        all => format!("{}\n", all.join(" ")),
    }
}

fn environment(surroundings: &Surroundings, names: &[&str]) -> String {
    let all = surroundings.env.iter();
    match names.first() {
        Some(name) => surroundings.env.get(*name).map(|value| format!("{value}\n")).unwrap_or_default(),
        None => all.map(|(name, value)| format!("{name}={value}\n")).collect::<Vec<_>>().concat(),
    }
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
    async fn open(path: Option<&str>, limit: u64, surroundings: &Surroundings) -> io::Result<Self> {
        let from = match path {
            None | Some("-") => From::Stdin,
            Some("/dev/zero") => From::Zeros(Bytes::from(vec![0; CHUNK])),
            Some("/dev/null") => From::Nothing,
            Some(path) => From::File(tokio::fs::File::open(surroundings.path(path)).await?),
        };
        Ok(Self { from, left: limit })
    }

    async fn next(&mut self, streams: &mut Streams) -> io::Result<Option<Bytes>> {
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
                let size = file.read(&mut chunk).await?;
                chunk.truncate(size);
                chunk.into()
            }
        };
        self.left -= u64::try_from(chunk.len()).unwrap_or(self.left).min(self.left);
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

async fn cat(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> io::Result<()> {
    let paths = if arguments.is_empty() { vec!["-"] } else { arguments.to_vec() };
    for path in paths {
        let mut source = Source::open(Some(path), u64::MAX, surroundings).await?;
        while let Some(chunk) = source.next(streams).await? {
            streams.print(chunk).await?;
        }
    }
    Ok(())
}

/// `head -c N FILE`, with `K`, `M` and `G`.
async fn head(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> io::Result<()> {
    let ["-c", size, rest @ ..] = arguments else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (digits, factor) = match size.char_indices().last() {
        Some((at, 'K' | 'k')) => (&size[..at], 1 << 10),
        Some((at, 'M')) => (&size[..at], 1 << 20),
        Some((at, 'G')) => (&size[..at], 1 << 30),
        _ => (*size, 1),
    };
    let limit: u64 = digits.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut source = Source::open(rest.first().copied(), limit.saturating_mul(factor), surroundings).await?;
    while let Some(chunk) = source.next(streams).await? {
        streams.print(chunk).await?;
    }
    Ok(())
}

async fn count(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> io::Result<()> {
    let path = arguments.iter().find(|word| !word.starts_with('-')).copied();
    let lines = arguments.contains(&"-l");
    let mut total = 0;
    let mut source = Source::open(path, u64::MAX, surroundings).await?;
    while let Some(chunk) = source.next(streams).await? {
        total += if lines { String::from_utf8_lossy(&chunk).matches('\n').count() } else { chunk.len() };
    }
    streams.print(format!("{total}\n")).await
}

async fn sum(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> io::Result<()> {
    let path = arguments.first().copied();
    let mut hash = Sha256::new();
    let mut source = Source::open(path, u64::MAX, surroundings).await?;
    while let Some(chunk) = source.next(streams).await? {
        hash.update(&chunk);
    }
    let hex: Vec<String> = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    streams.print(format!("{}  {}\n", hex.concat(), path.unwrap_or("-"))).await
}

async fn tee(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> io::Result<()> {
    let path = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tokio::fs::File::create(surroundings.path(path)).await?;
    while let Some(chunk) = streams.stdin.recv().await {
        file.write_all(&chunk).await?;
        streams.print(chunk).await?;
    }
    file.flush().await
}

async fn list(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> io::Result<()> {
    let path = arguments.iter().find(|word| !word.starts_with('-')).copied().unwrap_or("/");
    let path = surroundings.path(path);
    let mut names: Vec<String> = if path.is_dir() {
        std::fs::read_dir(path)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    } else {
        std::fs::metadata(&path)?;
        vec![path.file_name().unwrap_or_default().to_string_lossy().into_owned()]
    };
    names.sort();
    for name in names {
        streams.print(format!("{name}\n")).await?;
    }
    Ok(())
}

fn each(
    arguments: &[&str],
    surroundings: &Surroundings,
    act: impl Fn(&std::path::Path) -> io::Result<()>,
) -> io::Result<()> {
    for path in arguments.iter().filter(|word| !word.starts_with('-')) {
        act(&surroundings.path(path))?;
    }
    Ok(())
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

fn test(arguments: &[&str], surroundings: &Surroundings) -> bool {
    let arguments = arguments.strip_suffix(&["]"]).unwrap_or(arguments);
    match arguments {
        ["-d", path] => surroundings.path(path).is_dir(),
        ["-f", path] => surroundings.path(path).is_file(),
        ["-e", path] => surroundings.path(path).exists(),
        ["-z", text] => text.is_empty(),
        ["-n", text] => !text.is_empty(),
        [one, "=" | "==", other] => one == other,
        [one, "!=", other] => one != other,
        _ => false,
    }
}
