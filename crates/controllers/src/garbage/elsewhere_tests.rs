use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::{Queue, events::Recorder};

use super::*;
use crate::{
    garbage::graph::Catalogue,
    testing::{self, refused},
};

fn service(name: &str, available: &str) -> DynamicObject {
    let (version, group) = name.split_once('.').unwrap();
    let service = json!({"metadata": {"name": name},
        "spec": {"group": group, "version": version, "service": {"name": "s", "namespace": "n"}},
        "status": {"conditions": [{"type": "Available", "status": available}]}});
    serde_json::from_value(service).unwrap()
}

/// A collector whose API server has another behind it, which serves notes in two versions.
fn collector() -> Arc<Collector> {
    let client = testing::client(|asked| {
        let Some(version) = asked.path.strip_prefix("/apis/example.com/") else {
            return refused(503, "Away");
        };
        let notes = json!({"name": "notes", "singularName": "note", "namespaced": true, "kind": "Note",
            "verbs": ["delete", "list", "watch"]});
        let logs = json!({"name": "logs", "singularName": "log", "namespaced": true, "kind": "Log",
            "verbs": ["get", "list"]});
        let list = json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": format!("example.com/{version}"), "resources": [notes, logs]});
        (200, list)
    });
    let (events, _sink) = Recorder::new(client.clone(), "test", "");
    let (catalogue, graph, queue) = (Catalogue::default(), Mutex::default(), Queue::new());
    Arc::new(Collector { client, events, catalogue, graph, queue })
}

#[tokio::test]
async fn what_another_server_keeps_is_followed_from_when_it_answers_until_it_is_not_wanted() {
    let collector = collector();
    let mut others = Others {
        collector: &collector,
        services: BTreeMap::new(),
        away: BTreeSet::new(),
        unasked: BTreeMap::new(),
        followed: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    let mut after = async |change: &dyn Fn(&mut Others<'_>)| {
        change(&mut others);
        others.ask().await;
        others.follow();
        let followed = others.followed.iter().map(|(name, (version, _))| format!("{name} in {version}"));
        (followed.collect::<Vec<_>>().join(", "), others.unasked.len())
    };
    let first = "notes.example.com in example.com/v1";
    let see = |name: &'static str, available: &'static str| {
        move |others: &mut Others<'_>| others.see(&service(name, available))
    };
    assert_eq!(after(&see("v1.example.com", "False")).await, (String::new(), 0));
    assert_eq!(
        after(&see("v1.example.com", "True")).await,
        (first.to_owned(), 0),
        "not what cannot be watched"
    );
    assert_eq!(after(&see("v1.example.com", "False")).await, (first.to_owned(), 0), "it is only away");
    assert_eq!(after(&see("v2.example.com", "True")).await, (first.to_owned(), 0), "once is enough");
    assert_eq!(after(&see("v1.silent.example", "True")).await, (first.to_owned(), 1), "it is asked again");
    let own = |others: &mut Others<'_>| {
        let mut own = service("v1.silent.example", "True");
        own.data["spec"]["service"] = serde_json::Value::Null;
        others.see(&own);
    };
    assert_eq!(after(&own).await, (first.to_owned(), 0));
    let listed = |others: &mut Others<'_>| others.keep(&["v2.example.com".to_owned()].into());
    let second = "notes.example.com in example.com/v2";
    assert_eq!(after(&listed).await, (second.to_owned(), 0));
    assert_eq!(after(&|others| others.forget("v2.example.com")).await, (String::new(), 0));
}
