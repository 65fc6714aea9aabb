use std::net::SocketAddr;

use tiphys_store::{Memory, Store};

use super::*;
use crate::{ApiServer, identity::Component, testing};

/// A server over a store of its own, with keys of its own.
struct Cluster {
    store: Arc<dyn Store>,
    pki: Arc<Pki>,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Arc::new(Memory::default()), pki: Arc::new(Pki::open(dir.path()).unwrap()) }
    }

    async fn start(&self) -> ApiServer {
        let advertise = SocketAddr::from(([127, 0, 0, 1], 6443));
        let config = testing::config(Arc::clone(&self.pki), advertise);
        ApiServer::start(config, Arc::clone(&self.store)).await.unwrap()
    }
}

async fn ask(server: &ApiServer, who: &Component, method: &str, path: &str, body: Value) -> (u16, Value) {
    let bytes = if body.is_null() { String::new() } else { body.to_string() };
    let json = [("content-type", "application/json")];
    let answer = testing::ask_as(server, who, method, path, &json, bytes).await;
    (answer.code, answer.json())
}

#[tokio::test]
async fn a_new_cluster_has_what_every_cluster_has() {
    let cluster = Cluster::new();
    let server = cluster.start().await;
    let root = Component::ApiServer;
    for namespace in NAMESPACES {
        let path = format!("/api/v1/namespaces/{namespace}");
        let (code, object) = ask(&server, &root, "GET", &path, Value::Null).await;
        assert_eq!(code, 200, "{object}");
        assert_eq!(object["status"]["phase"], "Active");
        assert_eq!(object["metadata"]["labels"]["kubernetes.io/metadata.name"], namespace);
    }
    for path in [
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:kube-scheduler",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/extension-apiserver-authentication-reader",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
    ] {
        let (code, object) = ask(&server, &root, "GET", path, Value::Null).await;
        assert_eq!(code, 200, "{path}: {object}");
    }
}

#[tokio::test]
async fn a_later_start_writes_nothing_that_is_there() {
    let cluster = Cluster::new();
    cluster.start().await.stop();
    let before = cluster.store.revision().await.unwrap();
    cluster.start().await.stop();
    assert_eq!(cluster.store.revision().await.unwrap(), before);
}

#[tokio::test]
async fn new_authorities_are_published() {
    let mut cluster = Cluster::new();
    cluster.start().await.stop();
    cluster.pki = Cluster::new().pki;
    let server = cluster.start().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let (_, object) = ask(&server, &Component::ApiServer, "GET", path, Value::Null).await;
    assert_eq!(object["data"]["client-ca-file"], cluster.pki.cluster.pem());
}

#[tokio::test]
async fn the_range_of_services_can_be_read() {
    let server = Cluster::new().start().await;
    let path = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
    let (code, object) = ask(&server, &Component::ApiServer, "GET", path, Value::Null).await;
    assert_eq!((code, &object["spec"]["cidrs"]), (200, &json!(["10.96.0.0/16"])));
    assert_eq!(object["status"]["conditions"][0]["type"], "Ready");
}

#[tokio::test]
async fn components_are_permitted_by_their_bindings_alone() {
    let cluster = Cluster::new();
    let server = cluster.start().await;
    let scheduler = Component::Scheduler;
    let (code, _) = ask(&server, &scheduler, "GET", "/api/v1/nodes", Value::Null).await;
    assert_eq!(code, 200);
    let (code, status) =
        ask(&server, &scheduler, "GET", "/api/v1/namespaces/default/secrets", Value::Null).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        r#"secrets is forbidden: User "system:kube-scheduler" cannot list resource "secrets" in API group "" in the namespace "default""#
    );

    let binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:kube-scheduler";
    let (code, _) = ask(&server, &Component::ApiServer, "DELETE", binding, Value::Null).await;
    assert_eq!(code, 200);
    server.registry().cache().wait_newest().await.unwrap();
    let (code, _) = ask(&server, &scheduler, "GET", "/api/v1/nodes", Value::Null).await;
    assert_eq!(code, 403, "without its binding");
}

#[tokio::test]
async fn admission_is_in_the_path() {
    let cluster = Cluster::new();
    let server = cluster.start().await;
    let root = Component::ApiServer;
    let pod = |name: &str, account: &str| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": { "serviceAccountName": account, "containers": [{ "name": "c", "image": "i" }] } })
    };
    let pods = |namespace: &str| format!("/api/v1/namespaces/{namespace}/pods");
    let (code, status) = ask(&server, &root, "POST", &pods("absent"), pod("p", "x")).await;
    assert_eq!((code, &status["message"]), (404, &json!("namespaces \"absent\" not found")));
    let (code, status) = ask(&server, &root, "POST", &pods("default"), pod("p", "x")).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        r#"pods "p" is forbidden: error looking up service account default/x: serviceaccount "x" not found"#
    );
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "x" } });
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let (code, made) = ask(&server, &root, "POST", accounts, account).await;
    assert_eq!(code, 201, "{made}");
    let (code, made) = ask(&server, &root, "POST", &pods("default"), pod("p", "x")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["priority"], 0);
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"][0]["readOnly"], true);

    let (code, review) = ask(
        &server,
        &root,
        "POST",
        &format!("{accounts}/x/token"),
        json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} }),
    )
    .await;
    assert_eq!(code, 201, "{review}");
    assert!(review["status"]["token"].as_str().unwrap().split('.').count() == 3);
    let (code, status) = ask(&server, &root, "DELETE", "/api/v1/namespaces/kube-system", Value::Null).await;
    assert_eq!(code, 403, "{status}");
}

#[tokio::test]
async fn secrets_do_not_lie_open_in_the_store() {
    let cluster = Cluster::new();
    let server = cluster.start().await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" },
        "stringData": { "password": "correct horse" } });
    let path = "/api/v1/namespaces/default/secrets";
    let (code, made) = ask(&server, &Component::ApiServer, "POST", path, secret).await;
    assert_eq!(code, 201, "{made}");
    let stored = cluster
        .store
        .get(&tiphys_store::Key::new("/registry/core/secrets/default/s"))
        .await
        .unwrap()
        .unwrap();
    assert!(stored.value.starts_with(b"tiphys:aes256gcm:"));
    let (_, read) = ask(&server, &Component::ApiServer, "GET", &format!("{path}/s"), Value::Null).await;
    assert_eq!(read["data"]["password"], "Y29ycmVjdCBob3JzZQ==");
}
