//! Everything that reads what clients send, held to its laws with inputs that nobody thought of.
//!
//! A [`Target`] takes any bytes, panics when a law is broken, and must come back soon and without much memory. `cargo
//! xtask fuzz` lets libFuzzer look for inputs; `corpus/<target>` holds those that it begins with and those that once
//! broke something, which every test run tries again.

mod expressions;
mod objects;
mod patches;
mod texts;

use serde_json::Value;

/// One way in, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. What takes several JSON values takes them one after the other.
pub const TARGETS: &[Target] = &[
    ("json", objects::json),
    ("yaml", objects::yaml),
    ("protobuf", objects::protobuf),
    ("cbor", objects::cbor),
    ("json-patch", patches::json),
    ("merge-patch", patches::merge),
    ("strategic-patch", patches::strategic),
    ("apply", patches::apply),
    ("managed-fields", patches::managed_fields),
    ("label-selector", texts::label_selector),
    ("field-selector", texts::field_selector),
    ("quantity", texts::quantity),
    ("json-path", texts::json_path),
    ("cel", expressions::cel),
    ("schema", expressions::schema),
];

/// The target of a name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

/// The JSON values that stand one after the other at the beginning of an input.
fn values<const N: usize>(data: &[u8]) -> Option<[Value; N]> {
    let stream = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
    stream.take(N).collect::<Result<Vec<_>, _>>().ok()?.try_into().ok()
}
