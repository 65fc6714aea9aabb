//! A server whose permissions another server decides on.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_pki::Pki;
use tiphys_store::Memory;

use crate::authn::ReviewVersion;
use crate::authz::config::{Config, Mode, WebhookConfig};
use crate::identity::Component;
use crate::outgoing::stranger::Stranger;
use crate::outgoing::{Place, Proof, Spec, Trust};
use crate::testing::{ADVERTISED, ask_as, config};
use crate::{ApiServer, testing};

/// A webhook that lets the scheduler do to leases and roles what it likes, denies it secrets, and fails about pods; and
/// what it was asked: verb, resource and name.
async fn webhook() -> (Stranger, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&asked);
    let stranger = Stranger::start(&["127.0.0.1"], move |request: Request<Bytes>| {
        let review: Value = serde_json::from_slice(request.body()).unwrap();
        let (user, about) = (&review["spec"]["user"], &review["spec"]["resourceAttributes"]);
        let text = |field: &str| about[field].as_str().unwrap_or_default().to_owned();
        let scheduler = *user == "system:kube-scheduler";
        keep.lock().push(format!("{} {} {}", text("verb"), text("resource"), text("name")));
        let (code, status) = match text("resource").as_str() {
            "clusterroles" | "configmaps" | "users" if scheduler => (200, json!({"allowed": true})),
            "widgets" if text("verb") == "paint" => (200, json!({"allowed": true, "reason": "painter"})),
            "secrets" => (200, json!({"allowed": false, "denied": true, "reason": "no secrets"})),
            "pods" => (500, json!({})),
            _ => (200, json!({"allowed": false})),
        };
        let body = json!({"status": status}).to_string();
        async move { Response::builder().status(code).body(Bytes::from(body)).unwrap() }
    })
    .await;
    (stranger, asked)
}

/// The webhook, then what is there otherwise.
fn authorizers(stranger: &Stranger, denies: bool) -> Config {
    let trust = Trust::Bundle(stranger.ca.clone());
    let endpoint = Spec { place: Place::Url(stranger.url("/")), trust, proof: Proof::None };
    let webhook =
        WebhookConfig { denies_on_failure: denies, ..WebhookConfig::new(endpoint, ReviewVersion::V1) };
    let Config(mut modes) = Config::default();
    modes.insert(0, ("first".to_owned(), Mode::Webhook(Box::new(webhook))));
    Config(modes)
}

async fn server(authorizers: Config) -> ApiServer {
    let dir = tempfile::tempdir().unwrap();
    let pki = Arc::new(Pki::open(dir.path()).unwrap());
    let config = crate::Config { authorizers, ..config(pki, ADVERTISED) };
    let server = ApiServer::start(config, Arc::new(Memory::new())).await.unwrap();
    crate::aggregation::local::settled(server.registry()).await;
    server
}

async fn scheduler(
    server: &ApiServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Value,
) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers: Vec<_> = headers.iter().copied().chain([("content-type", "application/json")]).collect();
    let answer = ask_as(server, &Component::Scheduler, method, path, &headers, body).await;
    (answer.code, answer.json())
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

#[tokio::test]
async fn a_webhook_permits_refuses_and_leaves_to_others() {
    let (stranger, asked) = webhook().await;
    let server = server(authorizers(&stranger, false)).await;
    let map = json!({"metadata": {"name": "a"}});
    let (code, made) = scheduler(&server, "POST", MAPS, &[], map).await;
    assert_eq!(code, 201, "RBAC would refuse it: {made}");
    let (code, refused) =
        scheduler(&server, "GET", "/api/v1/namespaces/default/secrets", &[], Value::Null).await;
    assert_eq!(code, 403);
    assert!(refused["message"].as_str().unwrap().ends_with(": no secrets"), "{refused}");
    // The webhook has no opinion, or fails; RBAC permits it.
    assert_eq!(scheduler(&server, "GET", "/api/v1/nodes", &[], Value::Null).await.0, 200);
    assert_eq!(scheduler(&server, "GET", "/api/v1/pods", &[], Value::Null).await.0, 200);
    let pods = "/api/v1/namespaces/default/pods?fieldSelector=a=b";
    let (code, failed) =
        scheduler(&server, "DELETE", &pods.replace("a=b", "metadata.name=b"), &[], Value::Null).await;
    assert_eq!((code, &failed["reason"]), (500, &json!("InternalError")), "nobody could tell: {failed}");

    asked.lock().clear();
    let (code, _) = testing::json(&server, "GET", MAPS, Value::Null).await;
    assert_eq!((code, asked.lock().len()), (200, 0), "masters are asked about by nobody");

    server.security().authorize_by(authorizers(&stranger, true)).unwrap();
    let (code, _) = scheduler(&server, "GET", "/api/v1/pods", &[], Value::Null).await;
    assert_eq!(code, 500, "a failure is a refusal now");
    server.security().authorize_by(Config::default()).unwrap();
    assert_eq!(scheduler(&server, "GET", "/api/v1/pods", &[], Value::Null).await.0, 200);
    assert_eq!(scheduler(&server, "GET", MAPS, &[], Value::Null).await.0, 403, "the webhook is gone");
}

#[tokio::test]
async fn reviews_impersonation_and_escalation_ask_it_too() {
    let (stranger, asked) = webhook().await;
    let server = server(authorizers(&stranger, false)).await;
    let access = |verb: &str, resource: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "group": "", "resource": resource, "namespace": "x"}}});
    for (verb, resource, status) in [
        ("paint", "widgets", json!({"allowed": true, "reason": "painter"})),
        ("get", "secrets", json!({"allowed": false, "denied": true, "reason": "no secrets"})),
        ("get", "widgets", json!({"allowed": false})),
    ] {
        let path = format!("{REVIEWS}/selfsubjectaccessreviews");
        let (code, review) = scheduler(&server, "POST", &path, &[], access(verb, resource)).await;
        assert_eq!((code, &review["status"]), (201, &status), "{verb} {resource}");
    }
    let path = format!("{REVIEWS}/selfsubjectrulesreviews");
    let rules = json!({"spec": {"namespace": "default"}});
    let (_, review) = scheduler(&server, "POST", &path, &[], rules).await;
    assert_eq!(review["status"]["incomplete"], true);
    let error = review["status"]["evaluationError"].as_str().unwrap();
    assert!(error.contains("webhook authorizer does not support user rule resolution"), "{error}");
    assert!(
        !review["status"]["resourceRules"].as_array().unwrap().is_empty(),
        "RBAC's are told all the same"
    );

    let (code, _) =
        scheduler(&server, "GET", "/api/v1/nodes", &[("impersonate-user", "jane")], Value::Null).await;
    assert_eq!(code, 403, "jane may not");
    assert!(asked.lock().contains(&"impersonate users jane".to_owned()));
    let role = json!({"metadata": {"name": "all"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(scheduler(&server, "POST", roles, &[], role).await.0, 201);
    assert!(asked.lock().contains(&"escalate clusterroles all".to_owned()));
}

#[tokio::test]
async fn policies_hear_what_it_says() {
    let (stranger, asked) = webhook().await;
    let server = server(authorizers(&stranger, false)).await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let check = |verb: &str| format!("authorizer.group('').resource('widgets').check('{verb}')");
    let policy = json!({"metadata": {"name": "p"}, "spec": {
    "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["configmaps"]}]},
    "validations": [
        {"expression": format!("{}.allowed() && {}.reason() == 'painter'", check("paint"), check("paint"))},
        {"expression": format!("object.metadata.name != 'b' || {}.allowed()", check("eat")), "message": "hungry"},
    ]}});
    let (code, made) =
        testing::json(&server, "POST", &format!("{group}/validatingadmissionpolicies"), policy).await;
    assert_eq!(code, 201, "{made}");
    let binding =
        json!({"metadata": {"name": "p"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    let path = format!("{group}/validatingadmissionpolicybindings");
    assert_eq!(testing::json(&server, "POST", &path, binding).await.0, 201);
    let map = |name: &str| json!({"metadata": {"name": name}});
    let (code, made) = scheduler(&server, "POST", MAPS, &[], map("a")).await;
    assert_eq!(code, 201, "{made}");
    assert!(asked.lock().contains(&"paint widgets ".to_owned()));
    let (code, refused) = scheduler(&server, "POST", MAPS, &[], map("b")).await;
    assert_eq!(code, 422, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("hungry"), "{refused}");
}
