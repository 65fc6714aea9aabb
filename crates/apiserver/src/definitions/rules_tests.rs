use serde_json::{Value, json};
use tiphys_api::custom::Structural;
use tiphys_api::field::Errors;

use super::*;

/// The rules of a resource whose `spec` is this schema.
fn schema(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

fn rules(spec: Value) -> Arc<dyn Rules> {
    let mut structural = Structural::compile(&schema(spec));
    structural.embedded = true;
    compile(&structural).unwrap()
}

fn texts(errors: &Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What the rules say of a `spec` that takes the place of another, which `Null` is none.
fn judged(rules: &Arc<dyn Rules>, spec: Value, old: Value) -> Vec<String> {
    let object =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": spec});
    let (new, old) = (object(spec), (!old.is_null()).then(|| object(old)));
    let mut errors = Errors::new();
    rules.judge(&new, old.as_ref(), &mut errors);
    texts(&errors)
}

/// What is wrong with a definition of such rules, below the path of the `spec`'s.
fn checked(spec: Value) -> Vec<String> {
    let version = json!({"name": "v1", "schema": {"openAPIV3Schema": schema(spec)}});
    let errors = estimate::check(&json!({"spec": {"versions": [version]}}), &Value::Null);
    let at = "spec.versions[0].schema.openAPIV3Schema.properties[spec]";
    texts(&errors).into_iter().map(|e| e.strip_prefix(at).unwrap_or(&e).to_owned()).collect()
}

fn bounds() -> Value {
    json!({"type": "object", "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "maxLength": 10},
    }})
}

fn with(mut schema: Value, rule: Value) -> Value {
    schema["x-kubernetes-validations"] = json!([rule]);
    schema
}

#[test]
fn a_rule_that_does_not_hold_is_told() {
    let rule = json!({"rule": "self.min <= self.max"});
    let judge = rules(with(bounds(), rule));
    assert_eq!(judged(&judge, json!({"min": 1, "max": 2}), Value::Null), [""; 0]);
    assert_eq!(
        judged(&judge, json!({"min": 3, "max": 2}), Value::Null),
        ["spec: Invalid value: failed rule: self.min <= self.max"]
    );
    assert_eq!(
        judged(&judge, json!({"min": 3}), Value::Null),
        ["spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"]
    );
}

#[test]
fn messages_reasons_and_fields_are_the_rules_own() {
    for (rule, told) in [
        (json!({"message": "too many"}), "spec: Invalid value: too many"),
        (json!({"messageExpression": "'min ' + string(self.min)"}), "spec: Invalid value: min 3"),
        (json!({"messageExpression": "''", "message": "else"}), "spec: Invalid value: else"),
        (json!({"reason": "FieldValueForbidden", "message": "no"}), "spec: Forbidden: no"),
        (json!({"reason": "FieldValueRequired", "message": "no"}), "spec: Required value: no"),
        (json!({"fieldPath": ".min", "message": "no"}), "spec.min: Invalid value: no"),
    ] {
        let mut rule = rule;
        rule["rule"] = "self.min <= self.max".into();
        let judge = rules(with(bounds(), rule.clone()));
        assert_eq!(judged(&judge, json!({"min": 3, "max": 2}), Value::Null), [told], "{rule}");
    }
}

#[test]
fn rules_hold_at_their_own_place() {
    let judge = rules(json!({"type": "object", "properties": {
        "list": {"type": "array", "items": with(json!({"type": "integer"}), json!({"rule": "self > 0"}))},
        "map": {"type": "object",
            "additionalProperties": with(json!({"type": "string"}), json!({"rule": "self.size() > 1"}))},
    }}));
    assert_eq!(
        judged(&judge, json!({"list": [1, 0], "map": {"a": "bc", "d": "e"}}), Value::Null),
        [
            "spec.list[1]: Invalid value: 0: failed rule: self > 0",
            "spec.map[d]: Invalid value: \"e\": failed rule: self.size() > 1",
        ]
    );
}

#[test]
fn transitions_need_something_before() {
    let judge = rules(with(bounds(), json!({"rule": "self.name == oldSelf.name", "message": "fixed"})));
    assert_eq!(judged(&judge, json!({"name": "a"}), Value::Null), [""; 0]);
    assert_eq!(judged(&judge, json!({"name": "a"}), json!({"name": "a"})), [""; 0]);
    assert_eq!(judged(&judge, json!({"name": "b"}), json!({"name": "a"})), ["spec: Invalid value: fixed"]);
    let rule = json!({"rule": "oldSelf.hasValue() || self.name == 'first'", "optionalOldSelf": true, "message": "m"});
    let judge = rules(with(bounds(), rule));
    assert_eq!(judged(&judge, json!({"name": "a"}), Value::Null), ["spec: Invalid value: m"]);
    assert_eq!(judged(&judge, json!({"name": "a"}), json!({"name": "b"})), [""; 0]);
}

#[test]
fn what_has_not_changed_may_stay() {
    let judge = rules(with(bounds(), json!({"rule": "self.min <= self.max"})));
    let wrong = json!({"min": 3, "max": 2});
    assert_eq!(judged(&judge, wrong.clone(), wrong.clone()), [""; 0]);
    assert_eq!(judged(&judge, json!({"min": 4, "max": 2}), wrong).len(), 1);
}

#[test]
fn an_object_may_spend_so_much() {
    let row = with(
        json!({"type": "array", "items": {"type": "integer"}}),
        json!({"rule": "self.all(a, self.all(b, a + b >= 0))"}),
    );
    let judge = rules(json!({"type": "object", "properties": {"rows": {"type": "array", "items": row}}}));
    let of = |rows: usize, each: usize| {
        let row: Vec<usize> = (0..each).collect();
        judged(&judge, json!({"rows": vec![row; rows]}), Value::Null)
    };
    assert_eq!(of(1, 100), [""; 0]);
    assert!(of(1, 2_000)[0].contains("call cost exceeds limit for rule"));
    let told = of(100, 300);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("no further validation rules will be run"), "{told:?}");
}

#[test]
fn mistakes_are_told_when_a_definition_is_written() {
    let of = |rule: Value| checked(with(bounds(), rule));
    assert_eq!(of(json!({"rule": "self.min <= self.max"})), [""; 0]);
    let told = of(json!({"rule": "self.none > 1"}));
    assert!(
        told[0].starts_with(".x-kubernetes-validations[0].rule: Invalid value: \"self.none > 1\": compilation failed: ERROR: <input>:1:5: undefined field 'none'"),
        "{told:?}"
    );
    assert_eq!(
        of(json!({"rule": "self.min"})),
        [
            ".x-kubernetes-validations[0].rule: Invalid value: \"self.min\": cel expression must evaluate to a bool"
        ]
    );
    assert_eq!(
        of(json!({"rule": "true", "messageExpression": "1"})),
        [
            ".x-kubernetes-validations[0].messageExpression: Invalid value: \"1\": messageExpression must evaluate to a string"
        ]
    );
    assert_eq!(
        of(json!({"rule": "true", "optionalOldSelf": true})),
        [
            ".x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"
        ]
    );
    let item = with(json!({"type": "string", "maxLength": 5}), json!({"rule": "self == oldSelf"}));
    let told = checked(json!({"type": "array", "maxItems": 2, "items": item}));
    assert!(
        told[0].contains(
            "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.versions[0]"
        ),
        "{told:?}"
    );
}

#[test]
fn rules_that_may_be_too_dear_are_refused() {
    let nested = |bound: Option<u64>| {
        let mut inner = json!({"type": "array", "items": {"type": "string", "maxLength": 10}});
        if let Some(bound) = bound {
            inner["maxItems"] = bound.into();
        }
        with(inner, json!({"rule": "self.all(a, self.all(b, a == b))"}))
    };
    let told = checked(nested(None));
    assert!(
        told[0].starts_with(".x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x"),
        "{told:?}"
    );
    assert_eq!(checked(nested(Some(10))), [""; 0]);
}

/// Upstream refuses a definition by these numbers, so that what one admits is what the other admits.
#[test]
fn estimates_are_upstreams() {
    let list = |items: Value, most: Option<u64>| {
        let mut schema = json!({"type": "array", "items": items});
        if let Some(most) = most {
            schema["maxItems"] = most.into();
        }
        schema
    };
    let map = |values: Value, most: Option<u64>| {
        let mut schema = json!({"type": "object", "additionalProperties": values});
        if let Some(most) = most {
            schema["maxProperties"] = most.into();
        }
        schema
    };
    let ty = |ty: &str| json!({"type": ty});
    let formatted = |format: &str| json!({"type": "string", "format": format});
    let text = |most: u64| json!({"type": "string", "maxLength": most});
    let either = || json!({"x-kubernetes-int-or-string": true});
    let fields =
        || json!({"type": "object", "properties": {"a": text(10), "b": ty("number")}, "required": ["b"]});
    let cases = [
        (list(ty("number"), None), "self.all(x, true)", 4_718_591),
        (list(ty("number"), Some(10)), "self.all(x, true)", 32),
        (list(ty("string"), None), "self.all(x, true)", 3_145_727),
        (list(ty("boolean"), None), "self.all(x, true)", 1_887_437),
        (list(list(ty("number"), None), None), "self.all(x, true)", 3_145_727),
        (list(formatted("duration"), None), "self.all(x, true)", 2_359_295),
        (list(formatted("date"), None), "self.all(x, true)", 725_936),
        (list(formatted("date-time"), None), "self.all(x, true)", 428_963),
        (list(either(), None), "self.all(x, true)", 4_718_591),
        (list(ty("number"), None), "self.all(x, x == 0.0)", 6_291_454),
        (list(ty("string"), Some(8)), "self[1] == self[1]", 314_577),
        (list(ty("number"), Some(10)), "self.all(x, self.all(y, self.all(z, true)))", 3_552),
        (map(ty("number"), None), "self.all(x, true)", 1_348_169),
        (map(ty("string"), None), "self.all(x, true)", 1_179_647),
        (map(ty("boolean"), None), "self.all(x, true)", 943_718),
        (map(formatted("duration"), None), "self.all(x, true)", 1_048_577),
        (map(formatted("date"), None), "self.all(x, true)", 524_288),
        (map(formatted("date-time"), None), "self.all(x, true)", 349_526),
        (map(formatted("date-time"), Some(7)), "self[\"a\"] == self[\"b\"]", 8),
        // Keys count for nothing, however long they may be.
        (map(ty("string"), Some(8)), "self.all(key, key.matches('^[a-z]+$'))", 50),
        (ty("string"), "self.contains('test')", 314_574),
        (text(10), "self.contains('test')", 5),
        (text(50), "self.matches('x')", 22),
        (text(10), "self.find('[0-9]+') == ''", 11),
        (text(10), "self.lowerAscii() == 'lower!'", 6),
        (text(4), "size(self + 'hello') > size('hello')", 7),
        (json!({"type": "string", "enum": ["A", "LongValue"]}), "self.contains('A')", 2),
        (json!({"type": "string", "enum": ["A", "LongValue"], "maxLength": 1000}), "self.contains('A')", 401),
        (json!({"x-kubernetes-int-or-string": true, "maxLength": 20}), "isQuantity(self)", 9),
        (list(text(10), Some(10)), "self.isSorted() == true", 52),
        // What a condition gives counts as large as the whole.
        (list(text(64), Some(8)), "(self.size() > 3 ? self : []).all(x, x.contains('/'))", 54),
        // What has fields is compared at no price that depends on a bound.
        (fields(), "self == oldSelf", 2),
    ];
    let mut wrong = Vec::new();
    for (schema, rule, expected) in cases {
        let shape = Shape::of(&Structural::compile(&schema), "self").expect("a type");
        let program = Program::compile(rule, &environment(&shape.ty, false)).expect("a rule");
        let cost = program.estimate(&shape).max;
        if cost != expected {
            wrong.push(format!("{schema} {rule}: {cost}, upstream's is {expected}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn of_rules_that_are_too_dear_together_the_dearest_are_named() {
    let rule = json!({"rule": "self.all(a, self.all(b, a == b))"});
    let one =
        with(json!({"type": "array", "maxItems": 900, "items": {"type": "string", "maxLength": 10}}), rule);
    let properties: serde_json::Map<String, Value> =
        (0..30).map(|at| (format!("f{at}"), one.clone())).collect();
    let told = checked(json!({"type": "object", "properties": properties}));
    assert_eq!(
        told.iter().filter(|one| one.contains("contributed to estimated rule cost total")).count(),
        4,
        "{told:?}"
    );
    assert!(
        told.last().is_some_and(|one| one.contains("for entire OpenAPIv3 schema exceeds budget by factor")),
        "{told:?}"
    );
}

#[test]
fn what_did_not_change_is_not_checked_again() {
    let version = json!({"name": "v1", "schema": {"openAPIV3Schema": schema(with(bounds(), json!({"rule": "nonsense"})))}});
    let definition = json!({"spec": {"versions": [version]}});
    assert!(!estimate::check(&definition, &Value::Null).is_empty());
    assert!(estimate::check(&definition, &definition).is_empty());
}
