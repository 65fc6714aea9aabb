//! Schemas of objects, from the schema artefact.

use std::{
    cell::LazyCell,
    collections::{BTreeSet, HashMap},
};

use serde_json::{Map, Value, json};
use tiphys_api::kind::Kind;
use tiphys_api::schema::{Field, List, ListKind, Object, Scalar, Schema, Shape, TypeRef};

use super::{Dialect, Texts, custom, descriptions::Descriptions};

/// The schemas that a document needs: those asked for, and all that they refer to.
pub(super) struct Components {
    pub(super) dialect: Dialect,
    descriptions: LazyCell<Descriptions>,
    /// Names in the artefact's form that have been referred to and not yet described.
    wanted: Vec<&'static str>,
    seen: BTreeSet<&'static str>,
    /// The full names of custom kinds, by group, version and kind.
    custom: HashMap<(String, String, String), String>,
    schemas: Texts,
}

impl Components {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            descriptions: LazyCell::new(Descriptions::load),
            wanted: Vec::new(),
            seen: BTreeSet::new(),
            custom: HashMap::new(),
            schemas: Texts::default(),
        }
    }

    /// Describes a custom kind, so that [`Self::kind`] knows it.
    pub(super) fn add_custom(&mut self, row: &Kind, version: &str) {
        let key = |kind: &str| (row.group.to_string(), version.to_owned(), kind.to_owned());
        let (name, list_name) = (
            custom::full_name(&row.group, version, &row.kind),
            custom::full_name(&row.group, version, &row.list_kind),
        );
        let of_object = self.identity("meta.v1.ObjectMeta");
        let mut of_list = self.identity("meta.v1.ListMeta");
        of_list["metadata"]["description"] = "What every list has.".into();
        let object = custom::object(row, version, self.dialect, of_object);
        let list = custom::list(row, version, self.reference(&name), of_list);
        self.schemas.insert(name.clone(), &object);
        self.schemas.insert(list_name.clone(), &list);
        self.custom.insert(key(&row.kind), name);
        self.custom.insert(key(&row.list_kind), list_name);
    }

    /// The properties that custom objects have as all others do, described as those of a built-in kind are.
    fn identity(&mut self, meta: &str) -> Value {
        let text = json!({"type": "string"});
        let meta = self.named(meta).unwrap_or_else(|| json!({"type": "object"}));
        let mut properties = json!({"apiVersion": text, "kind": text, "metadata": meta});
        for (field, property) in properties.as_object_mut().into_iter().flatten() {
            let text = self.descriptions.of_field(&full_name("core.v1.ConfigMap"), field);
            describe_property(property, text.unwrap_or_default(), self.dialect);
        }
        properties
    }

    /// A reference to the schema of a kind; `None` if it has none.
    pub(super) fn kind(&mut self, group: &str, version: &str, kind: &str) -> Option<Value> {
        if !self.custom.is_empty() {
            let key = (group.to_owned(), version.to_owned(), kind.to_owned());
            if let Some(name) = self.custom.get(&key) {
                return Some(self.reference(name));
            }
        }
        let object = Schema::of(group, version, kind)?.object()?;
        Some(self.object(object))
    }

    /// A reference to the schema that the artefact names so, such as `meta.v1.Status`.
    pub(super) fn named(&mut self, name: &str) -> Option<Value> {
        let object = Schema::builtin().named(name)?.object()?;
        Some(self.object(object))
    }

    fn object(&mut self, object: Object<'static>) -> Value {
        let name = object.name();
        if self.seen.insert(name) {
            self.wanted.push(name);
        }
        self.reference(&full_name(name))
    }

    fn reference(&self, full: &str) -> Value {
        match self.dialect {
            Dialect::V2 => json!({"$ref": format!("#/definitions/{full}")}),
            Dialect::V3 => json!({"$ref": format!("#/components/schemas/{full}")}),
        }
    }

    /// Asks for schemas by the artefact's names.
    pub(super) fn want(&mut self, names: impl IntoIterator<Item = &'static str>) {
        self.wanted.extend(names.into_iter().filter(|name| self.seen.insert(name)));
    }

    /// What was described so far, and the names of what that refers to.
    pub(super) fn so_far(self) -> (Texts, Vec<&'static str>) {
        (self.schemas, self.wanted)
    }

    /// Every schema by its full name.
    pub(super) fn finish(mut self) -> Texts {
        while let Some(name) = self.wanted.pop() {
            if let Some(object) = Schema::builtin().named(name).and_then(TypeRef::object) {
                let schema = self.describe(object);
                self.schemas.insert(full_name(name), &schema);
            }
        }
        self.schemas
    }

    fn describe(&mut self, object: Object<'static>) -> Value {
        let full = full_name(object.name());
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        if let Some(text) = self.descriptions.of(&full) {
            schema.insert("description".to_owned(), text.into());
        }
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in object.fields() {
            let mut property = self.field(field, object);
            if let Some(text) = self.descriptions.of_field(&full, &field.name) {
                describe_property(&mut property, text, self.dialect);
            }
            properties.insert(field.name.to_string(), property);
            if field.required {
                required.push(Value::from(field.name.as_ref()));
            }
        }
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), properties.into());
        }
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        let kinds = kinds_of(object);
        if !kinds.is_empty() {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
        }
        if object.atomic() {
            schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
        Value::Object(schema)
    }

    fn field(&mut self, field: &'static Field, object: Object<'static>) -> Value {
        let mut property = self.ty(field.ty(object));
        let strategies = [
            (field.patch.merge, "merge"),
            (field.patch.replace, "replace"),
            (field.patch.retain_keys, "retainKeys"),
        ];
        let strategies: Vec<_> = strategies.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        // A reference can have nothing beside it.
        if property.get("$ref").is_none() {
            if !strategies.is_empty() {
                property["x-kubernetes-patch-strategy"] = strategies.join(",").into();
            }
            if let Some(key) = &field.merge_key {
                property["x-kubernetes-patch-merge-key"] = key.as_ref().into();
            }
        }
        property
    }

    fn ty(&mut self, ty: TypeRef<'static>) -> Value {
        match ty.shape() {
            Shape::Scalar(scalar) => self.scalar(scalar),
            Shape::Any => json!({"type": "object"}),
            Shape::Object(object) => self.object(object),
            Shape::Map(map) => {
                let mut schema = json!({"type": "object", "additionalProperties": self.ty(map.value)});
                if map.atomic {
                    schema["x-kubernetes-map-type"] = "atomic".into();
                }
                schema
            }
            Shape::List(list) => self.list(list),
        }
    }

    fn list(&mut self, list: List<'static>) -> Value {
        let mut schema = json!({"type": "array", "items": self.ty(list.item)});
        let kind = match list.kind {
            ListKind::Atomic => "atomic",
            ListKind::Set => "set",
            ListKind::Map(keys) => {
                schema["x-kubernetes-list-map-keys"] =
                    keys.iter().map(|key| Value::from(key.as_ref())).collect();
                "map"
            }
        };
        schema["x-kubernetes-list-type"] = kind.into();
        schema
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        let (name, schema) = match scalar {
            Scalar::String => return json!({"type": "string"}),
            Scalar::Int32 => return json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => return json!({"type": "integer", "format": "int64"}),
            Scalar::Bool => return json!({"type": "boolean"}),
            Scalar::Double => return json!({"type": "number", "format": "double"}),
            Scalar::Bytes => return json!({"type": "string", "format": "byte"}),
            Scalar::Time => (
                "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
                json!({"type": "string", "format": "date-time"}),
            ),
            Scalar::MicroTime => (
                "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
                json!({"type": "string", "format": "date-time"}),
            ),
            Scalar::Quantity => ("io.k8s.apimachinery.pkg.api.resource.Quantity", self.quantity()),
            Scalar::IntOrString => ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", self.int_or_string()),
        };
        if !self.schemas.contains(name) {
            let mut schema = schema;
            if let Some(text) = self.descriptions.of(name) {
                schema["description"] = text.into();
            }
            self.schemas.insert(name.to_owned(), &schema);
        }
        self.reference(name)
    }

    fn quantity(&self) -> Value {
        match self.dialect {
            Dialect::V2 => json!({"type": "string"}),
            Dialect::V3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        }
    }

    fn int_or_string(&self) -> Value {
        match self.dialect {
            Dialect::V2 => json!({"type": "string", "format": "int-or-string"}),
            Dialect::V3 => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
        }
    }
}

/// Puts a description beside a property's type; beside a reference none can stand in v3, so it is wrapped.
fn describe_property(property: &mut Value, text: &str, dialect: Dialect) {
    if dialect == Dialect::V3 && property.get("$ref").is_some() {
        *property = json!({"allOf": [property.take()]});
    }
    property["description"] = text.into();
}

/// Every kind that the object is the schema of.
fn kinds_of(object: Object<'_>) -> Vec<Value> {
    let mut kinds: Vec<_> = Schema::builtin()
        .roots()
        .filter(|(group, version, kind)| {
            object.name().ends_with(kind)
                && Schema::of(group, version, kind)
                    .and_then(TypeRef::object)
                    .is_some_and(|root| root.name() == object.name())
        })
        .collect();
    kinds.sort_unstable();
    kinds
        .into_iter()
        .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}))
        .collect()
}

/// `core.v1.Pod` → `io.k8s.api.core.v1.Pod`.
pub(super) fn full_name(name: &str) -> String {
    let prefix = match name.split('.').next().unwrap_or_default() {
        "meta" => "io.k8s.apimachinery.pkg.apis",
        "version" => "io.k8s.apimachinery.pkg",
        "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis",
        "apiregistration" => "io.k8s.kube-aggregator.pkg.apis",
        _ => "io.k8s.api",
    };
    format!("{prefix}.{name}")
}
