//! Type checking: a policy's expressions, judged for each kind that its rules name.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use tiphys_api::kind::{Kinds, split_api_version};
use tiphys_api::meta;
use tiphys_api::schema::Schema;
use tiphys_cel::admission::{Declarations, builtin};
use tiphys_cel::{Declared, Program, Type};

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
type Gvk = (String, String, String);

/// What is wrong with the validations of a policy, as upstream tells it. Kinds of which no schema is known are left
/// out, and so are rules that name everything.
pub(super) fn warnings(policy: &Value, kinds: &Kinds) -> Vec<Warning> {
    let spec = &policy["spec"];
    let types = types(spec, kinds);
    let environments: Vec<_> = types
        .iter()
        .filter_map(|gvk| {
            let ty = Schema::of(&gvk.0, &gvk.1, &gvk.2)?;
            Some((gvk, environment(spec, builtin(ty)).environment()))
        })
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
fn environment(spec: &Value, object: Type) -> Declarations {
    let mut declarations = Declarations { authorizer: true, object: Some(object), ..Declarations::default() };
    if spec["paramKind"].is_object() {
        let (group, version) = split_api_version(meta::text(spec, &["paramKind", "apiVersion"]));
        declarations.params = true;
        declarations.params_type =
            Schema::of(group, version, meta::text(spec, &["paramKind", "kind"])).map(builtin);
    }
    let mut variables: Vec<(String, Type)> = Vec::new();
    for variable in meta::items(spec, &["variables"]) {
        declarations.variables = Some(Declared::plain("kubernetes.variables", known(&variables)));
        let compiled = Program::compile(meta::text(variable, &["expression"]), &declarations.environment());
        // One that is wrong may be anything.
        let ty = compiled.map_or(Type::Dyn, |program| program.result_type().clone());
        variables.push((meta::text(variable, &["name"]).to_owned(), ty));
    }
    declarations.variables = Some(Declared::plain("kubernetes.variables", known(&variables)));
    declarations
}

fn known(variables: &[(String, Type)]) -> Vec<(Arc<str>, Type)> {
    variables.iter().map(|(name, ty)| (name.as_str().into(), ty.clone())).collect()
}

/// The kinds that the rules name one by one.
fn types(spec: &Value, kinds: &Kinds) -> BTreeSet<Gvk> {
    let mut found = BTreeSet::new();
    for rule in meta::items(spec, &["matchConstraints", "resourceRules"]) {
        let names = |field| {
            let all = meta::items(rule, &[field]).iter().filter_map(Value::as_str);
            all.collect::<BTreeSet<&str>>()
        };
        let (groups, versions) = (names("apiGroups"), names("apiVersions"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        let resources = names("resources");
        let resources: Vec<_> = resources.iter().filter(|name| !name.contains(['*', '/'])).collect();
        let named = groups.iter().flat_map(|group| {
            let resources = &resources;
            versions
                .iter()
                .flat_map(move |version| resources.iter().map(move |name| (*group, *version, **name)))
        });
        let rows =
            named.filter_map(|(group, version, name)| Some((version, kinds.resource(group, version, name)?)));
        found.extend(
            rows.take(MAX_TYPES)
                .map(|(version, row)| (row.group.to_string(), version.to_owned(), row.kind.to_string())),
        );
    }
    found
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
