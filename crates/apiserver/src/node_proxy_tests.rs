use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
}

#[test]
fn an_upgrade_is_handed_on_and_other_hops_are_not() {
    let asked = headers(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "k"),
        ("te", "trailers"),
        ("authorization", "Bearer secret"),
        ("host", "api"),
    ]);
    assert!(is_upgrade(&asked));
    let expected =
        headers(&[("sec-websocket-key", "k"), ("connection", "Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(handed_on(&asked), expected);
    let plain = headers(&[("connection", "keep-alive"), ("upgrade", "websocket")]);
    assert!(!is_upgrade(&plain));
    assert!(handed_on(&plain).is_empty());
}
