//! Over real TLS, as clients come.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::{Value, json};
use tiphys_pki::{Leaf, Pki, Rotating};
use tiphys_store::Memory;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    ApiServer,
    authn::{Anonymous, Issuer, Others},
    testing,
};

struct Served {
    pki: Arc<Pki>,
    address: SocketAddr,
    server: ApiServer,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.stop();
    }
}

async fn serve(dir: &Path) -> Served {
    serve_with(dir, Anonymous::default()).await
}

async fn serve_with(dir: &Path, anonymous: Anonymous) -> Served {
    let pki = Arc::new(Pki::open(&dir.join("pki")).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let others = Others { anonymous, ..Others::default() };
    let config = crate::Config { others, ..testing::config(Arc::clone(&pki), address) };
    let server = ApiServer::start(config, Arc::new(Memory::default())).await.unwrap();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    Served { pki, address, server }
}

/// GET with this TLS configuration and token.
async fn get(served: &Served, tls: ClientConfig, token: &str, path: &str) -> (StatusCode, Value) {
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::get(path).header("host", served.address.to_string());
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn tls(served: &Served, leaf: Option<Leaf>) -> ClientConfig {
    let own = leaf.map(|leaf| served.pki.rotating(leaf).unwrap());
    tiphys_pki::client_config(served.pki.cluster.certificate(), own).unwrap()
}

#[tokio::test]
async fn the_administrators_kubeconfig_opens_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path()).await;
    let path = dir.path().join("admin.kubeconfig");
    served.pki.admin_kubeconfig(&path, "tiphys", &format!("https://{}", served.address)).unwrap();

    let file = Kubeconfig::read_from(&path).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let review = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .body(
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" })
                .to_string()
                .into_bytes(),
        )
        .unwrap();
    let me: Value = client.request(review).await.unwrap();
    assert_eq!(me["status"]["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(me["status"]["userInfo"]["groups"], json!(["system:masters", "system:authenticated"]));
}

#[tokio::test]
async fn each_comes_in_as_who_he_proves_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path()).await;
    let nodes = "/api/v1/nodes";
    let unauthorized = |(code, status): (StatusCode, Value), message: &str| {
        assert_eq!((code, status["message"].as_str()), (StatusCode::UNAUTHORIZED, Some(message)), "{status}");
        assert_eq!(status["reason"], "Unauthorized");
    };

    let (code, _) = get(&served, tls(&served, Some(Leaf::scheduler())), "", nodes).await;
    assert_eq!(code, StatusCode::OK);
    let (code, _) = get(&served, tls(&served, Some(Leaf::node("n1"))), "", nodes).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "a kubelet lists no other nodes");

    unauthorized(get(&served, tls(&served, None), "", nodes).await, "Unauthorized");
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        let (code, _) = get(&served, tls(&served, None), "", path).await;
        assert_eq!(code, StatusCode::OK, "{path}");
    }
    unauthorized(get(&served, tls(&served, None), "nonsense", "/healthz").await, "Unauthorized");

    // Certificates are known to the second, and start five minutes before they are made.
    let hour_ago: tiphys_pki::Clock = Arc::new(|| SystemTime::now() - Duration::from_secs(3600));
    let short = Leaf { lifetime: Duration::from_secs(60), ..Leaf::scheduler() };
    let expired = Arc::new(Rotating::new(Arc::clone(&served.pki.cluster), short, hour_ago).unwrap());
    let expired = tiphys_pki::client_config(served.pki.cluster.certificate(), Some(expired)).unwrap();
    let answer = get(&served, expired, "", nodes).await;
    unauthorized(answer, "Unauthorized: the client certificate has expired");

    let other = Pki::open(&dir.path().join("other")).unwrap();
    let foreign = Some(other.rotating(Leaf::admin()).unwrap());
    let foreign = tiphys_pki::client_config(served.pki.cluster.certificate(), foreign).unwrap();
    unauthorized(get(&served, foreign, "", nodes).await, "Unauthorized");
}

#[tokio::test]
async fn tokens_are_handed_out_used_and_verifiable() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path()).await;
    let client =
        kube::Client::new(served.server.connector(&crate::identity::Component::ApiServer), "default");
    let post = async |path: &str, object: Value| -> Value {
        let request = Request::post(path).header("content-type", "application/json");
        client.request(request.body(object.to_string().into_bytes()).unwrap()).await.unwrap()
    };
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    post(accounts, json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "sa" } }))
        .await;
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let answer = post(&format!("{accounts}/sa/token"), request).await;
    let token = answer["status"]["token"].as_str().unwrap();

    let (code, status) = get(&served, tls(&served, None), token, "/api/v1/nodes").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(
        status["message"].as_str().unwrap().contains("User \"system:serviceaccount:default:sa\" cannot list")
    );

    let (code, document) = get(&served, tls(&served, None), token, "/.well-known/openid-configuration").await;
    assert_eq!(code, StatusCode::OK, "{document}");
    assert_eq!(document["issuer"], "https://kubernetes.default.svc.cluster.local");
    let (code, keys) = get(&served, tls(&served, None), token, "/openid/v1/jwks").await;
    assert_eq!((code, &keys["keys"][0]["kty"]), (StatusCode::OK, &json!("EC")));
}

#[tokio::test]
async fn who_needs_no_credentials_can_be_said_and_changed() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve_with(dir.path(), Anonymous::At(vec!["/livez".to_owned()])).await;
    let code = async |path: &str| get(&served, tls(&served, None), "", path).await.0;
    assert_eq!(code("/livez").await, StatusCode::OK);
    assert_eq!(code("/healthz").await, StatusCode::UNAUTHORIZED);
    let security = served.server.security();
    security.authenticate_by(Vec::new(), Anonymous::Everywhere).unwrap();
    let (refused, status) = get(&served, tls(&served, None), "", "/api/v1/nodes").await;
    assert_eq!(refused, StatusCode::FORBIDDEN);
    assert!(
        status["message"].as_str().unwrap().contains("User \"system:anonymous\" cannot list"),
        "{status}"
    );
    assert_eq!(code("/healthz").await, StatusCode::OK);

    let url = "https://kubernetes.default.svc.cluster.local".to_owned();
    let ours = Issuer { url, audiences: vec!["us".to_owned()], ..Issuer::default() };
    let refused = security.authenticate_by(vec![ours], Anonymous::At(Vec::new())).unwrap_err();
    assert!(refused.to_string().starts_with("jwt[0].issuer.url: Invalid value"), "{refused}");
    assert_eq!(code("/healthz").await, StatusCode::OK, "what is wrong changes nothing");
}
