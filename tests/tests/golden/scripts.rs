//! Scripts that nodes run, taken out of the rendered objects and run for real in a folder of their own, with stand-ins
//! for `curl`, `kubectl` and `sleep` in front of PATH.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::{TOKEN, native, rendered};

/// The inline files of a scenario's control plane: path and text.
pub(crate) fn inline_files(scenario: &str) -> Vec<(String, String)> {
    let objects = rendered(scenario);
    let control_plane = objects.iter().find(|object| object.kind() == "KubeadmControlPlane").unwrap().object();
    let files = control_plane["spec"]["kubeadmConfigSpec"]["files"].as_array().unwrap();
    files
        .iter()
        .filter(|file| file.get("content").is_some())
        .map(|file| {
            assert_eq!(file["encoding"], "base64", "nothing inline is left for a later template engine to read");
            let text = STANDARD.decode(file["content"].as_str().unwrap()).unwrap();
            (file["path"].as_str().unwrap().to_owned(), String::from_utf8(text).unwrap())
        })
        .collect()
}

/// A node: its files below a folder, and stand-ins that write down how they were called.
struct Node {
    root: TempDir,
}

impl Node {
    /// `curl` and `kubectl` are bodies of shell scripts; `$calls` is the file that they write their calls to.
    fn new(scenario: &str, init: bool, curl: &str, kubectl: &str) -> Self {
        let node = Self { root: TempDir::new().unwrap() };
        for (path, text) in inline_files(scenario) {
            node.write(&path, &text);
        }
        node.write("/etc/lattice/token", TOKEN);
        node.write("/etc/lattice/ca.crt", "ca");
        // Without a newline at its end, as a Secret may hold it.
        node.write("/etc/lattice/bootstrap-urls", "https://one.example:8443\nhttps://two.example:8443");
        let kind = if init { "kubeadm.yaml" } else { "kubeadm-join-config.yaml" };
        node.write(&format!("/run/kubeadm/{kind}"), "");
        let calls = node.path("/calls").display().to_string();
        for (name, body) in [("curl", curl), ("kubectl", kubectl), ("sleep", "")] {
            node.write(
                &format!("/bin/{name}"),
                &format!("#!/bin/sh\ncalls={calls}\nprintf '%s\\n' \"{name} $*\" >>\"$calls\"\n{body}\n"),
            );
        }
        node
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    fn run(&self, script: &str) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.path("/bin").display());
        Command::new("sh")
            .arg(self.path(script))
            .env_clear()
            .env("PATH", path)
            .env("LATTICE_NODE_ROOT", self.root.path())
            .output()
            .unwrap()
    }

    fn calls(&self, program: &str) -> Vec<String> {
        self.read("/calls").lines().filter(|call| call.starts_with(program)).map(str::to_owned).collect()
    }
}

/// A `curl` that finds its `-o FILE` and writes a manifest there.
const CURL_WORKS: &str =
    r#"while [ $# -gt 0 ]; do [ "$1" = -o ] && file=$2; shift; done; echo "kind: Namespace" >"$file""#;

const BOOTSTRAP: &str = "/etc/lattice/bootstrap.sh";

#[test]
fn scripts_are_posix_shell() {
    for scenario in crate::SCENARIOS {
        let folder = TempDir::new().unwrap();
        for (path, text) in inline_files(scenario).iter().filter(|(_, text)| text.starts_with("#!")) {
            assert!(text.starts_with("#!/bin/sh\n"), "{path}");
            let script = folder.path().join(Path::new(path).file_name().unwrap());
            fs::write(&script, text).unwrap();
            let checked = Command::new("sh").arg("-n").arg(&script).output().unwrap();
            assert!(checked.status.success(), "{path}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

#[test]
fn bootstrap_applies_the_manifest_once_on_the_init_node() {
    let node = Node::new("homelab", true, CURL_WORKS, "");
    for round in 1..=2 {
        let output = node.run(BOOTSTRAP);
        assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let (fetched, applied) = (node.calls("curl"), node.calls("kubectl"));
    assert_eq!((fetched.len(), applied.len()), (1, 1), "the second run does nothing");
    assert!(fetched[0].ends_with(" https://one.example:8443/v1/clusters/backend/agent.yaml"), "{fetched:?}");
    assert!(fetched[0].contains("--cacert ") && fetched[0].contains("--max-time "), "{fetched:?}");
    assert!(applied[0].contains("/etc/kubernetes/admin.conf apply -f "), "{applied:?}");
    assert!(!node.read("/calls").contains(TOKEN), "the token is on no command line");
    assert!(!node.exists("/etc/lattice/header") && !node.exists("/etc/lattice/agent.yaml"), "nothing secret stays");
}

#[test]
fn bootstrap_sends_the_token_in_a_header() {
    let curl =
        format!(r#"for word in "$@"; do case $word in @*) cat "${{word#@}}" >>"$calls";; esac; done; {CURL_WORKS}"#);
    let node = Node::new("homelab", true, &curl, "");
    assert!(node.run(BOOTSTRAP).status.success());
    assert!(node.read("/calls").contains(&format!("Authorization: Bearer {TOKEN}\n")), "{}", node.read("/calls"));
}

#[test]
fn bootstrap_does_nothing_on_nodes_that_join() {
    let node = Node::new("homelab", false, CURL_WORKS, "");
    assert!(node.run(BOOTSTRAP).status.success());
    assert_eq!(node.read("/calls"), "");
}

#[test]
fn bootstrap_takes_the_next_address_and_tries_again() {
    // The first address never answers; kubectl fails until its third call.
    let curl = format!("case $* in *one.example*) exit 7;; esac; {CURL_WORKS}");
    let kubectl = r#"[ "$(grep -c kubectl "$calls")" -ge 3 ]"#;
    let node = Node::new("docker", true, &curl, kubectl);
    assert!(node.run(BOOTSTRAP).status.success());
    assert_eq!((node.calls("curl").len(), node.calls("kubectl").len(), node.calls("sleep").len()), (6, 3, 2));
}

#[test]
fn bootstrap_never_applies_half_an_answer() {
    let node = Node::new("docker", true, &format!("{CURL_WORKS}; exit 18"), "");
    let output = node.run(BOOTSTRAP);
    assert!(!output.status.success(), "cloud-init shows that it did not work");
    assert!(String::from_utf8_lossy(&output.stderr).contains("bootstrap-urls"), "and what to look at");
    assert_eq!(node.calls("kubectl"), Vec::<String>::new());
    let (rounds, fetches) = (node.calls("sleep").len(), node.calls("curl").len());
    assert!((10..=500).contains(&rounds) && fetches == 2 * rounds, "{rounds} rounds, {fetches} fetches: bounded");
}

#[test]
fn kube_vip_uses_the_strong_kubeconfig_on_the_init_node_only() {
    let objects = rendered("homelab");
    let control_plane = objects.iter().find(|object| object.kind() == "KubeadmControlPlane").unwrap().object();
    let command = control_plane["spec"]["kubeadmConfigSpec"]["preKubeadmCommands"][0].as_str().unwrap();
    for (init, file) in [(true, "super-admin.conf"), (false, "admin.conf")] {
        let node = Node::new("homelab", init, "", "");
        let root = node.root.path().display().to_string();
        let here = command.replace(" /run/", &format!(" {root}/run/")).replace(" /etc/", &format!(" {root}/etc/"));
        for _ in 1..=2 {
            let output = Command::new("sh").args(["-c", &here]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let pod: serde_json::Value =
            serde_json::from_str(&node.read("/etc/kubernetes/manifests/kube-vip.yaml")).expect("still JSON");
        assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["path"], format!("/etc/kubernetes/{file}"));
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], "/etc/kubernetes/admin.conf");
        assert_eq!(native::lost_fields(&pod), Vec::<String>::new());
    }
}
