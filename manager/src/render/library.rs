//! The files under `templates/`: those that the binary carries, and those of `--templates DIR` in their place.
//!
//! A folder is the unit: `DIR/components/cilium` replaces the whole embedded folder `components/cilium`, and a folder
//! that is not embedded is added. Nothing is merged inside a folder, so a stale file can never slip in between.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Error;

/// Every embedded file: path below `templates/`, text.
static EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Largest file of a templates folder, bytes. Higher lets a stray archive fill the memory; lower cuts real CRD bundles.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Most files of a templates folder. Higher makes a wrong `--templates /` slow to be noticed.
const FILES_MAX: usize = 2_000;

/// Deepest nesting below the templates folder: `components/<name>/manifests/<group>/<file>` needs five.
const DEPTH_MAX: usize = 6;

/// Template files by path below `templates/`, with `/` between parts.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    files: BTreeMap<String, Cow<'static, str>>,
}

impl Library {
    /// Takes the embedded files, and the folders of `dir` in place of the embedded ones of the same name.
    pub(crate) fn load(dir: Option<&Path>) -> Result<Self, Error> {
        let mut files: BTreeMap<String, Cow<'static, str>> =
            EMBEDDED.iter().map(|(path, text)| ((*path).to_owned(), Cow::Borrowed(*text))).collect();
        if let Some(dir) = dir {
            let mut found = BTreeMap::new();
            read_folder(dir, "", 0, &mut found)?;
            let replaced: Vec<String> = found.keys().map(|path| unit(path).to_owned()).collect();
            files.retain(|path, _| !replaced.iter().any(|folder| folder == unit(path)));
            files.extend(found.into_iter().map(|(path, text)| (path, Cow::Owned(text))));
        }
        Ok(Self { files })
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(AsRef::as_ref)
    }

    /// Every file, in order of path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_ref()))
    }

    /// The paths of the files below `folder`, in order.
    pub(crate) fn below<'a>(&'a self, folder: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let prefix = format!("{folder}/");
        self.files.keys().map(String::as_str).filter(move |path| path.starts_with(&prefix))
    }

    /// The names of the folders right below `folder`, in order, each once.
    pub(crate) fn folders(&self, folder: &str) -> Vec<&str> {
        let prefix = format!("{folder}/");
        let mut names: Vec<&str> = self
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix)?.split_once('/'))
            .map(|(name, _)| name)
            .collect();
        names.dedup();
        names
    }
}

/// The path without `.j2`, where the file is a template and not to be taken as it is.
pub(crate) fn template_of(path: &str) -> Option<&str> {
    path.strip_suffix(".j2")
}

/// The folder that is replaced as a whole: `providers/proxmox`, `components/cilium`, `agent`.
fn unit(path: &str) -> &str {
    let parts = if path.starts_with("providers/") || path.starts_with("components/") { 2 } else { 1 };
    let end = path.match_indices('/').nth(parts - 1).map_or(path.len(), |(at, _)| at);
    &path[..end]
}

fn read_folder(dir: &Path, prefix: &str, depth: usize, found: &mut BTreeMap<String, String>) -> Result<(), Error> {
    let failed = |source| Error::ReadTemplates { path: dir.display().to_string(), source };
    if depth > DEPTH_MAX {
        return Err(Error::TemplatesTooMany { path: dir.display().to_string(), limit: "folders nested too deep" });
    }
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let below = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let failed = |source| Error::ReadTemplates { path: path.display().to_string(), source };
        let kind = fs::metadata(&path).map_err(failed)?;
        if kind.is_dir() {
            read_folder(&path, &below, depth + 1, found)?;
        } else if kind.len() > FILE_BYTES_MAX {
            return Err(Error::TemplatesTooMany { path: path.display().to_string(), limit: "file larger than 2 MiB" });
        } else if found.len() >= FILES_MAX {
            return Err(Error::TemplatesTooMany { path: path.display().to_string(), limit: "more than 2,000 files" });
        } else {
            found.insert(below, fs::read_to_string(&path).map_err(failed)?);
        }
    }
    Ok(())
}
