use super::*;

fn headers(accept: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !accept.is_empty() {
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
    }
    headers
}

async fn ask(path: &str, accept: &str, hash: Option<&str>) -> Result<Option<Found>, Status> {
    let shelves = Shelves {
        library: &Library::default(),
        kinds: Arc::new(Kinds::builtin()),
        others: Descriptions::default(),
        own: false,
    };
    find(&shelves, path, "host:1", &headers(accept), hash).await
}

#[tokio::test]
async fn discovery_is_aggregated_for_those_who_ask() {
    let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    for path in ["/api", "/apis"] {
        assert!(matches!(ask(path, kubectl, None).await, Ok(Some(Found::Tagged(AGGREGATED_V2, _)))));
        let beta = kubectl.replace("v=v2", "v=v2beta1");
        for accept in ["", "application/json, */*", &beta] {
            assert!(matches!(ask(path, accept, None).await, Ok(Some(Found::Plain(_)))), "{accept}");
        }
    }
    assert!(matches!(ask("/apis/apps/v1", kubectl, None).await, Ok(Some(Found::Plain(_)))));
    for nowhere in ["/apis/nothing", "/api/v2", "/openapi", "/openapi/v3/apis/apps", "/nothing"] {
        assert!(matches!(ask(nowhere, kubectl, None).await, Ok(None)), "{nowhere}");
    }
}

#[tokio::test]
async fn v2_is_json_or_protobuf() {
    for accept in ["", "*/*", "application/json", &format!("{};q=1, application/json", openapi::V2_PROTOBUF)]
    {
        assert!(
            matches!(ask("/openapi/v2", accept, None).await, Ok(Some(Found::Tagged(JSON, _)))),
            "{accept}"
        );
    }
    for accept in [openapi::V2_PROTOBUF, openapi::V2_PROTOBUF_ASKED] {
        let Ok(Some(Found::Tagged(openapi::V2_PROTOBUF, document))) = ask("/openapi/v2", accept, None).await
        else {
            panic!("refused or under another name: {accept}");
        };
        let name = b"io.k8s.api.core.v1.Pod";
        assert!(document.body.windows(name.len()).any(|window| window == name));
    }
    let Err(status) = ask("/openapi/v2", "application/yaml", None).await else { panic!("answered") };
    assert_eq!(status.code(), 406);
}

#[tokio::test]
async fn hashed_urls_never_change() {
    let path = "/openapi/v3/apis/apps/v1";
    let hash = openapi::v3_hash(&Kinds::builtin(), "apps", "v1").unwrap();
    assert!(matches!(ask(path, "", Some(&hash)).await, Ok(Some(Found::Immutable(_)))));
    assert!(matches!(ask(path, "", None).await, Ok(Some(Found::Tagged(..)))));
    let Ok(Some(Found::Moved(url))) = ask(path, "", Some("OLD")).await else { panic!("not moved") };
    assert_eq!(url, format!("{path}?hash={hash}"));
}

#[test]
fn a_known_tag_is_not_answered_again() {
    let document = Document::new("{}");
    let mut known = HeaderMap::new();
    known.insert(header::IF_NONE_MATCH, HeaderValue::from_str(&document.etag).unwrap());
    assert_eq!(tagged(AGGREGATED_V2, document.clone(), "public", &known).status(), StatusCode::NOT_MODIFIED);
    let fresh = tagged(AGGREGATED_V2, document.clone(), "public", &HeaderMap::new());
    assert_eq!(fresh.status(), StatusCode::OK);
    assert_eq!(fresh.headers()[header::ETAG], *document.etag);
    assert_eq!(fresh.headers()[header::CONTENT_TYPE], AGGREGATED_V2);
}
