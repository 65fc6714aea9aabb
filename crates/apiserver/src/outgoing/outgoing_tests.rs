use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::stranger::Stranger;
use super::*;
use crate::source::fake::Table;

const SOON: Duration = Duration::from_secs(30);

async fn echo(request: Request<Bytes>) -> Response<Bytes> {
    let said = json!({
        "path": request.uri().path_and_query().unwrap().as_str(), "version": format!("{:?}", request.version()),
        "authorization": request.headers().get("authorization").map(|v| v.to_str().unwrap()),
        "body": serde_json::from_slice::<Value>(request.body()).unwrap_or_default(),
    });
    Response::new(Bytes::from(said.to_string()))
}

fn outgoing(objects: &[(&str, &str, Value)]) -> Outgoing {
    Outgoing::new(Arc::new(Table::with(objects)), None)
}

fn url(server: &Stranger, path: &str) -> Spec {
    Spec { place: Place::Url(server.url(path)), trust: Trust::Bundle(server.ca.clone()), proof: Proof::None }
}

fn object() -> Bytes {
    Bytes::from_static(br#"{"a": 1}"#)
}

#[tokio::test]
async fn a_url_is_asked_over_http_2_with_its_path_and_query() {
    let server = Stranger::start(&["127.0.0.1"], echo).await;
    let spec = Spec { proof: Proof::Header(HeaderValue::from_static("Bearer t")), ..url(&server, "/hook") };
    let endpoint = outgoing(&[]).endpoint(&spec).unwrap();
    let said = endpoint.ask("timeout=3s", object(), SOON).await.unwrap();
    let expected = json!({"path": "/hook?timeout=3s", "version": "HTTP/2.0", "authorization": "Bearer t",
                          "body": {"a": 1}});
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_path_is_asked_for_as_go_would_clean_it() {
    let server = Stranger::start(&["127.0.0.1"], echo).await;
    let outgoing = outgoing(&[]);
    for (written, asked) in [
        ("", "/"),
        ("//hook", "/hook"),
        ("/a//b/./c/", "/a/b/c"),
        ("/a/../../b", "/b"),
        ("/hook?query=dropped", "/hook"),
    ] {
        let endpoint = outgoing.endpoint(&url(&server, written)).unwrap();
        assert_eq!(endpoint.ask("", object(), SOON).await.unwrap()["path"], asked, "{written}");
    }
}

fn service(port: u16) -> [(&'static str, &'static str, Value); 2] {
    [
        (
            "",
            "services",
            json!({"metadata": {"name": "hook", "namespace": "ns"},
            "spec": {"ports": [{"name": "other", "port": 80}, {"name": "tls", "port": 443}]}}),
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            json!({
            "metadata": {"name": "hook-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "hook"}},
            "ports": [{"name": "tls", "port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}},
                          {"addresses": ["192.0.2.1"], "conditions": {"ready": false}}]}),
        ),
    ]
}

fn to_service(ca: Bytes, port: u16) -> Spec {
    let (namespace, name) = ("ns".to_owned(), "hook".to_owned());
    let place = Place::Service { namespace, name, port, path: "/p".to_owned() };
    Spec { place, trust: Trust::Bundle(ca), proof: Proof::None }
}

#[tokio::test]
async fn a_service_is_dialled_at_its_ready_endpoints_under_its_name() {
    let server = Stranger::start(&["hook.ns.svc"], echo).await;
    let objects = service(server.address.port());
    let endpoint = outgoing(&objects).endpoint(&to_service(server.ca.clone(), 443)).unwrap();
    assert_eq!(endpoint.ask("", object(), SOON).await.unwrap()["path"], "/p");

    let endpoint = outgoing(&objects).endpoint(&to_service(server.ca.clone(), 444)).unwrap();
    let error = endpoint.ask("", object(), SOON).await.unwrap_err().to_string();
    assert_eq!(error, r#"Post "https://hook.ns.svc:444/p": service "hook" has no port 444"#);
    let endpoint = outgoing(&objects[..1]).endpoint(&to_service(server.ca.clone(), 443)).unwrap();
    let error = endpoint.ask("", object(), SOON).await.unwrap_err().to_string();
    assert_eq!(error, r#"Post "https://hook.ns.svc:443/p": no endpoints available for service "hook""#);
}

#[tokio::test]
async fn only_the_bundle_and_the_right_name_are_trusted() {
    let (server, other) =
        (Stranger::start(&["hook.ns.svc"], echo).await, Stranger::start(&["x"], echo).await);
    let objects = service(server.address.port());
    for (spec, trusted) in [
        (to_service(server.ca.clone(), 443), true),
        (to_service(other.ca.clone(), 443), false),
        (Spec { trust: Trust::System, ..to_service(Bytes::new(), 443) }, false),
        (Spec { trust: Trust::Anybody, ..to_service(Bytes::new(), 443) }, true),
        (url(&server, "/"), false),
    ] {
        let answer = outgoing(&objects).endpoint(&spec).unwrap().ask("", object(), SOON).await;
        let handshake = matches!(&answer, Err(Error { step: Step::Handshake(_), .. }));
        assert_eq!((answer.is_ok(), handshake), (trusted, !trusted), "{spec:?}: {answer:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_told_when_it_is_made() {
    let of = |url: &str, trust| Spec { place: Place::Url(url.to_owned()), trust, proof: Proof::None };
    let outgoing = outgoing(&[]);
    for spec in [
        of("nonsense", Trust::System),
        of("ftp://host/", Trust::System),
        of("https://host/", Trust::Bundle(Bytes::from_static(b"no PEM"))),
        Spec { proof: Proof::FrontProxy, ..of("https://host/", Trust::System) },
    ] {
        assert!(outgoing.endpoint(&spec).is_err(), "{spec:?}");
    }
}

#[tokio::test]
async fn an_answer_has_to_be_there_in_time_in_json_and_in_bounds() {
    let server = Stranger::start(&["127.0.0.1"], |request: Request<Bytes>| async move {
        let body = match request.uri().path() {
            "/hangs" => std::future::pending().await,
            "/moved" => {
                let moved = Response::builder().status(302);
                return moved.body(Bytes::from_static(b"over there")).unwrap();
            }
            "/long" => Bytes::from(vec![b' '; MAX_ANSWER + 1]),
            _ => Bytes::from_static(b"hello"),
        };
        Response::new(body)
    })
    .await;
    let outgoing = outgoing(&[]);
    let ask = async |path: &str, timeout| {
        outgoing.endpoint(&url(&server, path)).unwrap().ask("", object(), timeout).await.unwrap_err().step
    };
    assert!(matches!(ask("/hangs", Duration::from_millis(50)).await, Step::Deadline));
    assert!(
        matches!(ask("/moved", SOON).await, Step::Code { code, text } if code == 302 && text == "over there")
    );
    assert!(matches!(ask("/long", SOON).await, Step::TooLong));
    assert!(matches!(ask("/text", SOON).await, Step::NotJson(_)));
}

#[tokio::test]
async fn a_dead_endpoint_is_left_alone_and_all_who_use_it_know() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = Place::Url(format!("https://{}/", listener.local_addr().unwrap()));
    drop(listener);
    let outgoing = outgoing(&[]);
    let spec = Spec { place, trust: Trust::Anybody, proof: Proof::None };
    let endpoint = outgoing.endpoint(&spec).unwrap();
    let mut steps = Vec::new();
    for _ in 0..6 {
        // The specification leads to the endpoint that is in use.
        let same = outgoing.endpoint(&spec).unwrap();
        steps.push(same.ask("", object(), SOON).await.unwrap_err().step);
    }
    drop(endpoint);
    let refused = |step: &Step| matches!(step, Step::Dial { .. });
    assert!(steps[..5].iter().all(refused) && matches!(steps[5], Step::Open), "{steps:?}");
}

#[tokio::test]
async fn calls_beyond_the_bound_give_up_and_one_that_hangs_holds_nobody_else() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let server = Stranger::start(&["127.0.0.1"], move |request: Request<Bytes>| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            if request.uri().path() == "/hangs" {
                std::future::pending::<()>().await;
            }
            Response::new(Bytes::from_static(b"{}"))
        }
    })
    .await;
    let outgoing = outgoing(&[]);
    let hanging = outgoing.endpoint(&url(&server, "/hangs")).unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let endpoint = Arc::clone(&hanging);
        calls.spawn(async move { endpoint.ask("", object(), SOON).await });
    }
    while served.load(Ordering::SeqCst) < IN_FLIGHT {
        tokio::task::yield_now().await;
    }
    assert!(matches!(hanging.ask("", object(), SOON).await.unwrap_err().step, Step::Busy));
    let other = outgoing.endpoint(&url(&server, "/")).unwrap();
    assert_eq!(other.ask("", object(), SOON).await.unwrap(), json!({}));
}

#[tokio::test]
async fn redirects_are_followed_without_what_the_place_knows_us_by() {
    let other = Stranger::start(&["127.0.0.1"], echo).await;
    let away = other.url("/away");
    let answer = move |request: Request<Bytes>| {
        let (path, away) = (request.uri().path().to_owned(), away.clone());
        async move {
            let (code, to) = match path.as_str() {
                "/moved" => (308, "/there?x=1".to_owned()),
                "/see" => (303, "there".to_owned()),
                "/away" => (307, away),
                "/loop" => (307, "/loop".to_owned()),
                "/clear" => (307, "http://127.0.0.1/".to_owned()),
                _ => return echo(request).await,
            };
            Response::builder().status(code).header("location", to).body(Bytes::new()).unwrap()
        }
    };
    let server = Stranger::start(&["127.0.0.1"], answer).await;
    let outgoing = outgoing(&[]);
    let ask = async |path: &str, trust| {
        let proof = Proof::Header(HeaderValue::from_static("Bearer t"));
        let spec = Spec { proof, trust, ..url(&server, path) };
        outgoing.endpoint(&spec).unwrap().ask("", object(), SOON).await
    };
    let bundle = || Trust::Bundle(server.ca.clone());
    let said = ask("/moved", bundle()).await.unwrap();
    assert_eq!(
        (&said["path"], &said["body"], &said["authorization"]),
        (&json!("/there?x=1"), &json!({"a": 1}), &json!("Bearer t"))
    );
    let said = ask("/see", bundle()).await.unwrap();
    assert_eq!((&said["path"], &said["body"]), (&json!("/there"), &Value::Null));
    let said = ask("/away", Trust::Anybody).await.unwrap();
    assert_eq!(
        (&said["path"], &said["body"], &said["authorization"]),
        (&json!("/away"), &json!({"a": 1}), &Value::Null)
    );
    // Elsewhere, only those are trusted that are trusted here.
    assert!(matches!(ask("/away", bundle()).await, Err(Error { step: Step::Handshake(_), .. })));
    let error = ask("/loop", bundle()).await.unwrap_err().to_string();
    assert!(error.ends_with("/loop\": stopped after 10 redirects"), "{error}");
    let error = ask("/clear", bundle()).await.unwrap_err().to_string();
    assert!(error.ends_with("the answer leads to \"http://127.0.0.1/\", which is not asked"), "{error}");
}
