//! How much of a server a request takes, and for how long.

use http::Method;

use super::query::Query;
use super::request_info::{ResourceRequest, Target, Verb};
use super::{health, resource};
use crate::registry::Registry;

/// What kind of work a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Read,
    Write,
    /// Goes on for as long as the client likes, or must be answered whatever else there is to do.
    Long,
}

pub(super) fn class(method: &Method, target: &Target) -> Class {
    match target {
        Target::Resource(r) if r.verb == Verb::Watch || resource::is_stream(&r.subresource) => Class::Long,
        Target::Path(path) if health::is_check(path) => Class::Long,
        Target::Path(_) => Class::Read,
        Target::Resource(_) if matches!(*method, Method::GET | Method::HEAD) => Class::Read,
        Target::Resource(_) => Class::Write,
    }
}

/// As many listed objects are as much work as one request that does something else.
const OBJECTS_OF_A_SEAT: usize = 500;
const MOST_SEATS: u32 = 10;

/// The seats that a request needs while it is answered; `None` for one that waits for nobody. A watch needs them only
/// until it is set up. Writes need one however many watch: their events are made once for all.
pub(super) fn seats(class: Class, target: &Target, query: &Query, registry: &Registry) -> Option<u32> {
    match target {
        Target::Resource(r) if r.verb == Verb::List => Some(width(r, query, registry)),
        Target::Resource(r) if r.verb == Verb::Watch => {
            let from = query.text("resourceVersion");
            let initial = query.flag("sendInitialEvents") || from.is_empty() || from == "0";
            Some(if initial { width(r, query, registry) } else { 1 })
        }
        _ if class == Class::Long => None,
        _ => Some(1),
    }
}

fn width(r: &ResourceRequest, query: &Query, registry: &Registry) -> u32 {
    let kinds = registry.kinds();
    let kind = kinds.resource(&r.group, &r.version, &r.resource);
    let count =
        kind.and_then(|kind| registry.collection(kind).ok()).map_or(0, |collection| collection.count());
    let limit = query.integer("limit").ok().flatten().and_then(|limit| usize::try_from(limit).ok());
    let listed = limit.filter(|limit| *limit > 0).map_or(count, |limit| limit.min(count));
    u32::try_from(listed.div_ceil(OBJECTS_OF_A_SEAT)).unwrap_or(MOST_SEATS).clamp(1, MOST_SEATS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::request_info;
    use super::*;
    use crate::testing::{json as send, server};

    #[tokio::test]
    async fn lists_need_seats_by_what_they_list() {
        let server = server().await;
        for n in 0..=OBJECTS_OF_A_SEAT {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")}});
            send(&server, "POST", "/api/v1/namespaces/default/configmaps", map).await;
        }
        server.registry().cache().wait_newest().await.unwrap();
        let needs = |method: Method, path: &str, query: &str| {
            let query = Query::parse(query);
            let target = request_info::parse(&method, path, &query).unwrap();
            seats(class(&method, &target), &target, &query, server.registry())
        };
        let (get, maps) = (|| Method::GET, "/api/v1/configmaps");
        assert_eq!(needs(get(), maps, ""), Some(2));
        assert_eq!(needs(get(), maps, "limit=500"), Some(1));
        assert_eq!(needs(get(), maps, "watch=1"), Some(2));
        assert_eq!(needs(get(), maps, "watch=1&resourceVersion=5"), Some(1));
        assert_eq!(needs(get(), maps, "watch=1&resourceVersion=5&sendInitialEvents=true"), Some(2));
        assert_eq!(needs(get(), "/api/v1/nodes", ""), Some(1));
        assert_eq!(needs(get(), "/api/v1/nonsense", ""), Some(1));
        assert_eq!(needs(Method::POST, "/api/v1/namespaces/a/configmaps", ""), Some(1));
        assert_eq!(needs(get(), "/api/v1/namespaces/a/pods/b/log", ""), None);
        assert_eq!(needs(get(), "/livez", ""), None);
        assert_eq!(needs(get(), "/version", ""), Some(1));
    }
}
