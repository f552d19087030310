//! Months in virtual time: renewals, rotations, sleeps, and a manager that dies after every step.

use jiff::SignedDuration;

use super::*;
use crate::store::ca::rotation::{Phase, Standing};

/// What an honest agent keeps.
struct Agent {
    now: Timestamp,
    bound: String,
    serial: Serial,
    not_after: Timestamp,
    sequence: u64,
    recovered: u32,
}

impl Agent {
    async fn enrolled(world: &World) -> Self {
        let (token, csr) = (world.token().await, csr());
        let first = world.enrol(&token, &csr).await.unwrap();
        let Enrolled { serial, not_after, sequence, .. } = first;
        Self { now: now(), bound: csr.key_sha256(), serial, not_after, sequence, recovered: 0 }
    }

    /// Gets its next certificate, by renewal while it has one that is good. The answer may be lost, or the manager die.
    async fn next(&mut self, world: &mut World, lose_answer: bool) {
        let csr = csr();
        let expired = self.now >= self.not_after;
        let asked = Asked {
            key_sha256: self.bound.clone(),
            sequence: self.sequence,
            kube_system_uid: KUBE_SYSTEM.to_owned(),
            from: "192.0.2.1".to_owned(),
        };
        let mut answers = Vec::new();
        world.vault.lose_answers.store(u32::from(lose_answer), Ordering::Relaxed);
        for _ in 0..2 {
            answers.push(if expired {
                world.store.recover(&world.uid, &asked, &csr, self.now).await
            } else {
                world.store.renew(&world.uid, &self.serial, self.sequence, &csr, self.now).await
            });
            world.restart().await;
        }
        let [first, again] = <[_; 2]>::try_from(answers).unwrap();
        let again = again.unwrap_or_else(|error| panic!("{} after {} certificates: {error}", self.now, self.sequence));
        assert!(first.is_err() == lose_answer && first.is_ok_and(|first| first.serial == again.serial) != lose_answer);
        self.recovered += u32::from(expired);
        (self.serial, self.not_after, self.sequence) = (again.serial, again.not_after, again.sequence);
        world.store.shown(&world.uid, &self.serial).await.unwrap();
        world.restart().await;
        let identified = world.store.identified(&world.uid).unwrap();
        assert_eq!((identified.sequence, identified.locked), (self.sequence, None));
    }
}

#[tokio::test]
async fn two_hundred_renewals_three_rotations_and_two_months_of_sleep_need_nobody() {
    let mut world = World::new().await;
    let mut agent = Agent::enrolled(&world).await;
    let mut steps = 0;
    for renewal in 0..200 {
        // Two thirds of a day, or a sleep.
        let hours = match renewal {
            40 => 1,
            90 => 25,
            140 => 60 * 24,
            _ => 16,
        };
        agent.now += SignedDuration::from_hours(hours);
        agent.next(&mut world, renewal % 3 == 0).await;
        if renewal % 22 == 21 {
            let step = world.store.ca.phase().0.next();
            let told = Standing::default();
            world.store.ca.step(step, &told, false, agent.now).await.unwrap();
            steps += 1;
            world.restart().await;
        }
    }
    assert_eq!((steps, world.store.ca.phase().0, agent.recovered), (9, Phase::Standby, 2));
    assert_eq!(agent.sequence, 201, "every certificate is counted");
    assert!(!world.store.identified(&world.uid).unwrap().of_another_ca);
}
