//! Laws that hold for objects of every kind, made at random along the schema.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tiphys_api::codec::protobuf;
use tiphys_api::decode::{FieldValidation, Target, decode, decode_tree};
use tiphys_api::kind::{Action, Kinds, api_version};
use tiphys_api::schema::{Scalar, Shape, TypeRef};
use tiphys_api::{convert, meta};

/// Numbers without a pattern, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Words that mean something somewhere, so that rules behind other rules are reached.
const WORDS: &[&str] = &[
    "",
    "a",
    "web",
    "Always",
    "Never",
    "None",
    "RollingUpdate",
    "Indexed",
    "ClusterIP",
    "ClientIP",
    "Exists",
    "In",
    "TCP",
    "10.0.0.1",
    "::1",
    "10.0.0.0/24",
    "50%",
    "a/b/c",
    "..",
    "-",
    "é",
    "NodePort",
    "Job",
    "v1",
    "/",
    "*/5 * * * *",
];

/// A value of a type: of the right shape nearly always, else anything.
fn any_of(ty: TypeRef<'_>, depth: usize, dice: &mut Dice) -> Value {
    if dice.below(3000) == 0 {
        return [json!(null), json!([]), json!({}), json!("x"), json!(-1), json!(true)][dice.below(6)]
            .clone();
    }
    if let Some(either) = ty.either() {
        return match (either.list, dice.below(2)) {
            (Some(list), 0) => any_of(list, depth, dice),
            (None, 0) => (dice.below(2) == 0).into(),
            _ => any_of(either.object, depth, dice),
        };
    }
    match ty.shape() {
        Shape::Any => json!({"description": "two", "required": ["k"]}),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => dice.pick(WORDS).into(),
            Scalar::Int32 | Scalar::Int64 => [0, 1, -1, 80, 70_000, i32::MAX][dice.below(6)].into(),
            Scalar::Bool => (dice.below(2) == 0).into(),
            Scalar::Double => 1.5.into(),
            Scalar::Bytes => dice.pick(&["", "AAECAw=="]).into(),
            Scalar::Time | Scalar::MicroTime => "2026-01-01T00:00:00+01:00".into(),
            Scalar::Quantity => dice.pick(&["0", "100m", "1.5Gi", "-1", "1e3", "0.0001"]).into(),
            Scalar::IntOrString => [json!(80), json!("http"), json!("25%"), json!(0)][dice.below(4)].clone(),
        },
        Shape::List(_) | Shape::Map(_) if depth == 0 => Value::Null,
        Shape::List(list) => (0..dice.below(3)).map(|_| any_of(list.item, depth - 1, dice)).collect(),
        Shape::Map(map) => {
            let keys = ["a", "cpu", "hugepages-2Mi", "x.io/y", "bad key"];
            let entries = (0..dice.below(3)).map(|_| {
                let key = dice.pick(&keys).to_owned();
                (key, any_of(map.value, depth - 1, dice))
            });
            Value::Object(entries.collect())
        }
        Shape::Object(object) => {
            let mut map = Map::new();
            for field in object.fields() {
                let deep = !matches!(field.ty(object).shape(), Shape::Scalar(_));
                if (!deep || depth > 0) && dice.below(if field.required { 8 } else { 3 }) != 0 {
                    let value = any_of(field.ty(object), depth.saturating_sub(1), dice);
                    map.insert(field.name.clone().into_owned(), value);
                }
            }
            Value::Object(map)
        }
    }
}

/// What of an object protobuf can say. It has no empty lists, upstream's messages have no types inside of
/// other objects, and fields that came to 1.37 last have no published number.
fn on_the_wire(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let said = |(key, value): (String, Value)| {
                let mut value = on_the_wire(value);
                if key == "openAPIV3Schema" {
                    value = without_unset(value);
                }
                if key == "volumeClaimTemplates" {
                    for template in
                        value.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
                    {
                        template.retain(|key, _| key != "apiVersion" && key != "kind");
                    }
                }
                // Nor what a result says it is.
                if let ("initializers", Some(result)) =
                    (&*key, value.get_mut("result").and_then(Value::as_object_mut))
                {
                    result.retain(|key, _| key != "apiVersion" && key != "kind");
                }
                let unnumbered = matches!(&*key, "runningInUserNamespace" | "derivedAttributes");
                (value != json!([]) && !unnumbered).then_some((key, value))
            };
            Value::Object(map.into_iter().filter_map(said).collect())
        }
        Value::Array(items) => items.into_iter().map(on_the_wire).collect(),
        other => other,
    }
}

/// What of a JSON schema Go can tell from what nobody set.
fn without_unset(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let unset = |value: &Value| value.is_null() || *value == json!("") || *value == json!(false);
            let set = map.into_iter().filter(|(_, value)| !unset(value));
            let known = set.map(|(key, value)| (key, without_unset(value)));
            // What depends on an empty list is said to depend on nothing.
            Value::Object(known.filter(|(key, value)| key != "dependencies" || *value != json!({})).collect())
        }
        Value::Array(items) => items.into_iter().map(without_unset).collect(),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// What the API wrote it reads again unchanged, defaults settle at once, conversions lose nothing that
    /// they write, protobuf carries everything, and no object makes a hook panic.
    #[test]
    fn every_kind_keeps_the_laws(seed in any::<u64>()) {
        let mut dice = Dice(seed);
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for row in Kinds::builtin().iter() {
            for version in &row.versions {
                let target = Target::of(row, &version.name).unwrap();
                let mut given = any_of(target.ty, 6, &mut dice);
                if let Some(map) = given.as_object_mut() {
                    map.remove("apiVersion");
                    map.remove("kind");
                }
                let body = given.to_string();
                // A value of a wrong type is refused, and that is all there is to test about it.
                let Ok(read) = decode(&target, body.as_bytes(), FieldValidation::Warn) else { continue };
                let again = decode(&target, read.object.to_string().as_bytes(), FieldValidation::Strict);
                prop_assert_eq!(&again.unwrap().object, &read.object, "{}: read twice", row.kind);

                let api_version = api_version(&row.group, &version.name);
                prop_assert!(protobuf::knows(&api_version, &row.kind), "{api_version} {}: no protobuf", row.kind);
                let bytes = protobuf::encode(&read.object).unwrap();
                let tree = protobuf::decode(&bytes, ("", "")).unwrap();
                let crossed = decode_tree(&target, tree, FieldValidation::Strict).unwrap().object;
                prop_assert_eq!(on_the_wire(crossed), on_the_wire(read.object.clone()), "{}: in protobuf", row.kind);

                let mut object = read.object;
                (row.hooks.default)(&version.name, &mut object);
                let once = object.clone();
                (row.hooks.default)(&version.name, &mut object);
                prop_assert_eq!(&object, &once, "{}: defaulted twice", row.kind);
                let known = decode(&target, object.to_string().as_bytes(), FieldValidation::Strict);
                prop_assert!(known.is_ok(), "{}: a default that no schema has: {:?}", row.kind, known);

                convert::to_storage(row, &version.name, &mut object);
                let stored = object.clone();
                convert::from_storage(row, &version.name, &mut object);
                convert::to_storage(row, &version.name, &mut object);
                prop_assert_eq!(&object, &stored, "{}: there and back", row.kind);

                (row.hooks.prepare_create)(&mut object);
                let old = object.clone();
                let _errors = (row.hooks.validate_create)(&object);
                let _errors = meta::validate_create(&object, row.is_namespaced(), row.hooks.validate_name);
                (row.hooks.update.prepare)(&mut object, &old);
                let _errors = (row.hooks.update.validate)(&object, &old);
                prop_assert_eq!(meta::generation(&object), meta::generation(&old), "{}: nothing changed", row.kind);
                for part in &row.subresources {
                    match &part.action {
                        Action::Update(update) => {
                            let mut new = stored.clone();
                            (update.prepare)(&mut new, &old);
                            let _errors = (update.validate)(&new, &old);
                        }
                        Action::Scale(scale) => {
                            let shown = convert::scale_of(scale, &old);
                            let mut scaled = old.clone();
                            convert::apply_scale(scale, &shown, &mut scaled);
                            prop_assert_eq!(convert::scale_of(scale, &scaled)["spec"].clone(), shown["spec"].clone());
                        }
                        Action::Post | Action::Connect => {}
                    }
                }
                let cells = (row.hooks.printer.cells)(&object, now);
                prop_assert_eq!(cells.len(), row.hooks.printer.columns.len());
            }
        }
    }
}
