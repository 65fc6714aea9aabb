use futures::StreamExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tower_service::Service;

use crate::ApiServer;
use crate::identity::Component;
use crate::testing::{ask, ask_as, json as send, server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn metrics(server: &ApiServer) -> String {
    let answer = ask(server, "GET", "/metrics", &[], "").await;
    assert_eq!(
        (answer.code, &answer.headers["content-type"]),
        (200, &"text/plain; version=0.0.4; charset=utf-8".parse().unwrap())
    );
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The value of a series; 0 if there is none.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

fn requests(verb: &str, dry_run: &str, resource: &str, scope: &str, code: u16) -> String {
    format!(
        "apiserver_request_total{{verb=\"{verb}\",dry_run=\"{dry_run}\",group=\"\",version=\"v1\",\
         resource=\"{resource}\",subresource=\"\",scope=\"{scope}\",component=\"apiserver\",code=\"{code}\"}}"
    )
}

#[tokio::test]
async fn requests_are_counted_by_route_and_code() {
    let server = server().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    send(&server, "POST", MAPS, map.clone()).await;
    send(&server, "POST", MAPS, map.clone()).await;
    let mut other = map;
    other["metadata"]["name"] = "b".into();
    send(&server, "POST", &format!("{MAPS}?dryRun=All"), other).await;
    let size = ask(&server, "GET", MAPS, &[], "").await.body.len();
    let apply = [("content-type", "application/apply-patch+yaml")];
    ask(
        &server,
        "PATCH",
        &format!("{MAPS}/a?fieldManager=me"),
        &apply,
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\"}",
    )
    .await;
    ask(&server, "GET", "/api/v1/namespaces/default/nonsense/x/y", &[], "").await;

    let text = metrics(&server).await;
    assert_eq!(value(&text, &requests("POST", "", "configmaps", "resource", 201)), 1.0, "{text}");
    assert_eq!(value(&text, &requests("POST", "", "configmaps", "resource", 409)), 1.0);
    assert_eq!(value(&text, &requests("POST", "All", "configmaps", "resource", 201)), 1.0);
    assert_eq!(value(&text, &requests("LIST", "", "configmaps", "namespace", 200)), 1.0);
    assert_eq!(value(&text, &requests("APPLY", "", "configmaps", "resource", 200)), 1.0);
    assert!(!text.contains("nonsense"));
    let list = "verb=\"LIST\",group=\"\",version=\"v1\",resource=\"configmaps\",subresource=\"\",\
                scope=\"namespace\",component=\"apiserver\"";
    assert_eq!(value(&text, &format!("apiserver_response_sizes_sum{{{list}}}")), size as f64);
    let posts = "verb=\"POST\",group=\"\",version=\"v1\",resource=\"configmaps\",subresource=\"\",\
                 scope=\"resource\",component=\"apiserver\"";
    assert_eq!(value(&text, &format!("apiserver_request_sli_duration_seconds_count{{{posts}}}")), 2.0);
    let admitted = "apiserver_admission_controller_admission_duration_seconds_count{name=\"NamespaceLifecycle\",\
                    type=\"admit\",operation=\"CREATE\",rejected=\"false\"}";
    assert!(value(&text, admitted) >= 3.0, "{text}");
    assert_eq!(value(&text, "apiserver_storage_objects{resource=\"configmaps\"}"), 2.0);
    assert_eq!(value(&text, "apiserver_resource_objects{group=\"\",resource=\"configmaps\"}"), 2.0);
    let received =
        value(&text, "apiserver_storage_events_received_total{group=\"\",resource=\"configmaps\"}");
    assert!(received >= 2.0, "{text}");
    let creates = "operation=\"create\",group=\"\",resource=\"configmaps\"";
    let asked = value(&text, &format!("etcd_requests_total{{{creates}}}"));
    // Two of it, and one for each ConfigMap that every cluster has.
    assert!(asked >= 3.0, "{text}");
    assert_eq!(value(&text, &format!("etcd_request_duration_seconds_count{{{creates}}}")), asked);
    assert_eq!(value(&text, &format!("etcd_request_errors_total{{{creates}}}")), 0.0);
    assert!(text.contains("\napiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} 0"), "{text}");
    assert_eq!(value(&text, "apiserver_current_inflight_requests{request_kind=\"mutating\"}"), 0.0);
    // The one that asks.
    assert_eq!(value(&text, "apiserver_current_inflight_requests{request_kind=\"readOnly\"}"), 1.0);
    assert!(text.contains("kubernetes_build_info{major=\"1\",minor=\"37\",git_version=\"v1.37.0+tiphys"));
}

#[tokio::test]
async fn watches_that_begin_with_a_list_are_timed() {
    let server = server().await;
    for query in [
        "timeoutSeconds=1",
        "timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
    ] {
        let answer = ask(&server, "GET", &format!("{MAPS}?watch=true&{query}"), &[], "").await;
        assert_eq!(answer.code, 200, "{query}");
    }
    let labels = "group=\"\",version=\"v1\",resource=\"configmaps\",scope=\"namespace\"";
    let text = metrics(&server).await;
    assert_eq!(
        value(&text, &format!("apiserver_watch_list_duration_seconds_count{{{labels}}}")),
        1.0,
        "{text}"
    );
}

#[tokio::test]
async fn versions_on_their_way_out_are_told() {
    let server = server().await;
    for path in ["/apis/extensions/v1beta1/namespaces/default/ingresses", "/apis/apps/v1/deployments"] {
        assert_eq!(ask(&server, "GET", path, &[], "").await.code, 200);
    }
    ask(&server, "GET", "/apis/extensions/v1beta1/namespaces/default/ingresses/a/nonsense", &[], "").await;
    let text = metrics(&server).await;
    let told: Vec<_> =
        text.lines().filter(|l| l.starts_with("apiserver_requested_deprecated_apis")).collect();
    let wanted = "apiserver_requested_deprecated_apis{group=\"extensions\",version=\"v1beta1\",\
                  resource=\"ingresses\",subresource=\"\",removed_release=\"1.22\"} 1";
    assert_eq!(told, [wanted]);
}

#[tokio::test]
async fn watches_are_counted_while_they_last() {
    const WATCHERS: &str = "apiserver_registered_watchers{group=\"\",version=\"v1\",resource=\"configmaps\"}";
    const EVENTS: &str = "apiserver_watch_events_total{group=\"\",version=\"v1\",resource=\"configmaps\"}";
    let server = server().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    send(&server, "POST", MAPS, map).await;
    let request = Request::get(format!("{MAPS}?watch=1")).body(Full::new(bytes::Bytes::new())).unwrap();
    let response = server.connector(&Component::ApiServer).call(request).await.unwrap();
    let mut body = response.into_body().into_data_stream();
    body.next().await.unwrap().unwrap();
    let text = metrics(&server).await;
    assert_eq!((value(&text, WATCHERS), value(&text, EVENTS)), (1.0, 1.0), "{text}");
    let ended = requests("WATCH", "", "configmaps", "namespace", 200);
    assert_eq!(value(&text, &ended), 0.0);
    drop(body);
    let text = metrics(&server).await;
    assert_eq!((value(&text, WATCHERS), value(&text, &ended)), (0.0, 1.0), "{text}");
}

#[tokio::test]
async fn other_rooms_add_to_what_is_shown_to_whom_may_see_it() {
    let server = server().await;
    server.metrics().add(std::sync::Arc::new(|text| {
        text.single("rooms", tiphys_metrics::Kind::Gauge, "Rooms.", 7.0);
    }));
    assert_eq!(value(&metrics(&server).await, "rooms"), 7.0);
    assert_eq!(ask_as(&server, &Component::Dns, "GET", "/metrics", &[], "").await.code, 403);
    let accept = [("accept", "application/openmetrics-text; version=1.0.0")];
    let answer = ask(&server, "GET", "/metrics", &accept, "").await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.body.ends_with(b"# EOF\n"));
}

#[tokio::test]
async fn permissions_and_checks_are_counted_by_what_comes_of_them() {
    let server = server().await;
    let before = metrics(&server).await;
    let refused = ask_as(&server, &Component::Proxy, "POST", MAPS, &[], "{}").await;
    assert_eq!(refused.code, 403);
    let text = metrics(&server).await;
    let grown = |series: &str| value(&text, series) - value(&before, series);
    assert_eq!(grown("authorization_attempts_total{result=\"no-opinion\"}"), 1.0, "{text}");
    assert_eq!(grown("authorization_attempts_total{result=\"allowed\"}"), 1.0, "the second look itself");
    assert_eq!(grown("authorization_duration_seconds_count{result=\"no-opinion\"}"), 1.0);

    assert_eq!(ask(&server, "GET", "/readyz", &[], "").await.code, 200);
    assert_eq!(ask(&server, "GET", "/readyz/ping", &[], "").await.code, 200);
    server.stop();
    assert_eq!(ask(&server, "GET", "/readyz", &[], "").await.code, 500);
    let slis = ask(&server, "GET", "/metrics/slis", &[], "").await;
    let slis = String::from_utf8(slis.body.to_vec()).unwrap();
    let total = |name: &str, status: &str| {
        let series =
            format!("kubernetes_healthchecks_total{{name=\"{name}\",type=\"readyz\",status=\"{status}\"}}");
        value(&slis, &series)
    };
    assert_eq!((total("ping", "success"), total("ping", "error")), (3.0, 0.0), "{slis}");
    assert_eq!((total("shutdown", "success"), total("shutdown", "error")), (1.0, 1.0));
    assert!(slis.contains("kubernetes_healthcheck{name=\"shutdown\",type=\"readyz\"} 0"), "{slis}");
    assert!(slis.contains("kubernetes_healthcheck{name=\"ping\",type=\"readyz\"} 1"));
}

#[tokio::test]
async fn policies_and_configurations_are_counted_by_what_comes_of_them() {
    let server = server().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "few"}, "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "object.metadata.name != 'no'"}, {"expression": "object.data.a == 'b'"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "all"}, "spec": {"policyName": "few", "validationActions": ["Deny", "Audit"]}});
    for (path, object) in
        [("validatingadmissionpolicies", policy), ("validatingadmissionpolicybindings", binding)]
    {
        let (code, made) = send(&server, "POST", &format!("{group}/{path}"), object).await;
        assert_eq!(code, 201, "{made}");
    }
    server.registry().cache().wait_newest().await.unwrap();
    let map = |name: &str, data| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        send(&server, "POST", MAPS, map)
    };
    assert_eq!(map("no", json!({"a": "b"})).await.0, 422);
    assert_eq!(map("odd", json!({})).await.0, 422);
    assert_eq!(map("fine", json!({"a": "b"})).await.0, 201);
    server.security().reloaded(crate::metrics::Configuration::Authorization, false);

    let text = metrics(&server).await;
    let checks = |wrong: &str, action: &str| {
        let labels = format!(
            "policy=\"few\",policy_binding=\"all\",error_type=\"{wrong}\",enforcement_action=\"{action}\""
        );
        value(&text, &format!("apiserver_validating_admission_policy_check_total{{{labels}}}"))
    };
    assert_eq!((checks("no_error", "deny"), checks("no_error", "audit")), (1.0, 1.0), "{text}");
    assert_eq!((checks("invalid_error", "deny"), checks("no_error", "allow")), (1.0, 0.0), "{text}");
    assert!(value(&text, "apiserver_cel_compilation_duration_seconds_count") >= 2.0);
    assert!(value(&text, "apiserver_cel_evaluation_duration_seconds_count") >= 6.0);
    let reloads = "apiserver_authorization_config_controller_automatic_reloads_total{status=\"failure\",";
    assert_eq!(text.lines().filter(|line| line.starts_with(reloads) && line.ends_with(" 1")).count(), 1);
    assert!(!text.contains("automatic_reloads_total{status=\"success\""), "{text}");
}
