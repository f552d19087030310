//! The steps of a CA's rotation, pure: Publish, Sign, Retire, and the way back.
//!
//! *Publish*: the new CA goes into every bundle, the old one goes on signing. *Sign*: the new one signs, both are trusted.
//! *Retire*: the old one is trusted no more. Each step waits for those who have not followed, and names them; a person
//! may go on without them. **Guarantee**: whoever followed the last step can talk to whoever followed this one.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Shortest time between Publish and Sign once every kubeconfig carries both CAs. Cluster API's controllers read theirs
/// when they connect, and their caches look every 30 s: below this some of them meet a certificate that they do not know.
pub const SETTLE: Duration = Duration::from_secs(40);

/// Most laggards that a refusal names; the rest is counted.
const NAMED_MAX: usize = 20;

/// Where the rotation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// One CA, nothing to do.
    #[default]
    Standby,
    /// The next CA is in every bundle, and signs nothing.
    Published,
    /// The next CA signs, the previous one is still trusted.
    Signing,
}

/// A step of the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Make the next CA and let everybody trust it.
    Publish,
    /// Sign with it.
    Sign,
    /// Trust the previous one no more.
    Retire,
    /// Go back to the CA that signed before.
    Rollback,
}

/// Why a step is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another step comes first.
    #[error("cannot {step} while the rotation is in {phase}: the next step is {next}")]
    Order {
        /// What was asked for.
        step: Step,
        /// Where the rotation is.
        phase: Phase,
        /// What would be taken.
        next: Step,
    },
    /// Some have not followed the last step.
    #[error("cannot {step} yet: {} not followed: {}; wait, or go on with --without-laggards", count(names.len()), name(names))]
    Laggards {
        /// What was asked for.
        step: Step,
        /// Clusters by name.
        names: Vec<String>,
    },
    /// Cluster API's connections have not had the time to follow.
    #[error("cannot sign before {}: Cluster API's controllers still follow the published CA", lattice_protocol::clock::to_seconds(*until))]
    TooEarly {
        /// When it may.
        until: Timestamp,
    },
    /// There is nothing to go back to.
    #[error("there is no rotation to roll back")]
    NothingToRollBack,
}

/// Who has not followed the present phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Clusters whose agent does not trust the present bundle.
    pub agents: Vec<String>,
    /// Clusters whose kubeconfig does not carry it.
    pub kubeconfigs: Vec<String>,
    /// Clusters whose agent's certificate in force was signed by the previous CA.
    pub certificates: Vec<String>,
}

/// Secret that carries what is asked of the rotation and how it stands.
pub const SECRET_NAME: &str = "lattice-ca-rotation";
/// Its key with the [`Wish`].
pub const WISH: &str = "wish.json";
/// Its key with the [`RotationStatus`].
pub const STATUS: &str = "status.json";

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// The step.
    pub step: Step,
    /// Go on without laggards.
    pub told: bool,
    /// When it was asked: tells one wish from another.
    pub asked_at: Timestamp,
}

/// How the rotation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// Where it is.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// Pin of the CA that signs.
    pub signing: String,
    /// How many CAs are trusted.
    pub trusted: usize,
    /// Who has not followed.
    pub standing: Standing,
    /// The wish that was answered last, by its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Timestamp>,
    /// What came of it.
    pub outcome: String,
}

impl Phase {
    /// The step that comes next.
    pub fn next(self) -> Step {
        match self {
            Self::Standby => Step::Publish,
            Self::Published => Step::Sign,
            Self::Signing => Step::Retire,
        }
    }
}

impl Step {
    /// Where the rotation is once the step is taken.
    pub fn leads_to(self) -> Phase {
        match self {
            Self::Publish => Phase::Published,
            Self::Sign => Phase::Signing,
            Self::Retire | Self::Rollback => Phase::Standby,
        }
    }
}

/// Tells the phase after `step`, or why it may not be taken. `told` is a person's word to go on without laggards.
///
/// # Errors
/// [`Refused`].
pub fn advance(
    phase: Phase,
    since: Timestamp,
    step: Step,
    standing: &Standing,
    told: bool,
    now: Timestamp,
) -> Result<Phase, Refused> {
    let lag = |lists: &[&Vec<String>]| {
        let mut names: Vec<String> = lists.iter().flat_map(|list| list.iter().cloned()).collect();
        names.sort();
        names.dedup();
        if names.is_empty() || told { Ok(()) } else { Err(Refused::Laggards { step, names }) }
    };
    match (phase, step) {
        (Phase::Standby, Step::Publish) => Ok(Phase::Published),
        (Phase::Published, Step::Sign) => {
            lag(&[&standing.agents, &standing.kubeconfigs])?;
            let until = since + SETTLE;
            if now < until && !told { Err(Refused::TooEarly { until }) } else { Ok(Phase::Signing) }
        }
        (Phase::Signing, Step::Retire) => {
            lag(&[&standing.agents, &standing.kubeconfigs, &standing.certificates])?;
            Ok(Phase::Standby)
        }
        (Phase::Published | Phase::Signing, Step::Rollback) => Ok(Phase::Standby),
        (Phase::Standby, Step::Rollback) => Err(Refused::NothingToRollBack),
        (Phase::Standby | Phase::Published | Phase::Signing, Step::Publish | Step::Sign | Step::Retire) => {
            Err(Refused::Order { step, phase, next: phase.next() })
        }
    }
}

fn count(count: usize) -> String {
    if count == 1 { "1 cluster has".to_owned() } else { format!("{count} clusters have") }
}

fn name(names: &[String]) -> String {
    let mut text = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        text = format!("{text} and {more} more");
    }
    text
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Standby => "Standby",
            Self::Published => "Published",
            Self::Signing => "Signing",
        })
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Sign => "sign",
            Self::Retire => "retire",
            Self::Rollback => "roll back",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn every_phase_takes_its_own_step_and_no_other() {
        let fine = Standing::default();
        for (phase, step, to) in [
            (Phase::Standby, Step::Publish, Phase::Published),
            (Phase::Published, Step::Sign, Phase::Signing),
            (Phase::Signing, Step::Retire, Phase::Standby),
        ] {
            assert_eq!(advance(phase, at(0), step, &fine, false, at(60)), Ok(to));
            assert_eq!(step.leads_to(), to);
            for other in [Step::Publish, Step::Sign, Step::Retire].into_iter().filter(|other| *other != step) {
                let refused = advance(phase, at(0), other, &fine, true, at(60));
                assert_eq!(refused, Err(Refused::Order { step: other, phase, next: step }), "told or not");
            }
        }
    }

    #[test]
    fn laggards_are_named_and_only_a_persons_word_leaves_them_behind() {
        let standing =
            Standing { agents: vec!["b".into(), "a".into()], kubeconfigs: vec!["a".into()], ..Standing::default() };
        let refused = advance(Phase::Signing, at(0), Step::Retire, &standing, false, at(9)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot retire yet: 2 clusters have not followed: a, b; wait, or go on with --without-laggards"
        );
        assert_eq!(advance(Phase::Signing, at(0), Step::Retire, &standing, true, at(9)), Ok(Phase::Standby));
        let old = Standing { certificates: vec!["c".into()], ..Standing::default() };
        assert!(advance(Phase::Signing, at(0), Step::Retire, &old, false, at(9)).is_err());
        assert!(
            advance(Phase::Published, at(0), Step::Sign, &old, false, at(60)).is_ok(),
            "they are renewed after Sign"
        );
    }

    #[test]
    fn cluster_api_has_time_to_read_the_new_bundle() {
        let early = advance(Phase::Published, at(0), Step::Sign, &Standing::default(), false, at(39));
        assert_eq!(early, Err(Refused::TooEarly { until: at(40) }));
    }

    #[test]
    fn a_rotation_can_be_taken_back_until_it_is_over() {
        let back = |phase| advance(phase, at(0), Step::Rollback, &Standing::default(), false, at(9));
        assert_eq!((back(Phase::Published), back(Phase::Signing)), (Ok(Phase::Standby), Ok(Phase::Standby)));
        assert_eq!(back(Phase::Standby), Err(Refused::NothingToRollBack));
    }
}
