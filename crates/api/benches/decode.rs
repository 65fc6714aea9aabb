//! What a Pod costs on its way in: decoding, defaulting and judging, beside only parsing the same JSON.
//!
//! `cargo bench -p tiphys-api` prints microseconds, the least of many rounds so that neighbours don't count,
//! and each as a ratio to the parse.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use tiphys_api::decode::{FieldValidation, Target, decode};
use tiphys_api::kind::Kinds;

const ROUNDS: usize = 300;
const PER_ROUND: usize = 50;

/// A Pod with two containers of a usual size, as a kubelet would write it back.
fn pod() -> String {
    let variables: Vec<Value> =
        (0..12).map(|i| json!({"name": format!("VAR_{i}"), "value": "a value"})).collect();
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry.example.com/team/app:1.2.3", "args": ["--port=8080", "--verbose"],
            "env": variables, "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10,
                              "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent", "securityContext": {"runAsUser": 1000},
        })
    };
    let status = |name: &str| {
        json!({"name": name, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "lastState": {}, "ready": true,
               "restartCount": 0, "image": "registry.example.com/team/app:1.2.3", "imageID": "sha256:abc", "started": true})
    };
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-7d4b9c6f5-x2x9z", "namespace": "default", "labels": {"app": "web"},
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [container("a"), container("b")], "serviceAccountName": "default", "nodeName": "n1",
                 "volumes": [{"name": "config", "configMap": {"name": "app", "defaultMode": 420}}],
                 "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                 "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]},
        "status": {"phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}],
                   "conditions": conditions,
                   "containerStatuses": [status("a"), status("b")], "qosClass": "Burstable"},
    })
    .to_string()
}

/// Microseconds of one call.
fn least(mut call: impl FnMut()) -> f64 {
    let round = || {
        let start = Instant::now();
        (0..PER_ROUND).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e6 / PER_ROUND as f64
    };
    std::iter::repeat_with(round).take(ROUNDS).fold(f64::MAX, f64::min)
}

fn main() {
    let body = pod();
    let kinds = Kinds::builtin();
    let row = kinds.kind("", "v1", "Pod").expect("Pods are built in");
    let target = Target::of(row, "v1").expect("Pods have a schema");
    let read = || decode(&target, body.as_bytes(), FieldValidation::Strict).expect("the Pod is good").object;
    let mut object = read();
    (row.hooks.default)("v1", &mut object);

    let parse = least(|| drop(black_box(serde_json::from_str::<Value>(&body))));
    println!("{:>20} {:>8} {:>7}", format!("{} bytes", body.len()), "µs", "ratio");
    let row_of = |what: &str, time: f64| println!("{what:>20} {time:>8.1} {:>7.2}", time / parse);
    row_of("parse alone", parse);
    row_of("decode", least(|| drop(black_box(read()))));
    row_of("default (again)", least(|| (row.hooks.default)("v1", black_box(&mut object))));
    row_of("validate", least(|| drop(black_box((row.hooks.validate_create)(&object)))));
    row_of("encode", least(|| drop(black_box(object.to_string()))));
}
