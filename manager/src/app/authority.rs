//! `lattice-manager ca`: asks the running manager for a step of the rotation and tells how it stands. No key is read here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::clock;
use tokio::time::Instant;

use super::cli::{CaArgs, CaCommand, CaStep};
use super::client;
use crate::api::SYSTEM_NAMESPACE;
use crate::store::ca::rotation::WISH;
use crate::store::ca::rotation::{Phase, RotationStatus, SECRET_NAME, STATUS, Step, Wish};
use crate::store::vault::{Contents, Entry, KubeVault, LABEL_HOLDS, Vault};
use crate::store::{self, Fence};

/// How long the running manager may take to answer.
const ANSWER_AT_MOST: Duration = Duration::from_secs(30);
/// How often its answer is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parent's API cannot be used.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The parent's API failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The manager does not answer.
    #[error(
        "no manager answered within {ANSWER_AT_MOST:?}, and nothing was done: does lattice-manager run and hold its Lease?"
    )]
    NoAnswer,
    /// The manager answered too late to be heard, perhaps.
    #[error("no manager answered within {ANSWER_AT_MOST:?}, but one may be at it: look with lattice-manager ca status")]
    NotWithdrawn,
    /// No manager has ever run here.
    #[error(
        "there is no certificate authority on this parent yet: lattice-manager run makes it (no namespace {SYSTEM_NAMESPACE})"
    )]
    NoManager,
    /// The manager refused.
    #[error("{0}")]
    Refused(String),
}

/// Carries out `lattice-manager ca`; gives what to print.
///
/// # Errors
/// [`Error`].
pub async fn authority(args: CaArgs) -> Result<String, Error> {
    match args.command {
        CaCommand::Status(args) => {
            let vault = vault(args.kubeconfig.as_deref()).await?;
            Ok(tell(&asked(&vault, None).await?))
        }
        CaCommand::Rotate(args) => {
            let vault = vault(args.kubeconfig.as_deref()).await?;
            let before = asked(&vault, None).await?;
            let step = args.step.map_or_else(|| before.phase.next(), step);
            let wish = Wish { step, told: args.without_laggards, asked_at: clock::now() };
            let after = asked(&vault, Some(wish)).await?;
            match after.outcome.strip_prefix("refused: ") {
                Some(why) => Err(Error::Refused(why.to_owned())),
                None => Ok(tell(&after)),
            }
        }
    }
}

fn step(step: CaStep) -> Step {
    match step {
        CaStep::Publish => Step::Publish,
        CaStep::Sign => Step::Sign,
        CaStep::Retire => Step::Retire,
        CaStep::Rollback => Step::Rollback,
    }
}

async fn vault(kubeconfig: Option<&std::path::Path>) -> Result<KubeVault, Error> {
    let client = client::connect_as_kubectl(kubeconfig).await?;
    Ok(KubeVault::new(client, Fence::open(), SYSTEM_NAMESPACE))
}

/// Writes a wish, if there is one, and waits for the running manager's account.
async fn asked(vault: &KubeVault, wish: Option<Wish>) -> Result<RotationStatus, Error> {
    let deadline = Instant::now() + ANSWER_AT_MOST;
    let asked_at = wish.as_ref().map(|wish| wish.asked_at);
    let mut wish = wish;
    loop {
        let entry = vault.read(SECRET_NAME).await?;
        if let Some(status) = entry.as_ref().and_then(status)
            && wish.is_none()
            && (asked_at.is_none() || status.answers == asked_at)
        {
            return Ok(status);
        }
        if (wish.is_some() || entry.is_none()) && put(vault, entry, wish.as_ref()).await? {
            wish = None;
        }
        if Instant::now() >= deadline {
            return Err(match asked_at {
                Some(asked_at) if !withdrawn(vault, asked_at).await? => Error::NotWithdrawn,
                _ => Error::NoAnswer,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Takes a wish back that nobody has answered, so that no manager carries it out at a time when nobody expects it any more.
/// False when it may have been taken up at the last moment.
async fn withdrawn(vault: &KubeVault, asked_at: Timestamp) -> Result<bool, Error> {
    let Some(entry) = vault.read(SECRET_NAME).await? else { return Ok(true) };
    let ours = |wish: &Wish| wish.asked_at == asked_at;
    let waits = entry
        .contents
        .data
        .get(WISH)
        .and_then(|wish| serde_json::from_slice(wish).ok())
        .is_some_and(|wish| ours(&wish));
    if !waits {
        return Ok(true);
    }
    if status(&entry).is_some_and(|status| status.answers == Some(asked_at)) {
        return Ok(false);
    }
    let mut contents = entry.contents.clone();
    contents.data.remove(WISH);
    match vault.replace(SECRET_NAME, entry.version.clone(), contents).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes the Secret; false when somebody else was faster.
async fn put(vault: &KubeVault, entry: Option<Entry>, wish: Option<&Wish>) -> Result<bool, Error> {
    let mut data: BTreeMap<String, Vec<u8>> =
        entry.as_ref().map(|entry| entry.contents.data.clone()).unwrap_or_default();
    if let Some(wish) = wish {
        data.insert(WISH.to_owned(), serde_json::to_vec(wish).unwrap_or_default());
    }
    let contents = Contents { labels: BTreeMap::from([(LABEL_HOLDS.to_owned(), "ca-rotation".to_owned())]), data };
    let fresh = entry.is_none();
    let written = match entry {
        Some(entry) => vault.replace(SECRET_NAME, entry.version.clone(), contents).await,
        None => vault.create(SECRET_NAME, contents).await,
    };
    match written {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        // A Secret that is made needs its namespace.
        Err(error) if error.is_not_found() && fresh => Err(Error::NoManager),
        Err(error) => Err(error.into()),
    }
}

fn status(entry: &Entry) -> Option<RotationStatus> {
    serde_json::from_slice(entry.contents.data.get(STATUS)?).ok()
}

/// How the rotation stands, for a person.
fn tell(status: &RotationStatus) -> String {
    let mut text = String::new();
    let since: Timestamp = status.since;
    let _ = writeln!(text, "phase:    {} since {since}", status.phase);
    let _ = writeln!(text, "signing:  {}", status.signing);
    let _ = writeln!(text, "trusted:  {}", if status.trusted == 1 { "that one" } else { "that one and another" });
    if !status.outcome.is_empty() {
        let _ = writeln!(text, "last:     {}", status.outcome);
    }
    let standing = &status.standing;
    for (what, names) in [
        ("agents that do not trust the present bundle", &standing.agents),
        ("kubeconfigs that do not carry it", &standing.kubeconfigs),
        (
            "agents whose certificate another CA signed; connected ones change it within 15 minutes",
            &standing.certificates,
        ),
    ] {
        if !names.is_empty() {
            let _ = writeln!(text, "lagging:  {what}: {}", names.join(", "));
        }
    }
    let next = match status.phase {
        Phase::Standby => "lattice-manager ca rotate (publish): makes the next CA and lets everybody trust it",
        Phase::Published => "lattice-manager ca rotate (sign): the next CA signs; both are trusted",
        Phase::Signing => "lattice-manager ca rotate (retire): the previous CA is trusted no more",
    };
    let _ = writeln!(text, "next:     {next}");
    text
}
