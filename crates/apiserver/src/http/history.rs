//! `history`: what an object was, who made it so, and the way back.
//!
//! Every object that is kept has it, under the permissions to the object itself: who may `get` the object reads
//! its past versions (`GET <object>/history?limit=&continue=&resourceVersion=`, an `ObjectHistory` or a table),
//! who may also `update` it restores one (`POST <object>/history` with a [`RESTORE`]). One that was deleted is
//! made anew by who may `create` it. Nothing of this is in upstream's API.

use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tiphys_api::meta;
use tiphys_api::status::{Reason, Status};
use tiphys_api::table::{self, Column, human_duration};
use tiphys_store::Revision;

use super::body::{self, Body, RequestBody};
use super::dialect::Dialect;
use super::negotiate::{self, Encoding, Offer, Shape};
use super::request_info::{ResourceRequest, Verb};
use super::resource::encoding;
use super::{Asked, Handler, encode, method_not_allowed, respond};
use crate::registry::{Call, Past, Updating};

/// The name of the subresource.
pub(super) const HISTORY: &str = "history";
const VERSION: &str = "history.tiphys.io/v1";
/// What tables are written in.
const META: &str = "meta.k8s.io/v1";
/// What is posted to restore a version: its `resourceVersion` names it.
const RESTORE: &str = "Restore";

/// How many versions are told at once, where the client doesn't say and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;
/// How many fields are named of a change; of more, the change is told as `...`.
const CHANGED: usize = 32;

impl Handler {
    pub(super) async fn history(
        &self,
        r: &ResourceRequest,
        call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        match r.verb {
            Verb::Get => self.past(&call, &asked).await,
            Verb::Create => self.restore(call, asked, body).await,
            _ => Err(method_not_allowed()),
        }
    }

    async fn past(&self, call: &Call, asked: &Asked) -> Result<Response<Body>, Status> {
        let offer = Offer { stream: false, shapes: true, protobuf: false };
        let accepted = negotiate::accept(&asked.head.headers, asked.query.optional_flag("pretty"), offer)?;
        let limit = match asked.query.integer("limit")? {
            None | Some(0) => PAGE,
            Some(limit) => usize::try_from(limit).unwrap_or(PAGE).clamp(1, MAX_PAGE),
        };
        let until = match asked.query.text("continue") {
            "" => None,
            token => Some(revision("continue", token)?),
        };
        let only = match asked.query.text("resourceVersion") {
            "" => None,
            text => Some(revision("resourceVersion", text)?),
        };
        // One more tells what the last one has changed.
        let ask = if only.is_some() { 2 } else { limit + 1 };
        let mut past = self.registry.past(call, only.or(until), ask).await?;
        if past.items.is_empty() && until.is_none() || only.is_some_and(|only| !is_first(&past.items, only)) {
            return Err(not_kept(call, only));
        }
        let shown = if only.is_some() { 1 } else { limit };
        let next = match past.items.get(..shown) {
            Some([.., last]) if only.is_none() && past.items.len() > shown => Some(last.revision.earlier(1)),
            // The store has told as much as it tells at once.
            None if past.more => past.items.last().map(|last| last.revision.earlier(1)),
            _ => None,
        };
        let dialect = Dialect::of(call, asked.validation()?, self.registry.now())?;
        for version in &mut past.items {
            version.object = version.object.take().map(|object| dialect.spoken(&object).into_owned());
        }
        let older = past.items.iter().skip(1).map(Some).chain([None]);
        let changes: Vec<_> = past.items.iter().zip(older).take(shown).collect();
        let answer = match accepted.shape {
            Shape::Table { .. } => told(call, &changes, self.registry.now()),
            _ => {
                let items: Vec<_> = changes.iter().map(|(version, older)| item(version, *older)).collect();
                let next = next.map(|next| next.to_string()).unwrap_or_default();
                let metadata =
                    filled([("name", &*call.name), ("namespace", &*call.namespace), ("continue", &*next)]);
                json!({"kind": "ObjectHistory", "apiVersion": VERSION, "metadata": metadata, "items": items})
            }
        };
        let bytes = encode::value(&answer, accepted.encoding, accepted.pretty)?;
        Ok(respond::whole(StatusCode::OK, accepted.encoding.media_type(), bytes, &asked.head.headers))
    }

    async fn restore(&self, call: Call, asked: Asked, body: RequestBody) -> Result<Response<Body>, Status> {
        self.may(&call, Verb::Get).await?;
        let wanted = wanted(&body::read(body).await?, encoding(&asked)?)?;
        let mut past = self.registry.past(&call, Some(wanted), 1).await?;
        let Some(version) = past.items.pop().filter(|version| version.revision == wanted) else {
            return Err(not_kept(&call, Some(wanted)));
        };
        let dialect = Dialect::of(&call, asked.validation()?, self.registry.now())?;
        let Some(object) = version.object.map(|object| freed(dialect.spoken(&object).into_owned())) else {
            let why =
                format!("at resource version {wanted} the object was deleted; restore an earlier version");
            return Err(Status::bad_request(why));
        };
        let may_create = self.may(&call, Verb::Create).await;
        let mut make = |live: Option<&Value>| {
            let mut object = object.clone();
            if live.is_none() {
                may_create.clone()?;
                // Its owner may be gone, and would take it along again.
                meta::metadata_mut(&mut object).remove("ownerReferences");
            }
            Ok(dialect.written(live, object))
        };
        let updating = Updating { rules: call.kind.hooks.update, create: true, make: &mut make };
        let updated = self.registry.update(&call, updating).await?;
        let code = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
        let view = self.view(&call, &asked, false)?;
        let bytes = view.object(&updated.object.json)?;
        Ok(respond::whole(code, view.content_type(), bytes, &asked.head.headers))
    }
}

fn is_first(items: &[Past], revision: Revision) -> bool {
    items.first().is_some_and(|first| first.revision == revision)
}

fn revision(parameter: &str, text: &str) -> Result<Revision, Status> {
    Revision::parse(text)
        .ok_or_else(|| Status::bad_request(format!("{parameter}: {text:?} is no resource version")))
}

fn not_kept(call: &Call, revision: Option<Revision>) -> Status {
    let Some(revision) = revision else { return call.not_found() };
    let name = format!("{} {:?}", call.kind.qualified_resource(), call.name);
    Status::new(Reason::NotFound, format!("the history of {name} has no resource version {revision}"))
}

/// Which version a [`RESTORE`] asks for.
fn wanted(body: &bytes::Bytes, encoding: Encoding) -> Result<Revision, Status> {
    let json = match encoding {
        Encoding::Json => body.clone(),
        Encoding::Yaml => super::dialect::yaml_to_json(body)?,
        _ => return Err(Status::bad_request(format!("{RESTORE} is read from JSON or YAML"))),
    };
    let restore: Value = serde_json::from_slice(&json).map_err(|e| Status::bad_request(e.to_string()))?;
    if meta::text(&restore, &["apiVersion"]) != VERSION || meta::text(&restore, &["kind"]) != RESTORE {
        return Err(Status::bad_request(format!("the body must be a {RESTORE} of {VERSION}")));
    }
    revision("resourceVersion", meta::text(&restore, &["resourceVersion"]))
}

/// A past version without what belonged to that time alone.
fn freed(mut object: Value) -> Value {
    let metadata = meta::metadata_mut(&mut object);
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "managedFields",
        "selfLink",
    ] {
        metadata.remove(field);
    }
    if let Some(Value::Array(finalizers)) = metadata.get_mut("finalizers") {
        // They told how it was to be deleted.
        finalizers.retain(|f| !matches!(f.as_str(), Some("orphan" | "foregroundDeletion")));
    }
    object
}

/// A map of what is not empty.
fn filled<'a>(fields: impl IntoIterator<Item = (&'static str, &'a str)>) -> Map<String, Value> {
    let fields = fields.into_iter().filter(|(_, text)| !text.is_empty());
    fields.map(|(name, text)| (name.to_owned(), text.into())).collect()
}

fn item(version: &Past, older: Option<&Past>) -> Value {
    let mut item = version.author.as_ref().map_or_else(Map::new, |author| {
        filled([
            ("time", &*author.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ("user", &author.user),
            ("verb", &author.verb),
            ("subresource", &author.subresource),
            ("fieldManager", &author.manager),
        ])
    });
    item.insert("resourceVersion".to_owned(), version.revision.to_string().into());
    item.insert("changed".to_owned(), changed(version, older).into());
    if let Some(object) = &version.object {
        item.insert("object".to_owned(), object.clone());
    }
    item.into()
}

const COLUMNS: [Column; 6] = [
    Column::text("Version"),
    Column::text("Age"),
    Column::text("User"),
    Column::text("Verb"),
    Column::text("Manager").wide(),
    Column::text("Changed"),
];

fn told(call: &Call, changes: &[(&Past, Option<&Past>)], now: Timestamp) -> Value {
    let row = |(version, older): &(&Past, Option<&Past>)| {
        let author = version.author.as_ref();
        let told = |of: fn(&crate::registry::Author) -> String| author.map_or("<unknown>".to_owned(), of);
        let age = author.map(|author| human_duration(now.as_second() - author.time.as_second()));
        let verb = told(|author| match &*author.subresource {
            "" => author.verb.clone(),
            part => format!("{} {part}", author.verb),
        });
        let cells = [
            version.revision.to_string(),
            age.unwrap_or_else(|| "<unknown>".to_owned()),
            told(|author| author.user.clone()),
            verb,
            told(|author| author.manager.clone()),
            changed(version, *older).join(","),
        ];
        let metadata = json!({"name": call.name, "namespace": call.namespace,
                              "resourceVersion": version.revision.to_string()});
        table::row(cells.map(Value::from).into(), Some(table::partial(META, &metadata)))
    };
    let columns = COLUMNS.iter().map(Column::definition).collect();
    table::table(META, &json!({}), columns, changes.iter().map(row).collect())
}

/// The fields in which a version differs from the one before; nothing where there was none.
fn changed(version: &Past, older: Option<&Past>) -> Vec<String> {
    let mut fields = Vec::new();
    if let (Some(new), Some(old)) = (&version.object, older.and_then(|older| older.object.as_ref())) {
        differences(new, old, "", &mut fields);
    }
    if fields.len() > CHANGED {
        fields.truncate(CHANGED);
        fields.push("...".to_owned());
    }
    fields
}

/// The bookkeeping of every write.
const KEPT_BY_SERVER: [&str; 3] =
    ["metadata.resourceVersion", "metadata.managedFields", "metadata.generation"];

fn differences(new: &Value, old: &Value, path: &str, fields: &mut Vec<String>) {
    if new == old || KEPT_BY_SERVER.contains(&path) || fields.len() > CHANGED {
        return;
    }
    let none = Map::new();
    let (new, old) = match (new, old) {
        (Value::Object(new), Value::Object(old)) => (new, old),
        (Value::Object(new), Value::Null) => (new, &none),
        (Value::Null, Value::Object(old)) => (&none, old),
        _ => return fields.push(path.to_owned()),
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    for key in new.keys().chain(gone) {
        let dot = if path.is_empty() { "" } else { "." };
        let child = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        differences(&child(new), &child(old), &format!("{path}{dot}{key}"), fields);
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
