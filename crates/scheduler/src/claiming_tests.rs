use super::*;

fn claim(change: impl Fn(&mut Value)) -> ResourceClaim {
    let mut claim = json!({
        "metadata": {"namespace": "ns", "name": "c", "uid": "u", "resourceVersion": "7"},
        "spec": {}, "status": {},
    });
    change(&mut claim);
    serde_json::from_value(claim).expect("a claim")
}

fn pod() -> PodInfo {
    let pod = json!({"metadata": {"namespace": "ns", "name": "p", "uid": "pu"}, "spec": {"containers": []}});
    PodInfo::new(serde_json::from_value(pod).expect("a pod"))
}

fn devices(name: &str) -> Value {
    json!({"devices": {"results": [{"request": "r", "driver": "d", "pool": "p", "device": name}]}})
}

fn allocation(name: &str) -> AllocationResult {
    serde_json::from_value(devices(name)).expect("an allocation")
}

fn user(uid: &str) -> Value {
    json!({"resource": "pods", "name": uid, "uid": uid})
}

#[test]
fn a_claim_is_protected_then_allocated_then_used() {
    let own = json!({"resource": "pods", "name": "p", "uid": "pu"});
    let (one, protected) = (allocation("one"), json!([FINALIZER]));
    let wanted = Some(&one);
    let bare = claim(|_| {});
    let meta = json!({"metadata": {"resourceVersion": "7", "finalizers": [FINALIZER]}});
    assert_eq!(next(&bare, &pod(), "u", wanted), Ok(Next::Protect(meta)));
    let ready = claim(|c| c["metadata"]["finalizers"] = protected.clone());
    let status = json!({"metadata": {"resourceVersion": "7"},
        "status": {"allocation": devices("one"), "reservedFor": [own.clone()]}});
    assert_eq!(next(&ready, &pod(), "u", wanted), Ok(Next::Use(status)));
    let has = |users: Value| {
        claim(move |c| c["status"] = json!({"allocation": devices("one"), "reservedFor": users.clone()}))
    };
    let joined =
        json!({"metadata": {"resourceVersion": "7"}, "status": {"reservedFor": [user("o"), own.clone()]}});
    assert_eq!(next(&has(json!([user("o")])), &pod(), "u", None), Ok(Next::Use(joined)));
    assert_eq!(next(&has(json!([own])), &pod(), "u", wanted), Ok(Next::Done));
}

#[test]
fn what_others_did_to_a_claim_meanwhile_is_found() {
    let one = allocation("one");
    let other = claim(|c| c["status"]["allocation"] = devices("other"));
    for (claim, uid, wanted, why) in [
        (&claim(|_| {}), "before", Some(&one), "got deleted in the meantime"),
        (
            &claim(|c| c["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
            "u",
            Some(&one),
            "got deleted in the meantime",
        ),
        (&claim(|_| {}), "u", None, "got deallocated elsewhere in the meantime"),
        (&other, "u", Some(&one), "got allocated elsewhere in the meantime"),
    ] {
        assert_eq!(next(claim, &pod(), uid, wanted), Err(why));
    }
}

#[test]
fn devices_go_with_the_last_user() {
    let used = |users: Value| {
        claim(move |c| c["status"] = json!({"allocation": devices("one"), "reservedFor": users.clone()}))
    };
    let free = json!({"reservedFor": null, "allocation": null});
    for (users, wanted) in [
        (json!([user("pu")]), Some(free.clone())),
        (json!([]), Some(free)),
        (json!([user("o"), user("pu")]), Some(json!({"reservedFor": [user("o")]}))),
        (json!([user("o")]), None),
    ] {
        let patch = release(&used(users.clone()), &pod());
        assert_eq!(patch.map(|patch| patch["status"].clone()), wanted, "{users}");
    }
    assert_eq!(release(&claim(|_| {}), &pod()), None);
}

#[test]
fn devices_are_waited_for_until_they_are_ready_or_it_is_too_late() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("a time");
    let at_most = Duration::from_secs(600);
    let wait = |status: Value| {
        let mut all = Devices::default();
        let claim = claim(|c| c["status"] = status.clone());
        let key = ObjectKey::new("ns", "c");
        all.set_claim(&key, Some(std::sync::Arc::new(crate::devices::kinds::Claim::new(claim))));
        readiness(&all, [key].into_iter(), now, at_most)
    };
    let status = |told: &str, since: &str| {
        let condition = json!({"type": told, "status": "True", "reason": "Why", "message": "so", "lastTransitionTime": since});
        json!({"allocation": {"allocationTimestamp": since, "devices": {"results": [{"request": "r", "driver": "d",
            "pool": "p", "device": "x", "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]}]}},
            "devices": [{"driver": "d", "pool": "p", "device": "x", "conditions": [condition]}]})
    };
    let (recent, long_ago) = ("2026-01-01T00:09:00Z", "2026-01-01T00:00:00Z");
    assert_eq!(wait(status("Attached", long_ago)), Ok(None));
    assert_eq!(wait(status("Other", recent)), Ok(Some(Duration::from_secs(540))));
    assert_eq!(wait(status("Other", long_ago)), Err(NotReady::Late("c".into())));
    let failed = wait(status("Broken", recent)).unwrap_err().to_string();
    assert_eq!(failed, "claim c binding failed: reason=Why, message=\"so\"");
    // What was allocated a moment ago, nobody here has heard of yet.
    assert_eq!(wait(json!({})), Ok(Some(at_most)));
    let missing = [ObjectKey::new("ns", "x")].into_iter();
    assert_eq!(readiness(&Devices::default(), missing, now, at_most), Ok(Some(at_most)));
}

#[test]
fn a_claim_for_resources_is_its_pods() {
    let made = serde_json::to_value(for_resources(&pod(), &[])).expect("a claim");
    let meta = &made["metadata"];
    assert_eq!(meta["generateName"], "p-extended-resources-");
    assert_eq!(meta["annotations"], json!({"resource.kubernetes.io/extended-resource-claim": "true"}));
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pu", "controller": true}]);
    assert_eq!(meta["ownerReferences"], owner);
}

#[tokio::test]
async fn waits_for_devices_are_counted_by_profile_driver_and_end() {
    let never = tower::service_fn(async |_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>().await
    });
    let scheduler = crate::Scheduler::new(kube::Client::new(never, "ns"), crate::Config::default());
    let pod = json!({"metadata": {"namespace": "ns", "name": "p", "uid": "pu"},
        "spec": {"schedulerName": "waiting", "containers": [], "resourceClaims": [{"name": "c", "resourceClaimName": "c"}]}});
    let pod = PodInfo::new(serde_json::from_value(pod).expect("a pod"));
    for (told, at_most) in [("Attached", 600), ("Broken", 600), ("Other", 0)] {
        let claim = claim(|c| {
            let with = json!({"request": "r", "driver": "with", "pool": "p", "device": "x",
                "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]});
            let without = json!({"request": "s", "driver": "without", "pool": "p", "device": "y"});
            let condition = json!({"type": told, "status": "True", "reason": "", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            c["status"] = json!({"allocation": {"devices": {"results": [with, without]}},
                "devices": [{"driver": "with", "pool": "p", "device": "x", "conditions": [condition]}]});
        });
        let claim = std::sync::Arc::new(crate::devices::kinds::Claim::new(claim));
        scheduler.shared.lock().snapshot.devices().set_claim(&ObjectKey::new("ns", "c"), Some(claim));
        let ready = scheduler.shared.until_ready(&pod, None, Duration::from_secs(at_most)).await;
        assert_eq!(ready.is_ok(), told == "Attached", "{told}");
    }
    let mut text = tiphys_metrics::Exposition::new(tiphys_metrics::Format::Text);
    metrics::expose(&mut text);
    let text = text.finish();
    for status in ["success", "failure", "timeout"] {
        for (driver, has_conditions) in [("with", true), ("without", false)] {
            let labels = format!("{{profile=\"waiting\",driver=\"{driver}\",status=\"{status}\"}} 1\n");
            let allocations = format!("scheduler_dra_bindingconditions_allocations_total{labels}");
            assert_eq!(text.contains(&allocations), has_conditions, "{allocations} in {text}");
            let waits = format!("scheduler_dra_bindingconditions_wait_duration_seconds_count{labels}");
            assert!(text.contains(&waits), "{waits} in {text}");
        }
    }
}
