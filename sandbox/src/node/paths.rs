//! Absolute paths of a machine, laid under its folder.
//!
//! Commands and scripts name absolute paths; without root there is no `chroot`. So every absolute path into one of the
//! machine's own top folders is rewritten, in commands and in files with text, to lie below the folder. Paths to
//! programs and devices (`/bin`, `/usr/bin`, `/dev`, `/proc`, `/sys`) stay: they are the host's.

use std::path::{Path, PathBuf};

/// Top folders that a machine has of its own.
const OWN: [&str; 10] = ["etc", "run", "var", "opt", "root", "home", "srv", "tmp", "mnt", "usr/local"];

/// Where a path of the machine lies on the host.
///
/// `..` cannot leave the folder: such a path is refused.
pub(crate) fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let relative = path.strip_prefix('/')?;
    if relative.split('/').any(|part| part == "..") {
        return None;
    }
    Some(folder.join(relative))
}

/// Rewrites every absolute path of the machine in a text.
pub(crate) fn rewrite(folder: &Path, text: &str) -> String {
    let folder = folder.to_string_lossy();
    let mut out = String::with_capacity(text.len() + 256);
    let mut rest = text;
    let mut before: Option<char> = None;
    while let Some(at) = rest.find('/') {
        out.push_str(&rest[..at]);
        before = rest[..at].chars().next_back().or(before);
        let tail = &rest[at..];
        if starts_word(before) && !tail.starts_with(folder.as_ref()) && is_own(tail) {
            out.push_str(&folder);
        }
        let end = tail[1..].find(|c: char| !is_path(c)).map_or(tail.len(), |end| end + 1);
        out.push_str(&tail[..end]);
        before = tail[..end].chars().next_back();
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

/// Whether a path may begin after this character. After `:` only when no URL or host goes before: `PATH=/a:/b`.
fn starts_word(before: Option<char>) -> bool {
    before.is_none_or(|c| {
        c.is_whitespace()
            || matches!(
                c,
                '"' | '\'' | '=' | '(' | '`' | ':' | ',' | '<' | '>' | ';' | '|' | '&' | '[' | '{' | '@' | '!'
            )
    })
}

/// Characters of a path that is taken over in one piece.
fn is_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '%')
}

fn is_own(path: &str) -> bool {
    OWN.iter().any(|own| {
        path[1..]
            .strip_prefix(own)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(text: &str, wanted: &str) {
        assert_eq!(rewrite(Path::new("/n"), text), wanted);
        assert_eq!(rewrite(Path::new("/n"), wanted), wanted, "twice is once");
    }

    #[test]
    fn own_paths_move_into_the_folder() {
        becomes("/etc/a.sh", "/n/etc/a.sh");
        becomes("cat /etc/a > '/run/b'", "cat /n/etc/a > '/n/run/b'");
        becomes(
            "kubeadm init --config=/run/kubeadm/kubeadm.yaml && echo ok >/run/x",
            "kubeadm init --config=/n/run/kubeadm/kubeadm.yaml && echo ok >/n/run/x",
        );
        becomes("[ -f \"/var/lib/x\" ]", "[ -f \"/n/var/lib/x\" ]");
        becomes("curl -d @/etc/body x", "curl -d @/n/etc/body x");
        becomes("/usr/local/bin/x", "/n/usr/local/bin/x");
    }

    #[test]
    fn programs_devices_and_urls_stay() {
        for text in [
            "#!/bin/sh",
            "#!/usr/bin/env bash",
            "x >/dev/null 2>&1",
            "curl https://127.0.0.1:8443/etc/x/run/y",
            "a/etc/b",
            "/etcetera /running",
            "s/etc/x/",
        ] {
            becomes(text, text);
        }
    }

    #[test]
    fn nothing_leaves_the_folder() {
        let folder = Path::new("/n");
        assert_eq!(inside(folder, "/etc/a"), Some(PathBuf::from("/n/etc/a")));
        assert_eq!(inside(folder, "/etc/../../a"), None);
        assert_eq!(inside(folder, "etc/a"), None);
    }
}
