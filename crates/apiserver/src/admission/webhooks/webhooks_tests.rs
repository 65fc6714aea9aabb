use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;

use super::*;
use crate::ApiServer;
use crate::outgoing::stranger::Stranger;
use crate::testing::{ask, json as send, server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What a webhook of a test answers to a request: the `response`, but for its uid.
type Says = Arc<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// A webhook server that keeps what it was asked.
struct Hooks {
    server: Stranger,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hooks {
    async fn start(says: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (keep, says): (_, Says) = (Arc::clone(&asked), Arc::new(says));
        let server = Stranger::start(&["127.0.0.1"], move |request: Request<Bytes>| {
            let (keep, says) = (Arc::clone(&keep), Arc::clone(&says));
            async move {
                let path = request.uri().path().to_owned();
                if path == "/hangs" {
                    std::future::pending::<()>().await;
                }
                let mut review: Value = serde_json::from_slice(request.body()).unwrap();
                let asked = review["request"].take();
                let mut response = says(&path, &asked);
                response["uid"] = asked["uid"].clone();
                keep.lock().push((path, asked));
                review["response"] = response;
                Response::new(Bytes::from(review.to_string()))
            }
        })
        .await;
        Self { server, asked }
    }

    /// An entry of `webhooks` that leads here and is about ConfigMaps.
    fn webhook(&self, path: &str, more: Value) -> Value {
        let mut webhook = json!({
            "name": format!("{}.example.com", path.trim_start_matches('/')),
            "clientConfig": {"url": self.server.url(path), "caBundle": BASE64_STANDARD.encode(&self.server.ca)},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        });
        for (key, value) in more.as_object().unwrap() {
            webhook[key] = value.clone();
        }
        webhook
    }

    fn paths(&self) -> Vec<String> {
        self.asked.lock().drain(..).map(|(path, _)| path).collect()
    }
}

async fn configure(server: &ApiServer, kind: &str, name: &str, webhooks: Vec<Value>) {
    let resource = format!("{}s", kind.to_lowercase());
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
                        "webhooks": webhooks});
    let path = format!("/apis/admissionregistration.k8s.io/v1/{resource}");
    let (code, answer) = send(server, "POST", &path, object).await;
    assert_eq!(code, 201, "{answer}");
    server.registry().cache().wait_newest().await.unwrap();
}

const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn patch(operations: Value) -> Value {
    let patch = BASE64_STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"})
}

/// Adds its path, and how often it was called for the object, to the data.
fn stamp(path: &str, request: &Value) -> Value {
    let key = path.trim_start_matches('/');
    let calls = request["object"]["data"][key].as_str().map_or(0, |n| n.parse().unwrap()) + 1;
    patch(json!([{"op": "add", "path": format!("/data/{key}"), "value": calls.to_string()}]))
}

#[tokio::test]
async fn mutating_webhooks_change_the_object_in_order() {
    let (server, hooks) = (server().await, Hooks::start(stamp).await);
    configure(&server, MUTATING, "b", vec![hooks.webhook("/third", json!({}))]).await;
    let first = vec![hooks.webhook("/first", json!({})), hooks.webhook("/second", json!({}))];
    configure(&server, MUTATING, "a", first).await;
    let (code, made) = send(&server, "POST", MAPS, map("m", json!({"own": "x"}))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["data"], json!({"own": "x", "first": "1", "second": "1", "third": "1"}));
    assert_eq!(hooks.paths(), ["/first", "/second", "/third"]);
}

#[tokio::test]
async fn a_webhook_that_wants_to_sees_later_changes_once_more() {
    let (server, hooks) = (server().await, Hooks::start(stamp).await);
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let webhooks = vec![hooks.webhook("/first", again), hooks.webhook("/second", json!({}))];
    configure(&server, MUTATING, "a", webhooks).await;
    let (_, made) = send(&server, "POST", MAPS, map("m", json!({"own": "x"}))).await;
    assert_eq!((&made["data"]["first"], &made["data"]["second"]), (&json!("2"), &json!("1")));
    assert_eq!(hooks.paths(), ["/first", "/second", "/first"]);
}

#[tokio::test]
async fn a_refusal_is_the_webhooks_own() {
    let server = server().await;
    let hooks = Hooks::start(|path, _| match path {
        "/full" => json!({"allowed": false, "status": {
            "code": 418, "reason": "Teapot", "message": "no coffee", "details": {"causes": [{"field": "spec.x"}]}}}),
        "/reason" => json!({"allowed": false, "status": {"reason": "Because"}}),
        _ => json!({"allowed": false}),
    })
    .await;
    for (kind, path, code, message) in [
        (VALIDATING, "/full", 418, "admission webhook \"full.example.com\" denied the request: no coffee"),
        (VALIDATING, "/reason", 400, "admission webhook \"reason.example.com\" denied the request: Because"),
        (
            MUTATING,
            "/bare",
            400,
            "admission webhook \"bare.example.com\" denied the request without explanation",
        ),
    ] {
        let name = path.trim_start_matches('/');
        configure(&server, kind, name, vec![hooks.webhook(path, json!({}))]).await;
        let (got, status) = send(&server, "POST", MAPS, map("m", json!({}))).await;
        assert_eq!(
            (got, status["code"].as_u64(), &status["message"]),
            (code, Some(code.into()), &json!(message))
        );
        let (reason, cause) = (&status["reason"], &status["details"]["causes"][0]["field"]);
        match path {
            "/full" => assert_eq!((reason, cause), (&json!("Teapot"), &json!("spec.x"))),
            "/reason" => assert_eq!(reason, "Because"),
            _ => assert_eq!(reason, &Value::Null),
        }
        let resource = format!("{}s", kind.to_lowercase());
        let gone = format!("/apis/admissionregistration.k8s.io/v1/{resource}/{name}");
        assert_eq!(send(&server, "DELETE", &gone, Value::Null).await.0, 200, "no webhook guards webhooks");
        server.registry().cache().wait_newest().await.unwrap();
    }
    assert_eq!(send(&server, "POST", MAPS, map("m", json!({}))).await.0, 201);
}

#[tokio::test]
async fn a_failure_is_the_policys_to_judge() {
    let (server, hooks) = (server().await, Hooks::start(|_, _| json!({"allowed": true})).await);
    let hangs = |policy: &str| hooks.webhook("/hangs", json!({"failurePolicy": policy, "timeoutSeconds": 1}));
    configure(&server, VALIDATING, "open", vec![hangs("Ignore")]).await;
    assert_eq!(send(&server, "POST", MAPS, map("m", json!({}))).await.0, 201);
    configure(&server, MUTATING, "closed", vec![hangs("Fail")]).await;
    let (code, status) = send(&server, "POST", MAPS, map("n", json!({}))).await;
    let url = hooks.server.url("/hangs?timeout=1s");
    let message = format!(
        "Internal error occurred: failed calling webhook \"hangs.example.com\": failed to call webhook: \
         Post \"{url}\": context deadline exceeded"
    );
    assert_eq!((code, status["message"].as_str()), (500, Some(&*message)));
}

#[tokio::test]
async fn a_dry_run_asks_only_who_has_no_side_effects() {
    let (server, hooks) = (server().await, Hooks::start(|_, _| json!({"allowed": true})).await);
    let dry = format!("{MAPS}?dryRun=All");
    configure(
        &server,
        VALIDATING,
        "fit",
        vec![hooks.webhook("/fit", json!({"sideEffects": "NoneOnDryRun"}))],
    )
    .await;
    assert_eq!(send(&server, "POST", &dry, map("m", json!({}))).await.0, 201);
    assert_eq!(hooks.asked.lock().last().unwrap().1["dryRun"], true);
    // What was allowed in v1beta1 may still be stored.
    let unfit = vec![hooks.webhook("/unfit", json!({"sideEffects": "Some", "failurePolicy": "Ignore"}))];
    let object = json!({"apiVersion": "v1", "kind": "x", "metadata": {"name": "unfit"}, "webhooks": unfit});
    let hook = Hook::read_all(&object, &Outgoing::new(Arc::new(crate::source::fake::Table::default()), None));
    assert!(!hook[0].dry_runs);
}

#[tokio::test]
async fn deletes_and_updates_are_asked_about_with_both_objects() {
    let server = server().await;
    let hooks = Hooks::start(|_, request| {
        let kept = request["operation"] == "DELETE" && request["oldObject"]["data"]["keep"] == "yes";
        json!({"allowed": !kept, "status": {"message": "keep it"}, "warnings": ["watch out"],
               "auditAnnotations": {"k": "v"}})
    })
    .await;
    configure(&server, VALIDATING, "guard", vec![hooks.webhook("/guard", json!({}))]).await;
    let made = ask(
        &server,
        "POST",
        MAPS,
        &[("content-type", "application/json")],
        map("m", json!({"keep": "yes"})).to_string(),
    )
    .await;
    assert_eq!((made.code, made.headers["warning"].to_str().unwrap()), (201, "299 - \"watch out\""));
    let one = format!("{MAPS}/m");
    assert_eq!(send(&server, "DELETE", &one, Value::Null).await.0, 400);
    assert_eq!(send(&server, "DELETE", MAPS, Value::Null).await.0, 400, "nor one of many");
    assert_eq!(send(&server, "PUT", &one, map("m", json!({"keep": "no"}))).await.0, 200);
    let update = hooks.asked.lock().last().unwrap().1.clone();
    assert_eq!(
        (&update["operation"], &update["options"]["kind"]),
        (&json!("UPDATE"), &json!("UpdateOptions"))
    );
    assert_eq!(
        (&update["object"]["data"]["keep"], &update["oldObject"]["data"]["keep"]),
        (&json!("no"), &json!("yes"))
    );
    assert_eq!(send(&server, "DELETE", &one, Value::Null).await.0, 200);
}

#[tokio::test]
async fn what_a_patch_makes_is_defaulted_validated_and_in_its_place() {
    let server = server().await;
    let hooks = Hooks::start(|_, request| match request["object"]["metadata"]["name"].as_str().unwrap() {
        "port" => patch(json!([{"op": "add", "path": "/spec/ports", "value": [{"port": 80}]}])),
        "bad" => patch(json!([{"op": "add", "path": "/spec/ports", "value": [{"port": 0}]}])),
        "moved" => patch(json!([{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}])),
        "typed" => patch(json!([{"op": "add", "path": "/spec/ports", "value": "none"}])),
        "owners" => patch(
            json!([{"op": "add", "path": "/metadata/managedFields", "value": [{"operation": "Guess"}]}]),
        ),
        _ => patch(json!([{"op": "remove", "path": "/nothing/here"}])),
    })
    .await;
    let rules = json!({"rules": [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["services"]}]});
    configure(&server, MUTATING, "m", vec![hooks.webhook("/m", rules)]).await;
    let service = |name: &str| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"clusterIP": "None"}});
    let services = "/api/v1/namespaces/default/services";
    let (code, made) = send(&server, "POST", services, service("port")).await;
    assert_eq!((code, &made["spec"]["ports"][0]["protocol"]), (201, &json!("TCP")), "{made}");
    for (name, code) in [("bad", 422), ("moved", 400), ("typed", 500), ("lost", 500)] {
        let (got, status) = send(&server, "POST", services, service(name)).await;
        assert_eq!(got, code, "{name}: {status}");
    }
    let body = service("owners").to_string();
    let answer =
        ask(&server, "POST", services, &[("content-type", "application/json"), ("user-agent", "me")], body)
            .await;
    assert_eq!(answer.json()["metadata"]["managedFields"][0]["manager"], "me");
    assert!(answer.headers["warning"].to_str().unwrap().contains("managedFields was in an invalid state"));
}

#[tokio::test]
async fn a_scale_is_shown_as_a_scale_and_a_connection_by_its_options() {
    let server = server().await;
    let hooks = Hooks::start(|_, request| match request["kind"]["kind"].as_str().unwrap() {
        "Scale" => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 3}])),
        kind => json!({"allowed": false, "status": {"message": format!("{kind} {}", request["object"]["command"])}}),
    })
    .await;
    let rules = json!({"rules": [
        {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/scale", "pods/exec"]}]});
    configure(&server, MUTATING, "m", vec![hooks.webhook("/m", rules)]).await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    assert_eq!(send(&server, "POST", deployments, deployment).await.0, 201);
    let path = format!("{deployments}/d/scale");
    let (_, mut scale) = send(&server, "GET", &path, Value::Null).await;
    scale["spec"]["replicas"] = 2.into();
    let (code, scaled) = send(&server, "PUT", &path, scale).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(3)), "{scaled}");
    let exec = "/api/v1/namespaces/default/pods/p/exec?command=ls&command=-l";
    let (code, status) = send(&server, "POST", exec, Value::Null).await;
    let message = "admission webhook \"m.example.com\" denied the request: PodExecOptions [\"ls\",\"-l\"]";
    assert_eq!((code, &status["message"]), (400, &json!(message)));
}

#[tokio::test]
async fn conditions_spare_a_webhook_what_is_not_its_business() {
    let server = server().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    let when = |expression: &str| json!({"matchConditions": [{"name": "mine", "expression": expression}]});
    let mine =
        hooks.webhook("/mine", when("object.metadata.name == 'mine' && request.operation == 'CREATE'"));
    let fails = hooks.webhook("/fails", when("object.data.missing == 'x'"));
    configure(&server, VALIDATING, "mine", vec![mine]).await;
    for name in ["mine", "other"] {
        let (code, answer) = send(&server, "POST", MAPS, map(name, json!({}))).await;
        assert_eq!(code, 201, "{answer}");
    }
    assert_eq!(hooks.paths(), ["/mine"]);

    configure(&server, VALIDATING, "fails", vec![fails]).await;
    let (code, answer) = send(&server, "POST", MAPS, map("third", json!({"a": "b"}))).await;
    assert_eq!(code, 403);
    let why = "expression 'object.data.missing == 'x'' resulted in error: no such key: missing";
    assert_eq!(answer["message"], format!("configmaps \"third\" is forbidden: {why}"));
    assert!(hooks.paths().is_empty());

    let bad = hooks.webhook("/bad", when("object.x +"));
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": VALIDATING,
                        "metadata": {"name": "bad"}, "webhooks": [bad]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let (code, answer) = send(&server, "POST", path, object).await;
    assert_eq!(code, 422);
    assert_eq!(answer["details"]["causes"][0]["field"], "webhooks[0].matchConditions[0].expression");
}
