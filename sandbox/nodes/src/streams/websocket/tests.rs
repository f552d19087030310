//! A client of the channel protocol as its documentation describes it, message by message.

use lattice_protocol::task;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::stdio::Stdio;
use super::*;

type Client = WebSocketStream<DuplexStream>;

const ALL: Wish = Wish { stdin: true, stdout: true, stderr: true, tty: false };
/// Bytes that may be under way between client and server.
const WIRE: usize = 16 << 10;

/// Starts a command; tells when the server is done with the connection.
async fn start<F>(wish: Wish, command: impl FnOnce(Stdio) -> F + Send + 'static) -> (Client, JoinHandle<()>)
where
    F: Future<Output = End> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(WIRE);
    let serving = task::spawn("test.run", task::Kind::Request, async move {
        run(server(far).await, wish, Box::new(|stdio| Box::pin(command(stdio)))).await;
    });
    (WebSocketStream::from_raw_socket(near, Role::Client, None).await, serving)
}

async fn say(client: &mut Client, channel: u8, data: &[u8]) {
    client.send(framed(channel, data)).await.expect("an open connection");
}

/// All that comes until the server closes: what each channel carried, the final `Status`, and the code of the close.
async fn rest(client: &mut Client) -> (Vec<u8>, Vec<u8>, Value, CloseCode) {
    let (mut out, mut err, mut status) = (Vec::new(), Vec::new(), Value::Null);
    loop {
        match client.next().await.expect("a close").expect("a message") {
            Message::Binary(data) => match data.split_first().expect("a channel") {
                (&STDOUT, data) => out.extend_from_slice(data),
                (&STDERR, data) => err.extend_from_slice(data),
                (&ERROR, data) => {
                    assert_eq!(status, Value::Null, "one status is all");
                    status = serde_json::from_slice(data).expect("a status");
                }
                other => panic!("a server sends nothing on {other:?}"),
            },
            Message::Close(frame) => return (out, err, status, frame.expect("a code").code),
            other => panic!("not of the protocol: {other:?}"),
        }
    }
}

/// Sends back what it reads, on both outputs, and says how much that was.
async fn echo(mut stdio: Stdio) -> End {
    let mut size = 0;
    while let Some(chunk) = stdio.stdin.recv().await {
        size += chunk.len();
        let _ = stdio.stderr.send(Bytes::from_static(b"!")).await;
        let _ = stdio.stdout.send(chunk).await;
    }
    End::Code(i32::try_from(size).expect("little"))
}

#[tokio::test]
async fn closing_the_input_ends_it_and_the_exit_code_comes_last() {
    let (mut client, serving) = start(ALL, echo).await;
    say(&mut client, STDIN, b"ab").await;
    say(&mut client, CLOSE, &[STDIN]).await;
    let (out, err, status, code) = rest(&mut client).await;
    assert_eq!((&out[..], &err[..], code), (&b"ab"[..], &b"!"[..], CloseCode::Normal));
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "2"}]));
    drop(client);
    serving.await.expect("done");
}

#[tokio::test]
async fn what_is_no_message_of_the_protocol_is_passed_over() {
    let (mut client, _serving) = start(ALL, echo).await;
    // Nothing at all, a text, channels of the server, the close of a channel that nobody may close, an empty input.
    client.send(Message::Binary(Bytes::new())).await.expect("an open connection");
    client.send(Message::text("x")).await.expect("an open connection");
    for (channel, data) in [(STDOUT, &b"x"[..]), (7, b"x"), (CLOSE, &[STDERR]), (CLOSE, b""), (STDIN, b"")] {
        say(&mut client, channel, data).await;
    }
    say(&mut client, CLOSE, &[STDIN]).await;
    let (out, _, status, _) = rest(&mut client).await;
    assert_eq!((&out[..], &status["status"]), (&b""[..], &json!("Success")));
}

#[tokio::test]
async fn a_terminal_learns_its_size_and_has_one_output() {
    let wish = Wish { stderr: false, tty: true, ..ALL };
    let (mut client, _serving) = start(wish, |mut stdio: Stdio| async move {
        stdio.size.changed().await.expect("a size");
        let size = *stdio.size.borrow();
        let _ = stdio.stderr.send(format!("{}x{}", size.columns, size.rows).into()).await;
        End::Code(0)
    })
    .await;
    say(&mut client, RESIZE, b"{").await;
    say(&mut client, RESIZE, br#"{"Width":80,"Height":24}"#).await;
    let (out, err, status, _) = rest(&mut client).await;
    assert_eq!((&out[..], &err[..], &status["status"]), (&b"80x24"[..], &b""[..], &json!("Success")));
}

#[tokio::test]
async fn an_input_that_nobody_asked_for_has_ended() {
    let wish = Wish { stdin: false, ..ALL };
    let (mut client, _serving) = start(wish, echo).await;
    let (.., status, code) = rest(&mut client).await;
    assert_eq!((&status["status"], code), (&json!("Success"), CloseCode::Normal));
}

/// A command that reads nothing fills its input; the server then no longer reads the connection, whose end is behind it.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_its_input_is_full_is_noticed() {
    let (ended, end) = oneshot::channel::<()>();
    let (mut client, serving) = start(ALL, |stdio: Stdio| async move {
        let _held = (stdio, ended);
        std::future::pending().await
    })
    .await;
    let full = async {
        loop {
            say(&mut client, STDIN, &[0; 1 << 10]).await;
        }
    };
    assert!(tokio::time::timeout(PING_EVERY / 2, full).await.is_err(), "the input is never full");
    drop(client);
    tokio::time::timeout(3 * PING_EVERY, serving).await.expect("noticed").expect("no panic");
    assert!(end.await.is_err(), "the command is gone");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_ends_its_command() {
    let (mut client, serving) = start(ALL, echo).await;
    client.close(None).await.expect("closed");
    serving.await.expect("done");
}
