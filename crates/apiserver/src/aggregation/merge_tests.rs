use super::*;

fn server(group: &str, version: &str, priority: i64, resources: Value) -> Server {
    let backend = Backend {
        name: format!("{version}.{group}"),
        group: group.to_owned(),
        version: version.to_owned(),
        group_priority: priority,
        version_priority: 10,
        available: priority != 300,
        endpoint: Err(String::new()),
    };
    let openapi = Some(format!("/openapi/v3/apis/{group}/{version}?hash=1"));
    (Arc::new(backend), Some(Arc::new(Found { resources, openapi })))
}

fn names(groups: &Value) -> Vec<&str> {
    groups
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().or(g["metadata"]["name"].as_str()).unwrap())
        .collect()
}

#[test]
fn groups_stand_by_their_priority() {
    let servers = [
        server("high", "v1", 20000, json!({})),
        server("middle", "v1", 17300, json!({})),
        server("also-middle", "v1", 17250, json!({})),
        server("low", "v2", 300, json!({})),
        server("low", "v1", 300, json!({})),
    ];
    let own = |field: &str, of: fn(&str) -> Value| json!({field: (["apps", "networking.k8s.io", "custom"].map(of))});
    let expected = ["high", "apps", "middle", "also-middle", "networking.k8s.io", "custom", "low"];
    let mut list = own("groups", |name| json!({"name": name, "versions": []}));
    groups(&mut list, &servers);
    assert_eq!(names(&list["groups"]), expected);
    let low = list["groups"].as_array().unwrap().last().unwrap();
    assert_eq!(low["preferredVersion"]["groupVersion"], "low/v2");
    assert_eq!(low["versions"].as_array().unwrap().len(), 2);
    let mut list = own("items", |name| json!({"metadata": {"name": name}, "versions": []}));
    aggregated(&mut list, &servers);
    assert_eq!(names(&list["items"]), expected);
    let low = list["items"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&low["versions"][1]["version"], &low["versions"][1]["freshness"]),
        (&json!("v1"), &json!("Stale"))
    );
}

#[test]
fn a_group_is_shown_when_anybody_has_it() {
    let servers = [server("g", "v2", 100, json!({}))];
    let alone = group(None, "g", &servers).unwrap();
    assert_eq!((&alone["kind"], &alone["preferredVersion"]["version"]), (&json!("APIGroup"), &json!("v2")));
    let own = json!({"name": "g", "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}});
    let both = group(Some(own), "g", &servers).unwrap();
    assert_eq!(
        (&both["preferredVersion"]["version"], &both["versions"][1]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(group(None, "other", &servers), None);
}

#[test]
fn resources_are_shown_in_the_aggregated_form() {
    let resources = json!({"groupVersion": "g/v1", "resources": [
        {"name": "flunders/status", "kind": "Flunder", "namespaced": true, "verbs": ["get"]},
        {"name": "flunders", "singularName": "flunder", "kind": "Flunder", "namespaced": true, "verbs": ["list"],
         "shortNames": ["fl"]},
        {"name": "flunders/scale", "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": []},
    ]});
    let mut list = json!({"items": []});
    aggregated(&mut list, &[server("g", "v1", 100, resources)]);
    let version = &list["items"][0]["versions"][0];
    assert_eq!(version["freshness"], "Current");
    let kind = json!({"group": "g", "version": "v1", "kind": "Flunder"});
    let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    let expected = json!([{
        "resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder",
        "verbs": ["list"], "shortNames": ["fl"], "subresources": [
            {"subresource": "status", "responseKind": kind, "verbs": ["get"]},
            {"subresource": "scale", "responseKind": scale, "verbs": []},
        ],
    }]);
    assert_eq!(version["resources"], expected);
}

#[test]
fn descriptions_are_where_their_server_says() {
    let mut index = json!({"paths": {"api/v1": {}}});
    openapi(&mut index, &[server("g", "v1", 100, json!({}))]);
    let expected = "/openapi/v3/apis/g/v1?hash=1";
    assert_eq!(index["paths"]["apis/g/v1"]["serverRelativeURL"], expected);
    assert_eq!(index["paths"].as_object().unwrap().len(), 2);
}
