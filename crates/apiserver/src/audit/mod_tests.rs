use std::time::Duration;

use http::{Request, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_pki::Pki;
use tiphys_store::Memory;
use tokio::sync::mpsc;

use super::*;
use crate::ApiServer;
use crate::identity::Component;
use crate::outgoing::stranger::Stranger;
use crate::testing::{ADVERTISED, ask, ask_as, config, json as send};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server that writes a log by a policy, which is read once the server has ended.
struct Audited {
    server: ApiServer,
    dir: tempfile::TempDir,
}

impl Audited {
    async fn start(rules: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
        let mut config = config(Arc::new(Pki::open(dir.path()).unwrap()), ADVERTISED);
        config.audit = Config {
            policy: Policy::parse(policy.as_bytes()).unwrap(),
            log: Some(LogOptions { path, max_size: u64::MAX, max_backups: 0, max_age: Duration::ZERO }),
            webhook: None,
        };
        let server = ApiServer::start(config, Arc::new(Memory::new())).await.unwrap();
        Self { server, dir }
    }

    fn events(self) -> Vec<Value> {
        // The last one that holds the log waits until all is written.
        drop(self.server);
        let text = std::fs::read_to_string(self.dir.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"secret": "x"}})
}

#[tokio::test]
async fn metadata_tells_who_did_what_and_how_it_ended() {
    let audited =
        Audited::start("- {level: Metadata, resources: [{group: '', resources: [configmaps]}]}").await;
    let headers = [
        ("content-type", "application/json"),
        ("audit-id", "mine"),
        ("user-agent", "me/1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("impersonate-user", "jane"),
        ("impersonate-group", "system:masters"),
    ];
    let answer = ask(&audited.server, "POST", MAPS, &headers, map("a").to_string()).await;
    assert_eq!((answer.code, &answer.headers["audit-id"]), (201, &"mine".parse().unwrap()));
    let refused = ask_as(&audited.server, &Component::Dns, "DELETE", &format!("{MAPS}/a?x=y"), &[], "").await;
    assert_eq!(refused.code, 403);
    let events = audited.events();
    assert_eq!(events.len(), 4, "{events:#?}");
    let (received, made, denied) = (&events[0], &events[1], &events[3]);
    assert_eq!((&received["stage"], received.get("responseStatus")), (&json!("RequestReceived"), None));
    assert_eq!(made["stage"], "ResponseComplete");
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("Event"), &json!("audit.k8s.io/v1")));
    assert_eq!(
        (&made["auditID"], &made["level"], &made["verb"]),
        (&json!("mine"), &json!("Metadata"), &json!("create"))
    );
    assert_eq!(made["user"]["username"], "system:apiserver");
    assert_eq!(
        made["impersonatedUser"],
        json!({"username": "jane", "groups": ["system:masters", "system:authenticated"]})
    );
    assert_eq!((&made["sourceIPs"], &made["userAgent"]), (&json!(["1.2.3.4"]), &json!("me/1")));
    let object = json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"});
    assert_eq!(made["objectRef"], object);
    assert_eq!(made["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(made.get("requestObject").is_none() && made.get("responseObject").is_none());
    let time = made["stageTimestamp"].as_str().unwrap();
    assert!(time.len() == "2026-01-01T00:00:00.000000Z".len() && time.ends_with('Z'), "{time}");

    assert_eq!(denied["requestURI"], format!("{MAPS}/a?x=y"));
    assert_eq!(
        (&denied["responseStatus"]["code"], &denied["responseStatus"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
    assert_eq!(denied["annotations"]["authorization.k8s.io/decision"], "forbid");
}

#[tokio::test]
async fn bodies_are_recorded_as_far_as_the_level_says() {
    let audited = Audited::start(
        "- {level: Request, verbs: [create], omitStages: [RequestReceived]}\n\
         - {level: RequestResponse, verbs: [patch, list], omitStages: [RequestReceived], omitManagedFields: true}\n",
    )
    .await;
    send(&audited.server, "POST", MAPS, map("a")).await;
    let patch = [("content-type", "application/apply-patch+yaml"), ("accept", "application/yaml")];
    let path = format!("{MAPS}/a?fieldManager=me&force=true");
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {secret: new}\n";
    assert_eq!(ask(&audited.server, "PATCH", &path, &patch, body).await.code, 200);
    let events = audited.events();
    assert_eq!(events.len(), 2, "{events:#?}");
    assert_eq!(events[0]["requestObject"], map("a"));
    assert!(events[0].get("responseObject").is_none());
    assert_eq!(events[1]["requestObject"]["data"]["secret"], "new");
    assert_eq!(events[1]["responseObject"]["data"]["secret"], "new");
    assert!(events[1]["responseObject"]["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn a_watch_is_told_when_it_starts_and_when_it_ends() {
    let audited = Audited::start("- {level: Metadata, verbs: [watch]}").await;
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=1");
    assert_eq!(ask(&audited.server, "GET", &path, &[], "").await.code, 200);
    let stages: Vec<Value> = audited.events().iter().map(|event| event["stage"].clone()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
}

#[tokio::test]
async fn plug_ins_notes_are_annotations() {
    let audited =
        Audited::start("- {level: Metadata, omitStages: [RequestReceived], verbs: [create], resources: [{group: '', resources: [pods]}]}")
            .await;
    let labels = json!({"pod-security.kubernetes.io/audit": "restricted"});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels}});
    assert_eq!(send(&audited.server, "POST", "/api/v1/namespaces", namespace).await.0, 201);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    assert_eq!(send(&audited.server, "POST", "/api/v1/namespaces/n/serviceaccounts", account).await.0, 201);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, pod) = send(&audited.server, "POST", "/api/v1/namespaces/n/pods", pod).await;
    assert_eq!(code, 201, "{pod}");
    let events = audited.events();
    let violations =
        events[0]["annotations"]["pod-security.kubernetes.io/audit-violations"].as_str().unwrap();
    assert!(violations.starts_with("would violate PodSecurity \"restricted:latest\": "), "{violations}");
    assert_eq!(events[0]["annotations"]["pod-security.kubernetes.io/enforce-policy"], "privileged:latest");
    assert_eq!(events[0]["objectRef"]["name"], pod["metadata"]["name"]);
}

/// A sink that has room for some events.
struct Small(Mutex<usize>);

impl Sink for Arc<Small> {
    fn name(&self) -> &'static str {
        "small"
    }

    fn take(&self, _: &Bytes) -> bool {
        let mut room = self.0.lock();
        *room > 0 && {
            *room -= 1;
            true
        }
    }
}

#[test]
fn what_a_sink_has_no_room_for_is_counted() {
    let small = Arc::new(Small(Mutex::new(2)));
    let auditor =
        Auditor::with(Policy::default(), vec![Box::new(small)], Arc::new(std::time::SystemTime::now));
    for _ in 0..5 {
        auditor.tell(Level::Metadata, b"{}".to_vec());
    }
    let mut text = Exposition::new(tiphys_metrics::Format::Text);
    auditor.expose(&mut text);
    let text = text.finish();
    for line in [
        "apiserver_audit_event_total 5",
        "apiserver_audit_level_total{level=\"Metadata\"} 5",
        "apiserver_audit_error_total{plugin=\"small\"} 3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn events_reach_a_webhook_in_batches_also_after_a_failure() {
    let (bodies, mut posted) = mpsc::unbounded_channel();
    let failed = Arc::new(AtomicU64::new(0));
    let stranger = Stranger::start(&["127.0.0.1"], move |request: Request<Bytes>| {
        let (bodies, failed) = (bodies.clone(), Arc::clone(&failed));
        async move {
            if failed.fetch_add(1, Relaxed) == 0 {
                return Response::builder().status(500).body(Bytes::new()).unwrap();
            }
            bodies.send((request.uri().path().to_owned(), request.into_body())).unwrap();
            Response::new(Bytes::new())
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("webhook.kubeconfig");
    std::fs::write(dir.path().join("ca.pem"), &stranger.ca).unwrap();
    let text = format!(
        "{{clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: ca.pem}}}}]}}",
        stranger.url("/events")
    );
    std::fs::write(&file, text).unwrap();
    let options = WebhookOptions { config: file, buffer: 10, batch: 2, wait: Duration::from_secs(600) };
    let outgoing = Outgoing::new(Arc::new(crate::source::fake::Table::default()), None);
    let webhook = webhook::Webhook::new(options, &outgoing).unwrap();
    for n in 0..3 {
        assert!(webhook.take(&Bytes::from(format!("{{\"n\":{n}}}"))));
    }
    drop(webhook);
    let mut lists = Vec::new();
    while let Some((path, body)) = posted.recv().await {
        assert_eq!(path, "/events");
        lists.push(serde_json::from_slice::<Value>(&body).unwrap());
        if lists.len() == 2 {
            break;
        }
    }
    assert_eq!(
        (&lists[0]["kind"], &lists[0]["apiVersion"]),
        (&json!("EventList"), &json!("audit.k8s.io/v1"))
    );
    assert_eq!(lists[0]["items"], json!([{"n": 0}, {"n": 1}]));
    assert_eq!(lists[1]["items"], json!([{"n": 2}]));
}
