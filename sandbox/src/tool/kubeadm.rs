//! `kubeadm`: hands `init` and `join` to the sandbox, which brings up what they would.

use std::path::Path;

use super::Failure;
use super::args::{Word, Words};
use crate::control::{self, Request};
use crate::node::folder::{NodeFile, write_mode};

pub(super) async fn run(folder: &Path, node: &NodeFile, words: &[String]) -> Result<String, Failure> {
    let mut plain = Vec::new();
    let mut config = None;
    let mut words = Words::new(words);
    while let Some(word) = words.next() {
        match word {
            Word::Plain(word) => plain.push(word),
            Word::Long("config") => config = Some(words.value("--config")?.to_owned()),
            Word::Long("v") | Word::Short('v') => {
                words.value("--v")?;
            }
            Word::Long("ignore-preflight-errors" | "skip-phases") => {
                words.value("the option")?;
            }
            Word::Long("upload-certs") => {}
            Word::Long(name) => return Err(Failure::new(2, format!("option --{name} is not simulated"))),
            Word::Short(letter) => return Err(Failure::new(2, format!("option -{letter} is not simulated"))),
        }
    }
    let path = config.ok_or_else(|| Failure::new(2, "only `kubeadm … --config FILE` is simulated"))?;
    let config = std::fs::read_to_string(&path).map_err(|error| Failure::new(1, format!("{path}: {error}")))?;
    let (namespace, machine) = (node.namespace.clone(), node.machine.clone());
    let request = match plain.as_slice() {
        ["init"] => Request::KubeadmInit { namespace, machine, config },
        ["join"] => Request::KubeadmJoin { namespace, machine, config },
        other => return Err(Failure::new(2, format!("`kubeadm {}` is not simulated", other.join(" ")))),
    };
    let admin = control::call(&node.control, &request).await.map_err(|error| Failure::new(1, error.to_string()))?;
    if !admin.is_empty() {
        for name in ["admin.conf", "super-admin.conf"] {
            let path = folder.join("etc/kubernetes").join(name);
            write_mode(&path, admin.as_bytes(), 0o600)
                .map_err(|error| Failure::new(1, format!("{}: {error}", path.display())))?;
        }
    }
    Ok(match plain.as_slice() {
        ["init"] => "Your Kubernetes control-plane has initialized successfully! (simulated)\n".to_owned(),
        _ => "This node has joined the cluster (simulated)\n".to_owned(),
    })
}
