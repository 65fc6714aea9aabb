use std::sync::Arc;

use crate::{Declared, Environment, Program, Type};

fn environment() -> Environment {
    let spec = Declared::new(
        "Spec",
        [
            ("replicas", Type::Int),
            ("names", Type::list(Type::String)),
            ("namespace", Type::String),
            ("a-b", Type::Bool),
        ],
    );
    let object = Declared::new("Object", [("spec", Type::Object(spec)), ("any", Type::Dyn)]);
    Environment::new()
        .with("object", Type::Object(object))
        .with("labels", Type::map(Type::String, Type::String))
        .with("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"))
}

/// The type of an expression, or its first mistake.
fn check(source: &str) -> String {
    match Program::compile(source, &environment()) {
        Ok(program) => program.result_type().to_string(),
        Err(errors) => {
            let issue = &errors.issues()[0];
            format!("{}: {}", issue.column, issue.message)
        }
    }
}

#[test]
fn types_are_found_and_mistakes_told() {
    for (source, wanted) in [
        ("object.spec.replicas + 1", "int"),
        ("object.spec.__namespace__", "string"),
        ("object.spec.a__dash__b", "bool"),
        ("object.any.anything.at.all", "dyn"),
        ("[1, 2].map(i, string(i))", "list(string)"),
        ("{'a': [1]}", "map(string, list(int))"),
        ("[]", "list(dyn)"),
        ("labels[?'a'].orValue('b')", "string"),
        ("object.?spec.replicas", "optional_type(int)"),
        ("true ? [] : [1]", "list(int)"),
        ("type(1) == int", "bool"),
        ("authorizer.requestResource.check('get').allowed()", "bool"),
        ("object.spec.names.sort()", "list(string)"),
        ("labels.transformMap(k, v, size(v))", "map(string, int)"),
        ("nope", "1: undeclared reference to 'nope' (in container '')"),
        ("nope(1)", "5: undeclared reference to 'nope' (in container '')"),
        ("object.nope", "7: undefined field 'nope'"),
        (
            "object.spec.replicas == 'a'",
            "22: found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (
            "object.spec.replicas.startsWith('a')",
            "32: found no matching overload for 'startsWith' applied to 'int.(string)'",
        ),
        ("object.spec.replicas.foo", "21: type 'int' does not support field selection"),
        ("object.spec.replicas && true", "12: expected type 'bool' but found 'int'"),
        ("[1, 'a']", "5: expected type 'int' but found 'string'"),
        (
            "1.map(i, i)",
            "1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("true ? 1 : 'a'", "6: found no matching overload for '_?_:_' applied to '(bool, int, string)'"),
        ("'a'.matches('(')", "13: invalid matches argument"),
        ("duration('1y')", "10: invalid duration argument"),
        ("Object{spec: 1}", "7: undeclared reference to 'Object' (in container '')"),
        ("[1].exists(i, i)", "15: expected type 'bool' but found 'int'"),
    ] {
        assert_eq!(check(source), wanted, "{source}");
    }
}

#[test]
fn names_of_properties_are_escaped() {
    for (property, wanted) in [
        ("namespace", Some("__namespace__")),
        ("a-b.c/d", Some("a__dash__b__dot__c__slash__d")),
        ("a__b", Some("a__underscores__b")),
        ("1a", None),
        ("a b", None),
        ("plain", Some("plain")),
    ] {
        assert_eq!(crate::escape(property).as_deref(), wanted, "{property}");
    }
}

#[test]
fn programs_are_shared_by_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Arc::new(Program::compile("1 + 1", &environment()).unwrap()));
}
