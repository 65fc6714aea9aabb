use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::ApiServer;
use crate::outgoing::stranger::Stranger;
use crate::testing::{ask, json as send, server};

pub(super) const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
pub(super) const GROUP_PATH: &str = "/apis/wardle.example.com/v1alpha1";

/// A server of one group, which also tells who asks it what.
async fn wardle() -> Stranger {
    Stranger::start(&["api.default.svc"], |request: Request<Bytes>| async move {
        let path = request.uri().path().to_owned();
        let said = |name: &str| {
            let values = request.headers().get_all(name).iter().map(|v| v.to_str().unwrap().to_owned());
            values.collect::<Vec<_>>()
        };
        let body = match path.as_str() {
            GROUP_PATH => json!({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1alpha1",
                "resources": [{"name": "flunders", "singularName": "flunder", "kind": "Flunder",
                               "namespaced": true, "verbs": ["get", "list"]}]}),
            "/openapi/v3" => json!({"paths": {"apis/wardle.example.com/v1alpha1":
                {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=7"}}}),
            _ if request.headers().contains_key("upgrade") => return switched(request),
            _ => json!({"path": request.uri().path_and_query().unwrap().as_str(), "method": request.method().as_str(),
                        "user": said("x-remote-user"), "groups": said("x-remote-group"),
                        "extra": said("x-remote-extra-scope"), "authorization": said("authorization"),
                        "audit": said("audit-id"), "forwarded": said("x-forwarded-for"),
                        "body": String::from_utf8_lossy(request.body())}),
        };
        Response::new(Bytes::from(body.to_string()))
    })
    .await
}

/// Switches to whatever protocol was asked for, and then says everything back.
fn switched(request: Request<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    for name in [http::header::CONNECTION, http::header::UPGRADE] {
        response.headers_mut().insert(&name, request.headers()[&name].clone());
    }
    for name in ["audit-id", "x-remote-user", "x-forwarded-for"] {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(&name, request.headers()[&name].clone());
    }
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgraded.await.unwrap());
        let mut said = [0; 5];
        io.read_exact(&mut said).await.unwrap();
        io.write_all(&said).await.unwrap();
        io.flush().await.unwrap();
    });
    response
}

/// Makes the Service and the APIService that lead to a server.
pub(super) async fn register(server: &ApiServer, to: &Stranger) {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"},
                         "spec": {"type": "ExternalName", "externalName": "localhost"}});
    let (code, made) = send(server, "POST", "/api/v1/namespaces/default/services", service).await;
    assert_eq!(code, 201, "{made}");
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": {"group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 20000,
                 "versionPriority": 15, "caBundle": BASE64_STANDARD.encode(&to.ca),
                 "service": {"namespace": "default", "name": "api", "port": to.address.port()}},
    });
    let (code, made) = send(server, "POST", SERVICES, service).await;
    assert_eq!(code, 201, "{made}");
}

/// Waits until the APIService's condition has this status, and returns the condition.
pub(super) async fn available(server: &ApiServer, wanted: &str) -> Value {
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    let mut seen = Revision::ZERO;
    loop {
        let source: &dyn Source = &**server.registry().cache();
        source.changed(GROUP, RESOURCE, seen).await;
        seen = source.version(GROUP, RESOURCE);
        let (_, object) = send(server, "GET", &path, Value::Null).await;
        let conditions = meta::items(&object, &["status", "conditions"]);
        if let Some(condition) = conditions.iter().find(|c| c["status"] == wanted) {
            return condition.clone();
        }
    }
}

#[tokio::test]
async fn requests_reach_their_server_with_the_users_name() {
    let (server, wardle) = (server().await, wardle().await);
    assert_eq!(send(&server, "GET", GROUP_PATH, Value::Null).await.0, 404, "nobody has it yet");
    register(&server, &wardle).await;
    assert_eq!(available(&server, "True").await["reason"], "Passed");
    let path = format!("{GROUP_PATH}/namespaces/default/flunders?labelSelector=a%3Db");
    let forged = [
        ("x-remote-user", "somebody"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-scope", "all"),
        ("authorization", "Bearer secret"),
    ];
    let answer = ask(&server, "POST", &path, &forged, "{}").await;
    let said = answer.json();
    assert_eq!(
        (answer.code, &said["method"], &said["path"], &said["body"]),
        (200, &json!("POST"), &json!(path), &json!("{}"))
    );
    let who = crate::identity::Component::ApiServer.identity();
    assert_eq!((&said["user"], &said["groups"]), (&json!([who.name()]), &json!(who.groups())));
    assert_eq!((&said["extra"], &said["authorization"]), (&json!([]), &json!([])));
    assert_eq!(
        said["audit"],
        json!([answer.headers["audit-id"].to_str().unwrap()]),
        "one name for both servers"
    );
}

/// As `kubectl exec` would reach a server that is aggregated.
#[tokio::test]
async fn a_connection_is_switched_through_to_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Arc::new(tiphys_pki::Pki::open(dir.path()).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = crate::testing::config(Arc::clone(&pki), address);
    let server = ApiServer::start(config, Arc::new(tiphys_store::Memory::new())).await.unwrap();
    let serving = server.clone();
    let serving = tokio::spawn(async move { serving.serve(listener).await });
    let wardle = wardle().await;
    register(&server, &wardle).await;
    available(&server, "True").await;

    let admin =
        tiphys_pki::Leaf { organization: Some("system:masters".to_owned()), ..tiphys_pki::Leaf::scheduler() };
    let own = pki.rotating(admin).unwrap();
    let tls = tiphys_pki::client_config(pki.cluster.certificate(), Some(own)).unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(format!("{GROUP_PATH}/namespaces/default/flunders/f/exec"))
        .header("host", address.to_string())
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("audit-id", "mine")
        .header("x-forwarded-for", "1.2.3.4")
        .body(Empty::new())
        .unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["upgrade"]),
        (101, &"SPDY/3.1".parse().unwrap())
    );
    for (name, value) in [
        ("audit-id", "mine"),
        ("x-remote-user", "system:kube-scheduler"),
        ("x-forwarded-for", "1.2.3.4, 127.0.0.1"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut said = [0; 5];
    io.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
    server.stop();
    drop(io);
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_others_serve_is_found_beside_the_rest() {
    let (server, wardle) = (server().await, wardle().await);
    register(&server, &wardle).await;
    available(&server, "True").await;
    let get = async |path: &str| send(&server, "GET", path, Value::Null).await.1;
    assert_eq!(get("/apis").await["groups"][0]["name"], "wardle.example.com", "its priority is the highest");
    assert_eq!(get("/apis/wardle.example.com").await["preferredVersion"]["version"], "v1alpha1");
    assert_eq!(get(GROUP_PATH).await["resources"][0]["name"], "flunders");
    let accept = [("accept", crate::discovery::AGGREGATED_V2)];
    let found = ask(&server, "GET", "/apis", &accept, "").await.json();
    assert_eq!(found["items"][0]["versions"][0]["resources"][0]["resource"], "flunders");
    let url =
        get("/openapi/v3").await["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].take();
    assert_eq!(url, "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=7");
    assert_eq!(get(url.as_str().unwrap()).await["path"], url);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_unavailable() {
    let (server, wardle) = (server().await, wardle().await);
    register(&server, &wardle).await;
    available(&server, "True").await;
    assert_eq!(send(&server, "DELETE", "/api/v1/namespaces/default/services/api", Value::Null).await.0, 200);
    let condition = available(&server, "False").await;
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("ServiceNotFound"), &json!("service/api in \"default\" is not present"))
    );
    let answer = ask(&server, "GET", &format!("{GROUP_PATH}/flunders"), &[], "").await;
    assert_eq!((answer.code, &answer.body[..]), (503, &b"service unavailable\n"[..]));
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    assert_eq!(send(&server, "DELETE", &path, Value::Null).await.0, 200);
    server.registry().cache().wait_newest().await.unwrap();
    assert_eq!(ask(&server, "GET", &format!("{GROUP_PATH}/flunders"), &[], "").await.code, 404);
}

#[tokio::test]
async fn the_servers_own_groups_have_their_services() {
    let server = server().await;
    let source: &dyn Source = &**server.registry().cache();
    let mut seen = Revision::ZERO;
    while source.get(GROUP, RESOURCE, "", "v1.apps").is_none() {
        source.changed(GROUP, RESOURCE, seen).await;
        seen = source.version(GROUP, RESOURCE);
    }
    let (code, apps) = send(&server, "GET", &format!("{SERVICES}/v1.apps"), Value::Null).await;
    assert_eq!((code, &apps["status"]["conditions"][0]["reason"]), (200, &json!("Local")));
}

#[test]
fn extras_of_a_user_are_told_under_names_that_headers_can_have() {
    let extra = BTreeMap::from([("example.com/Läuft".to_owned(), vec!["a".to_owned(), "b\n".to_owned()])]);
    let user = Identity::authenticated("me", "7", Vec::new(), extra);
    let mut headers = HeaderMap::new();
    vouch(&mut headers, &user);
    let said = |name| headers[name].to_str().unwrap();
    assert_eq!((said("x-remote-user"), said("x-remote-uid")), ("me", "7"));
    let values: Vec<_> = headers.get_all("x-remote-extra-example.com%2fl%c3%a4uft").iter().collect();
    assert_eq!(values, ["a"]);
}
