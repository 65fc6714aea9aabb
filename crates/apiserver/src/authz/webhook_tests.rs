use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::{Request, Response};

use super::*;
use crate::authn::ReviewVersion;
use crate::authz::{Authorizer, Chain, How};
use crate::identity::Identity;
use crate::outgoing::stranger::Stranger;
use crate::outgoing::{Place, Proof, Spec, Trust};
use crate::source::fake::Table as Objects;

/// A server that answers `status` for verbs of its name, and keeps what it was asked.
struct Other {
    stranger: Stranger,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Other {
    async fn start() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&asked);
        let stranger = Stranger::start(&["127.0.0.1"], move |request: Request<Bytes>| {
            let review: Value = serde_json::from_slice(request.body()).unwrap();
            keep.lock().push(review.clone());
            async move {
                let spec = &review["spec"];
                let about = if spec["resourceAttributes"].is_null() {
                    "nonResourceAttributes"
                } else {
                    "resourceAttributes"
                };
                let (code, status) = match spec[about]["verb"].as_str().unwrap_or_default() {
                    "get" => (200, json!({ "allowed": true, "reason": "it may" })),
                    "delete" => (200, json!({ "denied": true, "reason": "never" })),
                    "both" => (200, json!({ "allowed": true, "denied": true })),
                    "odd" => (200, json!(7)),
                    "fail" => (500, json!({})),
                    _ => (200, json!({ "allowed": false })),
                };
                let body = json!({ "status": status }).to_string();
                Response::builder().status(code).body(Bytes::from(body)).unwrap()
            }
        })
        .await;
        Self { stranger, asked }
    }

    fn config(&self) -> WebhookConfig {
        let trust = Trust::Bundle(self.stranger.ca.clone());
        let endpoint = Spec { place: Place::Url(self.stranger.url("/authorize")), trust, proof: Proof::None };
        WebhookConfig { timeout: Duration::from_secs(10), ..WebhookConfig::new(endpoint, ReviewVersion::V1) }
    }

    fn webhook(&self, config: WebhookConfig) -> Webhook {
        let outgoing = Outgoing::new(Arc::new(Objects::default()), None);
        Webhook::new("w".to_owned(), config, &outgoing, Arc::new(Calls::new())).unwrap()
    }

    fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut self.asked.lock())
    }
}

fn jane() -> Identity {
    let extra = BTreeMap::from([("k".to_owned(), vec!["v".to_owned()])]);
    Identity::authenticated("jane", "7", vec!["dev".to_owned()], extra)
}

fn pods(name: &str) -> Target<'_> {
    Target::Resource {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        namespace: "ns",
        name,
        field_selector: "spec.nodeName=n,status.phase!=Failed",
        label_selector: "a in (x,y),!b",
    }
}

async fn ask(webhook: &Webhook, verb: &str, target: Target<'_>) -> Decision {
    webhook.ask(&Attributes { user: &jane(), verb, target }).await
}

#[tokio::test]
async fn the_question_tells_all_and_the_answer_decides() {
    let other = Other::start().await;
    let webhook = other.webhook(other.config());
    assert_eq!(ask(&webhook, "get", pods("p")).await, Decision::Allow { reason: "it may".to_owned() });
    let asked = other.asked();
    assert_eq!(
        asked,
        [json!({
            "kind": "SubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": {
                "user": "jane",
                "uid": "7",
                "groups": ["dev", "system:authenticated"],
                "extra": { "k": ["v"] },
                "resourceAttributes": {
                    "verb": "get", "version": "v1", "resource": "pods", "namespace": "ns", "name": "p",
                    "fieldSelector": { "requirements": [
                        { "key": "spec.nodeName", "operator": "In", "values": ["n"] },
                        { "key": "status.phase", "operator": "NotIn", "values": ["Failed"] },
                    ] },
                    "labelSelector": { "requirements": [
                        { "key": "a", "operator": "In", "values": ["x", "y"] },
                        { "key": "b", "operator": "DoesNotExist" },
                    ] },
                },
            },
        })]
    );
    assert_eq!(ask(&webhook, "delete", pods("p")).await, Decision::Deny { reason: "never".to_owned() });
    assert_eq!(
        ask(&webhook, "list", Target::Path("/x")).await,
        Decision::NoOpinion { reason: String::new() }
    );
    assert!(matches!(ask(&webhook, "both", pods("p")).await, Decision::Failed { denied: true, .. }));
    let old = WebhookConfig { version: ReviewVersion::V1Beta1, ..other.config() };
    other.asked();
    ask(&other.webhook(old), "get", Target::Path("/x")).await;
    let review = &other.asked()[0];
    assert_eq!(review["apiVersion"], "authorization.k8s.io/v1beta1");
    assert_eq!(review["spec"]["group"], json!(["dev", "system:authenticated"]));
    assert_eq!(review["spec"]["nonResourceAttributes"], json!({ "path": "/x", "verb": "get" }));
}

#[tokio::test]
async fn answers_are_remembered_for_as_long_as_they_count() {
    let other = Other::start().await;
    let forgets = WebhookConfig { remember_others: None, ..other.config() };
    let webhook = other.webhook(forgets);
    for _ in 0..3 {
        ask(&webhook, "get", pods("p")).await;
        ask(&webhook, "list", pods("p")).await;
    }
    let verbs: Vec<Value> =
        other.asked().iter().map(|r| r["spec"]["resourceAttributes"]["verb"].clone()).collect();
    assert_eq!(verbs, ["get", "list", "list", "list"]);
    ask(&webhook, "get", pods("q")).await;
    let long = "x".repeat(MEMORABLE);
    ask(&webhook, "get", pods(&long)).await;
    ask(&webhook, "get", pods(&long)).await;
    assert_eq!(other.asked().len(), 3, "another name is another question, and a long one is not kept");

    let short = WebhookConfig { remember_allowed: Some(Duration::ZERO), ..other.config() };
    let webhook = other.webhook(short);
    ask(&webhook, "get", pods("p")).await;
    ask(&webhook, "get", pods("p")).await;
    assert_eq!(other.asked().len(), 2, "what no longer counts is asked again");
}

#[tokio::test]
async fn a_failure_means_what_the_policy_says() {
    let other = Other::start().await;
    for denies in [false, true] {
        let webhook = other.webhook(WebhookConfig { denies_on_failure: denies, ..other.config() });
        for verb in ["fail", "odd"] {
            let decision = ask(&webhook, verb, pods("p")).await;
            assert!(
                matches!(decision, Decision::Failed { denied, .. } if denied == denies),
                "{verb}: {decision:?}"
            );
        }
        assert_eq!(other.asked().len(), 2);
        ask(&webhook, "fail", pods("p")).await;
        assert_eq!(other.asked().len(), 1, "failures are not remembered");
    }
}

#[tokio::test]
async fn conditions_keep_questions_away() {
    let other = Other::start().await;
    let with = |sources: &[&str], denies| {
        let conditions = crate::expressions::Conditions::of(sources.iter().copied(), &environment());
        assert!(conditions.expressions().all(|e| e.program.is_ok()), "{conditions:?}");
        let conditions = Arc::new(conditions);
        other.webhook(WebhookConfig { conditions, denies_on_failure: denies, ..other.config() })
    };
    let ours = with(
        &[
            "has(request.resourceAttributes)",
            "request.resourceAttributes.group == '' && request.resourceAttributes.subresource == ''",
            "'dev' in request.groups && request.extra['k'] == ['v']",
            "request.resourceAttributes.labelSelector.requirements.exists(r, r.key == 'a' && 'x' in r.values)",
        ],
        true,
    );
    assert!(matches!(ask(&ours, "get", pods("p")).await, Decision::Allow { .. }));
    let none = Decision::NoOpinion { reason: String::new() };
    assert_eq!(ask(&ours, "get", Target::Path("/x")).await, none, "one that does not hold wins over errors");
    assert_eq!(other.asked().len(), 1);
    let failing = "request.extra['none'] == []";
    assert_eq!(ask(&with(&[failing], false), "get", pods("p")).await, none);
    assert!(matches!(
        ask(&with(&[failing], true), "get", pods("p")).await,
        Decision::Failed { denied: true, .. }
    ));
    assert!(other.asked().is_empty());
}

/// Allows `list`, and counts how often it is asked.
#[derive(Default)]
struct Memory(AtomicUsize);

impl Authorizer for Memory {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.0.fetch_add(1, Relaxed);
        match attributes.verb {
            "list" => Decision::Allow { reason: "memory".to_owned() },
            _ => Decision::NoOpinion { reason: "not here".to_owned() },
        }
    }
}

#[tokio::test]
async fn a_chain_waits_only_for_what_memory_cannot_tell() {
    let other = Other::start().await;
    let (first, last) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    let chain = Chain::new(Vec::new());
    let webhook = || How::Webhook(Arc::new(other.webhook(other.config())));
    chain.replace([
        ("Memory", "first".to_owned(), How::Memory(Arc::clone(&first) as _)),
        ("Webhook", "one".to_owned(), webhook()),
        ("Webhook", "two".to_owned(), webhook()),
        ("Memory", "last".to_owned(), How::Memory(Arc::clone(&last) as _)),
    ]);
    let user = jane();
    let asked = |verb| Attributes { user: &user, verb, target: pods("p") };
    assert_eq!(chain.decide(&asked("list")).ok(), Some(Decision::Allow { reason: "memory".to_owned() }));
    assert!(chain.decide(&asked("get")).is_err());
    assert!(other.asked().is_empty());
    assert_eq!(chain.authorize(&asked("get")).await, Decision::Allow { reason: "it may".to_owned() });
    assert_eq!((other.asked().len(), last.0.load(Relaxed)), (1, 0), "the first opinion is the last question");
    assert_eq!(
        chain.authorize(&asked("watch")).await,
        Decision::NoOpinion { reason: "not here\nnot here".to_owned() }
    );
    assert_eq!((other.asked().len(), last.0.load(Relaxed)), (2, 1));
    let rules = chain.rules_for(&user, "ns");
    let unknown = "webhook authorizer does not support user rule resolution".to_owned();
    assert_eq!(rules.errors, [unknown.clone(), unknown]);
    let mut text = Exposition::new(tiphys_metrics::Format::Text);
    chain.expose(&mut text);
    let text = text.finish();
    let line = |kind: &str, name: &str| {
        format!(
            "apiserver_authorization_decisions_total{{type=\"{kind}\",name=\"{name}\",decision=\"allowed\"}} 1"
        )
    };
    assert!(text.contains(&line("Memory", "first")) && text.contains(&line("Webhook", "one")), "{text}");
}
