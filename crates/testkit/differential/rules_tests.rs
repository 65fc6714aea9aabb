use serde_json::json;

use super::*;

fn difference(at: &str, ours: Option<Value>) -> Difference {
    Difference { at: at.to_owned(), reference: Some(json!("x")), ours }
}

#[test]
fn a_rule_explains_what_it_says_and_nothing_else() {
    let text = "[{at: '/body/**/name', in: ^pods, ours: '\"a.*\"', why: so}, {at: /body/*/b, ours: absent, why: so}]";
    let mut rules = Rules::parse(text).unwrap();
    let cases = [
        ("pods/1", "/body/name", Some(json!("ab")), true),
        ("pods/1", "/body/x/y/name", Some(json!("a")), true),
        ("pods/1", "/body/x/y/name", Some(json!("ba")), false),
        ("pods/1", "/body/name/x", Some(json!("a")), false),
        ("nodes/1", "/body/name", Some(json!("a")), false),
        ("nodes/1", "/body/x/b", None, true),
        ("nodes/1", "/body/x/y/b", None, false),
        ("nodes/1", "/body/x/b", Some(json!(1)), false),
    ];
    for (request, at, ours, explained) in cases {
        assert_eq!(rules.explain(request, &difference(at, ours)), explained, "{request} {at}");
    }
    assert_eq!(rules.table().collect::<Vec<_>>(), [(2, "so"), (1, "so")]);
    assert_eq!((rules.explained(), rules.unused().len()), (3, 0));
}

#[test]
fn only_a_rule_that_every_run_needs_is_missed() {
    let rules = Rules::parse("[{at: /a, why: so}, {at: /b, sometimes: true, why: so}]").unwrap();
    assert_eq!(rules.unused(), ["/a in \"\": so"]);
}

#[test]
fn a_rule_without_a_reason_is_none() {
    assert!(Rules::parse("[{at: /body, why: ' '}]").is_err());
}
