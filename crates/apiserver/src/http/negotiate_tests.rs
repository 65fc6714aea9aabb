use http::HeaderValue;

use super::*;

const ALL: Offer = Offer { stream: false, shapes: true, protobuf: true };

fn headers(accept_header: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept_header).unwrap())])
}

fn accepted(accept_header: &str) -> Option<(Encoding, Shape)> {
    accept(&headers(accept_header), None, ALL).ok().map(|a| (a.encoding, a.shape))
}

#[test]
fn the_first_clause_that_can_be_served_wins() {
    let whole = |encoding| Some((encoding, Shape::Whole));
    let table = [
        ("", whole(Encoding::Json)),
        ("*/*", whole(Encoding::Json)),
        ("application/*", whole(Encoding::Json)),
        ("application/yaml", whole(Encoding::Yaml)),
        ("application/json;q=0.2, application/yaml", whole(Encoding::Yaml)),
        ("application/vnd.kubernetes.protobuf,application/json", whole(Encoding::Protobuf)),
        ("application/cbor, application/json", whole(Encoding::Cbor)),
        ("text/html", None),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some((Encoding::Json, Shape::Table { beta: false })),
        ),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", whole(Encoding::Json)),
        ("application/json;as=Table;v=v9;g=meta.k8s.io", None),
        (
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
            Some((Encoding::Json, Shape::Table { beta: false })),
        ),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Some((Encoding::Protobuf, Shape::Metadata { beta: false })),
        ),
    ];
    for (header, expected) in table {
        assert_eq!(accepted(header), expected, "{header}");
    }
}

#[test]
fn yaml_has_no_watch() {
    let error = accept(&headers("application/yaml"), None, Offer { stream: true, ..ALL }).unwrap_err();
    assert_eq!(error.code(), 406);
    assert!(error.message.contains("application/json;stream=watch"), "{}", error.message);
}

#[test]
fn answers_for_people_are_indented() {
    let mut curl = HeaderMap::new();
    curl.insert(header::USER_AGENT, HeaderValue::from_static("curl/8"));
    assert!(accept(&curl, None, ALL).unwrap().pretty);
    assert!(!accept(&curl, Some(false), ALL).unwrap().pretty);
    assert!(!accept(&HeaderMap::new(), None, ALL).unwrap().pretty);
}

#[test]
fn bodies() {
    let typed = |t: &'static str| HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(t))]);
    assert_eq!(content_encoding(&HeaderMap::new()).unwrap(), Encoding::Json);
    assert_eq!(content_encoding(&typed("application/json; charset=utf-8")).unwrap(), Encoding::Json);
    let error = content_encoding(&typed("text/plain")).unwrap_err();
    assert_eq!(
        error.message,
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor"
    );
    assert_eq!(error.code(), 415);
}

#[test]
fn kinds_without_field_numbers_are_answered_in_json() {
    let header = headers("application/vnd.kubernetes.protobuf,application/json");
    let offer = Offer { protobuf: false, ..ALL };
    assert_eq!(accept(&header, None, offer).unwrap().encoding, Encoding::Json);
}
