//! Values. What comes from an object is read where it lies, in its JSON tree.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::error::EvalError;
use crate::library::Opaque;
use crate::program::Budget;
use crate::types::{ListKind, ListType, MapType, ObjectType, Type};
use crate::{duration, time};

/// A value. Cheap to clone; belongs to one thread.
#[derive(Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Str<'a>),
    Bytes(Rc<[u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    /// The name of a type.
    Type(Str<'a>),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Rc<Value<'a>>>),
    /// An object that an expression made: `Object{...}`, `JSONPatch{...}`.
    Struct(Rc<Struct<'a>>),
    /// An object whose fields are found when they are asked for.
    Object(Rc<dyn Fields<'a> + 'a>),
    /// A value of Kubernetes' libraries.
    Opaque(Rc<Opaque<'a>>),
}

/// Text that is borrowed or shared.
#[derive(Clone)]
pub enum Str<'a> {
    Borrowed(&'a str),
    Shared(Rc<str>),
}

/// A list in a tree, with the type of its schema if it has one, or one that an expression made.
#[derive(Clone)]
pub enum List<'a> {
    Json(&'a [Json], Option<Arc<ListType>>),
    Made(Rc<Vec<Value<'a>>>),
}

/// An object of a tree, or a map that an expression made.
#[derive(Clone)]
pub enum Map<'a> {
    Json(&'a serde_json::Map<String, Json>, Shape),
    Made(Rc<BTreeMap<Key<'a>, Value<'a>>>),
    /// Leads to an empty map from every key that it does not have.
    Open(Rc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// What a schema says of an object of a tree.
#[derive(Clone)]
pub enum Shape {
    Unknown,
    Map(Arc<MapType>),
    Object(Arc<dyn ObjectType>),
}

/// An object with the name of its type.
pub struct Struct<'a> {
    pub name: Arc<str>,
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

/// Fields that are found when they are asked for: the variables of a policy, evaluated when first used.
pub trait Fields<'a> {
    /// The name of its type.
    fn type_name(&self) -> &str;

    /// A field; `None` where there is none. What finding it costs is spent from the budget.
    fn get(&self, name: &str, budget: &mut Budget) -> Option<Result<Value<'a>, EvalError>>;
}

/// The key of a map. Whole numbers are equal across their types.
#[derive(Clone)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Str<'a>),
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(s) => s,
            Self::Shared(s) => s,
        }
    }
}

impl From<String> for Str<'_> {
    fn from(s: String) -> Self {
        Self::Shared(s.into())
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(s: &'a str) -> Self {
        Self::Borrowed(s)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(s: &'a str) -> Self {
        Self::String(Str::Borrowed(s))
    }
}

impl From<String> for Value<'_> {
    fn from(s: String) -> Self {
        Self::String(s.into())
    }
}

impl Key<'_> {
    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Self::Bool(b) => (0, i128::from(*b), ""),
            Self::Int(i) => (1, i128::from(*i), ""),
            Self::Uint(u) => (1, i128::from(*u), ""),
            Self::String(s) => (2, 0, s),
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

impl<'a> Key<'a> {
    /// The key that a value is; `None` for what can be no key. A double that is whole is its number.
    pub fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(i) => Self::Int(*i),
            Value::Uint(u) => Self::Uint(*u),
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9.2e18 => Self::Int(*d as i64),
            Value::String(s) => Self::String(s.clone()),
            _ => return None,
        })
    }

    pub fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => Value::Int(*i),
            Self::Uint(u) => Value::Uint(*u),
            Self::String(s) => Value::String(s.clone()),
        }
    }
}

impl<'a> Value<'a> {
    /// A tree as its schema sees it. Where the tree does not fit the schema, it is read as it is.
    pub fn from_json(json: &'a Json, ty: &Type) -> Self {
        match (json, ty) {
            (Json::Null, _) => Self::Null,
            (Json::Bool(b), _) => Self::Bool(*b),
            (Json::Number(n), Type::Double) => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            (Json::Number(n), _) => match (n.as_i64(), n.as_f64()) {
                (Some(i), _) => Self::Int(i),
                (None, Some(d)) if matches!(ty, Type::Int) && d.fract() == 0.0 && d.abs() < 9.2e18 => {
                    Self::Int(d as i64)
                }
                (None, d) => Self::Double(d.unwrap_or(f64::NAN)),
            },
            (Json::String(s), Type::Timestamp) => {
                time::parse(s).map_or(Self::from(s.as_str()), Self::Timestamp)
            }
            (Json::String(s), Type::Duration) => {
                duration::parse(s).map_or(Self::from(s.as_str()), Self::Duration)
            }
            (Json::String(s), Type::Bytes) => base64::engine::general_purpose::STANDARD
                .decode(s)
                .map_or(Self::from(s.as_str()), |bytes| Self::Bytes(bytes.into())),
            (Json::String(s), _) => Self::from(s.as_str()),
            (Json::Array(items), Type::List(list)) => Self::List(List::Json(items, Some(Arc::clone(list)))),
            (Json::Array(items), _) => Self::List(List::Json(items, None)),
            (Json::Object(map), Type::Map(ty)) => Self::Map(Map::Json(map, Shape::Map(Arc::clone(ty)))),
            (Json::Object(map), Type::Object(ty)) => Self::Map(Map::Json(map, Shape::Object(Arc::clone(ty)))),
            (Json::Object(map), _) => Self::Map(Map::Json(map, Shape::Unknown)),
        }
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(List::Made(Rc::new(items)))
    }

    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::List(_) => "list",
            Self::Map(Map::Json(_, Shape::Object(ty))) => ty.name(),
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Struct(s) => &s.name,
            Self::Object(o) => o.type_name(),
            Self::Opaque(o) => o.type_name(),
        }
    }

    /// Code points, bytes or items; one for what has no size.
    pub(crate) fn size(&self) -> u64 {
        (match self {
            Self::String(s) => s.chars().count(),
            Self::Bytes(b) => b.len(),
            Self::List(l) => l.len(),
            Self::Map(m) => m.len(),
            Self::Optional(Some(of)) => return of.size(),
            Self::Opaque(o) => o.size(),
            _ => 1,
        }) as u64
    }

    /// CEL's equality: numbers across their types, nothing else across types.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) | (Self::Type(a), Self::Type(b)) => **a == **b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::List(a), Self::List(b)) => a.equals(b),
            (Self::Map(a), Self::Map(b)) => a.equals(b),
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Self::Struct(a), Self::Struct(b)) => {
                let field = |name: &str| b.fields.iter().find(|(n, _)| **n == *name);
                a.name == b.name
                    && a.fields.len() == b.fields.len()
                    && a.fields.iter().all(|(name, v)| field(name).is_some_and(|(_, w)| v.equals(w)))
            }
            (Self::Object(a), Self::Object(b)) => Rc::ptr_eq(a, b),
            (Self::Opaque(a), Self::Opaque(b)) => a.equals(b),
            (a, b) => numbers(a, b) == Some(Ordering::Equal),
        }
    }

    /// The order of two values of types that have one.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some((**a).cmp(&**b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (a, b) => numbers(a, b),
        }
    }

    /// The value as JSON: what a patch or an apply configuration writes. `None` for what JSON cannot say.
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Self::Null => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Int(i) => Json::from(*i),
            Self::Uint(u) => Json::from(*u),
            Self::Double(d) if d.fract() == 0.0 && d.abs() < 9.0e15 => Json::from(*d as i64),
            Self::Double(d) => Json::Number(serde_json::Number::from_f64(*d)?),
            Self::String(s) => Json::String((**s).to_owned()),
            Self::Bytes(b) => Json::String(base64::engine::general_purpose::STANDARD.encode(b)),
            Self::Timestamp(t) => Json::String(t.to_string()),
            Self::Duration(d) => Json::String(duration::format(*d)),
            Self::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Self::List(List::Made(items)) => {
                Json::Array(items.iter().map(Self::to_json).collect::<Option<_>>()?)
            }
            Self::Map(Map::Json(map, _)) => Json::Object((*map).clone()),
            Self::Map(Map::Made(map) | Map::Open(map)) => Json::Object(
                map.iter()
                    .map(|(k, v)| match k {
                        Key::String(s) => Some(((**s).to_owned(), v.to_json()?)),
                        _ => None,
                    })
                    .collect::<Option<_>>()?,
            ),
            Self::Struct(s) => Json::Object(
                s.fields.iter().map(|(k, v)| Some((k.to_string(), v.to_json()?))).collect::<Option<_>>()?,
            ),
            Self::Optional(Some(of)) => of.to_json()?,
            Self::Optional(None) | Self::Type(_) | Self::Object(_) | Self::Opaque(_) => return None,
        })
    }
}

/// The order of two numbers; `None` beside a NaN and for what is no number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |v: &Value<'_>| match v {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => double_to_whole(*a, whole(b)?),
        (a, Value::Double(b)) => double_to_whole(*b, whole(a)?).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

/// As upstream: a number of 64 bits is compared as the double that is nearest to it.
fn double_to_whole(double: f64, whole: i128) -> Option<Ordering> {
    double.partial_cmp(&(whole as f64))
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(items, ty) => items
                .get(index)
                .map(|item| Value::from_json(item, ty.as_ref().map_or(&Type::Dyn, |t| &t.item))),
            Self::Made(items) => items.get(index).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    fn kind(&self) -> &ListKind {
        match self {
            Self::Json(_, Some(ty)) => &ty.kind,
            _ => &ListKind::Atomic,
        }
    }

    fn equals(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        match if *self.kind() == ListKind::Atomic { other.kind() } else { self.kind() } {
            ListKind::Atomic => self.iter().zip(other.iter()).all(|(a, b)| a.equals(&b)),
            ListKind::Set => self.iter().all(|a| other.iter().any(|b| a.equals(&b))),
            ListKind::Map(keys) => {
                let found = |a: &Value<'a>| other.iter().find(|b| same_keys(a, b, keys));
                self.iter().all(|a| found(&a).is_some_and(|b| a.equals(&b)))
            }
        }
    }

    /// The items of both, as the kind of the list wants them joined.
    pub(crate) fn plus(&self, other: &Self) -> Value<'a> {
        let mut items: Vec<_> = self.iter().collect();
        match self.kind() {
            ListKind::Atomic => items.extend(other.iter()),
            ListKind::Set => {
                for b in other.iter() {
                    if !items.iter().any(|a| a.equals(&b)) {
                        items.push(b);
                    }
                }
            }
            ListKind::Map(keys) => {
                for b in other.iter() {
                    match items.iter_mut().find(|a| same_keys(a, &b, keys)) {
                        Some(a) => *a = b,
                        None => items.push(b),
                    }
                }
            }
        }
        Value::list(items)
    }
}

fn same_keys(a: &Value<'_>, b: &Value<'_>, keys: &[String]) -> bool {
    let (Value::Map(a), Value::Map(b)) = (a, b) else { return false };
    keys.iter().all(|key| match (a.json(key), b.json(key)) {
        (Some(a), Some(b)) => a == b,
        (a, b) => a.is_none() && b.is_none(),
    })
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(map, _) => map.len(),
            Self::Made(map) | Self::Open(map) => map.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a key is one of its own.
    pub fn has(&self, key: &Key<'a>) -> bool {
        match self {
            Self::Open(map) => map.contains_key(key),
            Self::Json(..) | Self::Made(_) => self.get(key).is_some(),
        }
    }

    /// The tree below a property, where this is part of one.
    fn json(&self, name: &str) -> Option<&'a Json> {
        match self {
            Self::Json(map, _) => map.get(name),
            Self::Made(_) | Self::Open(_) => None,
        }
    }

    /// The value of a key, or of a field by the name that expressions use.
    pub fn get(&self, key: &Key<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Self::Made(map), key) => map.get(key).cloned(),
            (Self::Open(map), key) => {
                let nothing = || Value::Map(Map::Made(Rc::default()));
                Some(map.get(key).cloned().unwrap_or_else(nothing))
            }
            (Self::Json(map, Shape::Unknown), Key::String(s)) => {
                map.get(&**s).map(|json| Value::from_json(json, &Type::Dyn))
            }
            (Self::Json(map, Shape::Map(ty)), Key::String(s)) => {
                map.get(&**s).map(|json| Value::from_json(json, &ty.value))
            }
            (Self::Json(map, Shape::Object(ty)), Key::String(s)) => {
                let field = ty.field(s)?;
                map.get(&*field.name).map(|json| Value::from_json(json, &field.ty))
            }
            (Self::Json(..), _) => None,
        }
    }

    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Self::Json(map, _) => map.keys().map(|k| Key::String(Str::Borrowed(k))).collect(),
            Self::Made(map) | Self::Open(map) => map.keys().cloned().collect(),
        }
    }

    fn equals(&self, other: &Self) -> bool {
        if let (Self::Json(a, Shape::Object(ty)), Self::Json(b, Shape::Object(_))) = (self, other) {
            return a.len() == b.len()
                && a.iter().all(|(name, v)| {
                    let ty =
                        crate::types::escape(name).and_then(|n| ty.field(&n)).map_or(Type::Dyn, |f| f.ty);
                    b.get(name).is_some_and(|w| Value::from_json(v, &ty).equals(&Value::from_json(w, &ty)))
                });
        }
        self.len() == other.len()
            && self.keys().iter().all(|key| match (self.get(key), other.get(key)) {
                (Some(a), Some(b)) => other.has(key) && a.equals(&b),
                _ => false,
            })
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Uint(u) => write!(f, "{u}u"),
            Self::Double(d) => write!(f, "{d:?}"),
            Self::String(s) => write!(f, "{:?}", &**s),
            Self::Bytes(b) => write!(f, "b{:?}", String::from_utf8_lossy(b)),
            Self::Timestamp(t) => write!(f, "timestamp({t})"),
            Self::Duration(d) => write!(f, "duration({})", duration::format(*d)),
            Self::Type(name) => f.write_str(name),
            Self::List(list) => f.debug_list().entries(list.iter()).finish(),
            Self::Map(map) => {
                let entries = map.keys().into_iter().map(|k| (k.value(), map.get(&k)));
                f.debug_map().entries(entries.filter_map(|(k, v)| Some((k, v?)))).finish()
            }
            Self::Optional(Some(of)) => write!(f, "optional.of({of:?})"),
            Self::Optional(None) => f.write_str("optional.none()"),
            Self::Struct(s) => {
                let mut out = f.debug_struct(&s.name);
                for (name, value) in &s.fields {
                    out.field(name, value);
                }
                out.finish()
            }
            Self::Object(o) => f.write_str(o.type_name()),
            Self::Opaque(o) => write!(f, "{o:?}"),
        }
    }
}
