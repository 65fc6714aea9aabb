use super::*;
use crate::{admission::tests::Case, source::fake::Table};

fn plugin(limits: Value) -> LimitRanger {
    let range = json!({ "metadata": { "namespace": "ns", "name": "r" }, "spec": { "limits": limits } });
    let other = json!({ "metadata": { "namespace": "other", "name": "r" },
        "spec": { "limits": [{ "type": "Pod", "max": { "cpu": "1m" } }] } });
    LimitRanger::new(Arc::new(Table::with(&[("", "limitranges", range), ("", "limitranges", other)])))
}

fn container(requests: Value, limits: Value) -> Value {
    json!({ "name": "c", "resources": { "requests": requests, "limits": limits } })
}

async fn create(plugin: &LimitRanger, containers: Value, init: Value) -> Result<Value, String> {
    let pod =
        json!({ "metadata": { "name": "p" }, "spec": { "containers": containers, "initContainers": init } });
    let case = Case::new(Operation::Create, "pods", "");
    case.run(plugin, pod, Value::Null).await.map_err(|(code, message)| {
        assert_eq!(code, 403);
        message.strip_prefix("pods \"p\" is forbidden: ").unwrap().to_owned()
    })
}

#[tokio::test]
async fn containers_get_what_they_leave_out() {
    let plugin = plugin(json!([
        { "type": "Container", "default": { "cpu": "1", "memory": "1Gi" }, "defaultRequest": { "cpu": "100m" } },
        { "type": "Pod", "max": { "cpu": "9" } },
    ]));
    let made = create(
        &plugin,
        json!([container(json!({ "cpu": "5m" }), json!({}))]),
        json!([{ "name": "i", "resources": {} }]),
    );
    let made = made.await.unwrap();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({ "requests": { "cpu": "5m" }, "limits": { "cpu": "1", "memory": "1Gi" } })
    );
    assert_eq!(made["spec"]["initContainers"][0]["resources"]["requests"], json!({ "cpu": "100m" }));
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu, memory limit for container c; cpu request for init container i; cpu, \
         memory limit for init container i"
    );
}

#[tokio::test]
async fn bounds_hold_for_containers_pods_and_ratios() {
    let none = || json!([]);
    let cpu = |amount: &str| json!({ "cpu": amount });
    let one = |requests: Value, limits: Value| json!([container(requests, limits)]);
    let cases = [
        (
            json!({ "type": "Container", "min": { "cpu": "100m" } }),
            one(cpu("100m"), cpu("1")),
            none(),
            Ok(()),
        ),
        (
            json!({ "type": "Container", "min": { "cpu": "100m" } }),
            one(cpu("99m"), cpu("1")),
            none(),
            Err("minimum cpu usage per Container is 100m, but request is 99m"),
        ),
        (
            json!({ "type": "Container", "min": { "cpu": "100m" } }),
            one(json!({}), json!({})),
            none(),
            Err("minimum cpu usage per Container is 100m.  No request is specified"),
        ),
        (
            json!({ "type": "Container", "max": { "cpu": "1" } }),
            one(json!({}), json!({})),
            none(),
            Err("maximum cpu usage per Container is 1.  No limit is specified"),
        ),
        (
            json!({ "type": "Container", "max": { "memory": "1Gi" } }),
            one(json!({}), json!({ "memory": "1025Mi" })),
            none(),
            Err("maximum memory usage per Container is 1Gi, but limit is 1025Mi"),
        ),
        (
            json!({ "type": "Container", "max": { "cpu": "1" }, "min": { "cpu": "1" } }),
            one(cpu("500m"), cpu("2")),
            none(),
            Err(
                "[minimum cpu usage per Container is 1, but request is 500m, maximum cpu usage per Container is \
                 1, but limit is 2]",
            ),
        ),
        (
            json!({ "type": "Pod", "max": { "cpu": "1" } }),
            json!([container(cpu("1m"), cpu("600m")), container(cpu("1m"), cpu("600m"))]),
            none(),
            Err("maximum cpu usage per Pod is 1, but limit is 1200m"),
        ),
        (
            json!({ "type": "Pod", "max": { "cpu": "1" } }),
            one(cpu("1m"), cpu("600m")),
            json!([container(cpu("1m"), cpu("3"))]),
            Err("maximum cpu usage per Pod is 1, but limit is 3"),
        ),
        (
            json!({ "type": "Pod", "max": { "cpu": "1" } }),
            json!([container(cpu("1m"), cpu("600m")), container(cpu("1m"), json!({}))]),
            none(),
            Ok(()),
        ),
        (
            json!({ "type": "Pod", "max": { "cpu": "1" } }),
            one(cpu("1m"), json!({})),
            none(),
            Err("maximum cpu usage per Pod is 1.  No limit is specified"),
        ),
        (
            json!({ "type": "Pod", "max": { "cpu": "1" } }),
            one(cpu("1m"), cpu("600m")),
            json!([{ "name": "s", "restartPolicy": "Always", "resources": { "limits": cpu("500m") } }]),
            Err("maximum cpu usage per Pod is 1, but limit is 1100m"),
        ),
        (
            json!({ "type": "Container", "maxLimitRequestRatio": { "cpu": "2" } }),
            one(cpu("100m"), cpu("250m")),
            none(),
            Err("cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000"),
        ),
        (
            json!({ "type": "Container", "maxLimitRequestRatio": { "cpu": "2" } }),
            one(cpu("100m"), cpu("200m")),
            none(),
            Ok(()),
        ),
        (
            json!({ "type": "Container", "maxLimitRequestRatio": { "cpu": "2" } }),
            one(cpu("0"), cpu("200m")),
            none(),
            Err(
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
        ),
    ];
    for (limit, containers, init, want) in cases {
        let got = create(&plugin(json!([limit])), containers.clone(), init).await;
        assert_eq!(got.as_ref().map(|_| ()).map_err(String::as_str), want, "{limit} {containers}");
    }
}

#[tokio::test]
async fn claims_are_bounded_by_what_they_ask_for() {
    let plugin = plugin(json!([
        { "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" }, "max": { "storage": "10Gi" } },
    ]));
    let ask = async |operation, storage: &str| {
        let claim = json!({ "metadata": { "name": "c" },
            "spec": { "resources": { "requests": { "storage": storage } } } });
        let case = Case::new(operation, "persistentvolumeclaims", "c");
        case.run(&plugin, claim, Value::Null).await.map(|_| ()).map_err(|(_, message)| message)
    };
    assert_eq!(ask(Operation::Create, "10Gi").await, Ok(()));
    for operation in [Operation::Create, Operation::Update] {
        let small = ask(operation, "1Mi").await.unwrap_err();
        assert!(small.contains("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"));
        let large = ask(operation, "11Gi").await.unwrap_err();
        assert!(
            large.contains("maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 11Gi")
        );
    }
}

#[tokio::test]
async fn a_resize_stays_within_bounds() {
    let plugin = plugin(json!([{ "type": "Container", "max": { "cpu": "1" } }]));
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [container(json!({}), json!({ "cpu": "2" }))] } });
    for (subresource, want) in [("pods/resize", false), ("pods/status", true), ("pods", true)] {
        let case = Case::new(Operation::Update, subresource, "p");
        assert_eq!(case.run(&plugin, pod.clone(), pod.clone()).await.is_ok(), want, "{subresource}");
    }
}

#[tokio::test]
async fn odd_ranges_bind_nobody() {
    let containers = || json!([container(json!({ "cpu": "x" }), json!(7))]);
    for odd in [json!(7), json!([7]), json!([{ "type": "Container", "max": 7, "default": [] }])] {
        assert!(create(&plugin(odd.clone()), containers(), json!("x")).await.is_ok(), "{odd}");
    }
}
