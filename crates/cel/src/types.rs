//! The types of expressions.

use std::fmt;
use std::sync::Arc;

use tiphys_api::names;

/// A type. Cheap to clone. Two object types are the same when their names are.
#[derive(Clone, Debug)]
pub enum Type {
    /// Anything; what it may do is found out when it runs.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// The type of a type.
    Type,
    List(Arc<ListType>),
    Map(Arc<MapType>),
    Object(Arc<dyn ObjectType>),
    Optional(Arc<Type>),
    /// A type of Kubernetes' libraries, known by its name.
    Opaque(&'static str),
    /// A type that a signature leaves open: its letter.
    Param(char),
    /// A type that is being found out: its number.
    Var(usize),
    /// What an expression with a mistake has; fits everywhere, so that one mistake is told once.
    Error,
}

/// The type of a list.
#[derive(Clone, Debug)]
pub struct ListType {
    pub item: Type,
    pub kind: ListKind,
}

/// How two lists are compared and added, by `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    /// Without regard to order; addition leaves out what is there already.
    Set,
    /// By these fields of each item, without regard to order; addition replaces items of the same keys.
    Map(Vec<String>),
}

/// The type of a map.
#[derive(Clone, Debug)]
pub struct MapType {
    pub key: Type,
    pub value: Type,
}

/// An object with declared fields: a built-in kind, a structural schema, the variables of a policy.
pub trait ObjectType: fmt::Debug + Send + Sync {
    /// What tells it from other types; shown in messages.
    fn name(&self) -> &str;

    /// A field by the name that expressions use (see [`escape`]).
    fn field(&self, name: &str) -> Option<Field>;
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name in JSON.
    pub name: Arc<str>,
    pub ty: Type,
}

impl Type {
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(ListType { item, kind: ListKind::Atomic }))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new(MapType { key, value }))
    }

    pub fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// The same type exactly, with nothing left to be found out.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a.item.same(&b.item),
            (Self::Map(a), Self::Map(b)) => a.key.same(&b.key) && a.value.same(&b.value),
            (Self::Object(a), Self::Object(b)) => a.name() == b.name(),
            (Self::Optional(a), Self::Optional(b)) => a.same(b),
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Param(a), Self::Param(b)) => a == b,
            (Self::Var(a), Self::Var(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    /// Reads the notation of signatures: `list(string)`, `map(A, B)`, `optional(A)`, `int`, `kubernetes.URL`.
    /// A single capital letter is left open.
    pub(crate) fn read(text: &'static str) -> Self {
        let text = text.trim();
        let inner = |prefix: &str| text.strip_prefix(prefix)?.strip_suffix(')');
        if let Some(item) = inner("list(") {
            return Self::list(Self::read(item));
        }
        if let Some(of) = inner("optional(") {
            return Self::optional(Self::read(of));
        }
        if let Some(both) = inner("map(") {
            let (key, value) = both.split_once(',').unwrap_or((both, "dyn"));
            return Self::map(Self::read(key), Self::read(value));
        }
        match text {
            "dyn" => Self::Dyn,
            "null" => Self::Null,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "timestamp" => Self::Timestamp,
            "duration" => Self::Duration,
            "type" => Self::Type,
            one if one.len() == 1 => Self::Param(one.chars().next().unwrap_or('A')),
            opaque => Self::Opaque(opaque),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn | Self::Var(_) => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::Type => "type",
            Self::Error => "!error!",
            Self::Opaque(name) => name,
            Self::Param(letter) => return write!(f, "{letter}"),
            Self::Object(object) => return f.write_str(object.name()),
            Self::List(list) => return write!(f, "list({})", list.item),
            Self::Map(map) => return write!(f, "map({}, {})", map.key, map.value),
            Self::Optional(of) => return write!(f, "optional_type({of})"),
        })
    }
}

/// The name that expressions use for a property of a schema: `__namespace__` for `namespace`,
/// `foo__dash__bar` for `foo-bar`. `None` where a property has no such name.
///
/// KEP-2876: letters, digits and `_` stand for themselves; `__`, `.`, `-` and `/` are spelt out.
pub fn escape(property: &str) -> Option<String> {
    if names::is_cel_word(property) {
        return Some(format!("__{property}__"));
    }
    if property.is_empty() || property.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut name = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            name.push_str("__underscores__");
            rest = after;
            continue;
        }
        match c {
            '.' => name.push_str("__dot__"),
            '-' => name.push_str("__dash__"),
            '/' => name.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
            _ => return None,
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(name)
}

/// An object type whose fields are listed.
#[derive(Debug)]
pub struct Declared {
    name: String,
    fields: Vec<(String, Field)>,
}

impl Declared {
    /// A type of properties in JSON; those that have no name in expressions cannot be used there.
    pub fn new<N: Into<Arc<str>>>(name: &str, fields: impl IntoIterator<Item = (N, Type)>) -> Arc<Self> {
        let mut fields: Vec<_> = fields
            .into_iter()
            .filter_map(|(name, ty)| {
                let name = name.into();
                Some((escape(&name)?, Field { name, ty }))
            })
            .collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        Arc::new(Self { name: name.to_owned(), fields })
    }

    /// A type whose fields are called in expressions as in JSON, such as `namespace`.
    pub fn plain<N: Into<Arc<str>>>(name: &str, fields: impl IntoIterator<Item = (N, Type)>) -> Arc<Self> {
        let field = |(name, ty): (N, Type)| {
            let name = name.into();
            (name.to_string(), Field { name, ty })
        };
        let mut fields: Vec<_> = fields.into_iter().map(field).collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        Arc::new(Self { name: name.to_owned(), fields })
    }
}

impl ObjectType for Declared {
    fn name(&self) -> &str {
        &self.name
    }

    fn field(&self, name: &str) -> Option<Field> {
        let at = self.fields.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        Some(self.fields[at].1.clone())
    }
}
