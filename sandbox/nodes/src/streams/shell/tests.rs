use lattice_protocol::task;

use super::*;
use crate::streams::stdio::{self, Carrier, Wish};

fn surroundings() -> (tempfile::TempDir, Surroundings) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("tmp")).expect("a folder in it");
    let mut pod = Pod::default();
    pod.metadata.name = Some("web-0".to_owned());
    let surroundings = Surroundings::new(&pod, "main", folder.path().to_owned(), false);
    (folder, surroundings)
}

/// Runs a command with all of its input, and returns its end, output and complaints.
async fn end_of(words: &[&str], input: &[u8], surroundings: &Surroundings) -> (End, Vec<u8>, String) {
    let (stdio, carrier) = stdio::pair(Wish { stdin: true, stdout: true, stderr: true, tty: false });
    let argv: Vec<String> = words.iter().map(ToString::to_string).collect();
    let Carrier { stdin, mut stdout, mut stderr, .. } = carrier;
    let feed = async {
        for chunk in input.chunks(1000) {
            let _ = stdin.send(Bytes::copy_from_slice(chunk)).await;
        }
        drop(stdin);
    };
    let collect = async {
        let mut all = Vec::new();
        while let Some(chunk) = stdout.recv().await {
            all.extend_from_slice(&chunk);
        }
        all
    };
    let (end, (), output) = tokio::join!(run(&argv, surroundings.clone(), stdio), feed, collect);
    let mut complaints = String::new();
    while let Ok(chunk) = stderr.try_recv() {
        complaints.push_str(&String::from_utf8_lossy(&chunk));
    }
    (end, output, complaints)
}

async fn outcome(words: &[&str], input: &[u8], surroundings: &Surroundings) -> (i32, Vec<u8>, String) {
    match end_of(words, input, surroundings).await {
        (End::Code(code), output, complaints) => (code, output, complaints),
        (other, ..) => panic!("{words:?}: {other:?}"),
    }
}

#[track_caller]
fn text(output: &[u8]) -> &str {
    std::str::from_utf8(output).expect("text")
}

#[tokio::test]
async fn commands_answer_as_in_a_container() {
    let (_folder, at) = surroundings();
    for (words, input, code, output) in [
        (&["echo", "a", "b"][..], "", 0, "a b\n"),
        (&["hostname"], "", 0, "web-0\n"),
        (&["cat"], "x\ny", 0, "x\ny"),
        (&["sh", "-c", "echo $HOSTNAME; exit 3"], "", 3, "web-0\n"),
        (&["sh", "-c", "false && echo no || echo 'a  b'"], "", 0, "a  b\n"),
        (&["sh", "-c", "echo hi > /tmp/f && cat /tmp/f"], "", 0, "hi\n"),
        (&["sh", "-c", "false; echo $?"], "", 0, "1\n"),
        (&["sh"], "echo one\necho two\nexit 4\n", 4, "one\ntwo\n"),
        (&["test", "-d", "/tmp"], "", 0, ""),
        (&["test", "-d", "/nowhere"], "", 1, ""),
        (&["wc", "-c"], "12345", 0, "5\n"),
    ] {
        let (found, out, _) = outcome(words, input.as_bytes(), &at).await;
        assert_eq!((found, text(&out)), (code, output), "{words:?}");
    }
}

#[tokio::test]
async fn scripts_have_pipes_files_and_a_place() {
    let (_folder, at) = surroundings();
    for (script, code, output) in [
        ("echo one two | wc", 0, "1 2 8\n"),
        ("seq 1 100000 | head -n 2", 0, "1\n2\n"),
        ("cat /dev/zero | head -c 3 | wc -c", 0, "3\n"),
        ("cd /tmp && pwd && touch x && ls", 0, "/tmp\nx\n"),
        ("echo a > /tmp/f; echo b >> /tmp/f; cat < /tmp/f | grep b", 0, "b\n"),
        ("ls /nowhere 2>/dev/null || echo none", 0, "none\n"),
        ("ls /nowhere 2>&1", 1, "ls: /nowhere: No such file or directory\n"),
        ("echo '$HOME' \"$HOME\" \\$HOME # said", 0, "$HOME /root $HOME\n"),
        ("export A=1; echo ${A}2", 0, "12\n"),
        ("dd if=/dev/zero of=/tmp/z bs=1M count=2 2>/dev/null; wc -c /tmp/z", 0, "2097152 /tmp/z\n"),
        ("printf '%s-%d\\n' a 7", 0, "a-7\n"),
        ("echo gone > /dev/null; tail -n 1 /etc/hostname", 0, "web-0\n"),
    ] {
        std::fs::create_dir_all(at.root.join("etc")).expect("a folder");
        std::fs::write(at.root.join("etc/hostname"), "web-0\n").expect("a file");
        let (found, out, complaints) = outcome(&["sh", "-c", script], b"", &at).await;
        assert_eq!((found, text(&out)), (code, output), "{script}: {complaints}");
        let _ = std::fs::remove_file(at.root.join("tmp/x"));
    }
}

#[tokio::test]
async fn an_unknown_command_is_not_started_and_a_shell_says_so() {
    let (_folder, at) = surroundings();
    let (end, ..) = end_of(&["vim"], b"", &at).await;
    let End::NotStarted(why) = end else { panic!("{end:?}") };
    assert!(why.contains("exec: \"vim\": executable file not found in $PATH"), "{why}");
    let (code, _, complaints) = outcome(&["sh", "-c", "vim"], b"", &at).await;
    assert_eq!((code, complaints.as_str()), (127, "sh: vim: not found\n"));
}

#[tokio::test]
async fn a_person_at_a_terminal_sees_a_prompt_and_can_interrupt() {
    let (_folder, mut at) = surroundings();
    at.interactive = true;
    let (stdio, mut carrier) = stdio::pair(Wish { stdin: true, stdout: true, stderr: false, tty: true });
    carrier.size.send_replace(Size { columns: 80, rows: 25 });
    let (ended, end) = tokio::sync::oneshot::channel();
    task::spawn("test.shell", task::Kind::Request, async move {
        let _ = ended.send(run(&["sh".to_owned()], at, stdio).await);
    });
    let mut seen = String::new();
    for (typed, answer) in [
        ("", "/ # "),
        ("stty size\r", "stty size\r\n25 80\r\n/ # "),
        ("sleep 1000\r", "sleep 1000\r\n"),
        ("\u{3}", "^C\r\n/ # "),
        ("cat\r", "cat\r\n"),
        ("hi\r", "hi\r\nhi\r\n"),
        ("\u{4}", "/ # "),
        ("echx\u{7f}o $?\r", "echx\u{8} \u{8}o $?\r\n0\r\n/ # "),
        ("exit 7\r", "exit 7\r\n"),
    ] {
        carrier.stdin.send(Bytes::copy_from_slice(typed.as_bytes())).await.expect("a shell");
        while !seen.ends_with(answer) {
            let chunk = tokio::time::timeout(Duration::from_secs(10), carrier.stdout.recv()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("{typed:?}: {seen:?}")).expect("output");
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        seen.clear();
    }
    assert_eq!(end.await.expect("no panic"), End::Code(7));
}

#[tokio::test]
async fn an_archive_that_goes_in_comes_out_the_same() {
    let (_folder, at) = surroundings();
    let mut archive = tar::Builder::new(Vec::new());
    let content = vec![7; 100_000];
    let mut header = tar::Header::new_gnu();
    header.set_size(100_000);
    header.set_mode(0o644);
    archive.append_data(&mut header, "dir/file", &content[..]).expect("an entry");
    let archive = archive.into_inner().expect("an archive");
    let (code, _, complaints) = outcome(&["tar", "-xmf", "-", "-C", "/tmp"], &archive, &at).await;
    assert_eq!((code, complaints.as_str()), (0, ""));
    let (code, out, _) = outcome(&["tar", "cf", "-", "tmp/dir/file"], b"", &at).await;
    assert_eq!(code, 0);
    let mut back = tar::Archive::new(&out[..]);
    let mut entry = back.entries().expect("entries").next().expect("one").expect("readable");
    assert_eq!(entry.path().expect("a path").to_str(), Some("tmp/dir/file"));
    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut entry, &mut found).expect("content");
    assert!(found == content);
}

#[tokio::test]
async fn no_path_leads_out_of_the_container() {
    let (folder, at) = surroundings();
    std::fs::write(folder.path().join("inside"), "x").expect("a file");
    let (code, out, _) = outcome(&["cat", "../../inside"], b"", &at).await;
    assert_eq!((code, text(&out)), (0, "x"));
}

#[tokio::test]
async fn zeros_flow_without_being_kept() {
    let (_folder, at) = surroundings();
    let (code, out, _) = outcome(&["head", "-c", "3M", "/dev/zero"], b"", &at).await;
    assert_eq!((code, out.len()), (0, 3 << 20));
}
