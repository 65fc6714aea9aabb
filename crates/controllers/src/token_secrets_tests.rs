use std::sync::Arc;

use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use tiphys_client::events::Recorder;
use tokio::sync::Notify;

use super::*;
use crate::testing::{self, refused};

fn secret(change: impl Fn(&mut Value)) -> Secret {
    let mut secret = json!({"metadata": {"namespace": "a", "name": "s", "uid": "su", "resourceVersion": "4",
        "annotations": {SERVICE_ACCOUNT_NAME: "robot"}}, "type": "kubernetes.io/service-account-token"});
    change(&mut secret);
    serde_json::from_value(secret).expect("a secret")
}

fn account() -> ServiceAccount {
    let account =
        json!({"metadata": {"namespace": "a", "name": "robot", "uid": "ru", "resourceVersion": "2"}});
    serde_json::from_value(account).expect("an account")
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

#[test]
fn a_secret_gets_what_it_lacks_and_goes_without_its_account() {
    let fill = |data: &[(&'static str, &str)], token| Need::Fill {
        data: data.iter().map(|(key, value)| (*key, bytes(value))).collect(),
        token,
    };
    // "a", "old", "t"
    let full = json!({"namespace": "YQ==", "ca.crt": "b2xk", "token": "dA=="});
    let has = |data: Value| secret(move |s| s["data"] = data.clone());
    let of = |uid: &'static str| secret(move |s| s["metadata"]["annotations"][ACCOUNT_UID] = json!(uid));
    let robot = account();
    for (secret, account, root_ca, wanted) in [
        (secret(|_| {}), Some(&robot), Some("ca"), fill(&[("ca.crt", "ca"), ("namespace", "a")], true)),
        (secret(|_| {}), Some(&robot), None, fill(&[("namespace", "a")], true)),
        (has(full.clone()), Some(&robot), Some("old"), Need::Nothing),
        (has(full.clone()), Some(&robot), Some("new"), fill(&[("ca.crt", "new")], false)),
        (has(json!({"namespace": "YQ==", "token": ""})), Some(&robot), None, fill(&[], true)),
        (has(full), None, None, Need::End),
        (of("ru"), Some(&robot), None, fill(&[("namespace", "a")], true)),
        (of("before"), Some(&robot), None, Need::End),
    ] {
        assert_eq!(need(&secret, account, root_ca), wanted, "{secret:?}");
    }
}

/// Runs the controller over these until `done` of its writes have been answered; returns them.
async fn run(secrets: Vec<Value>, accounts: Vec<Value>, done: usize) -> Vec<(Method, String, Value)> {
    let (told, enough) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let client = testing::client({
        let (told, enough) = (Arc::clone(&told), Arc::clone(&enough));
        move |asked| match (&asked.method, &*asked.path) {
            (&Method::GET, "/api/v1/secrets") => testing::list("v1", "Secret", &secrets),
            (&Method::GET, "/api/v1/serviceaccounts") => testing::list("v1", "ServiceAccount", &accounts),
            (&Method::GET, "/api/v1/namespaces/a/serviceaccounts/robot") => refused(404, "NotFound"),
            (&Method::GET, path) => testing::list("v1", path, &[]),
            (method, path) => {
                let mut told = told.lock();
                told.push((method.clone(), path.to_owned(), asked.body.clone()));
                if told.len() == done {
                    enough.notify_one();
                }
                let mut answer = asked.body.clone();
                answer["status"] = json!({"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Z"});
                (200, answer)
            }
        }
    });
    let mut informers = Informers::new(&client);
    let (events, _sink) = Recorder::new(client.clone(), "test", "");
    let controller = TokenSecrets::new(Tools { client, events }, &mut informers, Some("ca".to_owned()));
    let mut tasks = tokio::task::JoinSet::new();
    informers.start(&mut tasks);
    tokio::select! {
        () = controller.run() => {}
        () = enough.notified() => {}
    }
    let told = told.lock();
    told.clone()
}

#[tokio::test(start_paused = true)]
async fn the_token_is_one_that_ends_with_the_secret() {
    let (secret, account) = (json!(secret(|_| {})), json!(account()));
    let told = run(vec![secret], vec![account], 2).await;
    let [(_, asked, request), (Method::PATCH, written, patch)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(asked, "/api/v1/namespaces/a/serviceaccounts/robot/token");
    let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": "su"});
    assert_eq!(request["spec"]["boundObjectRef"], bound);
    assert_eq!(request["spec"]["expirationSeconds"], LONGEST);
    assert_eq!(written, "/api/v1/namespaces/a/secrets/s");
    // "ca", "a", "t"
    let data = json!({"ca.crt": "Y2E=", "namespace": "YQ==", "token": "dA=="});
    let meta = json!({"resourceVersion": "4", "annotations": {ACCOUNT_UID: "ru"}});
    assert_eq!(*patch, json!({"metadata": meta, "data": data}));
}

#[tokio::test(start_paused = true)]
async fn a_secret_without_an_account_is_deleted() {
    let told = run(vec![json!(secret(|_| {}))], Vec::new(), 1).await;
    let [(Method::DELETE, path, options)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(path, "/api/v1/namespaces/a/secrets/s");
    assert_eq!(options["preconditions"]["uid"], "su");
}
