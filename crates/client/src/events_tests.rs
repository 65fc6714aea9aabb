use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;

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

/// Counts every event, knows none of those that it is to count on, and tells when two writes are under way at once.
#[tokio::test]
async fn writes_come_one_after_the_other_and_an_event_that_is_gone_is_made_anew() {
    let asked = Arc::<Mutex<Vec<Method>>>::default();
    let (told, under_way) = (Arc::clone(&asked), Arc::<AtomicUsize>::default());
    let service = tower::service_fn(move |request: Request<Body>| {
        told.lock().push(request.method().clone());
        let under_way = Arc::clone(&under_way);
        async move {
            assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0, "two writes at once");
            tokio::task::yield_now().await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            let code = if request.method() == Method::POST { 201 } else { 404 };
            Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(b"{}".to_vec())).unwrap())
        }
    });
    let (recorder, sink) = Recorder::new(kube::Client::new(service, "ns"), "test", "");
    let object = occurrence("", "", 0).object;
    for _ in 0..3 {
        recorder.warning(&object, "BackOff", "x");
    }
    recorder.warning(&object, "Other", "x");
    drop(recorder);
    sink.run().await;
    assert_eq!(*asked.lock(), [Method::POST, Method::PATCH, Method::POST, Method::POST]);
}
