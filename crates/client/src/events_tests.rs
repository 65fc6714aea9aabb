use super::*;

fn occurrence(reason: &str, message: &str, second: i64) -> Occurrence {
    Occurrence {
        object: ObjectReference {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("u1".into()),
            ..ObjectReference::default()
        },
        severity: Severity::Normal,
        reason: reason.into(),
        message: message.into(),
        at: Timestamp::from_second(second).unwrap(),
    }
}

#[test]
fn the_same_thing_again_is_counted() {
    let mut tally = Tally::default();
    let Step::Create { name, .. } = tally.step(&occurrence("BackOff", "x", 1)) else { panic!("not created") };
    assert_eq!(tally.step(&occurrence("BackOff", "x", 2)), Step::Count { name: name.clone(), count: 2 });
    assert_eq!(tally.step(&occurrence("BackOff", "x", 3)), Step::Count { name, count: 3 });
    assert!(matches!(tally.step(&occurrence("BackOff", "y", 4)), Step::Create { .. }));
    assert!(matches!(tally.step(&occurrence("BackOff", "x", 700)), Step::Create { .. }));
}

#[test]
fn many_messages_of_one_reason_become_one_event() {
    let mut tally = Tally::default();
    for i in 0..10 {
        assert!(matches!(tally.step(&occurrence("Failed", &format!("try {i}"), 1)), Step::Create { .. }));
    }
    let Step::Create { name, message } = tally.step(&occurrence("Failed", "try 10", 1)) else {
        panic!("not created")
    };
    assert_eq!(message, "(combined from similar events): try 10");
    assert_eq!(tally.step(&occurrence("Failed", "try 11", 1)), Step::Count { name, count: 2 });
}

#[test]
fn a_noisy_object_is_silenced_and_heard_again_later() {
    let mut tally = Tally::default();
    for i in 0..25 {
        assert_ne!(tally.step(&occurrence(&format!("R{i}"), "m", 1)), Step::Drop);
    }
    assert_eq!(tally.step(&occurrence("R25", "m", 2)), Step::Drop);
    assert_ne!(tally.step(&occurrence("R25", "m", 302)), Step::Drop);
    assert_eq!(tally.step(&occurrence("R26", "m", 303)), Step::Drop);
}

#[test]
fn memory_is_bounded() {
    let mut tally = Tally::default();
    for i in 0..(REMEMBERED + 50) {
        let mut o = occurrence("R", "m", 1);
        o.object.uid = Some(format!("u{i}"));
        assert_ne!(tally.step(&o), Step::Drop);
    }
    assert_eq!(tally.seen.len(), REMEMBERED);
    assert!(tally.budgets.len() <= REMEMBERED + 50);
}

#[test]
fn budgets_are_bounded_and_outlive_a_crowd() {
    let mut tally = Tally::default();
    for i in 0..25 {
        assert_ne!(tally.step(&occurrence(&format!("R{i}"), "m", 1)), Step::Drop);
    }
    for i in 0..(REMEMBERED + REMEMBERED / 2) {
        let mut o = occurrence("R", "m", 1);
        o.object.uid = Some(format!("v{i}"));
        assert_ne!(tally.step(&o), Step::Drop);
        assert!(tally.budgets.len() + tally.older.len() <= 2 * REMEMBERED);
    }
    assert_eq!(tally.step(&occurrence("R25", "m", 2)), Step::Drop, "it has said enough before");
}

#[test]
fn writes_of_one_event_come_one_after_the_other() {
    let mut pace = Pace::default();
    let begun = pace.take(occurrence("BackOff", "x", 1)).expect("it is new");
    assert!(matches!(begun.what, What::Create { .. }));
    assert!(pace.take(occurrence("BackOff", "x", 2)).is_none(), "it is being created");
    assert!(pace.take(occurrence("BackOff", "x", 3)).is_none());
    assert!(pace.take(occurrence("Other", "x", 3)).is_some(), "another event");
    let counted = pace.ended(&begun, true).expect("two have come meanwhile");
    assert_eq!((&counted.name, &counted.what), (&begun.name, &What::Count(3)));
    assert!(pace.ended(&counted, true).is_none());
    let again = pace.take(occurrence("BackOff", "x", 4)).expect("nothing is under way");
    assert_eq!(again.what, What::Count(4));
    assert!(pace.ended(&again, false).is_none());
    let anew = pace.take(occurrence("BackOff", "x", 5)).expect("it has to be created again");
    assert!(matches!(anew.what, What::Create { .. }));
}
