use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::{Request, Response};
use serde_json::Value;

use super::*;
use crate::{
    outgoing::{Outgoing, Place, Proof, Spec, Trust, stranger::Stranger},
    source::fake::Table,
};

fn endpoint(stranger: &Stranger) -> Arc<Endpoint> {
    let outgoing = Outgoing::new(Arc::new(Table::default()), None);
    let spec = Spec {
        place: Place::Url(stranger.url("/review")),
        trust: Trust::Bundle(stranger.ca.clone()),
        proof: Proof::None,
    };
    outgoing.endpoint(&spec).unwrap()
}

#[tokio::test]
async fn another_server_tells_who_holds_a_token() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let stranger = Stranger::start(&["127.0.0.1"], move |request: Request<Bytes>| {
        count.fetch_add(1, Relaxed);
        let review: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(review["apiVersion"], "authentication.k8s.io/v1beta1");
        assert_eq!(review["spec"]["audiences"], json!(["https://us"]));
        let user = json!({"username": "jane", "uid": "7", "groups": ["dev"], "extra": {"a": ["b"]}});
        let status = match review["spec"]["token"].as_str().unwrap() {
            "good" => json!({"authenticated": true, "user": user}),
            "ours" => json!({"authenticated": true, "user": user, "audiences": ["https://us", "x"]}),
            "theirs" => json!({"authenticated": true, "user": user, "audiences": ["x"]}),
            "nobody" => json!({"authenticated": true, "user": {}}),
            "broken" => json!(7),
            _ => json!({"user": user, "error": "no"}),
        };
        async move { Response::new(Bytes::from(json!({"status": status}).to_string())) }
    })
    .await;
    let audiences = vec!["https://us".to_owned()];
    let webhook =
        TokenWebhook::new(endpoint(&stranger), ReviewVersion::V1Beta1, audiences, Duration::from_secs(3600));
    let ask = async |token: &str| webhook.holder(token, SystemTime::UNIX_EPOCH).await;
    let jane = ask("good").await.unwrap();
    assert_eq!((jane.name(), jane.uid()), ("jane", "7"));
    assert_eq!(jane.groups(), ["dev", "system:authenticated"]);
    assert_eq!(jane.extra()["a"], ["b"]);
    assert!(ask("ours").await.is_some());
    for token in ["theirs", "nobody", "bad", "broken"] {
        assert_eq!(ask(token).await, None, "{token}");
    }
    let before = asked.load(Relaxed);
    assert!(ask("good").await.is_some() && ask("bad").await.is_none());
    assert_eq!(asked.load(Relaxed), before, "both answers are remembered");
    ask("broken").await;
    assert_eq!(asked.load(Relaxed), before + 1, "what is no answer is not");
    assert_eq!(ask(&"x".repeat(MAX_LENGTH + 1)).await, None);
}
