use super::*;

fn parse_get(path: &str) -> Result<Target, Error> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    parse(&Method::GET, path, &Query::parse(query))
}

fn resource(path: &str) -> ResourceRequest {
    match parse_get(path) {
        Ok(Target::Resource(resource)) => resource,
        other => panic!("{path} is no resource: {other:?}"),
    }
}

#[test]
fn paths_of_resources() {
    // path, verb, group, version, namespace, resource, name, subresource
    let table = [
        ("/api/v1/pods", Verb::List, "", "v1", "", "pods", "", ""),
        ("/api/v1/pods?watch=1", Verb::Watch, "", "v1", "", "pods", "", ""),
        ("/api/v1/pods?watch=false", Verb::List, "", "v1", "", "pods", "", ""),
        ("/api/v1/namespaces", Verb::List, "", "v1", "", "namespaces", "", ""),
        ("/api/v1/namespaces/a", Verb::Get, "", "v1", "", "namespaces", "a", ""),
        ("/api/v1/namespaces/a/finalize", Verb::Get, "", "v1", "", "namespaces", "a", "finalize"),
        ("/api/v1/namespaces/a/pods", Verb::List, "", "v1", "a", "pods", "", ""),
        ("/api/v1/namespaces/a/pods/p/log", Verb::Get, "", "v1", "a", "pods", "p", "log"),
        ("/api/v1/watch/namespaces/a/pods", Verb::Watch, "", "v1", "a", "pods", "", ""),
        ("/api/v1/watch/namespaces/a/pods/p", Verb::Watch, "", "v1", "a", "pods", "p", ""),
        ("/api/v1/watch/nodes", Verb::Watch, "", "v1", "", "nodes", "", ""),
        ("/apis/apps/v1/deployments", Verb::List, "apps", "v1", "", "deployments", "", ""),
        (
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            Verb::Get,
            "apps",
            "v1",
            "a",
            "deployments",
            "d",
            "scale",
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            Verb::Get,
            "rbac.authorization.k8s.io",
            "v1",
            "",
            "clusterroles",
            "system:node",
            "",
        ),
    ];
    for (path, verb, group, version, namespace, name_of, name, subresource) in table {
        let got = resource(path);
        assert_eq!(
            (
                got.verb,
                &*got.group,
                &*got.version,
                &*got.namespace,
                &*got.resource,
                &*got.name,
                &*got.subresource
            ),
            (verb, group, version, namespace, name_of, name, subresource),
            "{path}"
        );
    }
}

#[test]
fn other_paths() {
    for path in ["/", "/healthz", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version/"] {
        assert_eq!(parse_get(path), Ok(Target::Path(path.to_owned())));
    }
}

#[test]
fn what_is_proxied_keeps_its_path() {
    let got = resource("/api/v1/namespaces/a/services/http:web:80/proxy/x//y/");
    assert_eq!((&*got.name, &*got.subresource, &*got.rest), ("http:web:80", "proxy", "/x//y/"));
    assert_eq!(resource("/api/v1/nodes/n/proxy").rest, "");
}

#[test]
fn methods() {
    let verb = |method: Method, path: &str| match parse(&method, path, &Query::parse("")) {
        Ok(Target::Resource(r)) => Some(r.verb),
        _ => None,
    };
    assert_eq!(verb(Method::POST, "/api/v1/nodes"), Some(Verb::Create));
    assert_eq!(verb(Method::PUT, "/api/v1/nodes/n"), Some(Verb::Update));
    assert_eq!(verb(Method::PATCH, "/api/v1/nodes/n"), Some(Verb::Patch));
    assert_eq!(verb(Method::DELETE, "/api/v1/nodes/n"), Some(Verb::Delete));
    assert_eq!(verb(Method::DELETE, "/api/v1/nodes"), Some(Verb::DeleteCollection));
    assert_eq!(verb(Method::OPTIONS, "/api/v1/nodes/n/proxy/x"), Some(Verb::Get));
    assert_eq!(parse(&Method::OPTIONS, "/api/v1/nodes/n", &Query::parse("")), Err(Error::Method));
    assert_eq!(parse(&Method::TRACE, "/api/v1/nodes", &Query::parse("")), Err(Error::Method));
}

#[test]
fn nonsense_is_an_error() {
    assert_eq!(parse_get("/api/v1/watch"), Err(Error::WatchOfNothing));
    assert_eq!(parse_get("/api/v1/pods/%ff"), Err(Error::Encoding));
}
