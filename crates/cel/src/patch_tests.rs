use serde_json::json;

use crate::{Bindings, Budget, Environment, Program, RUNTIME_BUDGET, patch_type};

fn run<T>(source: &str, then: impl Fn(crate::Value<'_>) -> Result<T, String>) -> Result<T, String> {
    let environment = Environment::new().with_constructor(patch_type);
    let program = Program::compile(source, &environment).map_err(|e| e.issues()[0].message.clone())?;
    let value =
        program.evaluate(&Bindings::new(), &mut Budget::new(RUNTIME_BUDGET)).map_err(|e| e.to_string())?;
    then(value)
}

#[test]
fn objects_are_constructed_in_their_places() {
    let apply = |source| run(source, |value| value.apply_configuration());
    assert_eq!(
        apply(
            "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{list: [Object.spec.list{x: 1}]}}"
        ),
        Ok(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"list": [{"x": 1}]}}))
    );
    assert_eq!(apply("Object{?spec: optional.none()}"), Ok(json!({})));
    assert_eq!(
        apply("Object{spec: Object.spec{selector: Object.spec.wrong{}}}"),
        Err("type mismatch: unexpected type name \"Object.spec.wrong\", expected \"Object.spec.selector\", which \
             matches field name path from root Object type"
            .to_owned())
    );
    assert!(apply("1").unwrap_err().starts_with("unsupported return type"));
}

#[test]
fn patches_are_lists_of_operations() {
    let patch = |source| run(source, |value| value.json_patch());
    assert_eq!(
        patch(
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: Object.x{y: 2}}]"
        ),
        Ok(json!([{"op": "add", "path": "/metadata/labels/a~1b", "value": {"y": 2}}]))
    );
    assert_eq!(patch("[JSONPatch{nope: 1}]"), Err("undefined field 'nope'".to_owned()));
    assert_eq!(
        patch("[JSONPatch{op: 1}]"),
        Err("expected type of field 'op' is 'string' but provided type is 'int'".to_owned())
    );
    assert!(patch("[1]").is_err());
}
