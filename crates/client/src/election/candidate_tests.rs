use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn candidate(me: &str) -> Candidate {
    Candidate::new(me, Tenure::Renewed(Timing::default()))
}

/// A lease as another program writes it.
fn lease(holder: &str, seconds: i32, renewed: i64, transitions: i32) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()).filter(|h| !h.is_empty()),
        lease_duration_seconds: Some(seconds),
        acquire_time: Some(MicroTime(wall(7))),
        renew_time: Some(MicroTime(wall(renewed))),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    Lease { spec: Some(spec), ..Lease::default() }
}

fn replaces(step: Step) -> LeaseSpec {
    match step {
        Step::Replace(lease) => lease.spec.expect("a record"),
        other => panic!("not written: {other:?}"),
    }
}

#[test]
fn the_first_makes_the_lease_with_upstreams_defaults() {
    let now = Instant::now();
    let mut first = candidate("a");
    first.see(None, now);
    let Step::Create(made) = first.step(now, wall(100)) else { panic!("nobody was there") };
    let mut want = lease("a", 15, 100, 0);
    want.spec.as_mut().expect("a record").acquire_time = Some(MicroTime(wall(100)));
    assert_eq!(made, want);
    assert_eq!(first.leads_until(), None, "it has not been written");
    first.wrote(made, now);
    assert_eq!(first.leads_until(), Some(now + 10 * SECOND));
}

#[test]
fn others_wait_as_long_as_the_record_says_since_they_saw_it_change() {
    let start = Instant::now();
    let mut other = candidate("b");
    // What its clock says of the renewal is nobody's business: it may be years off.
    other.see(Some(lease("a", 20, 1, 3)), start);
    assert_eq!(other.step(start, wall(1_000_000)), Step::Wait);
    assert_eq!(other.holder(), Some("a"));
    other.see(Some(lease("a", 20, 1, 3)), start + 19 * SECOND);
    assert_eq!(other.step(start + 19 * SECOND, wall(0)), Step::Wait, "it was not renewed, but is not over");
    other.see(Some(lease("a", 20, 2, 3)), start + 19 * SECOND);
    assert_eq!(other.step(start + 38 * SECOND, wall(0)), Step::Wait, "it was renewed");
    let taken = replaces(other.step(start + 39 * SECOND, wall(50)));
    assert_eq!(taken.holder_identity.as_deref(), Some("b"));
    assert_eq!((taken.lease_transitions, taken.lease_duration_seconds), (Some(4), Some(15)));
    assert_eq!(taken.acquire_time, Some(MicroTime(wall(50))));
}

#[test]
fn a_lease_that_was_let_go_is_taken_at_once() {
    let now = Instant::now();
    let mut leader = candidate("a");
    leader.wrote(lease("a", 15, 9, 2), now);
    let free = leader.release(wall(60)).expect("it is held");
    let spec = free.spec.clone().expect("a record");
    assert_eq!((spec.holder_identity, spec.lease_duration_seconds), (None, Some(1)));
    assert_eq!(spec.lease_transitions, Some(2));
    let mut other = candidate("b");
    other.see(Some(free), now);
    assert_eq!(other.release(wall(60)), None, "it is not its own");
    assert_eq!(replaces(other.step(now, wall(61))).lease_transitions, Some(3));
}

#[test]
fn a_leader_renews_without_a_transition_and_counts_from_when_it_sent() {
    let sent = Instant::now();
    let mut leader = candidate("a");
    leader.wrote(lease("a", 15, 8, 2), sent);
    let renewed = replaces(leader.step(sent + 2 * SECOND, wall(10)));
    assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(2), &Some(MicroTime(wall(7)))));
    assert_eq!(renewed.renew_time, Some(MicroTime(wall(10))));
    leader.wrote(lease("a", 15, 10, 2), sent + 2 * SECOND);
    assert_eq!(leader.leads_until(), Some(sent + 12 * SECOND));
    // A look at the lease is no renewal.
    leader.see(Some(lease("a", 15, 10, 2)), sent + 5 * SECOND);
    assert_eq!(leader.leads_until(), Some(sent + 12 * SECOND));
}

#[test]
fn a_leader_that_sees_another_leads_no_more() {
    let now = Instant::now();
    for seen in [None, Some(lease("b", 15, 9, 3)), Some(lease("", 1, 9, 3))] {
        let mut leader = candidate("a");
        leader.wrote(lease("a", 15, 8, 2), now);
        leader.see(seen, now);
        assert_eq!(leader.leads_until(), None);
    }
}

#[test]
fn one_that_comes_back_under_its_name_need_not_wait() {
    let now = Instant::now();
    let mut back = candidate("a");
    back.see(Some(lease("a", 15, 8, 2)), now);
    assert_eq!(back.leads_until(), None, "it has not renewed it");
    assert_eq!(replaces(back.step(now, wall(9))).lease_transitions, Some(2));
}

#[test]
fn who_stands_writes_once_and_is_not_waited_out() {
    let now = Instant::now();
    let mut standing = Candidate::new("up", Tenure::Standing);
    standing.see(None, now);
    let Step::Create(made) = standing.step(now, wall(1)) else { panic!("nobody was there") };
    let mut later = Candidate::new("up", Tenure::Standing);
    later.see(Some(made.clone()), now);
    assert_eq!(later.step(now, wall(2)), Step::Lead);
    assert_eq!(later.leads_until(), None, "it needs no renewal");
    let mut other = candidate("b");
    other.see(Some(made), now);
    assert_eq!(other.step(now + 365 * 24 * 3600 * SECOND, wall(3)), Step::Wait);
    // Whoever led before is waited for.
    let mut after = Candidate::new("up", Tenure::Standing);
    after.see(Some(lease("b", 15, 8, 2)), now);
    assert_eq!(after.step(now, wall(2)), Step::Wait);
    assert_eq!(replaces(after.step(now + 15 * SECOND, wall(2))).lease_duration_seconds, Some(i32::MAX));
}

#[test]
fn a_record_that_makes_no_sense_keeps_nobody_waiting() {
    let now = Instant::now();
    for odd in [Lease::default(), lease("a", -5, 0, -1), lease("a", 0, 0, i32::MAX)] {
        let mut other = candidate("b");
        other.see(Some(odd), now);
        assert_eq!(replaces(other.step(now, wall(1))).holder_identity.as_deref(), Some("b"));
    }
}

#[test]
fn what_others_say_in_the_lease_stays() {
    let mut known = lease("", 15, 8, 2);
    known.metadata.resource_version = Some("42".to_owned());
    known.spec.as_mut().expect("a record").strategy = Some("OldestEmulationVersion".to_owned());
    let now = Instant::now();
    let mut other = candidate("b");
    other.see(Some(known), now);
    let Step::Replace(taken) = other.step(now, wall(1)) else { panic!("it is free") };
    assert_eq!(taken.metadata.resource_version.as_deref(), Some("42"), "who comes second must conflict");
    assert_eq!(taken.spec.and_then(|spec| spec.strategy).as_deref(), Some("OldestEmulationVersion"));
}

#[test]
fn times_by_which_two_might_lead_are_refused() {
    let timing = |lease: u64, renew: u64, retry: u64| Timing {
        lease_duration: Duration::from_millis(lease),
        renew_deadline: Duration::from_millis(renew),
        retry_period: Duration::from_millis(retry),
    };
    assert_eq!(Timing::default().check(), Ok(()));
    assert_eq!(timing(10, 10, 1).check(), Err(TimingError::Deadline));
    assert_eq!(timing(15_000, 2400, 2000).check(), Err(TimingError::Retry));
    assert_eq!(timing(15, 10, 0).check(), Err(TimingError::Zero("retryPeriod")));
    // Others wait rather longer than the leader thinks.
    assert_eq!(Tenure::Renewed(timing(1900, 1500, 100)).seconds(), 2);
}
