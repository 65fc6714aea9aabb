//! Type checking: a policy's expressions, judged for each kind that its rules name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tiphys_api::custom::Structural;
use tiphys_api::kind::{Kinds, split_api_version};
use tiphys_api::meta;
use tiphys_api::schema::Schema;
use tiphys_cel::admission::{Declarations, builtin};
use tiphys_cel::structural::Shape;
use tiphys_cel::{Declared, Field, ObjectType, Program, Type};

/// The most kinds that one rule is checked for.
const MAX_TYPES: usize = 10;

/// What is wrong with an expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Warning {
    /// `spec.validations[0].expression`
    pub(super) field: String,
    /// For each kind that it is wrong about, a paragraph.
    pub(super) warning: String,
}

/// A group, a version and a kind.
pub(super) type Gvk = (String, String, String);
/// A group and a version.
pub(super) type Gv = (String, String);

/// The kinds that there are: those that this program knows, and those that the server has told of besides.
pub(super) struct Known<'a> {
    pub(super) kinds: &'a Kinds,
    pub(super) others: Others,
}

/// What the server has told of groups and versions that nobody here knows.
#[derive(Default)]
pub(super) struct Others {
    /// The kind of each resource.
    kinds: BTreeMap<(Gv, String), String>,
    types: BTreeMap<Gvk, Type>,
}

impl Others {
    /// Learns from what discovery and OpenAPI tell of a group and version.
    pub(super) fn learn(&mut self, (group, version): &Gv, resources: &Value, document: &Value) {
        for resource in meta::items(resources, &["resources"]) {
            let (name, kind) = (meta::text(resource, &["name"]), meta::text(resource, &["kind"]));
            if !name.contains('/') {
                let of = ((group.clone(), version.clone()), name.to_owned());
                self.kinds.insert(of, kind.to_owned());
            }
        }
        let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
        for (name, schema) in schemas {
            for gvk in meta::items(schema, &["x-kubernetes-group-version-kind"]) {
                let text = |field| meta::text(gvk, &[field]).to_owned();
                let gvk = (text("group"), text("version"), text("kind"));
                let ty = (gvk.0 == *group && gvk.1 == *version).then(|| custom(schema, name)).flatten();
                self.types.extend(ty.map(|ty| (gvk, ty)));
            }
        }
    }
}

/// The type of what a custom schema describes, whose metadata is that of all kinds.
fn custom(schema: &Value, name: &str) -> Option<Type> {
    let mut schema = schema.clone();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut)?;
    for common in ["apiVersion", "kind", "metadata"] {
        properties.remove(common);
    }
    let shape = Shape::of(&Structural::compile(&schema), name)?;
    let Type::Object(own) = shape.ty else { return None };
    let metadata = Schema::of("", "v1", "ConfigMap")?.field("metadata").map(builtin)?;
    Some(Type::Object(Arc::new(Custom { own, metadata })))
}

/// A custom object: what its schema describes, and what all objects have.
#[derive(Debug)]
struct Custom {
    own: Arc<dyn ObjectType>,
    metadata: Type,
}

impl ObjectType for Custom {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn field(&self, name: &str) -> Option<Field> {
        let common = match name {
            "apiVersion" | "kind" => Type::String,
            "metadata" => self.metadata.clone(),
            _ => return self.own.field(name),
        };
        Some(Field { name: name.into(), ty: common })
    }
}

impl Known<'_> {
    fn kind(&self, group: &str, version: &str, resource: &str) -> Option<Gvk> {
        let gvk = |kind: &str| (group.to_owned(), version.to_owned(), kind.to_owned());
        if let Some(row) = self.kinds.resource(group, version, resource) {
            return Some(gvk(&row.kind));
        }
        let of = ((group.to_owned(), version.to_owned()), resource.to_owned());
        self.others.kinds.get(&of).map(|kind| gvk(kind))
    }

    fn ty(&self, gvk: &Gvk) -> Option<Type> {
        let (group, version, kind) = gvk;
        Schema::of(group, version, kind).map(builtin).or_else(|| self.others.types.get(gvk).cloned())
    }
}

/// The groups and versions that a policy names one by one, and of which `kinds` knows nothing.
pub(super) fn unknown(policy: &Value, kinds: &Kinds) -> BTreeSet<Gv> {
    let spec = &policy["spec"];
    let mut named: BTreeSet<Gv> = BTreeSet::new();
    for rule in meta::items(spec, &["matchConstraints", "resourceRules"]) {
        let Some((groups, versions, _)) = names_of(rule) else { continue };
        let pairs = groups.iter().flat_map(|g| versions.iter().map(|v| ((*g).to_owned(), (*v).to_owned())));
        named.extend(pairs);
    }
    if spec["paramKind"].is_object() {
        let (group, version) = split_api_version(meta::text(spec, &["paramKind", "apiVersion"]));
        named.insert((group.to_owned(), version.to_owned()));
    }
    let known = |(group, version): &Gv| {
        kinds.iter().any(|row| row.group == *group && row.versions.iter().any(|v| v.name == *version))
    };
    named.into_iter().filter(|gv| !gv.0.is_empty() && !known(gv)).take(MAX_TYPES).collect()
}

/// What is wrong with the validations of a policy, as upstream tells it. Kinds of which no schema is known are left
/// out, and so are rules that name everything.
pub(super) fn warnings(policy: &Value, known: &Known<'_>) -> Vec<Warning> {
    let spec = &policy["spec"];
    let types = types(spec, known);
    let environments: Vec<_> = types
        .iter()
        .filter_map(|gvk| Some((gvk, environment(spec, known.ty(gvk)?, known).environment())))
        .collect();
    let check = |source: &str| {
        let wrong = environments.iter().filter_map(|((group, version, kind), environment)| {
            let errors = Program::compile(source, environment).err()?;
            Some(format!("{group}/{version}, Kind={kind}: {errors}\n"))
        });
        wrong.collect::<Vec<_>>().join("\n")
    };
    let mut found = Vec::new();
    for (index, validation) in meta::items(spec, &["validations"]).iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = meta::text(validation, &[field]);
            let warning = if source.is_empty() { String::new() } else { check(source) };
            if !warning.is_empty() {
                found.push(Warning { field: format!("spec.validations[{index}].{field}"), warning });
            }
        }
    }
    found
}

/// What expressions see if the object is of a type.
fn environment(spec: &Value, object: Type, known: &Known<'_>) -> Declarations {
    let mut declarations = Declarations { authorizer: true, object: Some(object), ..Declarations::default() };
    if spec["paramKind"].is_object() {
        let (group, version) = split_api_version(meta::text(spec, &["paramKind", "apiVersion"]));
        declarations.params = true;
        let kind = meta::text(spec, &["paramKind", "kind"]);
        declarations.params_type = known.ty(&(group.to_owned(), version.to_owned(), kind.to_owned()));
    }
    let mut variables: Vec<(String, Type)> = Vec::new();
    for variable in meta::items(spec, &["variables"]) {
        declarations.variables = Some(Declared::plain("kubernetes.variables", typed(&variables)));
        let compiled = Program::compile(meta::text(variable, &["expression"]), &declarations.environment());
        // One that is wrong may be anything.
        let ty = compiled.map_or(Type::Dyn, |program| program.result_type().clone());
        variables.push((meta::text(variable, &["name"]).to_owned(), ty));
    }
    declarations.variables = Some(Declared::plain("kubernetes.variables", typed(&variables)));
    declarations
}

fn typed(variables: &[(String, Type)]) -> Vec<(Arc<str>, Type)> {
    variables.iter().map(|(name, ty)| (name.as_str().into(), ty.clone())).collect()
}

type Names<'a> = BTreeSet<&'a str>;

/// The groups, versions and resources of a rule; `None` where it names all of either of the first.
fn names_of(rule: &Value) -> Option<(Names<'_>, Names<'_>, Names<'_>)> {
    let names = |field| {
        let all = meta::items(rule, &[field]).iter().filter_map(Value::as_str);
        all.collect::<Names<'_>>()
    };
    let (groups, versions) = (names("apiGroups"), names("apiVersions"));
    let mut resources = names("resources");
    resources.retain(|name| !name.contains(['*', '/']));
    let all = groups.iter().chain(&versions).any(|name| name.contains('*'));
    (!all).then_some((groups, versions, resources))
}

/// The kinds that the rules name one by one.
fn types(spec: &Value, known: &Known<'_>) -> BTreeSet<Gvk> {
    let mut found = BTreeSet::new();
    for rule in meta::items(spec, &["matchConstraints", "resourceRules"]) {
        let Some((groups, versions, resources)) = names_of(rule) else { continue };
        let named = groups.iter().flat_map(|group| {
            let resources = &resources;
            versions
                .iter()
                .flat_map(move |version| resources.iter().map(move |name| (*group, *version, *name)))
        });
        found.extend(named.filter_map(|(g, v, name)| known.kind(g, v, name)).take(MAX_TYPES));
    }
    found
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
