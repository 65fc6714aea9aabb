use serde_json::json;

use super::*;

fn places(a: Value, b: Value) -> Vec<String> {
    compare(&a, &b).into_iter().map(|difference| difference.at).collect()
}

#[test]
fn what_a_server_makes_up_may_differ_but_not_be_missing() {
    let one = json!({"uid": "a", "resourceVersion": "1", "clusterIP": "10.0.0.1", "message": "at 2020-01-01T00:00:00Z"});
    let other = json!({"uid": "b", "resourceVersion": "2", "clusterIP": "10.0.0.9", "message": "at 2021-02-02T00:00:00Z"});
    assert!(places(one.clone(), other).is_empty());
    assert_eq!(
        places(
            one.clone(),
            json!({"uid": "b", "resourceVersion": "2", "clusterIP": "None", "message": "at noon"})
        ),
        ["/clusterIP", "/message"]
    );
    assert_eq!(
        places(
            one,
            json!({"uid": "", "resourceVersion": "2", "clusterIP": "1.1.1.1", "message": "at 2020-01-01T00:00:00Z"})
        ),
        ["/uid"]
    );
}

#[test]
fn generated_names_are_compared_without_what_is_random() {
    let named = |name: &str| json!({"generateName": "a-", "name": name});
    assert!(places(named("a-bcdfg"), named("a-hjklm")).is_empty());
    assert_eq!(places(named("a-bcdfg"), named("b-hjklm")), ["/name"]);
}

#[test]
fn elements_are_found_by_their_names() {
    let one = json!([{"name": "a", "v": 1}, {"name": "b", "v": 2}]);
    let other = json!([{"name": "b", "v": 2}, {"name": "a", "v": 3}, {"name": "c/d"}]);
    assert_eq!(places(one, other), ["/a/v", "/c~1d"]);
    assert_eq!(places(json!([1, 2]), json!([2])), ["/0", "/1"]);
    let cause =
        |reason: &str, message: &str| json!({"reason": reason, "field": "spec.x", "message": message});
    assert_eq!(
        places(json!([cause("A", "1")]), json!([cause("B", "0"), cause("A", "2")])),
        ["/A spec.x/message", "/B spec.x"]
    );
    let rule = |path: &str, verb: &str| json!({"nonResourceURLs": [path], "verbs": [verb]});
    let (one, other) =
        (json!([rule("/a", "get"), rule("/b", "get")]), json!([rule("/b", "put"), rule("/a", "get")]));
    assert_eq!(places(one, other), ["/~1b/verbs/0"]);
}
