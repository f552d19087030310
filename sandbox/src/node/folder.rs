//! A machine's folder: what lies in it before its first command runs.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Programs of ours in front of PATH.
pub(crate) const TOOLS: [&str; 3] = ["kubeadm", "curl", "kubectl"];

/// Programs of the host that cloud-init may use; anything else is not found, as on a lean image.
const HOST_TOOLS: &[&str] = &[
    "awk",
    "base64",
    "basename",
    "bash",
    "cat",
    "chmod",
    "cksum",
    "cmp",
    "cp",
    "cut",
    "date",
    "dirname",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "fold",
    "grep",
    "gzip",
    "head",
    "id",
    "install",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "od",
    "printf",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "uname",
    "uniq",
    "wc",
    "xargs",
];

/// What the node programs need to know; kept in the machine's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeFile {
    /// Socket of the sandbox.
    pub(crate) control: PathBuf,
    /// Namespace of the machine's objects.
    pub(crate) namespace: String,
    /// The machine's name.
    pub(crate) machine: String,
}

impl NodeFile {
    fn path(folder: &Path) -> PathBuf {
        folder.join(".node.json")
    }

    /// Reads it from a machine's folder.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(folder))?).map_err(io::Error::from)
    }
}

/// Lays a machine's folder out: shims of our programs, links to the host's.
pub(crate) fn prepare(folder: &Path, manager_exe: &Path, node: &NodeFile) -> io::Result<()> {
    for sub in ["etc/kubernetes", "run", "tmp", "root", "var/log", "var/lib", "opt", "usr/local/bin", "usr/bin"] {
        std::fs::create_dir_all(folder.join(sub))?;
    }
    private(folder)?;
    std::fs::write(NodeFile::path(folder), serde_json::to_vec(node)?)?;
    for tool in TOOLS {
        let shim = format!(
            "#!/bin/sh\nexec {} sandbox node-tool --node {} {tool} \"$@\"\n",
            quote(manager_exe),
            quote(folder)
        );
        write_mode(&folder.join("usr/local/bin").join(tool), shim.as_bytes(), 0o755)?;
    }
    for tool in HOST_TOOLS {
        let found = ["/usr/bin", "/bin"].iter().map(|dir| Path::new(dir).join(tool)).find(|path| path.exists());
        let link = folder.join("usr/bin").join(tool);
        if let Some(found) = found.filter(|_| std::fs::symlink_metadata(&link).is_err()) {
            symlink(found, link)?;
        }
    }
    Ok(())
}

/// The environment of every command: nothing of the host's.
pub(crate) fn environment(folder: &Path) -> BTreeMap<&'static str, String> {
    let at = |sub: &str| folder.join(sub).to_string_lossy().into_owned();
    BTreeMap::from([
        ("PATH", format!("{}:{}", at("usr/local/bin"), at("usr/bin"))),
        ("HOME", at("root")),
        ("TMPDIR", at("tmp")),
        ("LANG", "C".to_owned()),
        // Scripts that put their paths together themselves ask for it.
        ("LATTICE_NODE_ROOT", folder.to_string_lossy().into_owned()),
    ])
}

/// Writes a file with its permissions from the first moment.
pub(crate) fn write_mode(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// Takes a folder away from everybody else: it holds keys and tokens.
pub(crate) fn private(folder: &Path) -> io::Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// A path as one word of a shell.
fn quote(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}
