use std::sync::Arc;

use super::*;
use crate::{
    authz::{Rbac, rbac::GROUP},
    identity::MASTERS,
    source::{Source, fake::Table},
    testing::wait,
};

fn chain() -> Chain {
    let role = json!({ "metadata": { "name": "r" }, "rules": [
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] },
        { "nonResourceURLs": ["/metrics"], "verbs": ["get"] },
    ]});
    let binding = json!({ "metadata": { "name": "b" },
        "roleRef": { "kind": "ClusterRole", "name": "r" }, "subjects": [{ "kind": "Group", "name": "dev" }] });
    let table = Table::with(&[(GROUP, "clusterroles", role), (GROUP, "clusterrolebindings", binding)]);
    Chain::new(vec![Arc::new(Rbac::new(Arc::new(table) as Arc<dyn Source>))])
}

fn user(groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|g| (*g).to_owned()).collect();
    Identity::authenticated("jane", "7", groups, BTreeMap::new())
}

fn pods(verb: &str) -> Value {
    json!({ "namespace": "ns", "verb": verb, "resource": "pods" })
}

#[test]
fn answers_about_others() {
    let chain = chain();
    let ask = |spec: Value| {
        wait(subject_access(&chain, json!({ "spec": spec }))).map(|answer| answer["status"].clone())
    };
    let yes = ask(json!({ "groups": ["dev"], "resourceAttributes": pods("get") })).unwrap();
    assert_eq!(yes["allowed"], true);
    assert!(yes["reason"].as_str().unwrap().starts_with("RBAC: allowed by"));
    let no = ask(json!({ "user": "jane", "resourceAttributes": pods("get") })).unwrap();
    assert_eq!(no, json!({ "allowed": false }));
    let path = json!({ "groups": ["dev"], "nonResourceAttributes": { "path": "/metrics", "verb": "get" } });
    assert_eq!(ask(path).unwrap()["allowed"], true);
    for bad in [
        json!({ "resourceAttributes": pods("get") }),
        json!({ "user": "jane" }),
        json!({ "user": "jane", "resourceAttributes": {}, "nonResourceAttributes": {} }),
        json!({ "user": 7 }),
        json!("x"),
    ] {
        assert_eq!(ask(bad.clone()).unwrap_err().code(), 400, "{bad}");
    }
}

#[test]
fn a_local_answer_keeps_to_its_namespace() {
    let chain = chain();
    let review = || json!({ "spec": { "groups": ["dev"], "resourceAttributes": pods("get") } });
    assert_eq!(wait(local_subject_access(&chain, "ns", review())).unwrap()["status"]["allowed"], true);
    assert_eq!(wait(local_subject_access(&chain, "other", review())).unwrap_err().code(), 400);
}

#[test]
fn answers_about_oneself() {
    let chain = chain();
    let access = |verb: &str| {
        let review = json!({ "spec": { "resourceAttributes": pods(verb) } });
        wait(self_subject_access(&chain, &user(&["dev"]), review)).unwrap()["status"]["allowed"].clone()
    };
    assert_eq!((access("get"), access("delete")), (json!(true), json!(false)));

    let rules = |groups: &[&str]| {
        let review = json!({ "spec": { "namespace": "ns" } });
        self_subject_rules(&chain, &user(groups), review).unwrap()["status"].clone()
    };
    assert_eq!(
        rules(&["dev"]),
        json!({
            "resourceRules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }],
            "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["/metrics"] }],
            "incomplete": false,
        })
    );
    assert_eq!(rules(&[MASTERS])["resourceRules"][0]["verbs"], json!(["*"]));

    let me = self_subject(&user(&["dev"]), json!({}));
    assert_eq!(
        me["status"]["userInfo"],
        json!({ "username": "jane", "uid": "7", "groups": ["dev", "system:authenticated"] })
    );
}

#[test]
fn odd_questions_get_an_answer_too() {
    let chain = chain();
    for odd in
        [json!(null), json!(7), json!([]), json!({ "spec": 7 }), json!({ "spec": { "namespace": [] } })]
    {
        let me = user(&["dev"]);
        assert!(wait(subject_access(&chain, odd.clone())).is_err());
        assert!(wait(local_subject_access(&chain, "ns", odd.clone())).is_err());
        assert!(wait(self_subject_access(&chain, &me, odd.clone())).is_err());
        assert!(self_subject_rules(&chain, &me, odd.clone()).is_err());
        assert_eq!(self_subject(&me, odd)["status"]["userInfo"]["username"], "jane");
    }
}
