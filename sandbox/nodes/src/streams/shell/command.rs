//! The single commands.

use std::io;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc::{self, Receiver};

use super::{PIPE_MAX, Streams, Surroundings, archive, files, is_shell, script_of, seconds};

/// Exit code of a command that nobody listens to, as with SIGPIPE.
const BROKEN_PIPE: i32 = 141;

/// Why a command did not do its work.
#[derive(Debug)]
pub(super) enum Problem {
    /// There is no such command.
    Unknown(String),
    /// A file or a stream failed it; the path is empty where none is to blame.
    Io { command: String, path: String, error: io::Error },
}

impl Problem {
    /// Complains as a shell does; returns the exit code.
    pub(super) async fn tell(self, streams: &Streams) -> i32 {
        match self {
            Self::Unknown(name) => {
                streams.complain(format!("sh: {name}: not found\n")).await;
                127
            }
            Self::Io { error, .. } if error.kind() == io::ErrorKind::BrokenPipe => BROKEN_PIPE,
            Self::Io { command, path, error } => {
                let text = error.to_string();
                let why = text.split(" (os error").next().unwrap_or_default();
                let path = if path.is_empty() { path } else { format!(" {path}:") };
                streams.complain(format!("{command}:{path} {why}\n")).await;
                1
            }
        }
    }
}

/// What single commands return: their code, `None` for an unknown one, or an error with the path that it is about.
pub(super) type Done = Result<Option<i32>, Failure>;
/// An error, and the path that it is about.
pub(super) type Failure = (String, io::Error);

/// Says which path an error is about.
pub(super) fn about(path: &str) -> impl FnOnce(io::Error) -> Failure {
    move |error| (path.to_owned(), error)
}

/// An error of how a command was called.
pub(super) fn wrong(why: &'static str) -> Failure {
    (String::new(), io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Where the streams of a command lead, other than to where its shell's do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Redirections<'w> {
    output: Option<(&'w str, bool)>,
    input: Option<&'w str>,
    /// Complaints go where output goes.
    joined: bool,
    /// Complaints go nowhere.
    silent: bool,
}

/// Takes `> file`, `>> file`, `< file`, `2>&1` and `2>/dev/null` out.
fn redirections<'w>(words: &[&'w str]) -> (Vec<&'w str>, Redirections<'w>) {
    let (mut rest, mut to) = (Vec::new(), Redirections::default());
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            ">" | "1>" => to.output = words.next().map(|path| (path, false)),
            ">>" => to.output = words.next().map(|path| (path, true)),
            "<" => to.input = words.next(),
            "2>&1" => to.joined = true,
            "2>/dev/null" => to.silent = true,
            ">/dev/null" => to.output = Some(("/dev/null", false)),
            ">&2" | "1>&2" => to.output = Some(("/dev/stderr", false)),
            word if word.len() > 1 && word.starts_with('>') && !word.contains('&') => {
                let path = word.trim_start_matches('>');
                to.output = Some((path, word.starts_with(">>")));
            }
            word => rest.push(word),
        }
    }
    (rest, to)
}

/// Runs one command with its words.
pub(super) async fn run(
    words: &[&str],
    surroundings: &mut Surroundings,
    streams: &mut Streams,
) -> Result<i32, Problem> {
    let (words, to) = redirections(words);
    let command = words.first().copied().unwrap_or_default();
    let done = redirected(&words, &to, surroundings, streams).await;
    match done {
        Ok(Some(code)) => Ok(code),
        Ok(None) => Err(Problem::Unknown(command.to_owned())),
        Err((path, error)) => Err(Problem::Io { command: command.to_owned(), path, error }),
    }
}

async fn redirected(
    words: &[&str],
    to: &Redirections<'_>,
    surroundings: &mut Surroundings,
    streams: &mut Streams,
) -> Done {
    let outer = (streams.stdout.clone(), streams.stderr.clone());
    let mut sink = None;
    if let Some(path) = to.input {
        streams.stdin = files::reader(path, surroundings).await?;
    }
    match to.output {
        Some(("/dev/stderr", _)) => streams.stdout = outer.1.clone(),
        Some((path, append)) => {
            let file = files::writer(path, append, surroundings).await.map_err(about(path))?;
            let (stdout, written) = mpsc::channel(PIPE_MAX);
            streams.stdout = stdout;
            sink = Some((path, file, written));
        }
        None => {}
    }
    if to.joined {
        streams.stderr = streams.stdout.clone();
    }
    if to.silent {
        streams.stderr = mpsc::channel(1).0;
    }
    let running = async {
        let mut done = plain(words, surroundings, streams).await;
        if let Err((path, error)) = done {
            // Told where its complaints lead.
            let command = words.first().copied().unwrap_or_default().to_owned();
            done = Ok(Some(Problem::Io { command, path, error }.tell(streams).await));
        }
        (streams.stdout, streams.stderr) = outer;
        done
    };
    let writing = async {
        match sink {
            Some((path, file, written)) => drain(written, file).await.map_err(about(path)),
            None => Ok(()),
        }
    };
    let (done, written) = tokio::join!(running, writing);
    written?;
    done
}

/// Writes all that comes into a file, or nowhere.
async fn drain(mut from: Receiver<Bytes>, file: Option<tokio::fs::File>) -> io::Result<()> {
    let Some(mut file) = file else {
        while from.recv().await.is_some() {}
        return Ok(());
    };
    while let Some(chunk) = from.recv().await {
        file.write_all(&chunk).await?;
    }
    file.flush().await
}

async fn plain(words: &[&str], surroundings: &mut Surroundings, streams: &mut Streams) -> Done {
    let Some((name, arguments)) = words.split_first() else { return Ok(Some(0)) };
    let said = |text: String| async { streams.print(text).await.map_err(about("")) };
    match name.rsplit('/').next().unwrap_or(name) {
        "true" | ":" | "sync" | "trap" | "set" | "chmod" | "chown" => {}
        "false" => return Ok(Some(1)),
        "exit" => return Ok(Some(arguments.first().and_then(|code| code.parse().ok()).unwrap_or(0))),
        "exec" | "time" | "command" | "nohup" => return Box::pin(plain(arguments, surroundings, streams)).await,
        "echo" => said(echo(arguments)).await?,
        "printf" => said(printf(arguments)).await?,
        "env" | "printenv" => return environment(surroundings, arguments, streams).await,
        "export" => export(surroundings, arguments),
        "hostname" => said(format!("{}\n", surroundings.host_name)).await?,
        "pwd" => said(format!("{}\n", surroundings.folder)).await?,
        "cd" => files::change(arguments, surroundings)?,
        "whoami" => said("root\n".to_owned()).await?,
        "id" => said("uid=0(root) gid=0(root) groups=0(root)\n".to_owned()).await?,
        "uname" => said(uname(arguments, &surroundings.host_name)).await?,
        "date" => said(date(arguments)).await?,
        "tty" => return Ok(Some(terminal(surroundings, streams).await?)),
        "stty" => return size(arguments, streams).await,
        "ps" => {
            let list = "PID   USER     TIME  COMMAND\n    1 root      0:00 simulated\n    7 root      0:00 ps\n";
            said(list.to_owned()).await?;
        }
        "seq" => return sequence(arguments, streams).await,
        "sleep" => {
            let time = arguments.first().and_then(|text| seconds(text)).ok_or_else(|| wrong("invalid number"))?;
            tokio::time::sleep(time).await;
        }
        "which" => return which(arguments, streams).await,
        "tar" => return archive::run(arguments, surroundings, streams).await,
        shell if is_shell(shell) => return Ok(Some(inner_shell(arguments, surroundings, streams).await)),
        name => return files::run(name, arguments, surroundings, streams).await,
    }
    Ok(Some(0))
}

/// `sh -c SCRIPT`, or a script on stdin.
async fn inner_shell(arguments: &[&str], surroundings: &Surroundings, streams: &mut Streams) -> i32 {
    let mut inner = surroundings.clone();
    let flagged = arguments.iter().position(|word| word.starts_with('-') && word.contains('c'));
    let script = match flagged.and_then(|at| arguments.get(at + 1)) {
        Some(script) => (*script).to_owned(),
        None => {
            let mut all = Vec::new();
            while let Some(chunk) = streams.stdin.recv().await {
                all.extend_from_slice(&chunk);
            }
            String::from_utf8_lossy(&all).into_owned()
        }
    };
    script_of(&script, &mut inner, streams).await
}

fn echo(arguments: &[&str]) -> String {
    match arguments {
        ["-n", rest @ ..] => rest.join(" "),
        ["-e", rest @ ..] => format!("{}\n", escapes(&rest.join(" "))),
        all => format!("{}\n", all.join(" ")),
    }
}

/// `printf` with `%s` and `%d` only.
fn printf(arguments: &[&str]) -> String {
    let Some((format, values)) = arguments.split_first() else { return String::new() };
    let (mut out, mut values) = (String::new(), values.iter());
    let mut rest = escapes(format);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        match rest[at + 1..].chars().next() {
            Some('%') => out.push('%'),
            Some(_) => out.push_str(values.next().copied().unwrap_or_default()),
            None => break,
        }
        rest = rest[at + 1..].chars().skip(1).collect();
    }
    out + &rest
}

fn escapes(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")
}

async fn environment(surroundings: &Surroundings, names: &[&str], streams: &Streams) -> Done {
    let text = match names.first() {
        Some(name) => match surroundings.env.get(*name) {
            Some(value) => format!("{value}\n"),
            None => return Ok(Some(1)),
        },
        None => surroundings.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
    };
    streams.print(text).await.map_err(about(""))?;
    Ok(Some(0))
}

fn export(surroundings: &mut Surroundings, arguments: &[&str]) {
    for (name, value) in arguments.iter().filter_map(|word| word.split_once('=')) {
        surroundings.env.insert(name.to_owned(), value.to_owned());
    }
}

fn uname(arguments: &[&str], host: &str) -> String {
    match arguments.first() {
        Some(&"-a") => format!("Linux {host} 6.12.0-simulated #1 SMP x86_64 GNU/Linux\n"),
        Some(&"-r") => "6.12.0-simulated\n".to_owned(),
        Some(&"-m") => "x86_64\n".to_owned(),
        Some(&"-n") => format!("{host}\n"),
        _ => "Linux\n".to_owned(),
    }
}

fn date(arguments: &[&str]) -> String {
    let now = lattice_protocol::clock::now();
    match arguments.iter().find_map(|word| word.strip_prefix('+')) {
        Some("%s") => format!("{}\n", now.as_second()),
        Some(format) => format!("{}\n", now.strftime(format)),
        None => format!("{}\n", now.strftime("%a %b %e %H:%M:%S UTC %Y")),
    }
}

async fn terminal(surroundings: &Surroundings, streams: &Streams) -> Result<i32, Failure> {
    let text = if surroundings.interactive { "/dev/pts/0\n" } else { "not a tty\n" };
    streams.print(text).await.map_err(about(""))?;
    Ok(i32::from(!surroundings.interactive))
}

/// `stty size`: rows and columns of the client's terminal.
async fn size(arguments: &[&str], streams: &Streams) -> Done {
    let size = *streams.size.borrow();
    let text = match arguments {
        ["size"] => format!("{} {}\n", size.rows, size.columns),
        _ => format!("speed 38400 baud; rows {}; columns {};\n", size.rows, size.columns),
    };
    streams.print(text).await.map_err(about(""))?;
    Ok(Some(0))
}

/// `seq LAST` or `seq FIRST LAST`.
async fn sequence(arguments: &[&str], streams: &Streams) -> Done {
    /// Numbers that are sent at once.
    const BATCH: usize = 1000;
    let numbers: Option<Vec<i64>> = arguments.iter().map(|word| word.parse().ok()).collect();
    let (first, last) = match numbers.as_deref() {
        Some([last]) => (1, *last),
        Some([first, last]) => (*first, *last),
        _ => return Err(wrong("invalid number")),
    };
    let mut next = first;
    while next <= last {
        let batch: Vec<i64> = (next..=last).take(BATCH).collect();
        next = batch.last().map_or(last, |end| end.saturating_add(1));
        let text: String = batch.iter().map(|number| format!("{number}\n")).collect();
        streams.print(text).await.map_err(about(""))?;
    }
    Ok(Some(0))
}

async fn which(arguments: &[&str], streams: &Streams) -> Done {
    /// What tools look for before they use it.
    const KNOWN: [&str; 8] = ["sh", "cat", "ls", "tar", "echo", "env", "sleep", "date"];
    let Some(name) = arguments.first().filter(|name| KNOWN.contains(name)) else { return Ok(Some(1)) };
    streams.print(format!("/bin/{name}\n")).await.map_err(about(""))?;
    Ok(Some(0))
}
