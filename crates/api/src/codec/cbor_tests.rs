use proptest::prelude::*;
use serde_json::json;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn what_is_written_is_what_other_servers_write() {
    let cases = [
        (json!({}), "d9d9f7a0"),
        (json!({"b": 1, "a": "x", "aa": null}), "d9d9f7a341614178416201426161f6"),
        (json!([true, false, -1, 24, 1_000_000]), "d9d9f785f5f42018181a000f4240"),
        (json!([1.5, 0.1, 100_000.0]), "d9d9f783f93e00fb3fb999999999999afa47c35000"),
        (json!(i64::MIN), "d9d9f73b7fffffffffffffff"),
    ];
    for (value, bytes) in cases {
        assert_eq!(encode(&value).unwrap(), hex(bytes), "{value}");
        assert_eq!(decode(&hex(bytes)).unwrap(), value);
    }
}

#[test]
fn what_says_the_same_is_read_the_same() {
    let cases = [
        ("a16161f5", json!({"a": true})),
        ("d9d9f7d9d9f7a0", json!({})),
        ("9f0102ff", json!([1, 2])),
        ("bf416101616202ff", json!({"a": 1, "b": 2})),
        ("5f41614162ff", json!("ab")),
        ("7f61616162ff", json!("ab")),
        ("f97bff", json!(65504.0)),
        ("fa47c35000", json!(100_000.0)),
        ("d64568656c6c6f", json!("aGVsbG8=")),
        ("d54568656c6c6f", json!("aGVsbG8")),
        ("d74568656c6c6f", json!("68656c6c6f")),
        ("c11a514b67b0", json!("2013-03-21T20:04:00Z")),
        ("c074323031332d30332d32315432303a30343a30305a", json!("2013-03-21T20:04:00Z")),
        ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", json!("http://www.example.com")),
    ];
    for (bytes, value) in cases {
        assert_eq!(decode(&hex(bytes)).unwrap(), value, "{bytes}");
    }
}

#[test]
fn what_json_cannot_say_is_refused() {
    let malformed = ["", "a1", "61", "ff", "1c", "9f01", "a16161", "7fff00", "62c328", "f0", "f7", "f8ff"];
    for bytes in malformed {
        assert!(decode(&hex(bytes)).is_err(), "{bytes}");
    }
    let foreign = [
        ("f97e00", "a number that is not finite"),
        ("fa7f800000", "a number that is not finite"),
        ("1bffffffffffffffff", "an integer beyond 64 bits with a sign"),
        ("41ff", "a byte string that is no text"),
        ("a10102", "a key that is no string"),
        ("c249010000000000000000", "an integer of any size"),
    ];
    for (bytes, why) in foreign {
        assert_eq!(decode(&hex(bytes)), Err(Error::Foreign(why)), "{bytes}");
    }
    assert_eq!(decode(&hex("a2416101616102")), Err(Error::Duplicate("a".into())));
    assert_eq!(decode(&hex("f5f5")), Err(Error::Trailing));
    assert_eq!(decode(&[0x81; 1000]), Err(Error::Depth));
    assert_eq!(decode(&[0xc6; 1000]), Err(Error::Depth));
    assert!(decode(&hex("9b7fffffffffffffff")).is_err(), "a length is no promise");
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_map(|f| Number::from_f64(f.into()).map_or(Value::Null, Value::Number)),
        any::<f64>().prop_map(|f| Number::from_f64(f).map_or(Value::Null, Value::Number)),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in tree()) {
        prop_assert_eq!(decode(&encode(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }
}
