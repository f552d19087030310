//! A shell with a prompt: lines in, answers out, with the echo that a terminal expects.

use super::{Streams, Surroundings, script_of};

const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: [u8; 2] = [8, 127];
/// Longest line that is kept.
const LINE_MAX: usize = 4096;

/// Runs until `exit`, the end of input, or Ctrl-D; the last command's code is its own.
pub(super) async fn run(surroundings: &Surroundings, streams: &mut Streams) -> i32 {
    let prompt = if surroundings.interactive { "/ # " } else { "" };
    let mut line: Vec<u8> = Vec::new();
    let mut code = 0;
    if streams.print(prompt).await.is_err() {
        return 0;
    }
    while let Some(chunk) = streams.stdin.recv().await {
        for byte in chunk {
            let echo: Vec<u8> = match byte {
                b'\r' | b'\n' => {
                    let _ = streams.print(if surroundings.interactive { "\r\n" } else { "" }).await;
                    let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
                    if let Some(ends_with) = exit_code(&text, code) {
                        return ends_with;
                    }
                    code = script_of(&text, surroundings, streams).await;
                    prompt.into()
                }
                END if line.is_empty() => return code,
                INTERRUPT => {
                    line.clear();
                    format!("^C\r\n{prompt}").into_bytes()
                }
                byte if BACKSPACE.contains(&byte) => line.pop().map_or_else(Vec::new, |_| b"\x08 \x08".to_vec()),
                byte if line.len() < LINE_MAX => {
                    line.push(byte);
                    vec![byte]
                }
                _ => Vec::new(),
            };
            let shown = surroundings.interactive && !echo.is_empty();
            if shown && streams.print(echo).await.is_err() {
                return code;
            }
        }
    }
    if !line.is_empty() {
        let text = String::from_utf8_lossy(&line).into_owned();
        code = exit_code(&text, code).unwrap_or(code);
        code = if exit_code(&text, code).is_some() { code } else { script_of(&text, surroundings, streams).await };
    }
    code
}

fn exit_code(line: &str, last: i32) -> Option<i32> {
    let mut words = line.split_ascii_whitespace();
    (words.next() == Some("exit")).then(|| words.next().and_then(|code| code.parse().ok()).unwrap_or(last))
}
