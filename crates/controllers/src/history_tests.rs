use k8s_openapi::api::apps::v1::StatefulSet;

use super::*;

fn set(image: &str, change: impl Fn(&mut Value)) -> StatefulSet {
    let mut set = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set", "annotations": {"kubernetes.io/change-cause": "x"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    });
    change(&mut set);
    serde_json::from_value(set).expect("a set")
}

fn revision(image: &str, number: i64) -> Arc<ControllerRevision> {
    let mut revision = make(&set(image, |_| {}), number, 0);
    revision.metadata.uid = Some(format!("{image}{number}"));
    Arc::new(revision)
}

#[test]
fn a_revision_is_named_after_what_it_keeps() {
    let made = make(&set("a", |_| {}), 3, 0);
    let hash = made.name().strip_prefix("web-").expect("the set's name first").to_owned();
    let labels = made.metadata.labels.clone().expect("labels");
    assert_eq!(labels.get("controller.kubernetes.io/hash"), Some(&hash));
    assert_eq!(labels.get("app").map(String::as_str), Some("web"));
    assert_eq!(made.annotation("kubernetes.io/change-cause"), Some("x"));
    assert_eq!(made.revision, Some(3));
    assert_eq!(
        made.data.0.to_string(),
        r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"a","name":"c"}]}}}}"#
    );
    assert_eq!(template_of(&made), Some(set("a", |_| {}).spec.template));
    assert_ne!(make(&set("b", |_| {}), 3, 0).name(), made.name());
    assert_ne!(make(&set("a", |_| {}), 3, 1).name(), made.name(), "a taken name is avoided");
    let long = make(&set("a", |s| s["metadata"]["name"] = json!("x".repeat(253))), 1, 0);
    assert!(long.name().len() <= 253 && long.name().starts_with(&"x".repeat(223)));
}

#[test]
fn names_hash_as_upstreams_do() {
    // FNV-1 of 32 bits over `{}0`.
    let expected = b"{}0".iter().fold(2_166_136_261_u64, |h, b| (h * 16_777_619 % (1 << 32)) ^ u64::from(*b));
    assert_eq!(hash(&json!({}), 0), safe_encode(u32::try_from(expected).expect("32 bits")));
}

#[test]
fn what_was_there_before_is_gone_back_to() {
    let next =
        |image: &str, all: &[Arc<ControllerRevision>]| match next(all, &set(image, |_| {}).spec.template) {
            Next::Is(r) => format!("is {}", r.uid()),
            Next::Again(r, n) => format!("{} as {n}", r.uid()),
            Next::New(n) => format!("new {n}"),
        };
    assert_eq!(next("a", &[]), "new 1");
    let all = [revision("a", 1), revision("b", 2)];
    assert_eq!(next("b", &all), "is b2");
    assert_eq!(next("a", &all), "a1 as 3");
    assert_eq!(next("c", &all), "new 3");
    // As upstream wrote it until 1.33.
    let mut foreign = (*revision("a", 7)).clone();
    foreign.data.0["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
    assert_eq!(next("a", &[revision("b", 2), Arc::new(foreign)]), "is a7");
}

#[test]
fn only_as_many_as_asked_are_kept_beside_what_runs() {
    let all: Vec<_> = (1..=5).map(|n| revision("a", n)).collect();
    let numbers = |limit: Option<i32>| -> Vec<i64> {
        surplus(&all, |r| matches!(number(r), 2 | 5), limit).iter().map(|r| number(r)).collect()
    };
    assert_eq!(numbers(Some(0)), [1, 3, 4]);
    assert_eq!(numbers(Some(1)), [1, 3]);
    assert_eq!(numbers(Some(3)), [0_i64; 0]);
    assert_eq!(numbers(None), [0_i64; 0]);
}
