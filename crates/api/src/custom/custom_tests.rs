use serde_json::{Value, json};

use super::*;
use crate::decode::{self, FieldValidation, Target};
use crate::field::Errors;

/// Compiles nothing.
struct Nobody;

impl Compiler for Nobody {
    fn rules(&self, _: &Structural) -> Option<Arc<dyn Rules>> {
        None
    }
    fn converter(&self, _: &Value) -> Arc<dyn Converter> {
        unreachable!("no definition here has a webhook")
    }
}

/// The row of a definition with one version of this schema.
fn kind(schema: Value) -> Kind {
    let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"});
    super::row(
        &json!({
            "metadata": {"name": "foos.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}},
            ]},
            "status": {"acceptedNames": names},
        }),
        &Nobody,
    )
}

/// The row of a definition whose `spec` has these properties.
fn with(properties: Value) -> Kind {
    kind(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}))
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": spec})
}

/// What reading makes of a `spec`, and what it warns of.
fn read(row: &Kind, spec: Value) -> (Value, Vec<String>) {
    let target = Target::of(row, "v1").unwrap();
    let decoded =
        decode::decode(&target, object(spec).to_string().as_bytes(), FieldValidation::Warn).unwrap();
    let mut object = decoded.object;
    row.fill_defaults("v1", &mut object);
    (object["spec"].take(), decoded.warnings)
}

fn texts(errors: &Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn wrong(row: &Kind, spec: Value) -> Vec<String> {
    texts(&row.validate_create("v1", &object(spec)))
}

#[test]
fn what_the_schema_does_not_know_is_dropped() {
    let row = with(json!({
        "a": {"type": "string"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "integer"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {"type": "string"}}}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"closed": {"type": "object"}}},
        "port": {"x-kubernetes-int-or-string": true},
        "raw": {"x-kubernetes-preserve-unknown-fields": true},
    }));
    let spec = json!({
        "a": "x", "z": 1, "list": [{"b": 1, "z": 2}], "map": {"k": {"c": "y", "z": 3}},
        "open": {"more": {"deep": null}, "closed": {"z": 4}}, "port": "http", "raw": [1, {"any": true}],
    });
    let (kept, warnings) = read(&row, spec);
    let expected = json!({
        "a": "x", "list": [{"b": 1}], "map": {"k": {"c": "y"}},
        "open": {"more": {"deep": null}, "closed": {}}, "port": "http", "raw": [1, {"any": true}],
    });
    assert_eq!(kept, expected);
    assert_eq!(
        warnings,
        [
            "unknown field \"spec.list[0].z\"",
            "unknown field \"spec.map.k.z\"",
            "unknown field \"spec.open.closed.z\"",
            "unknown field \"spec.z\"",
        ]
    );
}

#[test]
fn what_has_the_wrong_type_is_kept_for_validation() {
    let row = with(
        json!({"a": {"type": "object", "properties": {"b": {"type": "integer"}}}, "l": {"type": "array",
        "items": {"type": "string"}}}),
    );
    for spec in
        [json!({"a": "text"}), json!({"a": [1]}), json!({"l": {"x": 1}}), json!({"a": {"b": {"c": 1}}})]
    {
        assert_eq!(read(&row, spec.clone()).0, spec);
        assert_eq!(wrong(&row, spec.clone()).len(), 1, "{spec}");
    }
    assert_eq!(
        wrong(&row, json!({"a": {"b": "text"}})),
        ["spec.a.b: Invalid value: \"string\": spec.a.b in body must be of type integer: \"string\""]
    );
}

#[test]
fn null_is_a_value_only_where_it_may_be() {
    let row = with(json!({
        "nullable": {"type": "string", "nullable": true}, "not": {"type": "string"},
        "filled": {"type": "string", "default": "x"}, "both": {"type": "string", "nullable": true, "default": "x"},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "list": {"type": "array", "items": {"type": "string"}},
    }));
    let spec = json!({"nullable": null, "not": null, "filled": null, "both": null, "map": {"k": null}, "list": [null]});
    let (kept, _) = read(&row, spec);
    assert_eq!(kept, json!({"nullable": null, "filled": "x", "both": null, "map": {}, "list": [null]}));
    assert_eq!(
        wrong(&row, kept),
        ["spec.list[0]: Invalid value: \"null\": spec.list[0] in body must be of type string: \"null\""]
    );
}

#[test]
fn defaults_reach_into_objects_that_are_there() {
    let row = with(json!({
        "inner": {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}},
        "made": {"type": "object", "default": {}, "properties": {"a": {"type": "integer", "default": 2}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer", "default": 3}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object",
            "properties": {"a": {"type": "integer", "default": 4}}}},
    }));
    assert_eq!(read(&row, json!({})).0, json!({"made": {"a": 2}}));
    assert_eq!(
        read(&row, json!({"inner": {}, "list": [{}, {"a": 0}], "map": {"k": {}}})).0,
        json!({"inner": {"a": 1}, "made": {"a": 2}, "list": [{"a": 3}, {"a": 0}], "map": {"k": {"a": 4}}})
    );
}

#[test]
fn an_embedded_resource_has_metadata() {
    let row = with(json!({"template": {"type": "object", "x-kubernetes-embedded-resource": true,
        "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}}));
    let template = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "odd": 1}, "spec": {"a": "b"}, "z": 1});
    let (kept, warnings) = read(&row, json!({"template": template}));
    assert_eq!(
        kept["template"],
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"a": "b"}})
    );
    assert_eq!(
        warnings,
        ["unknown field \"spec.template.metadata.odd\"", "unknown field \"spec.template.z\""]
    );
    assert_eq!(wrong(&row, json!({"template": {"kind": "", "metadata": {"labels": {"-": "x"}}}})).len(), 3);
}

#[test]
fn values_are_judged_in_upstreams_words() {
    let row = with(json!({
        "n": {"type": "number", "minimum": 1, "exclusiveMinimum": true, "maximum": 10, "multipleOf": 2},
        "s": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a"},
        "l": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
        "o": {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"type": "string"}},
        "e": {"type": "string", "enum": ["x", "y"]},
        "d": {"type": "string", "format": "date"},
        "one": {"type": "integer", "oneOf": [{"minimum": 5}, {"maximum": 7}]},
        "any": {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]},
        "all": {"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 7}]},
        "not": {"type": "integer", "not": {"minimum": 5}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "i": {"type": "integer", "format": "int32"},
    }));
    for (spec, errors) in [
        (
            json!({"n": 1}),
            vec![
                "spec.n: Invalid value: 1: spec.n in body should be greater than 1",
                "spec.n: Invalid value: 1: spec.n in body should be a multiple of 2",
            ],
        ),
        (
            json!({"n": 12}),
            vec!["spec.n: Invalid value: 12: spec.n in body should be less than or equal to 10"],
        ),
        (
            json!({"s": "b"}),
            vec![
                "spec.s: Invalid value: \"b\": spec.s in body should be at least 2 chars long",
                "spec.s: Invalid value: \"b\": spec.s in body should match '^a'",
            ],
        ),
        (json!({"s": "aäää"}), vec!["spec.s: Too long: may not be more than 3 bytes"]),
        (json!({"l": []}), vec!["spec.l: Invalid value: 0: spec.l in body should have at least 1 items"]),
        (json!({"l": ["a", "b", "c"]}), vec!["spec.l: Too many: 3: must have at most 2 items"]),
        (
            json!({"o": {}}),
            vec!["spec.o: Invalid value: 0: spec.o in body should have at least 1 properties"],
        ),
        (json!({"o": {"a": "1", "b": "2"}}), vec!["spec.o: Too many: 2: must have at most 1 items"]),
        (json!({"e": "z"}), vec!["spec.e: Unsupported value: \"z\": supported values: \"x\", \"y\""]),
        (json!({"d": "z"}), vec!["spec.d: Invalid value: \"z\": spec.d in body must be of type date: \"z\""]),
        (
            json!({"one": 6}),
            vec![
                "<nil>: Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
        (
            json!({"any": 3}),
            vec![
                "<nil>: Invalid value: \"\": \"spec.any\" must validate at least one schema (anyOf)",
                "spec.any: Invalid value: 3: spec.any in body should be greater than or equal to 5",
            ],
        ),
        (
            json!({"all": 9}),
            vec![
                "spec.all: Invalid value: 9: spec.all in body should be less than or equal to 7",
                "<nil>: Invalid value: \"\": \"spec.all\" must validate all the schemas (allOf)",
            ],
        ),
        (
            json!({"not": 9}),
            vec!["<nil>: Invalid value: \"\": \"spec.not\" must not validate the schema (not)"],
        ),
        (json!({"set": ["a", "b", "a"]}), vec!["spec.set[2]: Duplicate value: \"a\""]),
        (
            json!({"i": 3_000_000_000_i64}),
            vec![
                "spec.i: Invalid value: \"3000000000\": spec.i in body must be of type int32: \"3000000000\"",
            ],
        ),
        (
            json!({"n": 4, "s": "ab", "l": ["a"], "e": "x", "d": "2026-01-02", "one": 8, "all": 6, "not": 1}),
            vec![],
        ),
    ] {
        assert_eq!(wrong(&row, spec.clone()), errors, "{spec}");
    }
}

#[test]
fn what_was_wrong_before_may_stay_so() {
    let row = with(json!({
        "a": {"type": "integer", "maximum": 5}, "b": {"type": "integer", "maximum": 5},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 5}}}},
    }));
    let old = object(json!({"a": 9, "b": 1, "list": [{"k": "x", "v": 9}]}));
    let told = |spec: Value| {
        let errors = row.validate_update(&row.hooks.update, "v1", &object(spec), &old);
        errors.iter().map(|e| e.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(json!({"a": 9, "b": 2, "list": [{"k": "y", "v": 1}, {"k": "x", "v": 9}]})), [""; 0]);
    assert_eq!(told(json!({"a": 8, "b": 2})), ["spec.a"]);
    assert_eq!(told(json!({"list": [{"k": "y", "v": 9}]})), ["spec.list[0].v"]);
}

#[test]
fn columns_show_what_their_paths_find() {
    let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"});
    let column = |name: &str, ty: &str, path: &str| json!({"name": name, "type": ty, "jsonPath": path});
    let row = super::row(
        &json!({
            "spec": {"group": "example.com", "scope": "Cluster", "names": names, "versions": [{
                "name": "v1", "served": true, "storage": true,
                "additionalPrinterColumns": [
                    column("I", "integer", ".spec.i"), column("S", "string", ".spec.o"), column("D", "date", ".spec.d"),
                    column("N", "integer", ".spec.none"), column("W", "boolean", ".spec.i"),
                ],
            }]},
            "status": {"acceptedNames": names},
        }),
        &Nobody,
    );
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    let cells = row.cells("v1", &object(json!({"i": 7, "o": {"a": 1}, "d": "2026-01-01T00:00:00Z"})), now);
    assert_eq!(json!(cells), json!(["a", 7, "{\"a\":1}", "60m", null, null]));
    assert_eq!(
        row.columns("v1")[3]["description"],
        "Custom resource definition column (in JSONPath format): .spec.d"
    );
    assert_eq!(with(json!({})).columns("v1").len(), 2);
}
