use super::*;

/// `reason by message` of what an object says of itself.
fn said(kind: &str, object: Value) -> Vec<String> {
    let mut explanation = Explanation::default();
    explanation.add_object(kind, &object);
    explanation.causes.iter().map(|(c, ..)| format!("{}|{}|{}", c.reason, c.by, c.message)).collect()
}

fn condition(what: &str, status: &str, reason: &str) -> Value {
    json!({"type": what, "status": status, "reason": reason, "message": "m"})
}

#[test]
fn conditions_are_trouble_when_they_are_not_as_they_should_be() {
    let cases = [
        ("Deployment", "Available", "False", true),
        ("Deployment", "Available", "True", false),
        ("Deployment", "ReplicaFailure", "True", true),
        ("Node", "MemoryPressure", "False", false),
        ("Node", "MemoryPressure", "Unknown", true),
        ("Node", "Ready", "Unknown", true),
        ("Pod", "PodReadyToStartContainers", "False", false),
        ("Namespace", "NamespaceContentRemaining", "True", true),
        ("Namespace", "NamespaceContentRemaining", "False", false),
        ("CustomResourceDefinition", "Established", "False", true),
        ("CertificateSigningRequest", "Approved", "True", false),
        ("CertificateSigningRequest", "Denied", "True", true),
        ("Job", "Complete", "True", false),
        ("Job", "Failed", "True", true),
        ("Job", "Suspended", "True", true),
        ("Anything", "OfACustomKind", "False", true),
    ];
    for (kind, what, status, trouble) in cases {
        let object =
            json!({"metadata": {"name": "x"}, "status": {"conditions": [condition(what, status, "R")]}});
        let expected: &[&str] = if trouble { &["R||m"] } else { &[] };
        assert_eq!(said(kind, object), expected, "{kind} {what} {status}");
    }
    let done = json!({"status": {"conditions": [condition("Ready", "False", "PodCompleted")]}});
    assert_eq!(said("Pod", done), [""; 0]);
    let bare = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    assert_eq!(said("Pod", bare), ["Ready||Ready is False"]);
}

#[test]
fn it_is_told_who_is_waited_for() {
    let managed = json!([
        {"manager": "old", "fieldsV1": {"f:metadata": {"f:finalizers": {"v:\"a.b/c\"": {}}}}},
        {"manager": "operator", "fieldsV1": {"f:metadata": {"f:finalizers": {"v:\"a.b/c\"": {}}},
            "f:status": {"f:conditions": {"k:{\"type\":\"Ready\"}": {}}}}},
    ]);
    let object = json!({
        "metadata": {"name": "x", "deletionTimestamp": "T", "finalizers": ["a.b/c", "d"], "managedFields": managed},
        "status": {"conditions": [condition("Ready", "False", "NotYet")]},
    });
    assert_eq!(
        said("Thing", object),
        [
            "Finalizer|operator|was deleted at T and waits for the finalizer \"a.b/c\" to be removed",
            "Finalizer|d|was deleted at T and waits for the finalizer \"d\" to be removed",
            "NotYet|operator|m",
        ]
    );
    let namespace = json!({"metadata": {"deletionTimestamp": "T"}, "spec": {"finalizers": ["kubernetes"]}});
    assert_eq!(
        said("Namespace", namespace),
        ["Terminating|namespace-controller|was deleted at T and waits until \"kubernetes\" has emptied it"]
    );
    let graceful = json!({"metadata": {"deletionTimestamp": "T"}});
    assert_eq!(said("Pod", graceful), ["Terminating||is to be gone at T, or when it has ended"]);
}

#[test]
fn containers_say_why_they_do_not_run() {
    let ended = json!({"terminated": {"exitCode": 3, "reason": "Error", "message": "no config"}});
    let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    let pod = json!({"spec": {"nodeName": "n"}, "status": {"phase": "Pending", "containerStatuses": [
        {"name": "a", "state": waiting("ErrImagePull", "not found")},
        {"name": "b", "state": waiting("CrashLoopBackOff", "back-off"), "lastState": ended},
        {"name": "c", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
        {"name": "d", "state": ended},
        {"name": "e", "state": {"running": {}}, "lastState": ended},
    ]}});
    assert_eq!(
        said("Pod", pod.clone()),
        [
            "ErrImagePull|kubelet on n|container a waits: not found",
            "CrashLoopBackOff|kubelet on n|container b waits: back-off; it ended with exit code 3: no config",
            "Error|kubelet on n|container d ended with exit code 3: no config",
        ]
    );
    assert_eq!(said("Other", pod), [""; 0]);
}

#[test]
fn what_is_said_of_several_is_said_once() {
    let mut explanation = Explanation::default();
    for i in 0..30 {
        let pod = json!({"metadata": {"name": format!("p{i}"), "namespace": "n"},
                         "status": {"conditions": [condition("Ready", "False", "R")]}});
        explanation.add_object("Pod", &pod);
    }
    let deployment = Subject { kind: "Deployment".into(), namespace: "n".into(), name: "d".into() };
    let value = explanation.to_value(&deployment);
    assert_eq!(value["causes"].as_array().unwrap().len(), 1);
    let cause = &value["causes"][0];
    assert_eq!((&cause["count"], cause["objects"].as_array().unwrap().len()), (&json!(30), 20));
    let table = explanation.to_table(&deployment);
    assert_eq!(table["rows"][0]["cells"], json!(["R", "", "pod/p0 and 29 more", "m"]));
    assert_eq!(Explanation::default().to_table(&deployment)["rows"][0]["cells"][0], "<none>");
}

#[test]
fn an_answer_is_bounded() {
    let mut explanation = Explanation::default();
    let subject = Subject { kind: "K".into(), namespace: String::new(), name: "x".into() };
    for i in 0..200 {
        explanation.add(&subject, Cause::new("R", "", i.to_string()));
    }
    let value = explanation.to_value(&subject);
    assert_eq!((value["causes"].as_array().unwrap().len(), &value["incomplete"]), (100, &json!(true)));
}

/// An event that repeats what a condition or container said adds nothing.
#[test]
fn an_event_that_says_the_same_is_left_out() {
    let subject = Subject::new("Pod", &json!({"metadata": {"name": "p"}}));
    let mut explanation = Explanation::default();
    explanation.add(&subject, Cause::new("R", "kubelet", "m"));
    explanation
        .add_event(&subject, &json!({"reason": "Other", "message": "m", "source": {"component": "c"}}));
    assert_eq!(explanation.causes.len(), 1);
    explanation
        .add_event(&subject, &json!({"reason": "Other", "message": "new", "source": {"component": "c"}}));
    assert_eq!(explanation.causes[1].0, Cause::new("Other", "c", "new"));
}
