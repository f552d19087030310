use super::*;

fn seen(holder: Option<&str>, version: &str) -> LeaseSeen {
    LeaseSeen::for_tests(holder, version)
}

fn candidate() -> Candidate {
    Candidate { holder: "pod-b".into(), seen: None }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_our_own_name_is_taken_at_once() {
    let lease = seen(Some("pod-b"), "7");
    assert_eq!(candidate().step(Some(lease.clone()), Instant::now()), Step::Write(lease));
}

#[tokio::test(start_paused = true)]
async fn a_released_or_missing_lease_is_taken_at_once() {
    let lease = seen(None, "7");
    assert_eq!(candidate().step(Some(lease.clone()), Instant::now()), Step::Write(lease));
    assert_eq!(candidate().step(None, Instant::now()), Step::Create);
}

#[tokio::test(start_paused = true)]
async fn anothers_lease_is_taken_only_after_it_stood_still_for_its_duration() {
    let mut candidate = candidate();
    let lease = seen(Some("pod-a"), "7");
    assert_eq!(candidate.step(Some(lease.clone()), Instant::now()), Step::Wait);
    tokio::time::advance(Duration::from_millis(14_999)).await;
    assert_eq!(candidate.step(Some(lease.clone()), Instant::now()), Step::Wait);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(candidate.step(Some(lease.clone()), Instant::now()), Step::Write(lease));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_by_another_starts_the_wait_anew() {
    let mut candidate = candidate();
    assert_eq!(candidate.step(Some(seen(Some("pod-a"), "7")), Instant::now()), Step::Wait);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(candidate.step(Some(seen(Some("pod-a"), "8")), Instant::now()), Step::Wait);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(candidate.step(Some(seen(Some("pod-a"), "8")), Instant::now()), Step::Wait);
}
