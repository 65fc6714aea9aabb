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
