use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn times(schedule: &str, from: &str, name: &str, count: usize) -> Vec<String> {
    let zone = zone(name).expect("a zone");
    let schedule = Schedule::parse(schedule).expect("a schedule");
    let mut now = at(from);
    let mut all = Vec::new();
    while all.len() < count
        && let Some(next) = schedule.next(now, &zone)
    {
        all.push(next.to_string());
        now = next;
    }
    all
}

#[test]
fn what_makes_no_sense_is_told_in_upstreams_words() {
    for (text, want) in [
        ("", "empty spec string"),
        ("TZ=UTC * * * * *", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
        ("CRON_TZ=UTC * * * * *", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
        ("@every never", "failed to parse duration @every never: time: invalid duration \"never\""),
        ("@every ", "failed to parse duration @every : time: invalid duration \"\""),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        ("* * * xyz *", "failed to parse int from xyz: strconv.Atoi: parsing \"xyz\": invalid syntax"),
    ] {
        assert_eq!(Schedule::parse(text).map_err(|e| e.to_string()), Err(want.to_owned()), "{text}");
    }
}

#[test]
fn fields_are_lists_of_ranges_with_steps_and_names() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("* * * * *", "2026-01-01T00:00:30Z", &["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]),
        (
            "*/20 * * * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z", "2026-01-01T01:00:00Z"],
        ),
        (
            "50/5 * * * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T00:50:00Z", "2026-01-01T00:55:00Z", "2026-01-01T01:50:00Z"],
        ),
        (
            "10-30/10,45 8 * * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T08:10:00Z", "2026-01-01T08:20:00Z", "2026-01-01T08:30:00Z", "2026-01-01T08:45:00Z"],
        ),
        ("0 0 1 JAN,jul ?", "2026-01-01T00:00:00Z", &["2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        (
            "0 12 * * mon-wed",
            "2026-01-01T00:00:00Z",
            &["2026-01-05T12:00:00Z", "2026-01-06T12:00:00Z", "2026-01-07T12:00:00Z", "2026-01-12T12:00:00Z"],
        ),
        // If both days are given, either will do.
        (
            "0 0 13 * fri",
            "2026-01-08T12:00:00Z",
            &["2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z", "2026-01-16T00:00:00Z"],
        ),
        ("0 0 13 * ?", "2026-01-08T12:00:00Z", &["2026-01-13T00:00:00Z", "2026-02-13T00:00:00Z"]),
        (
            "0 0 */2 * mon",
            "2026-01-30T00:00:00Z",
            &["2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z", "2026-02-03T00:00:00Z"],
        ),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("@yearly", "2026-06-01T00:00:00Z", &["2027-01-01T00:00:00Z"]),
        ("@annually", "2026-06-01T00:00:00Z", &["2027-01-01T00:00:00Z"]),
        ("@monthly", "2026-06-01T00:00:00Z", &["2026-07-01T00:00:00Z"]),
        ("@weekly", "2026-06-01T00:00:00Z", &["2026-06-07T00:00:00Z"]),
        ("@daily", "2026-06-01T00:00:00Z", &["2026-06-02T00:00:00Z"]),
        ("@midnight", "2026-06-01T00:00:00Z", &["2026-06-02T00:00:00Z"]),
        ("@hourly", "2026-06-01T00:00:00Z", &["2026-06-01T01:00:00Z"]),
        ("@every 1h30m", "2026-06-01T00:00:00.9Z", &["2026-06-01T01:30:00Z", "2026-06-01T03:00:00Z"]),
        ("@every 1.5s", "2026-06-01T00:00:00Z", &["2026-06-01T00:00:01Z"]),
        ("@every 1ms", "2026-06-01T00:00:00Z", &["2026-06-01T00:00:01Z"]),
    ];
    for (schedule, from, want) in cases {
        assert_eq!(times(schedule, from, "UTC", want.len()), *want, "{schedule}");
    }
    assert_eq!(times("0 0 30 2 *", "2026-01-01T00:00:00Z", "UTC", 1), [""; 0], "never");
}

#[test]
fn clocks_that_are_set_leave_times_out_or_show_them_twice() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("0 9 * * *", "2026-01-01T12:00:00Z", "Europe/Berlin", &["2026-01-02T08:00:00Z"]),
        ("0 9 * * *", "2026-07-01T12:00:00Z", "Europe/Berlin", &["2026-07-02T07:00:00Z"]),
        ("30 12 * * *", "2026-01-01T00:00:00Z", "Asia/Kolkata", &["2026-01-01T07:00:00Z"]),
        // On 29 March there is no half past two, on 25 October there are two.
        (
            "30 2 * * *",
            "2026-03-28T00:00:00Z",
            "Europe/Berlin",
            &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
        ),
        (
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            "Europe/Berlin",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        (
            "0 * * * *",
            "2026-03-29T00:00:00Z",
            "Europe/Berlin",
            &["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"],
        ),
        // There 24 April begins at one o'clock.
        (
            "0 0 * * *",
            "2026-04-23T00:00:00Z",
            "Africa/Cairo",
            &["2026-04-24T21:00:00Z", "2026-04-25T21:00:00Z"],
        ),
        // And there clocks are set by half an hour.
        (
            "45 1 * * *",
            "2026-04-04T12:00:00Z",
            "Australia/Lord_Howe",
            &["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-05T15:15:00Z"],
        ),
    ];
    for (schedule, from, zone, want) in cases {
        assert_eq!(times(schedule, from, zone, want.len()), *want, "{schedule} in {zone}");
    }
}

#[test]
fn the_last_time_is_found_however_many_there_were() {
    let latest = |schedule: &str, after: &str, now: &str| {
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let found = schedule.latest(at(after), at(now), 100, &TimeZone::UTC);
        found.map(|(t, many)| (t.to_string(), many))
    };
    let some = |t: &str, many: bool| Some((t.to_owned(), many));
    assert_eq!(latest("0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:59:59Z"), None);
    assert_eq!(
        latest("0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
        some("2026-01-01T01:00:00Z", false)
    );
    assert_eq!(
        latest("0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T03:30:00Z"),
        some("2026-01-01T03:00:00Z", false)
    );
    assert_eq!(
        latest("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T01:40:30Z"),
        some("2026-01-01T01:40:00Z", false)
    );
    assert_eq!(
        latest("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T01:41:00Z"),
        some("2026-01-01T01:41:00Z", true)
    );
    assert_eq!(
        latest("* * * * *", "1970-01-01T00:00:00Z", "2026-01-01T00:00:30Z"),
        some("2026-01-01T00:00:00Z", true)
    );
    assert_eq!(
        latest("* 5 1 1 *", "2000-01-01T00:00:00Z", "2026-09-01T00:00:00Z"),
        some("2026-01-01T05:59:00Z", true)
    );
    assert_eq!(
        latest("* 5 1 1 *", "2026-01-01T04:00:00Z", "2026-09-01T00:00:00Z"),
        some("2026-01-01T05:59:00Z", false)
    );
    assert_eq!(
        latest("@every 1m", "2026-01-01T00:00:10Z", "2026-01-01T00:03:30Z"),
        some("2026-01-01T00:03:10Z", false)
    );
    assert_eq!(
        latest("@every 1s", "1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        some("2026-01-01T00:00:00Z", true)
    );
    assert_eq!(
        latest("@every 1h", "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        None,
        "a clock that was set back"
    );
    assert_eq!(latest("* * * * *", "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"), None);
}

#[test]
fn zones_are_known_by_name() {
    assert!(zone("America/New_York").is_some() && zone("UTC").is_some());
    assert_eq!(zone_error("Europe/Berlin"), None);
    assert_eq!(zone_error("").as_deref(), Some("timeZone must be nil or non-empty string"));
    assert_eq!(zone_error("Mars/Base").as_deref(), Some("unknown time zone Mars/Base"));
    assert!(zone_error("local").is_some_and(|e| e.contains("explicit time zone")));
}
