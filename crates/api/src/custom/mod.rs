//! Custom kinds: what a CustomResourceDefinition makes of itself.
//!
//! A definition becomes a row as built-in kinds have one, with two things of its own: a schema in the form of
//! [`crate::schema`], so that decoding and server-side apply need not know where it comes from, and the
//! structural schema that fills in defaults and judges values. Both are compiled once a change.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::field::{Cause, Error, Errors, Path};
use crate::kind::{
    Action, Hooks, Kind, Posted, Scale, Scope, SelectableField, Speaks, Storage, Str, Subresource, Update,
    Verbs, Version,
};
use crate::meta;
use crate::schema::{Builder, Schema, TypeRef};

mod columns;
mod defaulting;
pub mod definition;
mod formats;
mod judge;
mod prepare;
mod reading;
mod rule;
mod structural;

pub use rule::{Compiler, Converter, Converting, Rule, Rules};
pub use structural::{Additional, ListType, MAX_DEPTH, Pattern, Structural, Type, pattern};

use columns::Columns;

/// How objects of different versions become each other.
#[derive(Clone, Debug)]
pub enum Conversion {
    /// They differ in nothing but `apiVersion`.
    None,
    /// A webhook converts them.
    Webhook(Arc<dyn Converter>),
}

/// What is particular to the objects of a custom kind.
#[derive(Debug)]
pub struct Custom {
    group: String,
    kind: String,
    schema: Schema,
    versions: Vec<CustomVersion>,
    storage: String,
    mixed: bool,
    fingerprint: u64,
    defaults: bool,
    pub conversion: Conversion,
}

#[derive(Debug)]
struct CustomVersion {
    name: String,
    structural: Structural,
    /// `openAPIV3Schema` as it is written.
    source: Value,
    rules: Option<Arc<dyn Rules>>,
    columns: Columns,
    selectable: Vec<Str>,
    status: bool,
    scale: Option<Scale>,
}

impl Custom {
    fn version(&self, name: &str) -> Option<&CustomVersion> {
        self.versions.iter().find(|v| v.name == name)
    }

    /// The type of whole objects in a version.
    pub fn ty(&self, version: &str) -> Option<TypeRef<'_>> {
        self.schema.root(&self.group, version, &self.kind)
    }

    /// The structural schema of a version.
    pub fn structural(&self, version: &str) -> Option<&Structural> {
        self.version(version).map(|v| &v.structural)
    }

    /// `openAPIV3Schema` of a version as the definition has it; `Null` without one.
    pub fn source(&self, version: &str) -> &Value {
        self.version(version).map_or(&Value::Null, |v| &v.source)
    }

    /// Tells one definition's schemas and columns from another's.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether objects may lie in the store in another version than the one that is stored now.
    pub fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Whether any version fills in anything.
    pub fn has_defaults(&self) -> bool {
        self.defaults
    }

    /// Whether a version can be selected by a field.
    pub fn is_selectable(&self, version: &str, label: &str) -> bool {
        self.version(version).is_some_and(|v| v.selectable.iter().any(|s| s == label))
    }

    pub fn has_subresource(&self, version: &str, name: &str) -> bool {
        self.version(version).is_some_and(|v| match name {
            "status" => v.status,
            "scale" => v.scale.is_some(),
            _ => false,
        })
    }

    /// Fills in the defaults of a version.
    pub fn fill_defaults(&self, version: &str, object: &mut Value) {
        if let Some(version) = self.version(version).filter(|_| self.defaults) {
            defaulting::fill(object, &version.structural);
        }
    }

    /// The converter between a version and what is stored, if a webhook converts and the two may differ.
    pub fn converter(&self, version: &str) -> Option<&Arc<dyn Converter>> {
        match &self.conversion {
            Conversion::Webhook(converter) if version != self.storage || self.mixed => Some(converter),
            _ => None,
        }
    }

    /// What is wrong with an object in the storage version, by the schema of the version that it was written
    /// in, from which it differs in name only. One that a webhook has converted was judged before.
    pub fn validate(&self, version: &str, object: &Value, old: Option<&Value>) -> Errors {
        if self.converter(version).is_some() { Errors::new() } else { self.judge(version, object, old) }
    }

    /// What is wrong with an object in a version, by its schema. What is as it was in `old` is not judged.
    pub fn judge(&self, version: &str, object: &Value, old: Option<&Value>) -> Errors {
        let mut errors = Errors::new();
        let Some(version) = self.version(version) else { return errors };
        judge::resource(object, old, &version.structural, &mut errors);
        if let Some(scale) = &version.scale {
            replicas(object, &scale.spec_replicas, &mut errors);
            replicas(object, &scale.status_replicas, &mut errors);
        }
        if let Some(rules) = &version.rules {
            let blocks = |e: &Error| {
                matches!(e.cause, Cause::Required | Cause::TooLong | Cause::TooMany | Cause::TypeInvalid)
            };
            if errors.iter().any(blocks) {
                let why = "some validation rules were not checked because the object was invalid; correct the \
                           existing errors to complete validation";
                errors.push(Error::invalid(&Path::root(), Value::Null, why));
            } else {
                rules.judge(object, old, &mut errors);
            }
        }
        errors
    }

    pub fn columns(&self, version: &str) -> Vec<Value> {
        self.version(version).map(|v| v.columns.definitions()).unwrap_or_default()
    }

    pub fn cells(&self, version: &str, object: &Value, now: Timestamp) -> Vec<Value> {
        self.version(version).map(|v| v.columns.cells(object, now)).unwrap_or_default()
    }
}

/// The numbers that a scale shows.
fn replicas(object: &Value, path: &[Str], errors: &mut Errors) {
    let Some(value) = meta::at(object, path) else { return };
    let at = Path::new(&format!(".{}", path.join(".")));
    match value.as_i64() {
        Some(n) if n < 0 => errors.push(Error::invalid(&at, n, "should be a non-negative integer")),
        Some(n) if n > i64::from(i32::MAX) => {
            let why = format!("should be less than or equal to {}", i32::MAX);
            errors.push(Error::invalid(&at, n, why));
        }
        _ => {}
    }
}

/// `.spec.a.b` → `["spec", "a", "b"]`
fn path(text: &str) -> Vec<Str> {
    text.trim_start_matches('.').split('.').map(|part| Str::Owned(part.to_owned())).collect()
}

fn texts(value: &Value) -> Vec<Str> {
    let all = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    all.map(|text| Str::Owned(text.to_owned())).collect()
}

fn owned(value: &Value) -> Str {
    Str::Owned(value.as_str().unwrap_or_default().to_owned())
}

/// The row of a definition whose names were accepted (`status.acceptedNames`). It is served as far as its
/// versions are; a definition that is going takes no new objects. `compiler` makes what cannot
/// be run here.
pub fn row(definition: &Value, compiler: &dyn Compiler) -> Kind {
    let (spec, accepted) = (&definition["spec"], &definition["status"]["acceptedNames"]);
    let group = owned(&spec["group"]);
    let versions = meta::items(spec, &["versions"]);
    let stored =
        versions.iter().find(|v| v["storage"] == true).map(|v| owned(&v["name"])).unwrap_or_default();
    let mixed = meta::items(definition, &["status", "storedVersions"]).iter().any(|v| *v != *stored);
    let custom = custom(spec, &accepted["kind"], &stored, mixed, compiler);
    let resource = owned(&accepted["plural"]);
    let mut listed: Vec<Version> = versions.iter().map(|v| version(&group, &accepted["kind"], v)).collect();
    listed.sort_by_key(|v| meta::version_rank(&v.name));

    let mut fields: Vec<SelectableField> = Vec::new();
    for label in custom.versions.iter().flat_map(|v| &v.selectable) {
        if !fields.iter().any(|f| f.label == *label) {
            fields.push(SelectableField {
                label: label.clone(),
                paths: vec![path(label)],
                absent: "".into(),
            });
        }
    }
    let going = meta::is_terminating(definition);
    Kind {
        kind: owned(&accepted["kind"]),
        list_kind: owned(&accepted["listKind"]),
        singular: owned(&accepted["singular"]),
        short_names: texts(&accepted["shortNames"]),
        categories: texts(&accepted["categories"]),
        scope: if spec["scope"] == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
        versions: listed,
        storage: Some(Storage { group: group.clone(), version: stored, resource: resource.clone() }),
        verbs: if going { Verbs::ALL.without(Verbs::CREATE) } else { Verbs::ALL },
        subresources: subresources(&custom),
        create_on_update: false,
        unconditional_update: false,
        orphan_by_default: false,
        fields,
        hooks: hooks(custom.versions.iter().any(|v| v.status)),
        group,
        resource,
        custom: Some(Arc::new(custom)),
    }
}

fn hooks(status: bool) -> Hooks {
    let plain = Hooks { prepare_create: meta::start_generation, ..Hooks::PLAIN };
    if status {
        Hooks {
            prepare_create: prepare::create_with_status,
            update: Update { prepare: prepare::update_with_status, ..Update::PLAIN },
            ..plain
        }
    } else {
        Hooks { update: Update { prepare: crate::prepare::update_whole_counted, ..Update::PLAIN }, ..plain }
    }
}

fn version(group: &str, kind: &Value, version: &Value) -> Version {
    let name = owned(&version["name"]);
    let warning = (version["deprecated"] == true).then(|| match version["deprecationWarning"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("{group}/{name} {} is deprecated", kind.as_str().unwrap_or_default()),
    });
    Version { name, served: version["served"] == true, warning: warning.map(Str::Owned), gone: None }
}

fn custom(spec: &Value, kind: &Value, storage: &str, mixed: bool, compiler: &dyn Compiler) -> Custom {
    let (group, kind) = (owned(&spec["group"]), owned(kind));
    let mut builder = Builder::default();
    let versions: Vec<CustomVersion> = meta::items(spec, &["versions"])
        .iter()
        .map(|version| {
            let source = version["schema"]["openAPIV3Schema"].clone();
            let mut structural = Structural::compile(&source);
            structural.embedded = true;
            // Without a schema, or by an older definition's wish, nothing is unknown.
            structural.preserve_unknown |= source.is_null() || spec["preserveUnknownFields"] == true;
            let node = reading::resource(&mut builder, &structural);
            builder.root(group.clone(), owned(&version["name"]), kind.clone(), node);
            let subresources = &version["subresources"];
            let scale = subresources.get("scale").filter(|s| s.is_object()).map(|scale| {
                let at = |key: &str| scale[key].as_str().map(path).unwrap_or_default();
                Scale {
                    spec_replicas: at("specReplicasPath"),
                    status_replicas: at("statusReplicasPath"),
                    selector: at("labelSelectorPath"),
                }
            });
            CustomVersion {
                name: owned(&version["name"]).into_owned(),
                rules: compiler.rules(&structural),
                structural,
                source,
                columns: Columns::read(&version["additionalPrinterColumns"]),
                selectable: meta::items(version, &["selectableFields"])
                    .iter()
                    .map(|f| Str::Owned(meta::text(f, &["jsonPath"]).trim_start_matches('.').to_owned()))
                    .collect(),
                status: subresources.get("status").is_some_and(Value::is_object),
                scale,
            }
        })
        .collect();
    let mut hasher = DefaultHasher::new();
    spec.to_string().hash(&mut hasher);
    let defaults = versions.iter().any(|v| v.structural.any(&|s| s.default.is_some()));
    Custom {
        group: group.into_owned(),
        kind: kind.into_owned(),
        schema: builder.finish(),
        versions,
        storage: storage.to_owned(),
        mixed,
        fingerprint: hasher.finish(),
        defaults,
        conversion: match &spec["conversion"] {
            c if c["strategy"] == "Webhook" => Conversion::Webhook(compiler.converter(&c["webhook"])),
            _ => Conversion::None,
        },
    }
}

const READ_WRITE: Verbs = Verbs::GET.and(Verbs::PATCH).and(Verbs::UPDATE);

fn subresources(custom: &Custom) -> Vec<Subresource> {
    let sub = |name: &'static str, action, speaks| Subresource {
        name: name.into(),
        speaks,
        verbs: READ_WRITE,
        action,
        posted: Posted::PLAIN,
    };
    let mut all = Vec::new();
    if custom.versions.iter().any(|v| v.status) {
        let update = Update { prepare: prepare::update_status, ..Update::PLAIN };
        all.push(sub("status", Action::Update(update), None));
    }
    if let Some(scale) = custom.versions.iter().find_map(|v| v.scale.clone()) {
        let speaks = Speaks { group: "autoscaling".into(), version: "v1".into(), kind: "Scale".into() };
        all.push(sub("scale", Action::Scale(scale), Some(speaks)));
    }
    all
}

#[cfg(test)]
#[path = "custom_tests.rs"]
mod tests;
