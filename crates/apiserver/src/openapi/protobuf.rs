//! OpenAPI v2 in the one form in which client-go asks for it: gnostic's protobuf messages.
//!
//! The tables say what of gnostic's `OpenAPIv2.proto` documents of API servers use, by its field numbers. They are
//! also what others' documents are [tidied](Message::tidy) by.

use std::sync::Arc;

use serde_json::Value;

use super::{Fields, Texts};

/// The whole document, of what [`paths`] and [`definitions`] make.
pub(super) fn document(info: &Value, paths: &[u8], definitions: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, 1, b"2.0");
    field(&mut out, 2, &INFO.encode(info));
    field(&mut out, 8, paths);
    field(&mut out, 9, definitions);
    out
}

/// # Errors
/// A text is no JSON.
pub(super) fn paths(texts: &Texts) -> Result<Fields, serde_json::Error> {
    members(2, &PATH, texts)
}

/// # Errors
/// A text is no JSON.
pub(super) fn definitions(texts: &Texts) -> Result<Fields, serde_json::Error> {
    members(1, &SCHEMA, texts)
}

fn members(number: u32, message: &'static Message, texts: &Texts) -> Result<Fields, serde_json::Error> {
    let mut members = Fields::default();
    for (name, text) in &texts.0 {
        let mut member = Vec::new();
        named(&mut member, number, name, &[2], message, &serde_json::from_str(text)?);
        members.0.insert(Arc::clone(name), member.into());
    }
    Ok(members)
}

/// A message as the members of a JSON object: the name of each, the numbers of the fields that lead to its value
/// (the last is its own, those before it are of messages around it), and how it is written.
///
/// Members that begin with `x-` are at `extensions`, each as its name and any value. All others are left out.
pub(super) struct Message {
    members: &'static [Member],
    extensions: u32,
}

type Member = (&'static str, &'static [u32], Form);

/// How a value is written.
enum Form {
    Text,
    Flag,
    Integer,
    Number,
    /// Any JSON, as the YAML that it is too.
    Any,
    /// `#/definitions/` and a name.
    Reference,
    Object(&'static Message),
    /// An object or a boolean, which is the field after the object's.
    Open(&'static Message),
    /// A field for each element of an array.
    List(&'static Form),
    /// One, or an array of them.
    OneOrMore(&'static Form),
    /// An object of any names: a field for each, with the name and, at these numbers, the value.
    Map(&'static [u32], &'static Message),
    /// An object whose `in` says which message it is.
    Parameter,
}

use Form::{Any, Flag, Integer, List, Map, Number, Object, OneOrMore, Open, Parameter, Reference, Text};

static INFO: Message = Message { members: &[("title", &[1], Text), ("version", &[2], Text)], extensions: 7 };

pub(super) static PATH: Message = Message {
    members: &[
        ("get", &[2], Object(&OPERATION)),
        ("put", &[3], Object(&OPERATION)),
        ("post", &[4], Object(&OPERATION)),
        ("delete", &[5], Object(&OPERATION)),
        ("options", &[6], Object(&OPERATION)),
        ("head", &[7], Object(&OPERATION)),
        ("patch", &[8], Object(&OPERATION)),
        ("parameters", &[9], List(&Parameter)),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    members: &[
        ("tags", &[1], List(&Text)),
        ("summary", &[2], Text),
        ("description", &[3], Text),
        ("operationId", &[5], Text),
        ("produces", &[6], List(&Text)),
        ("consumes", &[7], List(&Text)),
        ("parameters", &[8], List(&Parameter)),
        ("responses", &[9, 1], Map(&[2, 1], &RESPONSE)),
        ("schemes", &[10], List(&Text)),
        ("deprecated", &[11], Flag),
    ],
    extensions: 13,
};

/// By the `in` of a parameter: the numbers that lead to its message, and that.
static PARAMETERS: [(&str, &[u32], Message); 5] = [
    (
        "body",
        &[1, 1],
        Message {
            members: &[
                ("description", &[1], Text),
                ("name", &[2], Text),
                ("in", &[3], Text),
                ("required", &[4], Flag),
                ("schema", &[5], Object(&SCHEMA)),
            ],
            extensions: 6,
        },
    ),
    ("header", &[1, 2, 1], Message { members: WITHOUT_EMPTY, extensions: 22 }),
    ("formData", &[1, 2, 2], Message { members: WITH_EMPTY, extensions: 23 }),
    ("query", &[1, 2, 3], Message { members: WITH_EMPTY, extensions: 23 }),
    ("path", &[1, 2, 4], Message { members: WITHOUT_EMPTY, extensions: 22 }),
];

const WITHOUT_EMPTY: &[Member] = &[
    ("required", &[1], Flag),
    ("in", &[2], Text),
    ("description", &[3], Text),
    ("name", &[4], Text),
    ("type", &[5], Text),
    ("format", &[6], Text),
    ("items", &[7], Object(&ITEMS)),
    ("default", &[9], Any),
    ("uniqueItems", &[19], Flag),
    ("enum", &[20], List(&Any)),
];

/// Those that may be there without a value.
const WITH_EMPTY: &[Member] = &[
    ("required", &[1], Flag),
    ("in", &[2], Text),
    ("description", &[3], Text),
    ("name", &[4], Text),
    ("allowEmptyValue", &[5], Flag),
    ("type", &[6], Text),
    ("format", &[7], Text),
    ("items", &[8], Object(&ITEMS)),
    ("default", &[10], Any),
    ("uniqueItems", &[20], Flag),
    ("enum", &[21], List(&Any)),
];

static ITEMS: Message = Message {
    members: &[("type", &[1], Text), ("format", &[2], Text), ("items", &[3], Object(&ITEMS))],
    extensions: 18,
};

static RESPONSE: Message =
    Message { members: &[("description", &[1], Text), ("schema", &[2, 1], Object(&SCHEMA))], extensions: 5 };

pub(super) static SCHEMA: Message = Message {
    members: &[
        ("$ref", &[1], Reference),
        ("format", &[2], Text),
        ("title", &[3], Text),
        ("description", &[4], Text),
        ("default", &[5], Any),
        ("multipleOf", &[6], Number),
        ("maximum", &[7], Number),
        ("exclusiveMaximum", &[8], Flag),
        ("minimum", &[9], Number),
        ("exclusiveMinimum", &[10], Flag),
        ("maxLength", &[11], Integer),
        ("minLength", &[12], Integer),
        ("pattern", &[13], Text),
        ("maxItems", &[14], Integer),
        ("minItems", &[15], Integer),
        ("uniqueItems", &[16], Flag),
        ("maxProperties", &[17], Integer),
        ("minProperties", &[18], Integer),
        ("required", &[19], List(&Text)),
        ("enum", &[20], List(&Any)),
        ("additionalProperties", &[21, 1], Open(&SCHEMA)),
        ("type", &[22, 1], OneOrMore(&Text)),
        ("items", &[23, 1], OneOrMore(&Object(&SCHEMA))),
        ("allOf", &[24], List(&Object(&SCHEMA))),
        ("properties", &[25, 1], Map(&[2], &SCHEMA)),
        ("readOnly", &[27], Flag),
        ("example", &[30], Any),
    ],
    extensions: 31,
};

/// A value that is not written as its member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {0:?} is not of the form that OpenAPI v2 gives it")]
pub(crate) struct Wrong(&'static str);

/// What a reference to a definition begins with.
pub(super) const DEFINITIONS: &str = "#/definitions/";

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

    /// Lets go of members that the message does not have, and shows `referred` the name that each reference to a
    /// definition leads to, which it may change.
    ///
    /// # Errors
    /// A member is of another form, so that clients could not read the document.
    pub(super) fn tidy(&self, value: &mut Value, referred: &mut dyn FnMut(&mut String)) -> Result<(), Wrong> {
        let object = value.as_object_mut().ok_or(Wrong("object"))?;
        object.retain(|key, _| key.starts_with("x-") || self.members.iter().any(|(name, ..)| name == key));
        for (name, _, form) in self.members {
            if let Some(value) = object.get_mut(*name) {
                form.tidy(name, value, referred)?;
            }
        }
        Ok(())
    }
}

impl Form {
    fn tidy(
        &self,
        name: &'static str,
        value: &mut Value,
        referred: &mut dyn FnMut(&mut String),
    ) -> Result<(), Wrong> {
        let fits = match (self, &mut *value) {
            (OneOrMore(form), value) if !value.is_array() => return form.tidy(name, value, referred),
            (List(form) | OneOrMore(form), Value::Array(values)) => {
                return values.iter_mut().try_for_each(|value| form.tidy(name, value, referred));
            }
            (Map(_, message), Value::Object(members)) => {
                return members.values_mut().try_for_each(|value| message.tidy(value, referred));
            }
            (Object(message) | Open(message), Value::Object(_)) => return message.tidy(value, referred),
            (Parameter, value) => {
                let known = PARAMETERS.iter().find(|(place, ..)| value["in"] == *place);
                return known.ok_or(Wrong(name))?.2.tidy(value, referred);
            }
            (Reference, Value::String(text)) => match text.strip_prefix(DEFINITIONS) {
                Some(to) => {
                    let mut to = to.to_owned();
                    referred(&mut to);
                    *text = format!("{DEFINITIONS}{to}");
                    true
                }
                None => false,
            },
            (Any, _) => true,
            (Text, value) => value.is_string(),
            (Flag | Open(_), value) => value.is_boolean(),
            (Integer, value) => value.is_i64(),
            (Number, value) => value.is_number(),
            _ => false,
        };
        if fits { Ok(()) } else { Err(Wrong(name)) }
    }

    fn write(&self, out: &mut Vec<u8>, numbers: &[u32], value: &Value) {
        let Some((number, around)) = numbers.split_last() else { return };
        let mut inner = Vec::new();
        match (self, value) {
            (Any, value) => field(&mut inner, *number, &any(value)),
            (List(form) | OneOrMore(form), Value::Array(values)) => {
                values.iter().for_each(|one| form.write(&mut inner, &[*number], one));
            }
            (OneOrMore(form), value) => form.write(&mut inner, &[*number], value),
            (Text | Reference, Value::String(text)) => field(&mut inner, *number, text.as_bytes()),
            (Flag, Value::Bool(set)) => scalar(&mut inner, *number, u64::from(*set)),
            (Open(_), Value::Bool(set)) => scalar(&mut inner, *number + 1, u64::from(*set)),
            (Integer, Value::Number(whole)) => {
                if let Some(whole) = whole.as_i64() {
                    scalar(&mut inner, *number, whole.cast_unsigned());
                }
            }
            (Number, Value::Number(any)) => {
                varint(&mut inner, u64::from(*number) << 3 | 1);
                inner.extend_from_slice(&any.as_f64().unwrap_or_default().to_le_bytes());
            }
            (Object(message) | Open(message), Value::Object(_)) => {
                field(&mut inner, *number, &message.encode(value));
            }
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
            // Not of the form, which a structural schema cannot be and others' are not let in with.
            _ => return,
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

/// Appends a field of a number or a boolean.
fn scalar(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
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
