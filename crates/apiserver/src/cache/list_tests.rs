use super::*;

fn revision(number: u64) -> Revision {
    Revision::parse(&number.to_string()).unwrap()
}

/// The table of upstream's documentation ("Semantics for get and list").
#[test]
fn parameters_of_a_list() {
    let at = |rv, m, limit| At::list(rv, m, limit, "").map_err(|e| e.to_string());
    assert_eq!(at("", "", 0), Ok(At::Newest));
    assert_eq!(at("", "", 5), Ok(At::Newest));
    assert_eq!(at("0", "", 0), Ok(At::Any));
    assert_eq!(at("0", "", 5), Ok(At::Any));
    assert_eq!(at("7", "", 0), Ok(At::NotOlderThan(revision(7))));
    assert_eq!(at("7", "", 5), Ok(At::Exact(revision(7))));
    assert_eq!(at("7", "NotOlderThan", 5), Ok(At::NotOlderThan(revision(7))));
    assert_eq!(at("0", "NotOlderThan", 0), Ok(At::Any));
    assert_eq!(at("7", "Exact", 0), Ok(At::Exact(revision(7))));
    for wrong in ["x", "-1", "1.0", " 1", "+1", "99999999999999999999"] {
        assert!(at(wrong, "", 0).is_err(), "{wrong}");
        assert!(At::get(wrong).is_err(), "{wrong}");
    }

    let next = |rv, m| At::list(rv, m, 5, "token");
    assert_eq!(next("", "").unwrap(), At::Continue("token".into()));
    assert_eq!(next("0", "").unwrap(), At::Continue("token".into()));
    assert!(next("7", "").is_err());
}

#[test]
fn a_token_is_read_back() {
    for revision in [None, Some(revision(1)), Some(revision(u64::MAX / 2))] {
        let token = Token { revision, start: "a/é".into() };
        assert_eq!(Token::decode(&token.encode(), "a/").unwrap(), token);
    }
}

#[test]
fn a_wrong_token_is_refused() {
    let encoded = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    let wrong = [
        "!".to_owned(),
        encoded("x"),
        encoded("{}"),
        encoded(r#"{"v":"other","rv":1,"start":"a/b"}"#),
        encoded(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a/b"}"#),
        encoded(r#"{"v":"meta.k8s.io/v1","rv":-2,"start":"a/b"}"#),
        encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
        encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"b/b"}"#),
    ];
    for token in wrong {
        assert!(matches!(Token::decode(&token, "a/"), Err(Error::InvalidContinue(_))), "{token}");
    }
}
