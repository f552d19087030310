//! How often a failing actor is tried again: the arithmetic of supervision, without any actor.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Pause before the first rebuild; it doubles with each panic that the window holds.
pub const RESTART_DELAY_FIRST: Duration = Duration::from_millis(500);
/// So many panics …
pub const PANICS_MAX: usize = 5;
/// … within this time, and the actor is left alone. Shorter: an actor that fails slowly is rebuilt for ever. Longer: two
/// unlucky hours in a month add up.
pub const PANIC_WINDOW: Duration = Duration::from_mins(10);

/// What to do after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rebuild after a pause.
    Restart(Duration),
    /// Leave it alone.
    Quarantine,
}

/// The panics of one actor within the window.
#[derive(Clone, Debug, Default)]
pub struct Panics(VecDeque<Instant>);

impl Panics {
    /// Takes in a panic and says what to do about it.
    pub fn record(&mut self, now: Instant) -> Verdict {
        while self.0.front().is_some_and(|at| now.duration_since(*at) > PANIC_WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        if self.0.len() >= PANICS_MAX {
            return Verdict::Quarantine;
        }
        // At most PANICS_MAX, so the shift is small.
        let doublings = u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX);
        Verdict::Restart(RESTART_DELAY_FIRST.saturating_mul(2_u32.saturating_pow(doublings)))
    }

    /// How many panics the window held at the last record.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Forgets them, when the cause is believed to be gone.
    pub fn forgive(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_the_fifth_panic_in_ten_minutes_quarantines() {
        let (mut panics, now) = (Panics::default(), Instant::now());
        let pauses: Vec<_> = (0..5).map(|i| panics.record(now + Duration::from_secs(i * 100))).collect();
        assert_eq!(
            pauses,
            [
                Verdict::Restart(Duration::from_millis(500)),
                Verdict::Restart(Duration::from_secs(1)),
                Verdict::Restart(Duration::from_secs(2)),
                Verdict::Restart(Duration::from_secs(4)),
                Verdict::Quarantine,
            ]
        );
    }

    #[test]
    fn panics_older_than_the_window_are_forgotten() {
        let (mut panics, now) = (Panics::default(), Instant::now());
        for i in 0..20 {
            let verdict = panics.record(now + PANIC_WINDOW * i + Duration::from_millis(u64::from(i)));
            assert_eq!(verdict, Verdict::Restart(RESTART_DELAY_FIRST), "panic {i} stands alone");
        }
    }

    #[test]
    fn a_forgiven_actor_starts_anew() {
        let (mut panics, now) = (Panics::default(), Instant::now());
        for _ in 0..5 {
            panics.record(now);
        }
        panics.forgive();
        assert_eq!(panics.record(now), Verdict::Restart(RESTART_DELAY_FIRST));
    }
}
