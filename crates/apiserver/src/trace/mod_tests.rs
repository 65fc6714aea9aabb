use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::ApiServer;
use crate::source::fake::Table;
use crate::testing::{ADVERTISED, ask, config};

const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// The head of a request that is traced by its client as `parent` says.
fn asked(parent: &str) -> Parts {
    Request::get("/a").header("traceparent", parent).body(()).unwrap().into_parts().0
}

fn tracer(per_million: u32) -> Tracer {
    let outgoing = Outgoing::new(Arc::new(Table::default()), None);
    let endpoint = "http://127.0.0.1:9/v1/traces".to_owned();
    Tracer::new(Some(Config { endpoint, per_million }), &outgoing).unwrap()
}

#[tokio::test]
async fn a_client_that_says_so_decides_and_chance_for_the_others() {
    let (never, always) = (tracer(0), tracer(1_000_000));
    let silent = Request::new(()).into_parts().0;
    assert!(never.begin(&silent).is_none() && always.begin(&silent).is_some());
    assert!(never.begin(&asked(SENT)).is_some() && always.begin(&asked(NOT)).is_none());
    assert!(always.begin(&asked("nonsense")).is_some());
    let outgoing = Outgoing::new(Arc::new(Table::default()), None);
    assert!(Tracer::new(None, &outgoing).unwrap().begin(&asked(SENT)).is_none());
    let first = always.begin(&silent).unwrap();
    let second = always.begin(&silent).unwrap();
    assert!(first.id != second.id && first.root != second.root && first.parent == 0);
}

#[tokio::test]
async fn steps_are_spans_of_the_request_that_they_are_part_of() {
    let trace = tracer(0).begin(&asked(SENT)).unwrap();
    let answer = std::pin::pin!(async {
        let target = Target::Resource {
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "log",
            namespace: "",
            name: "",
            field_selector: "",
            label_selector: "",
        };
        names("get", &target);
        step("good").unwrap().end(false);
        tokio::task::yield_now().await;
        step("bad").unwrap().end(true);
    });
    within(Some(Arc::clone(&trace)), answer).await;
    within(None, std::pin::pin!(async { assert!(step("alone").is_none()) })).await;
    let spans = trace.export(StatusCode::OK);
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["get pods/log", "good", "bad"]);
    assert_eq!(spans[0]["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(spans[0]["attributes"][1], json!({"key": "url.path", "value": {"stringValue": "/a"}}));
    for span in &spans {
        assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
        assert!(span["startTimeUnixNano"].as_str().unwrap() <= span["endTimeUnixNano"].as_str().unwrap());
    }
    assert_eq!((&spans[1]["parentSpanId"], spans[1].get("status")), (&spans[0]["spanId"], None));
    assert_eq!(spans[2]["status"], json!({"code": 2}));
    for _ in 0..2 * MAX_SPANS {
        trace.add("more", SystemTime::now(), false);
    }
    assert_eq!(trace.export(StatusCode::OK).len(), 1 + MAX_SPANS);
}

#[tokio::test]
async fn a_collector_gets_the_steps_of_a_write() {
    let (bodies, mut posted) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let collector = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| {
            let bodies = bodies.clone();
            async move {
                let path = request.uri().path().to_owned();
                bodies.send((path, request.collect().await?.to_bytes())).unwrap();
                Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::new())))
            }
        });
        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
    });
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(Arc::new(tiphys_pki::Pki::open(dir.path()).unwrap()), ADVERTISED);
    config.trace = Some(Config { endpoint, per_million: 0 });
    let server = ApiServer::start(config, Arc::new(tiphys_store::Memory::new())).await.unwrap();
    let headers = [("traceparent", SENT), ("content-type", "application/json")];
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}).to_string();
    let path = "/api/v1/namespaces/default/configmaps";
    assert_eq!(ask(&server, "POST", path, &headers, map).await.code, 201);
    let (to, body) = posted.recv().await.unwrap();
    let message: Value = serde_json::from_slice(&body).unwrap();
    let spans = message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(
        (to.as_str(), names),
        ("/v1/traces", vec!["create configmaps", "admit", "validate", "commit"])
    );
    let attributes = spans[0]["attributes"].to_string();
    assert!(attributes.contains("\"intValue\":\"201\""), "{attributes}");
    collector.abort();
}
