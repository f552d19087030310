use tokio::sync::mpsc;

use super::*;

fn surroundings() -> (tempfile::TempDir, Surroundings) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("tmp")).expect("a folder in it");
    let mut pod = Pod::default();
    pod.metadata.name = Some("web-0".to_owned());
    let surroundings = Surroundings::new(&pod, "main", folder.path().to_owned(), false);
    (folder, surroundings)
}

/// Runs a command with all of its input, and returns its code, output and complaints.
async fn outcome(words: &[&str], input: &[u8], surroundings: &Surroundings) -> (i32, Vec<u8>, String) {
    let (stdin, stdin_end) = mpsc::channel(64);
    let (stdout, mut out) = mpsc::channel::<Bytes>(1);
    let (stderr, mut err) = mpsc::channel::<Bytes>(16);
    let argv: Vec<String> = words.iter().map(ToString::to_string).collect();
    let feed = async {
        for chunk in input.chunks(1000) {
            let _ = stdin.send(Bytes::copy_from_slice(chunk)).await;
        }
        drop(stdin);
    };
    let collect = async {
        let mut all = Vec::new();
        while let Some(chunk) = out.recv().await {
            all.extend_from_slice(&chunk);
        }
        all
    };
    let running = run(&argv, surroundings, Stdio { stdin: stdin_end, stdout, stderr });
    let (code, (), output) = tokio::join!(running, feed, collect);
    let mut complaints = String::new();
    while let Ok(chunk) = err.try_recv() {
        complaints.push_str(&String::from_utf8_lossy(&chunk));
    }
    (code, output, complaints)
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
async fn an_unknown_command_ends_with_127_and_says_so() {
    let (_folder, at) = surroundings();
    let (code, _, complaints) = outcome(&["vim"], b"", &at).await;
    assert_eq!(code, 127);
    assert!(complaints.contains("vim: not found"), "{complaints}");
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
