use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::*;
use crate::node_proxy::NodeDialer;
use crate::testing::{ask, json as ask_json, server};

/// Answers with what it was asked, or a refusal.
struct Kubelet;

#[async_trait]
impl NodeDialer for Kubelet {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let (ours, theirs) = tokio::io::duplex(1024);
        let service = service_fn(|request: Request<Incoming>| async move {
            let asked = request.uri().to_string();
            let mut response = Response::new(Full::new(Bytes::from(asked.clone())));
            if asked.contains("previous") {
                *response.status_mut() = StatusCode::BAD_REQUEST;
            }
            if asked == "/page" {
                let way = request.headers()["x-forwarded-uri"].clone();
                let plain = !request.headers().contains_key(header::ACCEPT_ENCODING);
                *response.body_mut() = Full::new(Bytes::from(format!("<a href='/x'>{way:?} {plain}</a>")));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
                response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("http://n1/y"));
            }
            Ok::<_, Infallible>(response)
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(theirs), service));
        Ok(Box::new(ours))
    }
}

fn pod(containers: &[&str]) -> Value {
    let list: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
    json!({"metadata": {"name": "p"}, "spec": {"containers": list, "initContainers": [{"name": "setup"}]}})
}

#[test]
fn the_only_container_needs_no_name() {
    assert_eq!(container(&pod(&["a"]), ""), Ok("a"));
    assert_eq!(container(&pod(&["a", "b"]), "b"), Ok("b"));
    assert_eq!(container(&pod(&["a"]), "setup"), Ok("setup"));
    let refused = |pod: &Value, name: &str| container(pod, name).unwrap_err().message;
    assert_eq!(refused(&pod(&["a"]), "x"), "container x is not valid for pod p");
    assert_eq!(
        refused(&pod(&["a", "b"]), ""),
        "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [setup]"
    );
}

#[test]
fn queries_are_translated() {
    let query =
        Query::parse("command=sh&command=-c&stdin=true&stdout=true&stderr=false&tty=true&container=x");
    assert_eq!(stream_query(&query), "input=1&output=1&tty=1&command=sh&command=-c");
    assert_eq!(ports_query(&Query::parse("ports=80&ports=81")), "port=80&port=81");
    assert_eq!(
        log_query(&Query::parse("follow=true&container=c&tailLines=5&pretty=1")),
        "follow=true&tailLines=5"
    );
}

#[test]
fn names_of_proxies() {
    let part = |text| split_name(text).map(|part| (part.name, part.port, part.tls));
    assert_eq!(part("web").unwrap(), ("web", "", false));
    assert_eq!(part("web:80").unwrap(), ("web", "80", false));
    assert_eq!(part("http:web:named").unwrap(), ("web", "named", false));
    assert_eq!(part("https:web:443").unwrap(), ("web", "443", true));
    assert_eq!(part("ftp:web:1").unwrap_err().code(), 400);
    assert_eq!(part("a:b:c:d").unwrap_err().code(), 400);
}

#[test]
fn the_host_itself_is_out_of_reach() {
    assert!(reachable("10.244.0.5", 80).is_ok());
    for address in ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", ""] {
        assert_eq!(reachable(address, 80).unwrap_err().code(), 400, "{address}");
    }
    assert_eq!(reachable("10.244.0.5", 0).unwrap_err().code(), 400);
}

#[test]
fn log_options_are_checked() {
    assert!(check_log_options("p", &Query::parse("tailLines=0&sinceSeconds=5")).is_ok());
    for bad in ["tailLines=-1", "sinceSeconds=0", "limitBytes=0", "sinceSeconds=1&sinceTime=x"] {
        assert_eq!(check_log_options("p", &Query::parse(bad)).unwrap_err().code(), 422, "{bad}");
    }
}

#[tokio::test]
async fn a_log_comes_from_the_pods_node() {
    let server = server().await;
    server.nodes().add("n1", Arc::new(Kubelet));
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let (code, _) = ask_json(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    assert_eq!(code, 201);
    server.registry().cache().wait_newest().await.unwrap();
    let mut pod = pod(&["a"]);
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["spec"] = json!({"nodeName": "n1", "containers": [{"name": "a", "image": "i"}]});
    let (code, made) = ask_json(&server, "POST", "/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, 201, "{made}");

    let log = "/api/v1/namespaces/default/pods/p/log";
    let answer = ask(&server, "GET", &format!("{log}?tailLines=3"), &[], "").await;
    assert_eq!((answer.code, &answer.body[..]), (200, &b"/containerLogs/default/p/a?tailLines=3"[..]));
    assert_eq!(answer.headers["content-type"], "text/plain");
    let refused = ask(&server, "GET", &format!("{log}?previous=true"), &[], "").await;
    assert_eq!(refused.code, 400);
    assert_eq!(refused.json()["message"], "/containerLogs/default/p/a?previous=true");
    let exec = ask(&server, "POST", "/api/v1/namespaces/default/pods/p/exec?command=x", &[], "").await;
    assert_eq!(exec.json()["message"], "Upgrade request required");
    let proxied = ask(&server, "GET", "/api/v1/nodes/n1/proxy/stats/summary?x=1", &[], "").await;
    assert_eq!((proxied.code, &proxied.body[..]), (200, &b"/stats/summary?x=1"[..]));

    let proxy = "/api/v1/nodes/n1/proxy";
    let page = ask(&server, "GET", &format!("{proxy}/page"), &[("accept-encoding", "gzip")], "").await;
    let wanted = format!(r#"<a href='{proxy}/x'>"{proxy}/page" true</a>"#);
    assert_eq!((page.code, String::from_utf8_lossy(&page.body)), (200, wanted.into()));
    assert_eq!(page.headers["location"], format!("{proxy}/y"));
    let root = ask(&server, "GET", &format!("{proxy}?x=1"), &[], "").await;
    assert_eq!(
        (root.code, &root.headers["location"]),
        (301, &HeaderValue::from_static("/api/v1/nodes/n1/proxy/?x=1"))
    );
    for method in ["POST", "OPTIONS"] {
        let root = ask(&server, method, proxy, &[], "").await;
        assert_eq!((root.code, &root.body[..]), (200, &b"/"[..]), "{method}");
    }
}
