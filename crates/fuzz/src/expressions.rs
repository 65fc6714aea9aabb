//! Expressions, and the schemas of kinds that users define.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde_json::{Value, json};
use tiphys_api::custom::{Compiler, Converter, Rules, Structural, row};
use tiphys_api::decode::{FieldValidation, Target, decode_tree};
use tiphys_api::kind::Kind;
use tiphys_cel::{Bindings, Budget, Environment, Program, Sizes, Type, admission};

use crate::{objects::target_of, values};

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let declared =
        admission::Declarations { params: true, patches: true, ..admission::Declarations::default() };
    let names = Type::list(Type::String);
    declared.environment().with("x", Type::Int).with("names", names).with("self", Type::Dyn)
});

static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "metadata": {"name": "web", "labels": {"app": "web", "a.b/c": "d"}},
        "spec": {"replicas": 3, "ratio": 1.5, "containers": [{"name": "a"}, {"name": "b", "image": "b:1"}]},
        "nothing": null,
    })
});

/// Nobody knows how large anything is.
struct Unknown;

impl Sizes for Unknown {
    fn max(&self, _: &[&str]) -> Option<u64> {
        None
    }
}

/// Compiles, prices and evaluates an expression; a result that is said in JSON is said again.
pub(crate) fn cel(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let Ok(program) = Program::compile(source, &ENVIRONMENT) else { return };
    let price = program.estimate(&Unknown);
    assert!(price.min <= price.max, "{price:?}");
    let names = json!(["b", "a", "c"]);
    let dynamic = || tiphys_cel::Value::from_json(&OBJECT, &Type::Dyn);
    let bindings = Bindings::new()
        .with("object", dynamic())
        .with("oldObject", dynamic())
        .with("self", dynamic())
        .with("params", dynamic())
        .with("names", tiphys_cel::Value::from_json(&names, &Type::list(Type::String)))
        .with("x", tiphys_cel::Value::Int(4));
    let budget = 200_000;
    if let Ok(value) = program.evaluate(&bindings, &mut Budget::new(budget)) {
        let again = program.evaluate(&bindings, &mut Budget::new(budget)).expect("it evaluated before");
        assert_eq!(again.to_json(), value.to_json(), "evaluated twice");
    }
}

/// Neither rules nor webhooks are called here.
struct Nobody;

impl Compiler for Nobody {
    fn rules(&self, _: &Structural) -> Option<Arc<dyn Rules>> {
        None
    }

    fn converter(&self, _: &Value) -> Arc<dyn Converter> {
        unreachable!("the definition has no webhook")
    }
}

/// A schema, and two objects of it. Only what the API takes as a definition is compiled.
pub(crate) fn schema(data: &[u8]) {
    let Some([schema, old, new]) = values(data) else { return };
    let Some(row) = defined(schema) else { return };
    let Some(target) = Target::of(&row, "v1") else { return };
    let read = |mut value: Value| {
        value.as_object_mut()?.insert("apiVersion".to_owned(), "example.com/v1".into());
        value.as_object_mut()?.insert("kind".to_owned(), "Foo".into());
        let mut object = decode_tree(&target, value, FieldValidation::Warn).ok()?.object;
        row.fill_defaults("v1", &mut object);
        let once = object.clone();
        row.fill_defaults("v1", &mut object);
        assert_eq!(object, once, "defaulted twice");
        let again =
            decode_tree(&target, object.clone(), FieldValidation::Strict).expect("what was read is known");
        assert_eq!(again.object, object, "read twice");
        Some(object)
    };
    let (Some(old), Some(new)) = (read(old), read(new)) else { return };
    let errors = row.validate_create("v1", &new);
    let kept = row.validate_update(&row.hooks.update, "v1", &new, &new);
    assert!(kept.len() <= errors.len(), "what is as it was is not judged: {kept:?}");
    let _errors = row.validate_update(&row.hooks.update, "v1", &new, &old);
    let _cells = row.cells("v1", &new, Timestamp::UNIX_EPOCH);
}

/// The row of a definition with a schema, if the API takes it.
fn defined(schema: Value) -> Option<Kind> {
    let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": names, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
             "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".spec.a"}],
             "subresources": {"status": {}}},
        ]},
    });
    let (definitions, version, target) = target_of(&definition)?;
    let mut object = decode_tree(&target, definition, FieldValidation::Ignore).ok()?.object;
    definitions.fill_defaults(version, &mut object);
    if !definitions.validate_create(version, &object).is_empty() {
        return None;
    }
    object["status"] = json!({"acceptedNames": names});
    Some(row(&object, &Nobody))
}
