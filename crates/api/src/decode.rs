//! From JSON to a tree, led by the schema, in one pass: unknown fields are found and left out, duplicates
//! found, types and ranges checked, quantities and times made canonical, nulls dropped, and fields that the
//! API leaves out when zero left out.
//!
//! Messages are worded as upstream words them, because tools and people look for those words.

use std::fmt::{self, Write as _};

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use self::one_of::OneOf;
use crate::kind::{Kind, api_version, split_api_version};
use crate::quantity;
use crate::schema::{Object, Scalar, Schema, Shape, TypeRef, Zero};
use crate::status::Status;

mod one_of;
mod repeated;
mod scalar;

pub use repeated::{repeated, repeated_in_operations};

/// More problems than this are not told.
const MAX_PROBLEMS: usize = 100;

/// What becomes of unknown and duplicate fields: the query parameter `fieldValidation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// Reads the parameter; empty means the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::default()),
            "Ignore" => Some(Self::Ignore),
            "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// What an object is expected to be.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub ty: TypeRef<'a>,
}

impl<'a> Target<'a> {
    /// A row's objects in one version, by the built-in schema or the row's own.
    pub fn of(row: &'a Kind, version: &'a str) -> Option<Self> {
        let Some(custom) = &row.custom else { return Self::builtin(&row.group, version, &row.kind) };
        Some(Self { group: &row.group, version, kind: &row.kind, ty: custom.ty(version)? })
    }

    pub fn builtin(group: &'a str, version: &'a str, kind: &'a str) -> Option<Self> {
        Some(Self { group, version, kind, ty: Schema::of(group, version, kind)? })
    }
}

/// An object, and what the client should be warned of.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// Why something is no object of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Syntax(String),
    #[error("json: cannot unmarshal {found} into Go {place} of type {expected}")]
    Type { found: String, place: String, expected: String },
    #[error(transparent)]
    Quantity(#[from] quantity::Error),
    #[error("parsing time {text:?} as {layout:?}: cannot parse {text:?}")]
    Time { text: String, layout: &'static str },
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    #[error("boolean or JSON schema expected")]
    OneOf,
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

/// Decodes a request's body. `apiVersion` and `kind` may be missing, and are then filled in.
///
/// # Errors
/// 400 with upstream's words: no JSON, another kind or version, a field of a wrong type, or under
/// [`FieldValidation::Strict`] an unknown or duplicate field.
pub fn decode(target: &Target<'_>, body: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
    let read = from_slice(target.ty, body);
    let (object, problems) = match read {
        Ok(read) => read,
        Err(error) => {
            // What the object says it is comes first, for a Service is full of errors when read as a Pod.
            let head: Head = serde_json::from_slice(body).map_err(|e| unrecognized(target, &e, body))?;
            check_head(target, &head.api_version, &head.kind)?;
            return Err(bad_request(target, &error));
        }
    };
    finish(target, object, problems, validation)
}

/// As [`decode`], from a tree: the outcome of a patch, or what came in another encoding.
///
/// # Errors
/// As [`decode`].
pub fn decode_tree(target: &Target<'_>, tree: Value, validation: FieldValidation) -> Result<Decoded, Status> {
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    check_head(target, text("apiVersion"), text("kind"))?;
    let (object, problems) = from_value(target.ty, tree).map_err(|e| bad_request(target, &e))?;
    finish(target, object, problems, validation)
}

/// As [`decode_tree`], from what a patch has made. `problems` are those of the patch itself.
///
/// # Errors
/// What is wrong, as upstream tells it of a patch.
pub fn decode_patched(
    target: &Target<'_>,
    tree: Value,
    mut problems: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, String> {
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    check_head(target, text("apiVersion"), text("kind")).map_err(|status| status.message)?;
    let (object, found) = from_value(target.ty, tree).map_err(|e| e.to_string())?;
    problems.extend(found);
    let warnings = judge(problems, validation).map_err(|e| e.to_string())?;
    Ok(named(target, object, warnings))
}

fn finish(
    target: &Target<'_>,
    object: Map<String, Value>,
    problems: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    check_head(target, text("apiVersion"), text("kind"))?;
    let warnings = judge(problems, validation).map_err(|error| bad_request(target, &error))?;
    Ok(named(target, object, warnings))
}

/// The object, which says what it is.
fn named(target: &Target<'_>, mut object: Map<String, Value>, warnings: Vec<String>) -> Decoded {
    object.insert("apiVersion".to_owned(), api_version(target.group, target.version).into());
    object.insert("kind".to_owned(), target.kind.into());
    Decoded { object: Value::Object(object), warnings }
}

fn judge(problems: Vec<String>, validation: FieldValidation) -> Result<Vec<String>, Error> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(problems),
        FieldValidation::Strict if problems.is_empty() => Ok(problems),
        FieldValidation::Strict => Err(Error::Strict(problems)),
    }
}

/// Reads an object of a type from JSON. Beside it come the unknown and the duplicate fields.
///
/// # Errors
/// The bytes are no JSON, or a value has a wrong type.
pub fn from_slice(ty: TypeRef<'_>, body: &[u8]) -> Result<(Map<String, Value>, Vec<String>), Error> {
    let mut source = serde_json::Deserializer::from_slice(body);
    let read = read(ty, &mut source)?;
    source.end().map_err(|e| Error::Syntax(e.to_string()))?;
    Ok(read)
}

/// As [`from_slice`], from a tree: the outcome of a patch.
///
/// # Errors
/// A value has a wrong type.
pub fn from_value(ty: TypeRef<'_>, tree: Value) -> Result<(Map<String, Value>, Vec<String>), Error> {
    read(ty, tree)
}

fn read<'de, D: Deserializer<'de>>(
    ty: TypeRef<'_>,
    source: D,
) -> Result<(Map<String, Value>, Vec<String>), Error> {
    let mut context = Context::default();
    match (Seed { context: &mut context, ty }).deserialize(source) {
        Ok(Some(Value::Object(object))) => Ok((object, context.problems)),
        Ok(_) => {
            Err(Error::Type { found: "null".to_owned(), place: "value".to_owned(), expected: go_type(ty) })
        }
        Err(error) => Err(context.failure.take().unwrap_or_else(|| Error::Syntax(error.to_string()))),
    }
}

/// The part of an object that says what it is.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
}

fn bad_request(target: &Target<'_>, error: &Error) -> Status {
    let Target { kind, version, .. } = target;
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
}

fn unrecognized(target: &Target<'_>, error: &serde_json::Error, body: &[u8]) -> Status {
    let mut shown = String::new();
    let cut = &body[..body.len().min(30)];
    if body.is_empty() {
        shown.push_str("<empty>");
    } else if cut.starts_with(b"{") {
        shown.push_str(&String::from_utf8_lossy(cut));
    } else {
        for byte in cut {
            // Writing into a string does not fail.
            let _ = write!(shown, "{byte:02x}");
        }
    }
    if cut.len() < body.len() {
        shown.push_str(" ...");
    }
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
         {error} ({shown})",
        target.kind
    ))
}

fn check_head(target: &Target<'_>, found_version: &str, found_kind: &str) -> Result<(), Status> {
    let Target { group, version, kind, .. } = *target;
    let (g, v) = if found_version.is_empty() { (group, version) } else { split_api_version(found_version) };
    let k = if found_kind.is_empty() { kind } else { found_kind };
    if (g, v, k) == (group, version, kind) {
        return Ok(());
    }
    Err(Status::bad_request(if k == kind {
        format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            api_version(g, v),
            api_version(group, version)
        )
    } else if Schema::of(g, v, k).is_some() {
        format!(
            "{k} in version {v:?} cannot be handled as a {kind}: converting ({v}.{k}) to ({version}.{kind}): unknown conversion"
        )
    } else {
        format!(
            "{k} in version {v:?} cannot be handled as a {kind}: no kind {k:?} is registered for version {:?}",
            api_version(g, v)
        )
    }))
}

/// A step on the way to a value.
#[derive(Debug)]
enum Step<'s> {
    Field(&'s str),
    Index(usize),
    Key(String),
}

/// Where the reader stands and what it found.
#[derive(Debug, Default)]
struct Context<'s> {
    path: Vec<Step<'s>>,
    /// The object types around the place, the innermost last.
    objects: Vec<&'s str>,
    problems: Vec<String>,
    /// How many values are around the place whose fields are nobody's problem.
    unjudged: usize,
    failure: Option<Error>,
}

impl<'s> Context<'s> {
    /// `spec.containers[0].image`
    fn place(&self, last: &str) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => dotted(&mut text, name),
                Step::Key(name) => dotted(&mut text, name),
                // Writing into a string does not fail.
                Step::Index(i) => drop(write!(text, "[{i}]")),
            }
        }
        if !last.is_empty() {
            dotted(&mut text, last);
        }
        text
    }

    fn problem(&mut self, what: &str, field: &str) {
        if self.unjudged == 0 && self.problems.len() < MAX_PROBLEMS {
            let text = format!("{what} field {:?}", self.place(field));
            if !self.problems.contains(&text) {
                self.problems.push(text);
            }
        }
    }

    fn fail<E: de::Error>(&mut self, error: Error) -> E {
        let text = E::custom(&error);
        self.failure = Some(error);
        text
    }

    fn wrong_type<E: de::Error>(&mut self, found: impl Into<String>, ty: TypeRef<'s>) -> E {
        let names: Vec<&str> =
            self.path.iter().filter_map(|s| if let Step::Field(n) = s { Some(*n) } else { None }).collect();
        let place = match self.objects.last() {
            Some(object) if !names.is_empty() => {
                format!("struct field {}.{}", last_part(object), names.join("."))
            }
            _ => "value".to_owned(),
        };
        self.fail(Error::Type { found: found.into(), place, expected: go_type(ty) })
    }
}

fn dotted(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(name);
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The type's name in upstream's messages: `[]v1.Container`.
fn go_type(ty: TypeRef<'_>) -> String {
    match ty.shape() {
        Shape::Scalar(scalar) => match scalar {
            Scalar::Int32 | Scalar::IntOrString => "int32",
            Scalar::Int64 => "int64",
            Scalar::Bool => "bool",
            Scalar::Double => "float64",
            Scalar::Bytes => "[]uint8",
            _ => "string",
        }
        .to_owned(),
        Shape::Any => "interface {}".to_owned(),
        Shape::List(list) => format!("[]{}", go_type(list.item)),
        Shape::Map(map) => format!("map[string]{}", go_type(map.value)),
        Shape::Object(object) => {
            let name = object.name();
            name.split_once('.').map_or(name, |(_, rest)| rest).to_owned()
        }
    }
}

/// What a value of the type is before anything is read into it.
pub(crate) fn zero(ty: TypeRef<'_>) -> Value {
    if ty.is_lenient() {
        return Value::Null;
    }
    match ty.shape() {
        Shape::Scalar(Scalar::String) => "".into(),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString) => 0.into(),
        Shape::Scalar(Scalar::Bool) => false.into(),
        Shape::Scalar(Scalar::Quantity) => "0".into(),
        Shape::Object(object) => {
            let mut map = Map::new();
            write_zeros(object, &mut map);
            Value::Object(map)
        }
        Shape::Scalar(_) | Shape::Any | Shape::List(_) | Shape::Map(_) => Value::Null,
    }
}

/// A double as Go writes it in JSON: without a fraction where it has none. `None` if it is not finite.
pub(crate) fn double(value: f64) -> Option<Number> {
    // Up to here every whole number is exact in both forms.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

/// What stands for null in an entry of a map, which protobuf has to be able to say.
fn empty(ty: TypeRef<'_>) -> Value {
    match ty.shape() {
        Shape::Scalar(Scalar::Bytes) => "".into(),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Map(_) => Value::Object(Map::new()),
        _ => zero(ty),
    }
}

/// Adds the fields that are on the wire even when nobody gave them.
fn write_zeros(object: Object<'_>, map: &mut Map<String, Value>) {
    for field in object.written() {
        if !map.contains_key(field.name.as_ref()) {
            let value = zero(field.ty(object));
            if !value.is_null() {
                map.insert(field.name.clone().into_owned(), value);
            }
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

/// Reads one value of a type. `None` is null.
struct Seed<'c, 's> {
    context: &'c mut Context<'s>,
    ty: TypeRef<'s>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        match self.ty.shape() {
            Shape::Any => {
                if let Some(either) = self.ty.either() {
                    return source.deserialize_any(OneOf { context: self.context, either });
                }
                let nullable = self.ty.is_nullable();
                Value::deserialize(source).map(|v| if v.is_null() && !nullable { None } else { Some(v) })
            }
            _ => source.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&go_type(self.ty))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(self.ty.is_nullable().then_some(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        match self.ty.shape() {
            Shape::Scalar(Scalar::Bool) => Ok(Some(value.into())),
            _ if self.ty.is_lenient() => Ok(Some(value.into())),
            _ => Err(self.context.wrong_type("bool", self.ty)),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        match self.ty.shape() {
            Shape::Scalar(Scalar::Int64 | Scalar::Double) => Ok(Some(value.into())),
            Shape::Scalar(Scalar::Int32 | Scalar::IntOrString) => match i32::try_from(value) {
                Ok(value) => Ok(Some(value.into())),
                Err(_) => Err(self.context.wrong_type(format!("number {value}"), self.ty)),
            },
            Shape::Scalar(Scalar::Quantity) => self.quantity(&value.to_string()),
            _ if self.ty.is_lenient() => Ok(Some(value.into())),
            _ => Err(self.context.wrong_type("number", self.ty)),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) if matches!(self.ty.shape(), Shape::Scalar(Scalar::Quantity)) => {
                self.quantity(&value.to_string())
            }
            Err(_) if self.ty.is_lenient() => Ok(Some(value.into())),
            Err(_) => Err(self.context.wrong_type(format!("number {value}"), self.ty)),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        match self.ty.shape() {
            // JSON can say no number that is not finite.
            Shape::Scalar(Scalar::Double) => Ok(double(value).map(Value::Number)),
            Shape::Scalar(Scalar::Quantity) => self.quantity(&value.to_string()),
            _ if self.ty.is_lenient() => Ok(Some(value.into())),
            _ => Err(self.context.wrong_type(format!("number {value}"), self.ty)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if self.ty.is_lenient() {
            return Ok(Some(text.into()));
        }
        self.text(text, || text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
        match self.ty.shape() {
            Shape::Scalar(Scalar::String | Scalar::IntOrString) => Ok(Some(Value::String(text))),
            _ if self.ty.is_lenient() => Ok(Some(Value::String(text))),
            _ => self.visit_str(&text),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Self::Value, A::Error> {
        let Shape::List(list) = self.ty.shape() else {
            if self.ty.is_lenient() {
                return Value::deserialize(de::value::SeqAccessDeserializer::new(source)).map(Some);
            }
            return Err(self.context.wrong_type("array", self.ty));
        };
        let mut items = Vec::with_capacity(source.size_hint().unwrap_or(0).min(1024));
        loop {
            self.context.path.push(Step::Index(items.len()));
            let item = source.next_element_seed(Seed { context: &mut *self.context, ty: list.item })?;
            self.context.path.pop();
            match item {
                Some(item) => items.push(item.unwrap_or_else(|| zero(list.item))),
                None => return Ok(Some(Value::Array(items))),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<Self::Value, A::Error> {
        match self.ty.shape() {
            Shape::Object(object) => self.object(object, source).map(Some),
            Shape::Map(map) => self.map(map.value, source).map(Some),
            _ if self.ty.is_lenient() => {
                Value::deserialize(de::value::MapAccessDeserializer::new(source)).map(Some)
            }
            _ => Err(self.context.wrong_type("object", self.ty)),
        }
    }
}

impl<'s> Seed<'_, 's> {
    fn object<'de, A: MapAccess<'de>>(self, object: Object<'s>, mut source: A) -> Result<Value, A::Error> {
        let Seed { context, .. } = self;
        let fields = object.fields();
        let mut map = Map::new();
        let mut seen = Seen::default();
        context.objects.push(object.name());
        while let Some(found) = source.next_key_seed(FieldName(object))? {
            let at = match found {
                Ok(at) => at,
                Err(unknown) if object.open() => {
                    let value = source.next_value::<Value>()?;
                    if map.contains_key(&unknown) {
                        context.problem("duplicate", &unknown);
                    }
                    map.insert(unknown, value);
                    continue;
                }
                Err(unknown) => {
                    context.problem("unknown", &unknown);
                    source.next_value::<de::IgnoredAny>()?;
                    continue;
                }
            };
            let field = &fields[at];
            if !seen.add(at) {
                context.problem("duplicate", &field.name);
                map.remove(field.name.as_ref());
            }
            context.path.push(Step::Field(&field.name));
            let ty = field.ty(object);
            let value = source.next_value_seed(Seed { context: &mut *context, ty })?;
            context.path.pop();
            match value {
                Some(value) if field.zero != Zero::Omitted || !is_zero(&value) => {
                    map.insert(field.name.clone().into_owned(), value);
                }
                _ => {}
            }
        }
        context.objects.pop();
        write_zeros(object, &mut map);
        Ok(Value::Object(map))
    }

    fn map<'de, A: MapAccess<'de>>(self, ty: TypeRef<'s>, mut source: A) -> Result<Value, A::Error> {
        let Seed { context, .. } = self;
        let nested = !matches!(ty.shape(), Shape::Scalar(_));
        let mut map = Map::new();
        while let Some(key) = source.next_key::<String>()? {
            if nested {
                context.path.push(Step::Key(key.clone()));
            }
            let value = source.next_value_seed(Seed { context: &mut *context, ty })?;
            if nested {
                context.path.pop();
            }
            // Null is no value where the type does not allow it; a built-in type has its zero instead.
            let Some(value) = value.or_else(|| (!ty.is_lenient()).then(|| empty(ty))) else { continue };
            match map.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(value)),
                Entry::Occupied(mut entry) => {
                    context.problem("duplicate", entry.key());
                    entry.insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// Which of an object's fields were met. Those beyond the first 128, which no built-in type has, are not
/// watched for duplicates.
#[derive(Default)]
struct Seen(u128);

impl Seen {
    /// Whether the field is new.
    fn add(&mut self, at: usize) -> bool {
        let bit = u32::try_from(at).ok().and_then(|at| 1_u128.checked_shl(at)).unwrap_or(0);
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }
}

/// Reads a field's name: its place among the object's fields, or the name of an unknown one.
struct FieldName<'s>(Object<'s>);

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.position(name).ok_or_else(|| name.to_owned()))
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
