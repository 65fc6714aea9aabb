use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

use crate::testing::{ask, server};

const NAMES: [&str; 24] = [
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "allowWatchBookmarks",
    "timeoutSeconds",
    "timeout",
    "labelSelector",
    "fieldSelector",
    "fieldManager",
    "fieldValidation",
    "force",
    "dryRun",
    "gracePeriodSeconds",
    "propagationPolicy",
    "orphanDependents",
    "pretty",
    "includeObject",
    "includeUninitialized",
    "tailLines",
    "container",
    "exclude",
    "é",
];

const VALUES: [&str; 20] = [
    "",
    "0",
    "1",
    "-1",
    "9223372036854775808",
    "true",
    "false",
    "All",
    "Strict",
    "Exact",
    "NotOlderThan",
    "Foreground",
    "Orphan",
    "app in (a,b),!c",
    "metadata.name=kube-system",
    "a=b=c",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi8ifQ",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYSJ9",
    "None",
    "\u{0}\u{ffff}",
];

const PATHS: [&str; 12] = [
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/configmaps/a",
    "/api/v1/namespaces",
    "/api/v1/pods",
    "/api/v1/namespaces/default/pods/a/log",
    "/apis/apps/v1/namespaces/default/deployments/a/scale",
    "/apis/extensions/v1beta1/ingresses",
    "/apis/events.k8s.io/v1/events",
    "/apis",
    "/readyz",
    "/openapi/v3",
    "/api/v1/namespaces/default/configmaps/a/history",
];

/// No query, of whatever options in whatever order, keeps the server from an answer that tells the client what to do.
#[test]
fn every_query_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(server());
    let value = prop_oneof![4 => select(&VALUES[..]).prop_map(str::to_owned), 1 => any::<String>()];
    let options = prop::collection::vec((select(&NAMES[..]), value), 0..6);
    let methods = select(vec!["GET", "GET", "POST", "PUT", "PATCH", "DELETE"]);
    let bodies = select(vec!["", "{}", r#"{"metadata":{"name":"a"}}"#, "[]", "\u{0}"]);
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let outcome =
        runner.run(&(methods, select(&PATHS[..]), options, bodies), |(method, path, options, body)| {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(options).finish();
            let headers = [(
                "content-type",
                if method == "PATCH" { "application/merge-patch+json" } else { "application/json" },
            )];
            let answer = runtime.block_on(ask(&server, method, &format!("{path}?{query}"), &headers, body));
            // A revision that is yet to come is waited for.
            let answered = answer.code < 500 || answer.json()["reason"] == "Timeout";
            prop_assert!(answered, "{method} {path}?{query}: {}", answer.code);
            Ok(())
        });
    outcome.unwrap();
}
