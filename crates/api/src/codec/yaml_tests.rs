use serde_json::json;

use super::*;

fn json(yaml: &str) -> String {
    String::from_utf8(to_json(yaml.as_bytes()).unwrap()).unwrap()
}

#[test]
fn documents_become_json() {
    for (yaml, expected) in [
        (
            "a: 1\nb: [x, 1.5, true, null, ~]\nc:\n- d: '1'\n",
            r#"{"a":1,"b":["x",1.5,true,null,null],"c":[{"d":"1"}]}"#,
        ),
        ("a: &x {b: c}\nd: *x\n", r#"{"a":{"b":"c"},"d":{"b":"c"}}"#),
        ("cmd: |\n  one\n  two\n", r#"{"cmd":"one\ntwo\n"}"#),
        ("1: a\ntrue: b\n", r#"{"1":"a","true":"b"}"#),
        ("{\"a\": {\"b\": [1]}}", "{\"a\": {\"b\": [1]}}"),
        ("{a: {\"b\": [1]}}", r#"{"a":{"b":[1]}}"#),
        ("---\na: b\n", r#"{"a":"b"}"#),
        ("on: yes\nv: \"yes\"\n", r#"{"true":true,"v":"yes"}"#),
        (
            "oct: 0o17\nbig: 18446744073709551615\nneg: -9223372036854775808",
            r#"{"oct":15,"big":18446744073709551615,"neg":-9223372036854775808}"#,
        ),
        ("t: 2026-01-01T00:00:00Z", r#"{"t":"2026-01-01T00:00:00Z"}"#),
        ("", "null"),
    ] {
        assert_eq!(json(yaml), expected, "{yaml}");
    }
}

#[test]
fn duplicate_keys_reach_the_decoder() {
    assert_eq!(json("a: 1\na: 2\n"), r#"{"a":1,"a":2}"#);
}

#[test]
fn keys_that_stand_twice_are_told_with_their_lines() {
    for (yaml, expected) in [
        ("a: 1\nb: {a: 2}\nc: [{a: 1}, {a: 2}]\n", &[][..]),
        (
            "\na: 1\nb:\n- x: 1\n  x: 2\na: 3\n",
            &["line 5: key \"x\" already set in map", "line 6: key \"a\" already set in map"],
        ),
        ("{\"a\": 1,\n\"b\": 2,\n\"a\": null}", &["line 3: key \"a\" already set in map"]),
    ] {
        assert_eq!(repeated(yaml.as_bytes(), json(yaml).as_bytes()), expected, "{yaml}");
    }
}

#[test]
fn json_may_be_as_deep_as_json_may_be() {
    let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    assert_eq!(json(&deep), deep);
}

#[test]
fn broken_yaml_says_where() {
    for yaml in ["a: [1, 2", "a: b: c", "a:\n\t- b", "a: *nothing", "\"a", "a: 1\n b: 2"] {
        let error = to_json(yaml.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("error converting YAML to JSON: "), "{error}");
        assert!(error.contains("line"), "{error}");
    }
    assert!(to_json(b"\xff\xfe\xfa").is_err());
}

#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let before = format!("*a{}", i - 1);
        laughs.push_str(&format!("a{i}: &a{i} [{}]\n", vec![before; 10].join(",")));
    }
    assert!(to_json(laughs.as_bytes()).is_err());
    assert!(to_json("[".repeat(100_000).as_bytes()).is_err());
    let nested = |levels| (0..levels).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
    assert!(to_json(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
    assert!(to_json(nested(2_000).as_bytes()).is_err());
}

#[test]
fn trees_round_trip() {
    let tree = json!({
        "a": ["yes", "1", 1, 1.5, true, null, "", "multi\nline\n", "- x", "null", "0x1f", "1e3", "~", "2026-01-01"],
        "b": {}, "c": [], "d": {"e": [{"f": "g: h"}]}, "y": "y", "n": "n", "odd\u{7f}": "\u{1}\u{2028}",
    });
    let yaml = from_value(&tree).unwrap();
    let back: Value = serde_json::from_str(&json(&yaml)).unwrap();
    assert_eq!(back, tree, "{yaml}");
}
