//! Server-side apply (KEP-555): every write records who owns which field.
//!
//! [`applied`] merges a manager's configuration into an object and drops what the manager applied before,
//! does not apply any more and nobody else owns. [`updated`] records the fields that any other write changed.
//! Objects are in the version of the request: what is written after its defaults, what is applied before.

mod managers;
mod set;
mod walk;

use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use self::set::{Set, SetError};
use self::{
    managers::{Entry, Managers, Operation, seconds},
    set::Node,
    walk::{Comparison, Cut, compare},
};
use crate::schema::TypeRef;
use crate::status::{Details, Reason, Status, StatusCause};

/// Who writes, through what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The `fieldManager` of the request, or the first part of its User-Agent.
    pub manager: &'a str,
    /// The version of the request, in which both objects are: `apps/v1`.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub now: Timestamp,
    /// What this endpoint resets to what is stored, so that nobody comes to own it here: `status` for the
    /// object itself, `spec` for its status.
    pub ignored: &'a Set,
}

/// Gives an object in another `apiVersion` with its type there; `None` if the version is not known any more.
pub type Convert<'f, 's> = dyn Fn(&Value, &str) -> Option<(Value, TypeRef<'s>)> + 'f;

/// The object's type, in the version of the request and in others.
#[derive(Clone, Copy)]
pub struct Types<'f, 's> {
    pub ty: TypeRef<'s>,
    pub convert: &'f Convert<'f, 's>,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be applied to anything.
    #[error("{0}")]
    Config(String),
    /// Others own fields that the configuration sets to something else.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

/// One field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`.
    pub path: String,
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Config(_) => Self::bad_request(message),
            Error::Conflicts(conflicts) => Self::new(Reason::Conflict, message).with_details(Details {
                causes: conflicts
                    .into_iter()
                    .map(|conflict| StatusCause {
                        reason: "FieldManagerConflict".to_owned(),
                        message: format!("conflict with {}", conflict.manager),
                        field: conflict.path,
                    })
                    .collect(),
                ..Details::default()
            }),
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path);
    }
    let mut lines = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// The annotation in which client-side apply keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager whose applies take over from client-side apply.
const KUBECTL: &str = "kubectl";
/// Owns what was there before the first apply, if nobody else did.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The most entries of managed fields that a client may send; with more they are taken for none.
const MAX_SENT: usize = 1_000;
/// The most bytes that an object's annotations may take.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// What identifies an object or is set by the server is nobody's.
static NOT_OWNED: LazyLock<Set> = LazyLock::new(|| {
    Set::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// Records in `new` who owns what after a create (`live` absent), update or patch.
///
/// A write that changes nothing leaves the managed fields as they are. `managedFields` that the client sends
/// count where they can be read, except through a subresource; an empty list, or a list of one empty entry,
/// forgets all owners.
pub fn updated(live: Option<&Value>, new: &mut Value, writer: &Writer<'_>, types: &Types<'_, '_>) {
    let sent = take_managed(new);
    let kept = live.and_then(managed);
    let sent = sent.filter(|sent| {
        let few = sent.as_array().is_none_or(|entries| entries.len() <= MAX_SENT);
        writer.subresource.is_empty() && Some(sent) != kept && few
    });
    let empty = Value::Object(Map::new());
    let change = comparison(live.unwrap_or(&empty), new, writer, types);
    if sent.is_none() && change.is_empty() {
        put_managed(new, kept.cloned());
        return;
    }
    let current = || Managers::decode(kept.cloned()).unwrap_or_default();
    let managers = match sent {
        Some(sent) if resets(&sent) => Managers::default(),
        Some(sent) => match Managers::decode(Some(sent)) {
            Ok(managers) if !managers.0.is_empty() => managers,
            // A client that does not know managed fields must not lose them.
            _ => current(),
        },
        None => current(),
    };
    // An object that nobody was ever recorded for stays so until its first apply.
    if managers.0.is_empty() && live.is_some_and(|live| live.pointer("/metadata/uid").is_some()) {
        return;
    }
    let managers = record(live.unwrap_or(&empty), new, change, managers, writer, types);
    put_managed(new, managers.encode());
}

/// Gives what changed to the writer, and takes it from everyone else.
fn record(
    live: &Value,
    new: &Value,
    change: Comparison,
    mut managers: Managers,
    writer: &Writer<'_>,
    types: &Types<'_, '_>,
) -> Managers {
    let mut own = Entry {
        manager: writer.manager.to_owned(),
        operation: Operation::Update,
        api_version: writer.api_version.to_owned(),
        subresource: writer.subresource.to_owned(),
        time: String::new(),
        set: Set::default(),
    };
    let mut changes =
        Changes { live, new, writer, types, known: vec![(writer.api_version.to_owned(), Some(change))] };
    managers.0.retain_mut(|entry| match changes.at(&entry.api_version) {
        Some(change) => {
            entry.set.subtract(&change.written);
            entry.set.subtract(&change.removed);
            true
        }
        None => false,
    });
    let written = changes.written();
    if !written.is_empty() {
        own.time = seconds(writer.now);
        own.set = written;
        match managers.find(&own) {
            Some(entry) => {
                entry.time = own.time;
                entry.set.union(own.set);
            }
            None => managers.0.push(own),
        }
    }
    managers.0.retain(|entry| !entry.set.is_empty());
    managers.cap_updaters();
    managers
}

/// Refuses a configuration with fields that objects of its type do not have.
///
/// # Errors
/// [`Error::Config`], which names them.
pub fn declared(config: &Value, ty: TypeRef<'_>) -> Result<(), Error> {
    let unknown = walk::undeclared(config, ty);
    let told: Vec<String> =
        unknown.iter().map(|path| format!("{path}: field not declared in schema")).collect();
    match &told[..] {
        [] => Ok(()),
        [one] => Err(untyped(config, one)),
        many => Err(untyped(config, &format!("errors:\n  {}", many.join("\n  ")))),
    }
}

fn untyped(config: &Value, why: &str) -> Error {
    let text = |place: &str| config.pointer(place).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    Error::Config(format!(
        "failed to create typed patch object ({namespace}/{name}; {version}, Kind={kind}): {why}"
    ))
}

/// The configuration that a client sent, with its values as reading made them of it.
///
/// Reading an object also adds what every object of its type has (`resources: {}`), and drops what the API
/// does not write (`stdin: false`). Neither may change what the manager speaks of, so what was not sent is
/// taken out of `read` again, and zeros that were sent are put back.
pub fn configuration(sent: &Value, read: Value) -> Value {
    match (sent, read) {
        (Value::Object(sent), Value::Object(mut read)) => {
            let mut kept = Map::new();
            for (key, value) in sent {
                match read.remove(key) {
                    Some(read) => kept.insert(key.clone(), configuration(value, read)),
                    None if is_zero(value) => kept.insert(key.clone(), value.clone()),
                    None => None,
                };
            }
            Value::Object(kept)
        }
        (Value::Array(sent), Value::Array(read)) if sent.len() == read.len() => {
            sent.iter().zip(read).map(|(sent, read)| configuration(sent, read)).collect()
        }
        (_, read) => read,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// `object` with `config` merged into it as an apply would, whoever owns what: how policies change objects.
///
/// # Errors
/// `config` does not fit the type, or sets a map or list that is only replaced as a whole.
pub fn overlaid(object: &Value, config: &Value, ty: TypeRef<'_>) -> Result<Value, String> {
    walk::fields(config, ty).map_err(|e| format!("failed to convert patch object to typed object: {e}"))?;
    let atomics = walk::atomics(config, ty);
    if !atomics.is_empty() {
        let places = atomics.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {places}"
        ));
    }
    let mut merged = object.clone();
    walk::merge(&mut merged, config, Some(ty.into()));
    Ok(merged)
}

/// Merges `config`, what `writer` wants, into `live` (`None`: the apply creates the object).
///
/// Without `force`, fields that others own and that would change are [`Error::Conflicts`]. The result carries
/// its managed fields; it equals `live` if the apply changes nothing. `config` must be an object of the
/// request's version and kind.
pub fn applied(
    live: Option<Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
    types: &Types<'_, '_>,
) -> Result<Value, Error> {
    if config.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(Error::Config("metadata.managedFields must be nil".to_owned()));
    }
    let wanted = walk::fields(config, types.ty).map(Set).map_err(|why| untyped(config, &why.to_string()))?;

    let exists = live.is_some();
    let mut before = live.unwrap_or_else(|| Value::Object(Map::new()));
    let recorded = take_managed(&mut before);
    let mut managers = Managers::decode(recorded)
        .map_err(|e| Error::Config(format!("failed to decode managed fields: {e}")))?;
    if managers.0.is_empty() && exists {
        let first = Writer { manager: BEFORE_FIRST_APPLY, subresource: "", ..*writer };
        let empty = Value::Object(Map::new());
        let change = comparison(&empty, &before, &first, types);
        managers = record(&empty, &before, change, managers, &first, types);
    }

    let mut own = Entry {
        manager: writer.manager.to_owned(),
        operation: Operation::Apply,
        api_version: writer.api_version.to_owned(),
        subresource: writer.subresource.to_owned(),
        time: String::new(),
        set: wanted,
    };
    own.set.subtract_recursive(writer.ignored);
    let last = managers.0.iter().position(|entry| entry.same_manager(&own)).map(|at| managers.0.remove(at));

    let mut after = before.clone();
    walk::merge(&mut after, config, Some(types.ty.into()));
    if let Some(last) = &last {
        own.time.clone_from(&last.time);
        // Who applies all that it has applied before gives nothing up.
        if last.api_version != own.api_version || !own.set.contains_all(&last.set) {
            prune(&mut after, last, &own, &managers, writer, types);
        }
    }

    let change = comparison(&before, &after, writer, types);
    let mut changes = Changes {
        live: &before,
        new: &after,
        writer,
        types,
        known: vec![(writer.api_version.to_owned(), Some(change))],
    };
    let mut conflicts = Vec::new();
    managers.0.retain_mut(|entry| {
        let Some(change) = changes.at(&entry.api_version) else { return false };
        let contested = entry.set.intersect(&change.written);
        if !contested.is_empty() {
            conflicts.push((entry.describe(), contested));
        }
        entry.set.subtract(&change.written);
        entry.set.subtract(&change.removed);
        true
    });
    if !force {
        if writer.manager == KUBECTL && !conflicts.is_empty() {
            take_over(&before, writer, types, &mut conflicts);
        }
        conflicts.retain(|(_, contested)| !contested.is_empty());
        if !conflicts.is_empty() {
            conflicts.sort_by(|(a, _), (b, _)| a.cmp(b));
            let conflicts = conflicts.into_iter().flat_map(|(manager, contested)| {
                contested.paths().into_iter().map(move |path| Conflict { manager: manager.clone(), path })
            });
            return Err(Error::Conflicts(conflicts.collect()));
        }
    }

    own.set.subtract(&NOT_OWNED);
    if own.time.is_empty() || after != before {
        own.time = seconds(writer.now);
    }
    managers.0.push(own);
    if writer.manager == KUBECTL {
        note_last_applied(&mut after, config);
    }
    put_managed(&mut after, managers.encode());
    Ok(after)
}

/// Removes what the manager applied last and nobody owns now.
fn prune(
    object: &mut Value,
    last: &Entry,
    own: &Entry,
    managers: &Managers,
    writer: &Writer<'_>,
    types: &Types<'_, '_>,
) {
    let owners = || managers.0.iter().chain([own]);
    let sets = |version: &str| -> Vec<&Node> {
        owners().filter(|entry| entry.api_version == version).map(|entry| &entry.set.0).collect()
    };
    let convert = |object: &Value, version: &str| {
        // What was pruned may be in another version than the writer's by now.
        let written = object.get("apiVersion").is_none_or(|own| own == version);
        if version == writer.api_version && written {
            Some((object.clone(), types.ty))
        } else {
            (types.convert)(object, version)
        }
    };
    let Some((mut merged, ty)) = convert(object, &last.api_version) else { return };
    let place = Some(ty.into());
    let mut pruned = merged.clone();
    let applied = Some(&last.set.0);
    walk::prune(&mut pruned, place, &Cut { left: None, last: applied, managed: sets(&last.api_version) });
    // What was removed is put back as far as managers in other versions own it.
    let mut others: Vec<&str> =
        owners().map(|e| e.api_version.as_str()).filter(|v| *v != last.api_version).collect();
    others.sort_unstable();
    others.dedup();
    for version in others {
        let (Some((mut merged, ty)), Some((left, _))) = (convert(object, version), convert(&pruned, version))
        else {
            continue;
        };
        let cut = Cut { left: Some(&left), last: None, managed: sets(version) };
        walk::prune(&mut merged, Some(ty.into()), &cut);
        pruned = merged;
    }
    // What was never applied stays, whatever has become of what it lies in.
    let Some((left, _)) = convert(&pruned, &last.api_version) else { return };
    walk::prune(&mut merged, place, &Cut { left: Some(&left), last: applied, managed: Vec::new() });
    if let Some((back, _)) = convert(&merged, writer.api_version) {
        *object = back;
    }
}

/// Takes from the conflicts what client-side apply set last and nobody changed since: it is being replaced by
/// server-side apply.
fn take_over(live: &Value, writer: &Writer<'_>, types: &Types<'_, '_>, conflicts: &mut [(String, Set)]) {
    let last = live
        .get("metadata")
        .and_then(|meta| meta.get("annotations")?.get(LAST_APPLIED)?.as_str())
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .filter(|last| last.get("apiVersion").and_then(Value::as_str) == Some(writer.api_version));
    let Some(last) = last else { return };
    let Ok(fields) = walk::fields(&last, types.ty) else { return };
    let mut unchanged = Set(fields);
    let since = compare(&last, live, types.ty);
    unchanged.subtract(&since.written);
    unchanged.subtract(&since.removed);
    for (_, contested) in conflicts {
        contested.subtract(&unchanged);
    }
}

/// Keeps the annotation of client-side apply up to date where there is one, so that both can be mixed.
fn note_last_applied(object: &mut Value, config: &Value) {
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else {
        return;
    };
    if annotations.get(LAST_APPLIED).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(noted) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        noted.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.to_owned(), Value::String(format!("{config}\n")));
    let size: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}

/// What a write changed of what can be owned through its endpoint.
fn comparison(live: &Value, new: &Value, writer: &Writer<'_>, types: &Types<'_, '_>) -> Comparison {
    compare(live, new, types.ty).ownable(writer.ignored)
}

/// The change in each version that a manager speaks of.
struct Changes<'a, 's> {
    live: &'a Value,
    new: &'a Value,
    writer: &'a Writer<'a>,
    types: &'a Types<'a, 's>,
    known: Vec<(String, Option<Comparison>)>,
}

impl Changes<'_, '_> {
    /// What the writer wrote, in its own version, which is the first that is known.
    fn written(self) -> Set {
        self.known.into_iter().next().and_then(|(_, change)| change).map(|c| c.written).unwrap_or_default()
    }

    /// `None`: the version is not known any more.
    fn at(&mut self, version: &str) -> Option<&Comparison> {
        let at = match self.known.iter().position(|(known, _)| known == version) {
            Some(at) => at,
            None => {
                let both =
                    (self.types.convert)(self.live, version).zip((self.types.convert)(self.new, version));
                let change =
                    both.map(|((live, ty), (new, _))| compare(&live, &new, ty).ownable(self.writer.ignored));
                self.known.push((version.to_owned(), change));
                self.known.len() - 1
            }
        };
        self.known[at].1.as_ref()
    }
}

fn managed(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn take_managed(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields").filter(|fields| !fields.is_null())
}

fn put_managed(object: &mut Value, fields: Option<Value>) {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), Some(fields)) = (metadata, fields) {
        metadata.insert("managedFields".to_owned(), fields);
    }
}

/// Whether the client asks to forget all owners.
fn resets(fields: &Value) -> bool {
    match fields.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
