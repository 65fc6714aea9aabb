//! The operations on each resource, from its row.

use serde_json::{Map, Value, json};
use tiphys_api::kind::{Kind, Subresource, Verbs};

use super::{Dialect, Texts, components::Components};

/// `/apis/<group>/<version>`, `/api/<version>` for the core group.
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// What an operation reads and answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// The object itself.
    Object,
    /// A list of objects.
    List,
    /// How a deletion went.
    Status,
}

/// A verb as an operation on a path.
struct Operation {
    method: &'static str,
    action: &'static str,
    /// What its name begins with.
    word: &'static str,
    verb: Verbs,
    answers: Speaks,
    parameters: &'static [&'static str],
    body: Body,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Object,
    Patch,
    DeleteOptions,
}

const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];

const ON_COLLECTION: &[Operation] = &[
    Operation {
        method: "get",
        action: "list",
        word: "list",
        verb: Verbs::LIST,
        answers: Speaks::List,
        parameters: LIST,
        body: Body::None,
    },
    Operation {
        method: "post",
        action: "post",
        word: "create",
        verb: Verbs::CREATE,
        answers: Speaks::Object,
        parameters: WRITE,
        body: Body::Object,
    },
    Operation {
        method: "delete",
        action: "deletecollection",
        word: "deleteCollection",
        verb: Verbs::DELETE_COLLECTION,
        answers: Speaks::Status,
        parameters: DELETE,
        body: Body::DeleteOptions,
    },
];

const ON_OBJECT: &[Operation] = &[
    Operation {
        method: "get",
        action: "get",
        word: "read",
        verb: Verbs::GET,
        answers: Speaks::Object,
        parameters: &[],
        body: Body::None,
    },
    Operation {
        method: "put",
        action: "put",
        word: "replace",
        verb: Verbs::UPDATE,
        answers: Speaks::Object,
        parameters: WRITE,
        body: Body::Object,
    },
    Operation {
        method: "patch",
        action: "patch",
        word: "patch",
        verb: Verbs::PATCH,
        answers: Speaks::Object,
        parameters: &["dryRun", "fieldManager", "fieldValidation", "force"],
        body: Body::Patch,
    },
    Operation {
        method: "delete",
        action: "delete",
        word: "delete",
        verb: Verbs::DELETE,
        answers: Speaks::Status,
        parameters: DELETE,
        body: Body::DeleteOptions,
    },
];

/// What a path's operations are about.
struct Target<'a> {
    kind: &'a Kind,
    version: &'a str,
    /// Group, version and kind of the objects spoken.
    speaks: (&'a str, &'a str, &'a str),
    /// The part of the operations' names that tells the subresource.
    suffix: String,
    namespaced: bool,
}

/// Adds every path of a kind in one version.
pub(super) fn of_kind(kind: &Kind, version: &str, components: &mut Components, paths: &mut Texts) {
    if kind.custom.is_some() {
        components.add_custom(kind, version);
    }
    let root = root(&kind.group, version);
    let collection = format!("{root}/{}", kind.resource);
    let target = |speaks, suffix: &str, namespaced| Target {
        kind,
        version,
        speaks,
        suffix: suffix.to_owned(),
        namespaced,
    };
    let own = (&*kind.group, version, &*kind.kind);
    let inner = if kind.is_namespaced() {
        if kind.verbs.contains(Verbs::LIST) {
            let everywhere = target(own, "ForAllNamespaces", false);
            add(paths, collection, &ON_COLLECTION[..1], kind.verbs, &everywhere, components);
        }
        format!("{root}/namespaces/{{namespace}}/{}", kind.resource)
    } else {
        collection
    };
    let plain = target(own, "", kind.is_namespaced());
    add(paths, inner.clone(), ON_COLLECTION, kind.verbs, &plain, components);
    let object = format!("{inner}/{{name}}");
    add(paths, object.clone(), ON_OBJECT, kind.verbs, &plain, components);
    for subresource in kind.subresources.iter().filter(|s| kind.subresource_in(version, &s.name).is_some()) {
        let target =
            target(spoken(kind, version, subresource), &capitalized(&subresource.name), kind.is_namespaced());
        let path = format!("{object}/{}", subresource.name);
        let mut item = Map::new();
        // A subresource is created under the object's name.
        let operations = ON_OBJECT.iter().chain(&ON_COLLECTION[1..2]);
        for operation in operations.filter(|operation| subresource.verbs.contains(operation.verb)) {
            item.insert(operation.method.to_owned(), describe(operation, &target, components));
        }
        insert(paths, path, item, &target, components.dialect);
    }
}

fn spoken<'a>(kind: &'a Kind, version: &'a str, subresource: &'a Subresource) -> (&'a str, &'a str, &'a str) {
    match &subresource.speaks {
        None => (&kind.group, version, &kind.kind),
        Some(speaks) if speaks.version.is_empty() => (&kind.group, version, &speaks.kind),
        Some(speaks) => (&speaks.group, &speaks.version, &speaks.kind),
    }
}

fn add(
    paths: &mut Texts,
    path: String,
    operations: &[Operation],
    verbs: Verbs,
    target: &Target<'_>,
    components: &mut Components,
) {
    let mut item = Map::new();
    for operation in operations.iter().filter(|operation| verbs.contains(operation.verb)) {
        item.insert(operation.method.to_owned(), describe(operation, target, components));
    }
    insert(paths, path, item, target, components.dialect);
}

fn insert(
    paths: &mut Texts,
    path: String,
    mut item: Map<String, Value>,
    target: &Target<'_>,
    dialect: Dialect,
) {
    if item.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    if path.ends_with("/{name}") || path.contains("/{name}/") {
        parameters.push(parameter("name", "path", dialect));
    }
    if target.namespaced {
        parameters.push(parameter("namespace", "path", dialect));
    }
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), parameters.into());
    }
    paths.insert(path, &item.into());
}

fn parameter(name: &str, place: &str, dialect: Dialect) -> Value {
    let ty = match name {
        "allowWatchBookmarks" | "force" | "orphanDependents" | "sendInitialEvents" | "watch" => "boolean",
        "gracePeriodSeconds" | "limit" | "timeoutSeconds" => "integer",
        _ => "string",
    };
    let mut parameter = json!({"name": name, "in": place});
    match dialect {
        Dialect::V2 => {
            parameter["type"] = ty.into();
            parameter["uniqueItems"] = true.into();
        }
        Dialect::V3 => parameter["schema"] = json!({"type": ty, "uniqueItems": true}),
    }
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

fn describe(operation: &Operation, target: &Target<'_>, components: &mut Components) -> Value {
    let dialect = components.dialect;
    let (group, version, kind) = target.speaks;
    let answers = match components.kind(group, version, kind) {
        _ if operation.answers == Speaks::List => {
            components.kind(&target.kind.group, target.version, &target.kind.list_kind)
        }
        _ if operation.answers == Speaks::Status => components.named("meta.v1.Status"),
        // Kinds like `PodExecOptions` are not sent as objects: the parameters stand in the URL.
        known => known.filter(|_| !kind.ends_with("Options")),
    };
    let answers = answers.unwrap_or_else(|| json!({"type": "string"}));
    let (tag, scope) =
        (tag(&target.kind.group, target.version), if target.namespaced { "Namespaced" } else { "" });
    let id = format!("{}{tag}{scope}{}{}", operation.word, target.kind.kind, target.suffix);
    let mut described = json!({
        "operationId": id,
        "tags": [snake(&target.kind.group, target.version)],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    });
    let mut parameters: Vec<Value> =
        operation.parameters.iter().map(|name| parameter(name, "query", dialect)).collect();
    let body = match operation.body {
        Body::None => None,
        Body::Object => components.kind(group, version, kind),
        // Any JSON.
        Body::Patch => Some(json!({"type": "object"})),
        Body::DeleteOptions => components.named("meta.v1.DeleteOptions"),
    };
    match (dialect, body) {
        (_, None) => {}
        (Dialect::V2, Some(schema)) => {
            let required = operation.body != Body::DeleteOptions;
            parameters
                .insert(0, json!({"name": "body", "in": "body", "required": required, "schema": schema}));
        }
        (Dialect::V3, Some(schema)) => {
            let types: &[&str] = match operation.body {
                // By these kubectl decides which patch it sends.
                Body::Patch if target.kind.custom.is_some() => &[
                    "application/apply-patch+yaml",
                    "application/json-patch+json",
                    "application/merge-patch+json",
                ],
                Body::Patch => &[
                    "application/apply-patch+yaml",
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                ],
                _ => &["*/*"],
            };
            let content: Map<String, Value> =
                types.iter().map(|ty| ((*ty).to_owned(), json!({"schema": schema}))).collect();
            described["requestBody"] = json!({"content": content});
        }
    }
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    described["responses"] = match dialect {
        Dialect::V2 => json!({"200": {"description": "OK", "schema": answers}}),
        Dialect::V3 => {
            json!({"200": {"description": "OK", "content": {"application/json": {"schema": answers}}}})
        }
    };
    described
}

/// `AppsV1`, `CoreV1`, `RbacAuthorizationV1`.
fn tag(group: &str, version: &str) -> String {
    words(group).chain([version]).map(capitalized).collect()
}

/// `apps_v1`, `rbacAuthorization_v1`.
fn snake(group: &str, version: &str) -> String {
    let mut words = words(group);
    let first = words.next().unwrap_or_default().to_owned();
    let rest: String = words.map(capitalized).collect();
    format!("{first}{rest}_{version}")
}

fn words(group: &str) -> impl Iterator<Item = &str> {
    let group = if group.is_empty() { "core" } else { group };
    group.trim_end_matches(".k8s.io").split('.')
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
