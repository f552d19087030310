//! Golden files: compared, or written anew when a person asks for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout").to_path_buf()
}

/// Whether golden files are written anew.
pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// An object as YAML, fields in the order of the template.
pub(crate) fn yaml(object: &Value) -> String {
    serde_saphyr::to_string(object).expect("an object is plain data").trim_end().to_owned() + "\n"
}

/// Every file below a folder of `templates/`, by path below `templates/`.
pub(crate) fn templates(folder: &str) -> Vec<String> {
    let root = root().join("templates");
    let mut found = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// The golden files of one folder below `tests/golden`, or any other folder of the checkout.
pub(crate) struct Golden {
    folder: PathBuf,
    seen: BTreeSet<String>,
    different: Vec<String>,
}

impl Golden {
    /// `keep` are files of the folder that are no golden ones.
    pub(crate) fn new(folder: &str, keep: &[&str]) -> Self {
        Self::at(root().join("tests/golden").join(folder), keep)
    }

    pub(crate) fn at(folder: PathBuf, keep: &[&str]) -> Self {
        Self { folder, seen: keep.iter().map(ToString::to_string).collect(), different: Vec::new() }
    }

    /// Compares one file.
    pub(crate) fn check(&mut self, name: &str, text: &str) {
        let path = self.folder.join(name);
        self.seen.insert(name.to_owned());
        let stored = fs::read_to_string(&path).unwrap_or_default();
        if stored == text {
            return;
        }
        if updating() {
            fs::create_dir_all(&self.folder).unwrap();
            fs::write(&path, text).unwrap();
            return;
        }
        let line = stored.lines().zip(text.lines()).position(|(old, new)| old != new);
        let line = line.unwrap_or_else(|| stored.lines().count().min(text.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("<end>").to_owned();
        self.different.push(format!("{name}, line {}:\n    - {}\n    + {}", line + 1, at(&stored), at(text)));
    }

    /// Fails when a file differs, or is there and nothing made it.
    pub(crate) fn finish(mut self) {
        for entry in fs::read_dir(&self.folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() || self.seen.contains(&name) {
                continue;
            }
            if updating() {
                fs::remove_file(entry.path()).unwrap();
            } else {
                self.different.push(format!("{name}: nothing makes it any more"));
            }
        }
        assert!(
            self.different.is_empty(),
            "{} differs; if that is meant, run with UPDATE_GOLDEN=1 and read the diff:\n  {}",
            self.folder.display(),
            self.different.join("\n  ")
        );
    }
}
