//! Random worlds: crashes, lost answers, failures, lagging watches, flapping links, sick components, deletion at any
//! moment. Whatever happens, moves are legal, nothing is claimed that is not so, and once the world is kind again the
//! cluster gets where it should.

use proptest::prelude::*;
use serde_json::Value;

use super::world::World;
use crate::api::condition::READY;
use crate::api::{ErrorClass, LatticeClusterStatus, Phase, Reason};
use crate::lifecycle::{Certainty, Effect, EffectKind, Failure, Observed, Outcome};

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Look,
    Succeed,
    FailUndone,
    LoseAnswer,
    Crash,
    CrashAfterWrite,
    Capi,
    Agent,
    Components,
    Pass(i64),
    Uplink(bool),
    Hold(usize, bool),
    LoseKubeconfig,
    Lag,
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Look),
        10 => Just(Step::Succeed),
        2 => Just(Step::FailUndone),
        2 => Just(Step::LoseAnswer),
        1 => Just(Step::Crash),
        1 => Just(Step::CrashAfterWrite),
        5 => Just(Step::Capi),
        4 => Just(Step::Agent),
        4 => Just(Step::Components),
        4 => (1_i64..40).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Uplink),
        1 => (0_usize..6, any::<bool>()).prop_map(|(at, held)| Step::Hold(at, held)),
        1 => Just(Step::LoseKubeconfig),
        2 => Just(Step::Lag),
    ]
}

/// A world and what is under way in it.
struct Run {
    world: World,
    flying: Vec<Effect>,
    /// Crashes, failures and lost answers: each may cost one repetition of an effect.
    disturbances: usize,
    deleted: bool,
}

fn failure(certainty: Certainty) -> Outcome {
    Outcome::Failed(Failure {
        class: ErrorClass::Transient,
        reason: Reason::ApiUnavailable,
        message: "no answer".to_owned(),
        certainty,
        retry_after: None,
    })
}

impl Run {
    fn take(&mut self, step: Step) {
        if !self.world.exists {
            return;
        }
        match step {
            Step::Look => self.look(),
            Step::Succeed => {
                if let Some(effect) = self.next() {
                    self.world.perform(&effect);
                }
            }
            Step::FailUndone => {
                if let Some(effect) = self.next() {
                    self.disturbances += 1;
                    self.world.state.finish(&effect, failure(Certainty::NotDone), self.world.now);
                }
            }
            Step::LoseAnswer => {
                if let Some(effect) = self.next() {
                    self.disturbances += 1;
                    self.world.act(&effect.kind);
                    self.world.state.finish(&effect, failure(Certainty::MaybeDone), self.world.now);
                }
            }
            Step::Crash => self.crash(),
            Step::CrashAfterWrite => {
                if let Some(effect) = self.next() {
                    self.world.act(&effect.kind);
                }
                self.crash();
            }
            Step::Capi => self.world.capi(),
            Step::Agent => self.world.agent(),
            Step::Components => self.world.components(),
            Step::Pass(seconds) => self.world.pass(seconds),
            Step::Uplink(up) => {
                self.world.uplink = up;
                self.world.agent();
            }
            Step::Hold(at, held) => {
                let name = self.world.facts.catalog.components[at].name.clone();
                if held {
                    self.world.held.insert(name)
                } else {
                    self.world.held.remove(&name)
                };
            }
            Step::LoseKubeconfig => {
                self.disturbances += 1;
                if !self.world.facts.secrets.kubeconfig.is_unknown() {
                    self.world.facts.secrets.kubeconfig = Observed::Absent;
                }
            }
            Step::Lag => self.world.lagging = true,
            Step::Delete => {
                self.deleted = true;
                self.world.delete();
            }
        }
    }

    fn next(&mut self) -> Option<Effect> {
        // An install whose agent is gone cannot be done any more.
        if !self.world.connected {
            let gone = |effect: &Effect| matches!(effect.kind, EffectKind::Install { .. } | EffectKind::Remove { .. });
            for effect in self.flying.extract_if(.., |effect| gone(effect)) {
                self.disturbances += 1;
                self.world.state.finish(&effect, failure(Certainty::NotDone), self.world.now);
            }
        }
        if self.flying.is_empty() { None } else { Some(self.flying.remove(0)) }
    }

    fn crash(&mut self) {
        self.disturbances += 1 + self.flying.len();
        self.flying.clear();
        self.world.restart();
    }

    fn look(&mut self) {
        let phase_before = self.world.phase();
        let lagged = self.world.lagging;
        let decision = self.world.look();
        for effect in &decision.effects {
            let twice = self.flying.iter().any(|flying| flying.kind == effect.kind);
            assert!(!twice, "{} started while it runs", effect.kind);
            if matches!(phase_before, None | Some(Phase::Pending)) && !self.deleted {
                let own = matches!(effect.kind, EffectKind::Render | EffectKind::AddFinalizer);
                assert!(own, "Pending makes nothing: {}", effect.kind);
            }
        }
        self.flying.extend(decision.effects.clone());
        let ready = decision.status.conditions.iter().any(|c| c.type_ == READY && c.is_true());
        // For a moment after a restart the last word stands.
        let fresh = self.world.facts.agent.session.is_some() && !lagged;
        if ready && fresh && decision.moved.is_none() {
            assert!(self.world.is_well(), "Ready is claimed and not so: {:?}", decision.status.message);
        }
        if decision.moved.is_none() {
            let again = self.world.look_again();
            let differences = differences(&decision.status, &again.status);
            assert!(differences.is_empty(), "the same look says something else: {differences:?}");
            assert!(again.effects.is_empty(), "the same look starts {:?} again", again.effects);
        }
    }

    /// The world is kind again.
    fn end(&mut self) {
        self.world.held.clear();
        self.crash();
        let mut rounds = 0;
        while self.world.exists {
            self.world.uplink = true;
            self.world.pass(60);
            self.world.run();
            rounds += 1;
            if !self.deleted || rounds > 20 {
                break;
            }
        }
    }

    fn count(&self, kind: &EffectKind) -> usize {
        self.world.done.iter().filter(|done| *done == kind).count()
    }
}

/// Parts of two statuses that differ, in short.
fn differences(left: &LatticeClusterStatus, right: &LatticeClusterStatus) -> Vec<String> {
    fn walk(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
        match (left, right) {
            (Value::Object(l), Value::Object(r)) => {
                for key in l.keys().chain(r.keys()) {
                    let get = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                    walk(&format!("{path}/{key}"), &get(l), &get(r), found);
                }
            }
            (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
                l.iter().zip(r).enumerate().for_each(|(at, (l, r))| walk(&format!("{path}/{at}"), l, r, found));
            }
            _ if left != right => found.push(format!("{path}: {left} and {right}")),
            _ => {}
        }
    }
    let data = |status: &LatticeClusterStatus| serde_json::to_value(status).expect("a status is data");
    let mut found = Vec::new();
    walk("", &data(left), &data(right), &mut found);
    found
}

fn start() -> Run {
    Run { world: World::new(), flying: Vec::new(), disturbances: 0, deleted: false }
}

proptest! {
    // 32 cases each unless PROPTEST_CASES says more; each is a whole life.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn reaches_ready_whatever_happens_on_the_way(steps in prop::collection::vec(step(), 0..160)) {
        let mut run = start();
        steps.into_iter().for_each(|step| run.take(step));
        run.end();
        prop_assert_eq!(run.world.phase(), Some(Phase::Ready), "{:?}", run.world.status().message);
        prop_assert!(run.world.is_well() && run.world.health_checks);
        for kind in [EffectKind::AddFinalizer, EffectKind::EnsureNamespace, EffectKind::EnsureEnrolment] {
            prop_assert!(run.count(&kind) <= 1 + run.disturbances, "{} was done {} times", kind, run.count(&kind));
        }
    }

    #[test]
    fn goes_away_completely_whenever_it_is_deleted(
        before in prop::collection::vec(step(), 0..120),
        after in prop::collection::vec(step(), 0..60),
    ) {
        let mut run = start();
        before.into_iter().for_each(|step| run.take(step));
        run.take(Step::Delete);
        after.into_iter().for_each(|step| run.take(step));
        run.end();
        prop_assert!(!run.world.exists, "{:?}", run.world.status().message);
    }

    #[test]
    fn an_undisturbed_world_does_each_thing_once(steps in prop::collection::vec(
        prop_oneof![
            3 => Just(Step::Look), 3 => Just(Step::Succeed), 2 => Just(Step::Capi), 2 => Just(Step::Agent),
            2 => Just(Step::Components), 1 => (1_i64..3).prop_map(Step::Pass), 1 => Just(Step::Lag)
        ],
        0..300,
    )) {
        let mut run = start();
        steps.into_iter().for_each(|step| run.take(step));
        while let Some(effect) = run.next() {
            run.world.perform(&effect);
        }
        run.world.run();
        let mut done = run.world.done.clone();
        done.sort();
        let count = done.len();
        done.dedup();
        prop_assert_eq!(done.len(), count, "{:?}", run.world.done);
        prop_assert_eq!(run.world.phase(), Some(Phase::Ready));
    }
}
