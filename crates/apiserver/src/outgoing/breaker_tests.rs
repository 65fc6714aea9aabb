use super::*;

fn fail(breaker: &Breaker, times: u32, now: Instant) {
    for _ in 0..times {
        breaker.enter(now).expect("it is closed").failed(now);
    }
}

#[tokio::test(start_paused = true)]
async fn opens_after_failures_in_a_row_only() {
    let (breaker, now) = (Breaker::default(), Instant::now());
    fail(&breaker, FAILURES - 1, now);
    breaker.enter(now).unwrap().worked();
    fail(&breaker, FAILURES - 1, now);
    assert!(breaker.enter(now).is_some());
    fail(&breaker, 1, now);
    assert!(breaker.enter(now).is_none());
}

#[tokio::test(start_paused = true)]
async fn lets_one_probe_through_and_believes_it() {
    let (breaker, start) = (Breaker::default(), Instant::now());
    fail(&breaker, FAILURES, start);
    let later = start + FIRST_PAUSE;
    let probe = breaker.enter(later).expect("the pause is over");
    assert!(breaker.enter(later).is_none(), "there is a probe already");
    probe.failed(later);
    assert!(breaker.enter(later + FIRST_PAUSE).is_none(), "the pause is longer now");
    let later = later + FIRST_PAUSE * 2;
    drop(breaker.enter(later).expect("a second probe"));
    breaker.enter(later).expect("a probe that was given up makes way").worked();
    assert!(breaker.enter(later).is_some() && breaker.enter(later).is_some());
}

#[tokio::test(start_paused = true)]
async fn calls_from_before_do_not_lengthen_the_pause() {
    let (breaker, start) = (Breaker::default(), Instant::now());
    let late = breaker.enter(start).unwrap();
    fail(&breaker, FAILURES, start);
    late.failed(start + FIRST_PAUSE / 2);
    assert!(breaker.enter(start + FIRST_PAUSE).is_some());
}
