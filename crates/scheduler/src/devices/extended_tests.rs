use serde_json::{Value, json};

use super::*;

fn container(name: &str, requests: Value) -> Value {
    json!({"name": name, "resources": {"requests": requests}})
}

/// `request=count of class` for each, and `container:resource>request`.
fn claimed(before: Value, containers: Value, resources: &[(&str, &str)]) -> (String, String) {
    let spec = json!({"initContainers": before, "containers": containers});
    let asking = asking(&serde_json::from_value(spec).expect("a spec"));
    let Claiming { requests, mappings } = claiming(&asking, resources);
    let requests = requests.into_iter().map(|request| {
        let exactly = request.exactly.expect("one way");
        let name = request.name.replace("container-", "c").replace("-request-", "r");
        format!("{name}={} of {}", exactly.count.expect("a count"), exactly.device_class_name)
    });
    let mappings = mappings.into_iter().map(|m| {
        let request = m.request_name.replace("container-", "c").replace("-request-", "r");
        format!("{}:{}>{request}", m.container_name, m.resource_name)
    });
    (requests.collect::<Vec<_>>().join(" "), mappings.collect::<Vec<_>>().join(" "))
}

#[test]
fn containers_get_requests_of_their_own_and_brief_ones_what_is_not_in_use_yet() {
    const GPU: (&str, &str) = ("x.io/gpu", "gpu");
    const NIC: (&str, &str) = ("deviceclass.resource.kubernetes.io/nic", "nic");
    let sidecar = |count: &str| {
        let mut sidecar = container("side", json!({"x.io/gpu": count}));
        sidecar["restartPolicy"] = json!("Always");
        sidecar
    };
    let one = json!([container("a", json!({"cpu": "1", "x.io/gpu": "2", "memory": "1Gi"}))]);
    for (before, containers, resources, requests, mappings) in [
        (json!([]), one.clone(), vec![GPU], "c0r2=2 of gpu", "a:x.io/gpu>c0r2"),
        (json!([]), one.clone(), vec![], "", ""),
        (json!([]), one.clone(), vec![NIC], "", ""),
        (
            json!([]),
            json!([
                container("a", json!({"x.io/gpu": "1", NIC.0: "1"})),
                container("b", json!({"x.io/gpu": "3"}))
            ]),
            vec![NIC, GPU],
            "c0r0=1 of nic c0r1=1 of gpu c1r0=3 of gpu",
            "a:deviceclass.resource.kubernetes.io/nic>c0r0 a:x.io/gpu>c0r1 b:x.io/gpu>c1r0",
        ),
        // One of the start has what a later one will have, and no request if that is enough.
        (
            json!([container("i", json!({"x.io/gpu": "1"}))]),
            one.clone(),
            vec![GPU],
            "c1r2=2 of gpu",
            "a:x.io/gpu>c1r2 i:x.io/gpu>c1r2",
        ),
        (
            json!([container("i", json!({"x.io/gpu": "5"})), container("j", json!({"x.io/gpu": "4"}))]),
            one.clone(),
            vec![GPU],
            "c0r0=3 of gpu c2r2=2 of gpu",
            "a:x.io/gpu>c2r2 i:x.io/gpu>c2r2 j:x.io/gpu>c2r2 i:x.io/gpu>c0r0 j:x.io/gpu>c0r0",
        ),
        // A sidecar that runs already keeps what it has.
        (
            json!([sidecar("1"), container("i", json!({"x.io/gpu": "3"}))]),
            one,
            vec![GPU],
            "c0r0=1 of gpu c1r0=1 of gpu c2r2=2 of gpu",
            "side:x.io/gpu>c0r0 a:x.io/gpu>c2r2 i:x.io/gpu>c2r2 i:x.io/gpu>c1r0",
        ),
    ] {
        let found = claimed(before.clone(), containers.clone(), &resources);
        assert_eq!(found, (requests.to_owned(), mappings.to_owned()), "{before} {containers}");
    }
}

#[test]
fn only_extended_resources_are_asked_for() {
    let asks = |name: &str, count: &str| {
        let spec = json!({"containers": [container("a", json!({name: count}))]});
        !asking(&serde_json::from_value(spec).expect("a spec")).is_empty()
    };
    assert!(asks("x.io/gpu", "1") && asks("deviceclass.resource.kubernetes.io/gpu", "1"));
    assert!(!asks("cpu", "1") && !asks("kubernetes.io/batteries", "1") && !asks("hugepages-2Mi", "2Mi"));
    assert!(!asks("x.io/gpu", "0"));
}
