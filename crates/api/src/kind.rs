//! The one registry: a row a kind, built-in and custom alike.
//!
//! A row says what a kind is called, where it is served and stored, and carries the few pure functions that
//! only this kind has. Everything else (create, update, patch, delete, list, watch, discovery) is generic.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::custom::{Converter, Custom};
use crate::tree::Tree;
use crate::{field, meta, names, table};

mod removed;
mod rows;

/// A name in a row: static for built-in kinds, owned for those that a CustomResourceDefinition makes.
pub type Str = Cow<'static, str>;

/// One kind. Versions are listed by priority, the preferred one first.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Empty for the core group.
    pub group: Str,
    pub kind: Str,
    pub list_kind: Str,
    /// The plural in paths: `pods`.
    pub resource: Str,
    pub singular: Str,
    pub short_names: Vec<Str>,
    pub categories: Vec<Str>,
    pub scope: Scope,
    pub versions: Vec<Version>,
    /// `None` for kinds that are only asked (the reviews, `Binding`) and never kept.
    pub storage: Option<Storage>,
    pub verbs: Verbs,
    pub subresources: Vec<Subresource>,
    /// PUT to a name that does not exist makes the object.
    pub create_on_update: bool,
    /// An update without `resourceVersion` is accepted.
    pub unconditional_update: bool,
    /// DELETE without a propagation policy leaves the dependents (Jobs, as upstream decided for v1).
    pub orphan_by_default: bool,
    /// Fields besides `metadata.name` and `metadata.namespace` that field selectors can name.
    pub fields: Vec<SelectableField>,
    pub hooks: Hooks,
    /// What a CustomResourceDefinition says of its objects; `None` for built-in kinds.
    pub custom: Option<Arc<Custom>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// A version that a kind is served in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub name: Str,
    pub served: bool,
    /// Shown to clients in a `Warning` header.
    pub warning: Option<Str>,
    /// The minor release of Kubernetes 1 that no longer has it, where that is known.
    pub gone: Option<u8>,
}

/// What the stored object says it is, and the key prefix it lies under. Two rows may name the same storage:
/// events are one collection that both `v1` and `events.k8s.io/v1` show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub group: Str,
    pub version: Str,
    pub resource: Str,
}

impl Storage {
    /// The `apiVersion` of stored objects.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

/// A set of verbs on a resource.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verbs(u16);

impl Verbs {
    pub const CREATE: Self = Self(1);
    pub const DELETE: Self = Self(1 << 1);
    pub const DELETE_COLLECTION: Self = Self(1 << 2);
    pub const GET: Self = Self(1 << 3);
    pub const LIST: Self = Self(1 << 4);
    pub const PATCH: Self = Self(1 << 5);
    pub const UPDATE: Self = Self(1 << 6);
    pub const WATCH: Self = Self(1 << 7);
    pub const ALL: Self = Self(0xff);

    /// In the order of their bits, which is the alphabetical order of discovery.
    const NAMES: [&'static str; 8] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// As discovery lists them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, n)| *n)
    }
}

impl fmt::Debug for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// `pods/status`, `deployments/scale`, `pods/exec`.
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Str,
    /// What the subresource speaks, where that is not the parent's own kind.
    pub speaks: Option<Speaks>,
    pub verbs: Verbs,
    pub action: Action,
    /// For [`Action::Post`]: how the posted object is completed and checked.
    pub posted: Posted,
}

/// What is done with an object that is posted to a subresource.
#[derive(Clone, Copy, Debug)]
pub struct Posted {
    /// Fills in defaults; the first argument is the version the object is written in.
    pub default: fn(&str, &mut Value),
    pub validate: fn(&Value) -> field::Errors,
}

impl Posted {
    /// Nothing to fill in, nothing to check.
    pub const PLAIN: Self = Self { default: |_, _| {}, validate: |_| Vec::new() };
}

/// Group, version and kind of a subresource's own objects. Where discovery names only a kind
/// (`PodExecOptions`), group and version are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaks {
    pub group: Str,
    pub version: Str,
    pub kind: Str,
}

/// What a subresource does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Reads and writes the parent itself, but only the part that [`Update::prepare`] lets through.
    Update(Update),
    /// Reads and writes a projection of the parent: `autoscaling/v1.Scale`.
    Scale(Scale),
    /// Takes a request object of its own kind: `Binding`, `Eviction`, `TokenRequest`.
    Post,
    /// A connection or a stream that the server hands on: log, exec, attach, portforward, proxy.
    Connect,
}

/// Where a `Scale` reads and writes in its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub spec_replicas: Vec<Str>,
    pub status_replicas: Vec<Str>,
    /// A `LabelSelector`, a map of labels or a selector's text, whatever stands there.
    pub selector: Vec<Str>,
}

/// One way of updating: the object itself, its status, its resize.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Puts back into the first what the caller may not change, from the second, the stored object. Bumps
    /// `metadata.generation` where this update changes the desired state.
    pub prepare: fn(&mut Value, &Value),
    /// Validates the first against the second. Both are in the storage version.
    pub validate: fn(&Value, &Value) -> field::Errors,
}

impl Update {
    /// Lets everything through.
    pub const PLAIN: Self = Self { prepare: |_, _| {}, validate: |_, _| Vec::new() };
}

/// What only this kind does. All pure; none sees more than the objects it is given.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// Fills in defaults; the first argument is the version the object is written in.
    pub default: fn(&str, &mut Value),
    /// Turns an object of the named version into the storage version, and back. Called through
    /// [`crate::convert`], which also sets `apiVersion`, and only where the two differ.
    pub to_storage: fn(&str, &mut Value),
    pub from_storage: fn(&str, &mut Value),
    /// Clears what a client may not set (status) and starts the generation. Storage version; the object has
    /// its name, UID and creation time already.
    pub prepare_create: fn(&mut Value),
    pub validate_create: fn(&Value) -> field::Errors,
    pub update: Update,
    /// Notes in a changed object when it changed; the second is the stored one, the third the time.
    pub stamp: fn(&mut Value, &Value, &str),
    /// Changes an object that is about to be deleted for the first time; the second argument is the time.
    pub prepare_delete: fn(&mut Value, &str),
    /// What is wrong with a name; each line continues the sentence `Invalid value: "x": `.
    pub validate_name: names::NameRule,
    /// What a client should be told of an object that it writes; the second is the stored one.
    pub warnings: fn(&Value, &Value) -> Vec<String>,
    /// For kinds that are deleted gracefully: the seconds that the object may still live, from the stored
    /// object and the caller's wish. `None`: deleted at once.
    pub grace: Option<fn(&Value, Option<i64>) -> i64>,
    /// The columns of `kubectl get`, from an object in the storage version.
    pub printer: &'static table::Printer,
}

impl Hooks {
    /// What most kinds need: no defaults, no rules, names are DNS subdomains.
    pub const PLAIN: Self = Self {
        default: |_, _| {},
        to_storage: |_, _| {},
        from_storage: |_, _| {},
        prepare_create: |_| {},
        validate_create: |_| Vec::new(),
        update: Update::PLAIN,
        stamp: |_, _, _| {},
        prepare_delete: |_, _| {},
        validate_name: names::dns_subdomain,
        warnings: |_, _| Vec::new(),
        grace: None,
        printer: &table::PLAIN,
    };
}

/// A field that field selectors can name, read from the storage version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// As selectors write it: `spec.nodeName`.
    pub label: Str,
    /// The first path that leads to something is the one that counts.
    pub paths: Vec<Vec<Str>>,
    /// The text for an absent field.
    pub absent: Str,
}

impl SelectableField {
    /// The field's value as selectors compare it.
    pub fn read<'a>(&'a self, object: &'a Value) -> Cow<'a, str> {
        for path in &self.paths {
            match meta::at(object, path) {
                Some(Value::String(s)) if !s.is_empty() => return Cow::Borrowed(s),
                Some(Value::Bool(b)) => return Cow::Borrowed(if *b { "true" } else { "false" }),
                Some(Value::Number(n)) => return Cow::Owned(n.to_string()),
                _ => {}
            }
        }
        Cow::Borrowed(&self.absent)
    }
}

/// `group/version`, or `version` alone for the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The group and version of an `apiVersion`.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

impl Kind {
    /// Whether a DELETE of a version leaves the dependents when it does not say what becomes of them.
    pub fn orphans_by_default(&self, version: &str) -> bool {
        self.orphan_by_default || removed::orphans(&self.group, version, &self.kind)
    }

    /// What a DELETE is told that does not say what becomes of the dependents.
    pub fn orphaning_warning(&self, version: &str) -> Option<&'static str> {
        const PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; \
            set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
        let is_job = (&*self.group, version, &*self.kind) == ("batch", "v1", "Job");
        is_job.then_some(PODS_STAY)
    }

    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name && v.served)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The subresource, if the version has it.
    pub fn subresource_in(&self, version: &str, name: &str) -> Option<&Subresource> {
        let served = self.custom.as_ref().is_none_or(|custom| custom.has_subresource(version, name));
        self.subresource(name).filter(|_| served)
    }

    /// Fills in the defaults of an object that is written in `version`.
    pub fn fill_defaults(&self, version: &str, object: &mut Value) {
        match &self.custom {
            None => (self.hooks.default)(version, object),
            Some(custom) => custom.fill_defaults(version, object),
        }
    }

    /// What is wrong with a new object beside its metadata. It is in the storage version; `version` is the
    /// one that it was written in.
    pub fn validate_create(&self, version: &str, object: &Value) -> field::Errors {
        match &self.custom {
            None => [self.finalizers(object), (self.hooks.validate_create)(object)].concat(),
            Some(custom) => custom.validate(version, object, None),
        }
    }

    /// What is wrong with the names of finalizers, which upstream asks about nearly everywhere.
    fn finalizers(&self, object: &Value) -> field::Errors {
        const ANY: [&str; 5] = [
            "admissionregistration.k8s.io",
            "apiextensions.k8s.io",
            "apiregistration.k8s.io",
            "coordination.k8s.io",
            "node.k8s.io",
        ];
        if ANY.contains(&&*self.group) { Vec::new() } else { meta::unqualified_finalizers(object) }
    }

    /// What is wrong with a changed object beside its metadata, by the rules of this way of updating.
    pub fn validate_update(
        &self,
        rules: &Update,
        version: &str,
        object: &Value,
        old: &Value,
    ) -> field::Errors {
        match &self.custom {
            None => [self.finalizers(object), (rules.validate)(object, old)].concat(),
            Some(custom) => custom.validate(version, object, Some(old)),
        }
    }

    /// The columns of `kubectl get`, as a `Table` defines them.
    pub fn columns(&self, version: &str) -> Vec<Value> {
        match &self.custom {
            None => self.hooks.printer.columns.iter().map(table::Column::definition).collect(),
            Some(custom) => custom.columns(version),
        }
    }

    /// The cells of an object, one a column. It is in the storage version.
    pub fn cells(&self, version: &str, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        match &self.custom {
            None => (self.hooks.printer.cells)(object, now),
            Some(custom) => custom.cells(version, object, now),
        }
    }

    /// What a webhook has to do between a version and the store.
    pub fn converter(&self, version: &str) -> Option<&Arc<dyn Converter>> {
        self.custom.as_ref()?.converter(version)
    }

    /// Whether objects may lie in the store in another version than the one that is stored now.
    pub fn is_mixed(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| custom.is_mixed())
    }

    /// Whether what is stored may lack defaults that the kind has now.
    pub fn is_completed_on_read(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| custom.has_defaults())
    }

    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// `deployments.apps`, `pods`.
    pub fn qualified_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_string()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// A row that cannot join, because another row has its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{group}/{name} is served already")]
pub struct Taken {
    pub group: String,
    pub name: String,
}

/// A group as discovery shows it: its versions, the preferred one first, and its rows.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pub name: &'a str,
    pub versions: Vec<&'a str>,
    pub kinds: Vec<&'a Arc<Kind>>,
}

/// All rows. Cheap to clone and to change; a changed registry is a new value, so readers keep a consistent one.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    builtin: Arc<Builtin>,
    /// Those that CustomResourceDefinitions made, by group and resource, and by group and kind.
    custom: Tree<Arc<Kind>>,
    custom_kinds: Tree<Arc<Kind>>,
}

/// The rows that do not change while the program runs.
#[derive(Debug, Default)]
struct Builtin {
    rows: Vec<Arc<Kind>>,
    by_resource: HashMap<(Str, Str), usize>,
    by_kind: HashMap<(Str, Str), usize>,
}

impl Builtin {
    fn insert(&mut self, row: Kind) -> Result<(), Taken> {
        let resource = (row.group.clone(), row.resource.clone());
        let kind = (row.group.clone(), row.kind.clone());
        for (taken, (group, name)) in
            [(self.by_resource.contains_key(&resource), &resource), (self.by_kind.contains_key(&kind), &kind)]
        {
            if taken {
                return Err(Taken { group: group.to_string(), name: name.to_string() });
            }
        }
        self.by_resource.insert(resource, self.rows.len());
        self.by_kind.insert(kind, self.rows.len());
        self.rows.push(Arc::new(row));
        Ok(())
    }

    fn resource(&self, group: &str, resource: &str) -> Option<&Arc<Kind>> {
        Some(&self.rows[*self.by_resource.get(&key(group, resource) as &dyn PairKey)?])
    }

    fn kind(&self, group: &str, kind: &str) -> Option<&Arc<Kind>> {
        Some(&self.rows[*self.by_kind.get(&key(group, kind) as &dyn PairKey)?])
    }
}

fn joined(group: &str, name: &str) -> String {
    format!("{group}/{name}")
}

impl Kinds {
    /// The kinds that every cluster has, in their current versions and those that upstream has removed.
    pub fn builtin() -> Self {
        let mut rows = rows::all();
        removed::add(&mut rows);
        Self::of(rows)
    }

    /// The kinds that every cluster has, in the versions that upstream serves today.
    pub fn current() -> Self {
        Self::of(rows::all())
    }

    fn of(rows: Vec<Kind>) -> Self {
        let mut builtin = Builtin::default();
        for row in rows {
            // Two rows of one name would be a mistake in the table, which a test of the table finds.
            builtin.insert(row).unwrap_or_else(|taken| panic!("built-in kinds: {taken}"));
        }
        Self { builtin: Arc::new(builtin), ..Self::default() }
    }

    /// Adds a row to the built-in ones.
    ///
    /// # Errors
    /// Another row of the same group has the resource or the kind.
    pub fn insert(&mut self, row: impl Into<Arc<Kind>>) -> Result<(), Taken> {
        let row: Arc<Kind> = row.into();
        let (resource, kind) = (joined(&row.group, &row.resource), joined(&row.group, &row.kind));
        let taken = |name: &str| Taken { group: row.group.to_string(), name: name.to_owned() };
        if self.builtin.resource(&row.group, &row.resource).is_some() || self.custom.get(&resource).is_some()
        {
            return Err(taken(&row.resource));
        }
        if self.builtin.kind(&row.group, &row.kind).is_some() || self.custom_kinds.get(&kind).is_some() {
            return Err(taken(&row.kind));
        }
        self.custom.insert(resource.into(), Arc::clone(&row));
        self.custom_kinds.insert(kind.into(), row);
        Ok(())
    }

    /// Takes away a row that was added, and returns it.
    pub fn remove(&mut self, group: &str, resource: &str) -> Option<Arc<Kind>> {
        let row = self.custom.remove(&joined(group, resource))?;
        self.custom_kinds.remove(&joined(group, &row.kind));
        Some(row)
    }

    /// The row of a path: served in this version, under this plural.
    pub fn resource(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Kind>> {
        self.group_resource(group, resource).filter(|row| row.version(version).is_some())
    }

    /// The row of an object that says `apiVersion` and `kind`.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let row = match self.builtin.kind(group, kind) {
            None if !self.custom_kinds.is_empty() => self.custom_kinds.get(&joined(group, kind)),
            found => found,
        };
        row.filter(|row| row.version(version).is_some())
    }

    /// The row that `group` and `resource` name, whatever the version.
    pub fn group_resource(&self, group: &str, resource: &str) -> Option<&Arc<Kind>> {
        match self.builtin.resource(group, resource) {
            None if !self.custom.is_empty() => self.custom.get(&joined(group, resource)),
            found => found,
        }
    }

    /// Every row, in the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.builtin.rows.iter().chain(self.custom.values())
    }

    /// The rows of one group.
    pub fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Arc<Kind>> {
        self.iter().filter(move |row| row.group == group)
    }

    /// The groups in the order of discovery (core first), each with its served versions by priority.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for row in self.iter().filter(|row| row.versions.iter().any(|v| v.served)) {
            let at = *places.entry(&row.group).or_insert_with(|| {
                groups.push(Group { name: &row.group, versions: Vec::new(), kinds: Vec::new() });
                groups.len() - 1
            });
            let group = &mut groups[at];
            for version in row.versions.iter().filter(|v| v.served) {
                if !group.versions.contains(&&*version.name) {
                    group.versions.push(&version.name);
                }
            }
            group.kinds.push(row);
        }
        for group in &mut groups {
            group.versions.sort_by_key(|v| meta::version_rank(v));
        }
        groups
    }
}

/// Lets the maps be asked with borrowed names.
trait PairKey {
    fn pair(&self) -> (&str, &str);
}

fn key<'a>(first: &'a str, second: &'a str) -> (&'a str, &'a str) {
    (first, second)
}

impl PairKey for (&str, &str) {
    fn pair(&self) -> (&str, &str) {
        *self
    }
}

impl PairKey for (Str, Str) {
    fn pair(&self) -> (&str, &str) {
        (&self.0, &self.1)
    }
}

impl std::hash::Hash for dyn PairKey + '_ {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.pair().hash(state);
    }
}

impl PartialEq for dyn PairKey + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.pair() == other.pair()
    }
}

impl Eq for dyn PairKey + '_ {}

impl<'a> std::borrow::Borrow<dyn PairKey + 'a> for (Str, Str) {
    fn borrow(&self) -> &(dyn PairKey + 'a) {
        self
    }
}

#[cfg(test)]
#[path = "kind_tests.rs"]
mod tests;
