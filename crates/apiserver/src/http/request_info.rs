//! What a URL asks for, parsed once.

use http::Method;
use percent_encoding::percent_decode_str;

use super::query::Query;

/// What a request does to a resource, as permissions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// A path below `/api/v1` or `/apis/<group>/<version>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourceRequest {
    pub(crate) verb: Verb,
    /// Empty for the core API.
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty at the scope of the cluster, and for a list over all namespaces.
    pub(crate) namespace: String,
    pub(crate) resource: String,
    /// Empty for a collection.
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows a `proxy` subresource, with its leading slash; empty otherwise.
    pub(crate) rest: String,
    /// Whether the URL is of the old form `/api/v1/watch/...`.
    pub(crate) legacy_watch: bool,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Resource(ResourceRequest),
    /// Any other path, percent-decoded.
    Path(String),
}

/// Why a URL means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the request path is not valid UTF-8 once decoded")]
    Encoding,
    #[error("the request method is not supported by the API")]
    Method,
    #[error("a path after the watch prefix must name a resource")]
    WatchOfNothing,
}

/// The subresources of a Namespace; anything else after its name is a resource in it.
const NAMESPACE_SUBRESOURCES: [&str; 4] = ["status", "finalize", "history", "why"];

/// Reads what a request is for from its method, path and query.
pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Result<Target, Error> {
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| Error::Encoding)?;
    let parts: Vec<&str> = decoded.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", rest @ ..] if rest.len() >= 2 => ("", rest),
        ["apis", group, rest @ ..] if rest.len() >= 2 => (*group, rest),
        _ => return Ok(Target::Path(decoded.into_owned())),
    };
    let (version, mut rest) = (rest[0], &rest[1..]);
    let legacy_watch = rest[0] == "watch";
    if legacy_watch {
        rest = &rest[1..];
        if rest.is_empty() {
            return Err(Error::WatchOfNothing);
        }
    }
    let namespace = match rest {
        ["namespaces", namespace, more @ ..] => {
            if more.first().is_some_and(|next| !NAMESPACE_SUBRESOURCES.contains(next)) {
                rest = more;
            }
            // There are no namespaces in a namespace.
            if rest[0] == "namespaces" && rest.len() == more.len() {
                return Ok(Target::Path(decoded.into_owned()));
            }
            *namespace
        }
        _ => "",
    };
    let resource = rest[0];
    let name = rest.get(1).copied().unwrap_or_default();
    let subresource = if legacy_watch { "" } else { rest.get(2).copied().unwrap_or_default() };
    // A namespace's own requests are about a cluster-scoped object.
    let namespace = if resource == "namespaces" { "" } else { namespace };
    let proxied = if subresource == "proxy" { path_after_proxy(&decoded, rest) } else { String::new() };

    let verb = match *method {
        Method::GET | Method::HEAD if legacy_watch => Verb::Watch,
        Method::GET | Method::HEAD if !name.is_empty() => Verb::Get,
        Method::GET | Method::HEAD if query.flag("watch") => Verb::Watch,
        Method::GET | Method::HEAD => Verb::List,
        // Who may read what is behind a proxy may ask what it can do.
        Method::OPTIONS if subresource == "proxy" => Verb::Get,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if name.is_empty() => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        _ => return Err(Error::Method),
    };
    Ok(Target::Resource(ResourceRequest {
        verb,
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        rest: proxied,
        legacy_watch,
    }))
}

/// The part of a path that belongs to the proxied server, a closing slash included.
fn path_after_proxy(decoded: &str, parts: &[&str]) -> String {
    let mut path: String = parts.iter().skip(3).flat_map(|part| ["/", part]).collect();
    if decoded.ends_with('/') {
        path.push('/');
    }
    path
}

#[cfg(test)]
#[path = "request_info_tests.rs"]
mod tests;
