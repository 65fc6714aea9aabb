//! OpenAPI v2 in the one form in which client-go asks for it: gnostic's protobuf messages.
//!
//! The tables say what our documents use of gnostic's `OpenAPIv2.proto`, by its field numbers.

use serde_json::Value;

use super::Texts;

/// The whole document, of what [`paths`] and [`definitions`] make.
pub(super) fn document(info: &Value, paths: &[u8], definitions: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, 1, b"2.0");
    field(&mut out, 2, &INFO.encode(info));
    field(&mut out, 8, paths);
    field(&mut out, 9, definitions);
    out
}

/// Paths; those of several parts may follow each other.
///
/// # Errors
/// A text is no JSON.
pub(super) fn paths(texts: &Texts) -> Result<Vec<u8>, serde_json::Error> {
    members(2, &PATH, texts)
}

/// Definitions; those of several parts may follow each other.
///
/// # Errors
/// A text is no JSON.
pub(super) fn definitions(texts: &Texts) -> Result<Vec<u8>, serde_json::Error> {
    members(1, &SCHEMA, texts)
}

fn members(number: u32, message: &'static Message, texts: &Texts) -> Result<Vec<u8>, serde_json::Error> {
    let mut members = Vec::new();
    for (name, text) in &texts.0 {
        named(&mut members, number, name, &[2], message, &serde_json::from_str(text)?);
    }
    Ok(members)
}

/// A message as the members of a JSON object: the name of each, the numbers of the fields that lead to its value
/// (the last is its own, those before it are of messages around it), and how it is written.
///
/// Members that begin with `x-` are at `extensions`, each as its name and any value. All others are left out.
struct Message {
    members: &'static [(&'static str, &'static [u32], Form)],
    extensions: u32,
}

/// How a value is written. But for [`Form::Any`], an array is one field for each of its elements.
enum Form {
    /// A string or a boolean.
    Plain,
    /// Any JSON, as the YAML that it is too.
    Any,
    Object(&'static Message),
    /// An object of any names: a field for each, with the name and, at these numbers, the value.
    Map(&'static [u32], &'static Message),
    /// An object whose `in` says which message it is.
    Parameter,
}

use Form::{Any, Map, Object, Parameter, Plain};

static INFO: Message =
    Message { members: &[("title", &[1], Plain), ("version", &[2], Plain)], extensions: 7 };

static PATH: Message = Message {
    members: &[
        ("get", &[2], Object(&OPERATION)),
        ("put", &[3], Object(&OPERATION)),
        ("post", &[4], Object(&OPERATION)),
        ("delete", &[5], Object(&OPERATION)),
        ("patch", &[8], Object(&OPERATION)),
        ("parameters", &[9], Parameter),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    members: &[
        ("tags", &[1], Plain),
        ("operationId", &[5], Plain),
        ("parameters", &[8], Parameter),
        ("responses", &[9, 1], Map(&[2, 1], &RESPONSE)),
    ],
    extensions: 13,
};

/// By the `in` of a parameter: the numbers that lead to its message, and that.
static PARAMETERS: [(&str, &[u32], Message); 3] = [
    (
        "body",
        &[1, 1],
        Message {
            members: &[
                ("name", &[2], Plain),
                ("in", &[3], Plain),
                ("required", &[4], Plain),
                ("schema", &[5], Object(&SCHEMA)),
            ],
            extensions: 6,
        },
    ),
    (
        "query",
        &[1, 2, 3],
        Message {
            members: &[
                ("required", &[1], Plain),
                ("in", &[2], Plain),
                ("name", &[4], Plain),
                ("type", &[6], Plain),
                ("uniqueItems", &[20], Plain),
            ],
            extensions: 23,
        },
    ),
    (
        "path",
        &[1, 2, 4],
        Message {
            members: &[
                ("required", &[1], Plain),
                ("in", &[2], Plain),
                ("name", &[4], Plain),
                ("type", &[5], Plain),
                ("uniqueItems", &[19], Plain),
            ],
            extensions: 22,
        },
    ),
];

static RESPONSE: Message =
    Message { members: &[("description", &[1], Plain), ("schema", &[2, 1], Object(&SCHEMA))], extensions: 5 };

static SCHEMA: Message = Message {
    members: &[
        ("$ref", &[1], Plain),
        ("format", &[2], Plain),
        ("description", &[4], Plain),
        ("default", &[5], Any),
        ("required", &[19], Plain),
        ("additionalProperties", &[21, 1], Object(&SCHEMA)),
        ("type", &[22, 1], Plain),
        ("items", &[23, 1], Object(&SCHEMA)),
        ("allOf", &[24], Object(&SCHEMA)),
        ("properties", &[25, 1], Map(&[2], &SCHEMA)),
    ],
    extensions: 31,
};

impl Message {
    fn encode(&self, object: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, numbers, form) in self.members {
            if let Some(value) = object.get(key) {
                form.write(&mut out, numbers, value);
            }
        }
        for (key, value) in object.as_object().into_iter().flatten() {
            if key.starts_with("x-") {
                let mut named = Vec::new();
                field(&mut named, 1, key.as_bytes());
                field(&mut named, 2, &any(value));
                field(&mut out, self.extensions, &named);
            }
        }
        out
    }
}

impl Form {
    fn write(&self, out: &mut Vec<u8>, numbers: &[u32], value: &Value) {
        let Some((number, around)) = numbers.split_last() else { return };
        let mut inner = Vec::new();
        match (self, value) {
            (Any, value) => field(&mut inner, *number, &any(value)),
            (_, Value::Array(values)) => {
                values.iter().for_each(|one| self.write(&mut inner, &[*number], one))
            }
            (Plain, Value::Bool(set)) => {
                varint(&mut inner, u64::from(*number) << 3);
                varint(&mut inner, u64::from(*set));
            }
            (Plain, value) => field(&mut inner, *number, value.as_str().unwrap_or_default().as_bytes()),
            (Object(message), value) => field(&mut inner, *number, &message.encode(value)),
            (Map(numbers, message), value) => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    named(&mut inner, *number, name, numbers, message, value);
                }
            }
            (Parameter, value) => {
                let mut item = Vec::new();
                if let Some((_, numbers, message)) =
                    PARAMETERS.iter().find(|(place, ..)| value["in"] == *place)
                {
                    Object(message).write(&mut item, numbers, value);
                }
                field(&mut inner, *number, &item);
            }
        }
        for number in around.iter().rev() {
            let content = std::mem::take(&mut inner);
            field(&mut inner, *number, &content);
        }
        out.append(&mut inner);
    }
}

/// Appends a member of a map: its name and, at `numbers`, its value.
fn named(
    out: &mut Vec<u8>,
    number: u32,
    name: &str,
    numbers: &[u32],
    message: &'static Message,
    value: &Value,
) {
    let mut member = Vec::new();
    field(&mut member, 1, name.as_bytes());
    Object(message).write(&mut member, numbers, value);
    field(out, number, &member);
}

fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, 2, value.to_string().as_bytes());
    out
}

/// Appends a field of length-delimited content.
fn field(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
