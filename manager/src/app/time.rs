//! Goes by the clock of the parent's API server when this machine's is wrong.
//!
//! A manager whose clock is a day ahead would find every agent's certificate ended and cut the whole fleet at once. The
//! API server is trusted with everything already, so its `Date` decides: beyond a minute of difference this process
//! corrects its clock ([`clock::correct`]), and the condition `ClockSkew` of every cluster says so. A clock that jumps
//! while the process runs is noticed within a second by the monotonic clock beside it.

use std::time::Duration;

use http::header::DATE;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use lattice_protocol::clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Difference that is tolerated: what people are told of from there on as well. `Date` has whole seconds, and an answer
/// may take seconds, so far less would correct by chance.
const TOLERATED: SignedDuration = SignedDuration::from_secs(60);
/// Steps of a correction. Finer ones would move the clock at each look.
const STEP: SignedDuration = SignedDuration::from_secs(5);
/// How often the API server is asked while nothing jumps.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// How often the wall clock is held against the monotonic one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A wall clock that moved by this much more or less than the monotonic one has jumped.
const JUMP: SignedDuration = SignedDuration::from_secs(30);
/// Longest wait for an answer; half of it is the error of the comparison.
const ANSWER_AT_MOST: Duration = Duration::from_secs(10);

/// Compares once, before anything is signed or judged by the clock.
pub(super) async fn compare(client: &Client) {
    let asked = clock::now();
    let date = match tokio::time::timeout(ANSWER_AT_MOST, date(client)).await {
        Ok(Some(date)) => date,
        Ok(None) => return tracing::debug!("the parent's API server does not say what time it has"),
        Err(_) => return tracing::debug!("the parent's API server did not say in time what time it has"),
    };
    let present = clock::correction();
    let answered = clock::now();
    let middle = asked + answered.duration_since(asked) / 2;
    // Whole seconds are half a second behind on average.
    let ahead = middle.duration_since(date) - SignedDuration::from_millis(500) - present;
    if let Some(correction) = correction(ahead, present) {
        clock::correct(correction);
        if correction.is_zero() {
            tracing::info!("the clock agrees with the API server's again");
        } else {
            tracing::error!(
                ahead_s = ahead.as_secs(), here = %(middle - present), there = %date,
                "the clock here is wrong against the API server's, whose time is used; check time synchronisation"
            );
        }
    }
}

/// Compares again and again until `stop`.
pub(super) async fn follow(client: Client, stop: CancellationToken) {
    let (mut mark, mut asked) = (Mark::now(), Instant::now());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let next = Mark::now();
        let jumped = next.jump_since(&mark).abs() > JUMP;
        mark = next;
        if jumped || asked.elapsed() >= ASK_EVERY {
            compare(&client).await;
            // What the comparison corrected is no jump.
            (mark, asked) = (Mark::now(), Instant::now());
        }
    }
}

/// What the clock is to be corrected by from here on, if by something else than now. `ahead` is by how much the
/// uncorrected clock is ahead.
fn correction(ahead: SignedDuration, present: SignedDuration) -> Option<SignedDuration> {
    let wanted = if ahead.abs() > TOLERATED { -ahead } else { SignedDuration::ZERO };
    ((wanted - present).abs() > STEP).then_some(wanted)
}

/// One moment on both clocks.
struct Mark {
    wall: Timestamp,
    monotonic: Instant,
}

impl Mark {
    fn now() -> Self {
        Self { wall: clock::now(), monotonic: Instant::now() }
    }

    fn jump_since(&self, earlier: &Self) -> SignedDuration {
        let passed = self.monotonic.duration_since(earlier.monotonic);
        self.wall.duration_since(earlier.wall) - SignedDuration::try_from(passed).unwrap_or_default()
    }
}

async fn date(client: &Client) -> Option<Timestamp> {
    let request = http::Request::get("/version").body(kube::client::Body::empty()).ok()?;
    let answer = client.send(request).await.ok()?;
    parse(answer.headers().get(DATE)?.to_str().ok()?)
}

/// Reads an HTTP date (RFC 9110, 5.6.7).
fn parse(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(date).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_date_is_read() {
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), "1994-11-06T08:49:37Z".parse().ok());
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn a_clock_is_corrected_when_it_is_wrong_and_only_then() {
        let seconds = SignedDuration::from_secs;
        for (ahead, present, expected) in [
            (0, 0, None),
            (59, 0, None),
            (-59, 0, None),
            (93_600, 0, Some(-93_600)),
            (-93_600, 0, Some(93_600)),
            (93_602, -93_600, None),
            (93_610, -93_600, Some(-93_610)),
            (1, -93_600, Some(0)),
        ] {
            assert_eq!(correction(seconds(ahead), seconds(present)), expected.map(seconds), "{ahead} {present}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_the_wall_clock_is_told_from_time_that_passes() {
        let before = Mark::now();
        let jumped = Mark { wall: before.wall + SignedDuration::from_hours(26), monotonic: before.monotonic };
        assert!(jumped.jump_since(&before) > JUMP);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let later = Mark { wall: before.wall + SignedDuration::from_hours(1), monotonic: Instant::now() };
        assert!(later.jump_since(&before).abs() < JUMP);
        let back = Mark { wall: before.wall - SignedDuration::from_hours(26), monotonic: Instant::now() };
        assert!(back.jump_since(&before).abs() > JUMP);
    }
}
