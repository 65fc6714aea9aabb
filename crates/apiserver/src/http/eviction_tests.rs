use super::*;
use crate::testing::{json as send, server};

const NOW: &str = "2026-01-01T00:00:00Z";

fn cause(status: Status) -> String {
    status.details.and_then(|d| d.causes.into_iter().next()).map(|c| c.message).unwrap_or_default()
}

#[test]
fn a_budget_is_spent_and_used_up() {
    let mut budget = json!({"metadata": {"name": "b", "generation": 2}, "status": {
        "observedGeneration": 2, "disruptionsAllowed": 1, "desiredHealthy": 1, "currentHealthy": 2}});
    spent(&mut budget, "b", "p", NOW).unwrap();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert_eq!(budget["status"]["disruptedPods"], json!({"p": NOW}));
    let refused = spent(&mut budget, "b", "q", NOW).unwrap_err();
    assert_eq!(
        (refused.code(), refused.message.as_str()),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    );
    assert_eq!(refused.details.as_ref().map(|d| d.retry_after_seconds), Some(0));
    assert_eq!(cause(refused), "The disruption budget b needs 1 healthy pods and has 2 currently");
    budget["status"]["conditions"] = json!([
        {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "found no controllers"}]);
    assert_eq!(
        cause(spent(&mut budget, "b", "q", NOW).unwrap_err()),
        "The disruption budget b does not allow evicting pods currently because it failed sync: found no controllers"
    );
    let mut unseen = json!({"metadata": {"name": "b", "generation": 2}, "status": {"disruptionsAllowed": 5}});
    assert_eq!(
        cause(spent(&mut unseen, "b", "p", NOW).unwrap_err()),
        "The disruption budget b is still being processed by the server."
    );
    let many: serde_json::Map<_, _> = (0..=MOST_DISRUPTED).map(|i| (i.to_string(), NOW.into())).collect();
    let mut dead =
        json!({"metadata": {"name": "b"}, "status": {"disruptionsAllowed": 5, "disruptedPods": many}});
    assert_eq!(spent(&mut dead, "b", "p", NOW).unwrap_err().code(), 403);
}

#[test]
fn pods_that_serve_nobody_go_when_enough_others_serve_or_always() {
    let budget = |policy: &str, healthy: i64, wanted: i64| {
        json!({"spec": {"unhealthyPodEvictionPolicy": policy},
            "status": {"currentHealthy": healthy, "desiredHealthy": wanted}})
    };
    for (policy, healthy, wanted, ready, want) in [
        ("IfHealthyBudget", 2, 2, false, Say::Unhealthy),
        ("IfHealthyBudget", 1, 2, false, Say::Spend),
        ("IfHealthyBudget", 0, 0, false, Say::Spend),
        ("IfHealthyBudget", 2, 2, true, Say::Spend),
        ("AlwaysAllow", 0, 2, false, Say::Unhealthy),
        ("AlwaysAllow", 2, 2, true, Say::Spend),
    ] {
        assert_eq!(say(&budget(policy, healthy, wanted), ready), want, "{policy} {healthy}/{wanted} {ready}");
    }
}

#[tokio::test]
async fn evictions_ask_the_budget_and_say_why_the_pod_goes() {
    let server = server().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    send(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    server.registry().cache().wait_newest().await.unwrap();
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["ready", "unready"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
        let (code, mut made) = send(&server, "POST", pods, pod).await;
        assert_eq!(code, 201, "{made}");
        let ready = if name == "ready" { "True" } else { "False" };
        made["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
        assert_eq!(send(&server, "PUT", &format!("{pods}/{name}/status"), made).await.0, 200);
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let (code, mut budget) = send(&server, "POST", budgets, budget).await;
    assert_eq!(code, 201, "{budget}");
    let judge = |allowed: i64| {
        json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
            "expectedPods": 2})
    };
    budget["status"] = judge(0);
    let (code, mut budget) = send(&server, "PUT", &format!("{budgets}/b/status"), budget).await;
    assert_eq!(code, 200, "{budget}");
    server.registry().cache().wait_newest().await.unwrap();
    let evict = async |name: &str| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        send(&server, "POST", &format!("{pods}/{name}/eviction"), eviction).await
    };
    let (code, status) = evict("ready").await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["reason"]),
        (429, &json!("DisruptionBudget")),
        "{status}"
    );
    let (code, status) = evict("unready").await;
    assert_eq!(code, 201, "{status}");
    budget["status"] = judge(1);
    let (code, budget) = send(&server, "PUT", &format!("{budgets}/b/status"), budget).await;
    assert_eq!(code, 200, "{budget}");
    assert_eq!(evict("ready").await.0, 201);
    let (_, pod) = send(&server, "GET", &format!("{pods}/ready"), Value::Null).await;
    assert!(meta::is_terminating(&pod), "{pod}");
    let told = condition(&pod, "DisruptionTarget").expect("a condition");
    assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
    let (_, budget) = send(&server, "GET", &format!("{budgets}/b"), Value::Null).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["ready"].is_string(), "{budget}");
    assert_eq!(evict("nobody").await.0, 404);
}
