//! A test starts itself anew inside a network namespace of its own, so that nothing outside is touched. Where that is not
//! allowed it says so and does nothing.

use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "LATTICE_INSIDE_NAMESPACE";

/// Where a test finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the namespace: do the work.
    Inside,
    /// Outside: it has been done, or cannot be.
    Outside,
}

pub(crate) fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

#[expect(clippy::print_stderr, reason = "a check that is left out is said, and so is what was measured")]
pub(crate) fn say(words: &str) {
    eprintln!("{words}");
}

/// Runs a shell line behind `prefix`; an error when it fails.
pub(crate) async fn sh(prefix: &[String], line: &str) -> Result<()> {
    let mut words = prefix.to_vec();
    words.extend(["sh".to_owned(), "-ec".to_owned(), line.to_owned()]);
    let output = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).output().await?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Whether this is in a namespace, or one can be made.
pub(crate) async fn possible() -> bool {
    let may = async || Command::new("unshare").args(["-r", "-n", "true"]).stderr(Stdio::null()).status().await;
    is_set(INSIDE) || may().await.is_ok_and(|status| status.success())
}

/// Runs the test `name` of this binary in a namespace, unless this is that run.
pub(crate) async fn enter(name: &str) -> Result<Where> {
    if is_set(INSIDE) {
        return Ok(Where::Inside);
    }
    if !possible().await {
        say("SKIPPED: network namespaces cannot be made here (unshare -r -n)");
        return Ok(Where::Outside);
    }
    let output = Command::new("unshare")
        .args(["-r", "-n", "--kill-child", "--fork", "--"])
        .arg(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .kill_on_drop(true)
        .output()
        .await?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    for line in said.lines().filter(|line| line.starts_with("SKIPPED") || line.starts_with("measured")) {
        say(line);
    }
    ensure!(output.status.success(), "{said}");
    Ok(Where::Outside)
}
