//! A shell with a prompt: lines in, answers out, with the echo that a terminal expects.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{PIPE_MAX, Streams, Surroundings, script_of};

const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: [u8; 2] = [8, 127];
/// Longest line that is kept.
const LINE_MAX: usize = 4096;
/// Chunks that may be typed ahead.
const TYPED_MAX: usize = 64;
/// Exit code of what Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// What a shell does next.
enum Next {
    Nothing,
    Run(String),
    Leave,
}

/// Runs until `exit`, the end of input, or Ctrl-D; the last command's code is its own.
pub(super) async fn run(surroundings: &mut Surroundings, streams: &mut Streams) -> i32 {
    let mut line: Vec<u8> = Vec::new();
    let mut code = 0;
    if prompt(surroundings, streams).await.is_err() {
        return 0;
    }
    while let Some(mut chunk) = streams.stdin.recv().await {
        while !chunk.is_empty() {
            let byte = chunk.split_to(1)[0];
            let echo = surroundings.interactive;
            let Ok(next) = key(byte, &mut line, echo, streams).await else { return code };
            let text = match next {
                Next::Nothing => continue,
                Next::Leave => return code,
                Next::Run(text) => text,
            };
            if let Some(ends_with) = exit_code(&text, code) {
                return ends_with;
            }
            if echo {
                let typed;
                (code, typed) = supervised(&text, surroundings, streams).await;
                chunk = [typed, chunk].concat().into();
            } else {
                code = script_of(&text, surroundings, streams).await;
            }
            if prompt(surroundings, streams).await.is_err() {
                return code;
            }
        }
    }
    if !line.is_empty() {
        let text = String::from_utf8_lossy(&line).into_owned();
        code = match exit_code(&text, code) {
            Some(ends_with) => ends_with,
            None => script_of(&text, surroundings, streams).await,
        };
    }
    code
}

async fn prompt(surroundings: &Surroundings, streams: &Streams) -> std::io::Result<()> {
    if !surroundings.interactive {
        return Ok(());
    }
    streams.print(format!("{} # ", surroundings.folder)).await
}

/// Takes one byte of what is typed, and shows it.
async fn key(byte: u8, line: &mut Vec<u8>, echo: bool, streams: &Streams) -> std::io::Result<Next> {
    let mut next = Next::Nothing;
    let shown: Vec<u8> = match byte {
        b'\r' | b'\n' => {
            next = Next::Run(String::from_utf8_lossy(&std::mem::take(line)).into_owned());
            b"\r\n".to_vec()
        }
        END if line.is_empty() => {
            next = Next::Leave;
            b"\r\n".to_vec()
        }
        INTERRUPT => {
            line.clear();
            next = Next::Run(String::new());
            b"^C\r\n".to_vec()
        }
        byte if BACKSPACE.contains(&byte) => line.pop().map_or_else(Vec::new, |_| b"\x08 \x08".to_vec()),
        byte if line.len() < LINE_MAX => {
            line.push(byte);
            vec![byte]
        }
        _ => Vec::new(),
    };
    if echo && !shown.is_empty() {
        streams.print(shown).await?;
    }
    Ok(next)
}

/// Runs a line while the keyboard stays open: Ctrl-C ends it, Ctrl-D ends its input. A terminal's lines end with `\r\n`.
/// Returns its code, and what was typed that it did not read.
async fn supervised(text: &str, surroundings: &mut Surroundings, streams: &mut Streams) -> (i32, Bytes) {
    let (keys, stdin) = mpsc::channel::<Bytes>(TYPED_MAX);
    let (stdout, mut printed) = mpsc::channel::<Bytes>(PIPE_MAX);
    let mut inner = Streams { stdin, stdout: stdout.clone(), stderr: stdout, size: streams.size.clone() };
    let mut running = std::pin::pin!(async move {
        let code = script_of(text, surroundings, &mut inner).await;
        (code, inner.stdin)
    });
    let (mut keys, mut ended, mut printing) = (Some(keys), None, true);
    while printing || ended.is_none() {
        tokio::select! {
            biased;
            chunk = printed.recv(), if printing => match chunk {
                Some(chunk) if streams.stdout.send(with_returns(&chunk)).await.is_err() => break,
                Some(_) => {}
                None => printing = false,
            },
            how = &mut running, if ended.is_none() => ended = Some(how),
            chunk = streams.stdin.recv(), if ended.is_none() => match chunk {
                None => break,
                Some(chunk) if chunk.contains(&INTERRUPT) => {
                    let _ = streams.print("^C\r\n").await;
                    break;
                }
                Some(chunk) if chunk.contains(&END) => keys = None,
                Some(chunk) => {
                    let typed: Vec<u8> = chunk.iter().map(|key| if *key == b'\r' { b'\n' } else { *key }).collect();
                    let _ = streams.print(with_returns(&typed)).await;
                    // A command that reads nothing must not keep Ctrl-C waiting: too much is lost.
                    let _ = keys.as_ref().map(|keys| keys.try_send(typed.into()));
                }
            },
        }
    }
    let Some((code, mut unread)) = ended else { return (INTERRUPTED, Bytes::new()) };
    let mut left = Vec::new();
    while let Ok(chunk) = unread.try_recv() {
        left.extend_from_slice(&chunk);
    }
    (code, left.into())
}

fn with_returns(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 8);
    for byte in text {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out.into()
}

fn exit_code(line: &str, last: i32) -> Option<i32> {
    let mut words = line.split_ascii_whitespace();
    (words.next() == Some("exit")).then(|| words.next().and_then(|code| code.parse().ok()).unwrap_or(last))
}
