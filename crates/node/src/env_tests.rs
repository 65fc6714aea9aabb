use std::sync::Arc;

use super::*;
use crate::content::Content;
use crate::testing::pod_from;
use bytes::Bytes;
use serde_json::{Value, json};

fn contents() -> Contents {
    let content = |pairs: &[(&str, &str)]| {
        let data =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), Bytes::copy_from_slice(v.as_bytes()))).collect();
        Some(Arc::new(Content { data, type_: String::new() }))
    };
    let id = |kind, name: &str| ContentId { kind, namespace: "ns".into(), name: name.into() };
    Contents::from([
        (id(Kind::ConfigMap, "c"), content(&[("A", "1"), ("B", "2"), ("bad=", "x")])),
        (id(Kind::Secret, "s"), content(&[("P", "pw")])),
        (id(Kind::ConfigMap, "gone"), None),
    ])
}

fn files() -> EnvFiles {
    let at = |path: &str| ("work".to_owned(), path.to_owned());
    EnvFiles::from([
        (at("good"), Ok(Some("A='1'\nE=''\n".to_owned()))),
        (at("bad"), Ok(Some("A=1\n".to_owned()))),
        (at("absent"), Ok(None)),
        (at("odd"), Err("is a directory".to_owned())),
    ])
}

fn api_service() -> ServiceFacts {
    ServiceFacts {
        namespace: "default".into(),
        name: "kubernetes".into(),
        ip: "10.96.0.1".into(),
        ports: vec![("https".into(), "TCP".into(), 443)],
    }
}

fn make(container: Value, links: bool) -> Result<Environment, EnvError> {
    let pod = pod_from(json!({"metadata": {"name": "p", "namespace": "ns"},
        "spec": {"enableServiceLinks": links, "containers": [container]}}));
    let own = ServiceFacts {
        namespace: "ns".into(),
        name: "my-db".into(),
        ip: "10.96.0.9".into(),
        ..api_service()
    };
    let with = Surroundings {
        contents: &contents(),
        files: &files(),
        services: &[api_service(), own],
        addresses: Addresses::default(),
        allocatable: &BTreeMap::new(),
    };
    environment(&pod, &pod.spec.as_ref().unwrap().containers[0], &with)
}

#[test]
fn later_variables_see_and_replace_earlier_ones() {
    let env = make(
        json!({"name": "c",
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
            "env": [{"name": "Z", "value": "$(X_A)-$(Y)"}, {"name": "Y", "value": "y"}, {"name": "X_B", "value": "new"},
                    {"name": "W", "value": "$(Y)$(X_B)$(KUBERNETES_SERVICE_HOST)"},
                    {"name": "E"}, {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        false,
    )
    .unwrap();
    let get = |name: &str| env.get(name).unwrap_or("<unset>");
    assert_eq!(
        [get("X_A"), get("P"), get("Z"), get("X_B"), get("W"), get("E"), get("F"), get("X_bad=")],
        ["1", "pw", "1-$(Y)", "new", "ynew10.96.0.1", "", "p", "<unset>"]
    );
}

#[test]
fn services_are_announced() {
    let env = make(json!({"name": "c"}), true).unwrap();
    let get = |name: &str| env.get(name).unwrap_or("<unset>");
    assert_eq!(get("KUBERNETES_SERVICE_PORT_HTTPS"), "443");
    assert_eq!(get("KUBERNETES_PORT_443_TCP_ADDR"), "10.96.0.1");
    assert_eq!(get("MY_DB_PORT"), "tcp://10.96.0.9:443");
    let env = make(json!({"name": "c"}), false).unwrap();
    assert_eq!(env.get("KUBERNETES_SERVICE_HOST"), Some("10.96.0.1"));
    assert_eq!(env.get("MY_DB_SERVICE_HOST"), None);
}

#[test]
fn what_is_missing_is_named_unless_optional() {
    let from = |what: &str, optional: bool| {
        json!({"name": "c", "env": [{"name": "A", "valueFrom":
            {"configMapKeyRef": {"name": what, "key": "nokey", "optional": optional}}}]})
    };
    assert_eq!(make(from("gone", false), false).unwrap_err().to_string(), "configmap \"gone\" not found");
    assert_eq!(
        make(from("c", false), false).unwrap_err().to_string(),
        "couldn't find key nokey in ConfigMap ns/c"
    );
    assert_eq!(make(from("gone", true), false).unwrap().get("A"), None);
    assert_eq!(make(from("c", true), false).unwrap().get("A"), None);
    let whole = |optional: bool| json!({"name": "c", "envFrom": [{"secretRef": {"name": "no", "optional": optional}}]});
    assert_eq!(make(whole(false), false).unwrap_err().to_string(), "secret \"no\" not found");
    assert!(make(whole(true), false).is_ok());
}

#[test]
fn commands_are_expanded_from_the_environment() {
    let container: Container = serde_json::from_value(
        json!({"name": "c", "command": ["$(A)", "$$(A)"], "args": ["$(NONE)", "x$(A)"], "env": [{"name": "A", "value": "1"}]}),
    )
    .unwrap();
    let env = make(serde_json::to_value(&container).unwrap(), false).unwrap();
    let (command, args) = command(&container, &env);
    assert_eq!((command, args), (vec!["1".into(), "$(A)".into()], vec!["$(NONE)".to_owned(), "x1".into()]));
}

#[test]
fn variables_come_from_files() {
    let from = |path: &str, key: &str, optional: bool| {
        let source =
            json!({"fileKeyRef": {"volumeName": "work", "path": path, "key": key, "optional": optional}});
        let env = make(json!({"name": "c", "env": [{"name": "V", "valueFrom": source}]}), false);
        env.map(|env| env.get("V").map(str::to_owned)).map_err(|error| error.to_string())
    };
    let failed = |text: &str| Err(text.to_owned());
    assert_eq!(from("good", "A", false), Ok(Some("1".to_owned())));
    for key in ["B", "E"] {
        assert_eq!(from("good", key, true), Ok(None));
        let text = format!("environment variable key {key:?} not found in file \"good\"");
        assert_eq!(from("good", key, false), Err(text));
    }
    assert_eq!(from("absent", "A", true), Ok(None));
    let missing = "couldn't read env file \"absent\" of volume \"work\": there is no such file";
    assert_eq!(from("absent", "A", false), failed(missing));
    let quotes = "couldn't parse env file: line 1: the value is not enclosed in single quotes";
    assert_eq!(from("bad", "A", true), failed(quotes));
    let odd = "couldn't read env file \"odd\" of volume \"work\": is a directory";
    assert_eq!(from("odd", "A", true), failed(odd));
}
