//! Executes a cloud-config: files first, then commands, one after the other, as cloud-init would on a new machine.
//!
//! Unlike cloud-init it stops at the first command that fails, and says which: a machine that is half made helps nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use super::folder::{environment, write_mode};
use super::paths;

/// Longest part of a command that an error message repeats.
const SHOWN_MAX: usize = 160;
/// Last bytes of the log that an error message may take its last line from.
const TAIL_MAX: usize = 2048;

/// Why a machine's first boot failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The text is no cloud-config.
    #[error("cloud-init: the user data is no cloud-config: {0}")]
    Parse(String),
    /// A file could not be written.
    #[error("cloud-init: file {path} could not be written: {why}")]
    File { path: String, why: String },
    /// A command failed.
    #[error("cloud-init: command {number} of {of} failed ({how}): {command}{last}")]
    Command {
        number: usize,
        of: usize,
        how: String,
        command: String,
        /// Last line that it printed.
        last: String,
    },
    /// No shell could be started.
    #[error("cloud-init: no shell could be started: {0}")]
    Shell(std::io::Error),
}

/// The part of a cloud-config that is executed.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct CloudConfig {
    #[serde(default)]
    bootcmd: Vec<Value>,
    #[serde(default)]
    write_files: Vec<File>,
    #[serde(default)]
    runcmd: Vec<Value>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: String,
    #[serde(default)]
    permissions: Option<String>,
    #[serde(default)]
    append: bool,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("content", &"[redacted]").finish_non_exhaustive()
    }
}

impl CloudConfig {
    /// Reads the text, with its `ds.meta_data` template expressions filled in when it says that it is a template.
    pub(crate) fn parse(text: &str, metadata: &BTreeMap<String, String>) -> Result<Self, Error> {
        let expanded;
        let text = if text.starts_with("## template: jinja") {
            expanded = expand(text, metadata);
            &expanded
        } else {
            text
        };
        if !text.lines().any(|line| line.trim_end() == "#cloud-config") {
            return Err(Error::Parse("the line #cloud-config is missing".to_owned()));
        }
        // The error's own text would show the data, which holds secrets.
        serde_saphyr::from_str(text).map_err(|error| Error::Parse(error.without_snippet().to_string()))
    }

    /// Writes the files and runs the commands; output goes to `var/log/cloud-init-output.log` of the folder.
    pub(crate) async fn execute(&self, folder: &Path, pid_file: Option<&Path>) -> Result<(), Error> {
        let pid_file = pid_file.map(Path::to_owned);
        let total = self.bootcmd.len() + self.runcmd.len();
        let log = folder.join("var/log/cloud-init-output.log");
        for (number, command) in self.bootcmd.iter().enumerate() {
            run(folder, &log, (number + 1, total), &text(command), pid_file.clone()).await?;
        }
        for file in &self.write_files {
            file.write(folder)?;
        }
        for (number, command) in self.runcmd.iter().enumerate() {
            run(folder, &log, (self.bootcmd.len() + number + 1, total), &text(command), pid_file.clone()).await?;
        }
        Ok(())
    }
}

impl File {
    fn write(&self, folder: &Path) -> Result<(), Error> {
        let fail = |why: String| Error::File { path: self.path.clone(), why };
        let path = paths::inside(folder, &self.path).ok_or_else(|| fail("no absolute path".to_owned()))?;
        let mut content = match self.encoding.as_str() {
            "" | "text/plain" => self.content.clone().into_bytes(),
            "b64" | "base64" => {
                let joined: String = self.content.split_whitespace().collect();
                base64::engine::general_purpose::STANDARD.decode(joined).map_err(|error| fail(error.to_string()))?
            }
            other => return Err(fail(format!("encoding {other:?} is not simulated"))),
        };
        if let Ok(text) = std::str::from_utf8(&content)
            && text.starts_with("#!")
        {
            content = paths::rewrite(folder, text).into_bytes();
        }
        if self.append
            && let Ok(mut before) = std::fs::read(&path)
        {
            before.append(&mut content);
            content = before;
        }
        let mode = self.permissions.as_deref().map_or(Ok(0o644), |text| u32::from_str_radix(text, 8));
        let mode = mode.map_err(|_| fail("its permissions are no octal number".to_owned()))?;
        write_mode(&path, &content, mode).map_err(|error| fail(error.to_string()))
    }
}

/// A command of `runcmd`: a string for the shell, or a list of words.
fn text(command: &Value) -> String {
    match command {
        Value::String(text) => text.clone(),
        Value::Array(words) => {
            let quote = |word: &Value| format!("'{}'", word.as_str().unwrap_or_default().replace('\'', "'\\''"));
            words.iter().map(quote).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

async fn run(
    folder: &Path,
    log: &PathBuf,
    (number, of): (usize, usize),
    command: &str,
    pid_file: Option<PathBuf>,
) -> Result<(), Error> {
    let output = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(Error::Shell)?;
    let start = output.metadata().map_or(0, |metadata| metadata.len());
    let errors = output.try_clone().map_err(Error::Shell)?;
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(paths::rewrite(folder, command))
        .env_clear()
        .envs(environment(folder))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::Shell)?;
    let _group = Group::new(child.id(), pid_file);
    let status = child.wait().await.map_err(Error::Shell)?;
    if status.success() {
        return Ok(());
    }
    let how = match status.code() {
        Some(127) => "exit code 127, command not found".to_owned(),
        Some(code) => format!("exit code {code}"),
        None => "killed".to_owned(),
    };
    let shown: String = command.chars().take(SHOWN_MAX).collect();
    let last = last_line(log, start).map(|line| format!(": {line}")).unwrap_or_default();
    Err(Error::Command { number, of, how, command: shown, last })
}

/// Kills what a command left behind when its machine is destroyed under it.
struct Group {
    pid: Option<u32>,
    file: Option<PathBuf>,
}

impl Group {
    fn new(pid: Option<u32>, file: Option<PathBuf>) -> Self {
        if let (Some(pid), Some(file)) = (pid, &file)
            && let Err(error) = std::fs::write(file, format!("{pid}\n"))
        {
            tracing::debug!(%error, "a command's pid file could not be written");
        }
        Self { pid, file }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            crate::process::kill_group(pid);
        }
        if let Some(file) = &self.file {
            // It is only there for as long as the command runs.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// The last line that was printed since `start`.
fn last_line(log: &PathBuf, start: u64) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let new = bytes.get(usize::try_from(start).ok()?..)?;
    let tail = &new[new.len().saturating_sub(TAIL_MAX)..];
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?.trim();
    Some(line.chars().take(SHOWN_MAX).collect())
}

/// Fills in `{{ ds.meta_data.x }}`; anything else in braces stays as it is.
fn expand(text: &str, metadata: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let Some(end) = tail.find("}}") else { break };
        let name = tail[2..end].trim();
        match name.strip_prefix("ds.meta_data.").and_then(|key| metadata.get(key)) {
            Some(value) => out.push_str(value),
            None => out.push_str(&tail[..end + 2]),
        }
        rest = &tail[end + 2..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
