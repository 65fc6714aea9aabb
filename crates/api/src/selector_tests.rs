use proptest::prelude::*;
use serde_json::json;

use super::*;

fn selects(text: &str, labels: Value) -> bool {
    LabelSelector::parse(text).unwrap().matches(labels.as_object())
}

#[test]
fn label_selectors_select() {
    let web = json!({"app": "web", "tier": "front", "n": "5"});
    for (text, want) in [
        ("", true),
        ("app=web", true),
        ("app==web,tier=front", true),
        ("app=db", false),
        ("app!=db", true),
        ("missing!=x", true),
        ("app in (web, db)", true),
        ("app notin (web,db)", false),
        ("missing notin (x)", true),
        ("app", true),
        ("!app", false),
        ("!missing", true),
        ("missing", false),
        ("n>4,n<6", true),
        ("n>5", false),
        ("app>1", false),
        ("missing in (,x)", false),
        ("app=", false),
        ("in in (in),notin", false),
        (" app = web , tier ", true),
    ] {
        assert_eq!(selects(text, web.clone()), want, "{text}");
    }
    assert!(selects("a in ()", json!({"a": ""})));
}

#[test]
fn what_is_no_label_selector_says_why() {
    for (text, why) in [
        ("app=web,", "found '', expected: identifier after ','"),
        ("=web", "found '=', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value \
             must be an integer",
        ),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap_err().to_string(), why, "{text}");
    }
    let long = format!("a={}", "x".repeat(64));
    let told = LabelSelector::parse(&long).unwrap_err().to_string();
    assert!(told.contains("must be no more than 63 bytes"), "{told}");
    assert!(LabelSelector::parse("-a=b").unwrap_err().to_string().contains("key: Invalid value: \"-a\""));
}

#[test]
fn selector_objects_select() {
    let of = |v: Value| LabelSelector::from_value(&v);
    let web = json!({"app": "web"});
    let web = web.as_object();
    assert!(!of(Value::Null).unwrap().matches(web));
    assert!(of(json!({})).unwrap().matches(web));
    assert!(of(json!({"matchLabels": {"app": "web"}})).unwrap().matches(web));
    let expression = |op: &str, values: Value| json!({"matchExpressions": [{"key": "app", "operator": op, "values": values}]});
    assert!(of(expression("In", json!(["web", "db"]))).unwrap().matches(web));
    assert!(!of(expression("NotIn", json!(["web"]))).unwrap().matches(web));
    assert!(of(expression("Exists", Value::Null)).unwrap().matches(web));
    assert_eq!(
        of(expression("Near", Value::Null)).unwrap_err().to_string(),
        "\"Near\" is not a valid label selector operator"
    );
    assert!(of(expression("In", json!([]))).is_err());
    assert_eq!(of(expression("In", json!(["b", "a"]))).unwrap().to_string(), "app in (a,b)");
}

#[test]
fn field_selectors_select() {
    let parse = |t: &str| FieldSelector::parse(t);
    let read = |field: &str| if field == "a" { "x,y" } else { "" };
    assert!(parse("a=x\\,y,b!=z").unwrap().matches(read));
    assert!(!parse("a==z").unwrap().matches(read));
    assert!(parse("b=").unwrap().matches(read));
    assert_eq!(parse("a=1,b!=2").unwrap().exact("a"), Some("1"));
    assert_eq!(parse("a=1,b!=2").unwrap().exact("b"), None);
    for (text, why) in [
        ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
        ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), why);
    }
}

fn selectors() -> impl Strategy<Value = String> {
    let key = "[a-z]{1,3}(/[a-z]{1,3})?";
    let value = "[a-z0-9]{0,3}";
    let term = prop_oneof![
        (key, value).prop_map(|(k, v)| format!("{k}={v}")),
        (key, value).prop_map(|(k, v)| format!("{k}!={v}")),
        (key, proptest::collection::vec(value, 1..4)).prop_map(|(k, v)| format!("{k} in ({})", v.join(","))),
        (key, proptest::collection::vec(value, 1..4))
            .prop_map(|(k, v)| format!("{k} notin ({})", v.join(","))),
        key.prop_map(|k| k),
        key.prop_map(|k| format!("!{k}")),
        (key, any::<i32>()).prop_map(|(k, n)| format!("{k}>{}", n.unsigned_abs())),
    ];
    proptest::collection::vec(term, 0..4).prop_map(|t| t.join(","))
}

proptest! {
    #[test]
    fn a_selector_reads_back_what_it_writes(text in selectors()) {
        let selector = LabelSelector::parse(&text).unwrap();
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z=!<>(), \\\\é]{0,30}") {
        // Only that they return is tested; whether such a text is a selector does not matter here.
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }
}
