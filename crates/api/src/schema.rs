//! The structure of objects: fields, types, how lists and maps merge.
//!
//! The structure of the built-in kinds is distilled by `cargo xtask schema` into `schema/v1_37.txt`. A line
//! that starts in the first column opens an object type, the lines below it are its fields:
//!
//! ```text
//! core.v1.Container [atomic] [group/version/kind ...]
//!  name type [flags] [patch=strategy] [key=merge key]
//! ```
//!
//! Types: `s` string, `i` int32, `l` int64, `b` bool, `d` double, `y` base64 bytes, `t` Time, `u` MicroTime,
//! `q` Quantity, `x` IntOrString, `o` anything, `@name` an object, `{}T` a map (`{=}T` replaced as a whole),
//! `[]T` an atomic list, `[=]T` a set, `[a,b]T` a list that is a map by the keys a and b, `T|[]U` a T or such a
//! list, `T|b` a T or a boolean.
//! Flags: `!` required, `~` left out when zero or empty, `=` written even when zero.
//!
//! The versions that upstream has removed stand in `schema/removed.txt`, from `cargo xtask removed`. There a `+` before
//! a name opens a type that is known already and gets more fields.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::kind::Str;

mod build;

pub use build::{Builder, Described};

static ARTEFACTS: [&str; 2] = [include_str!("../schema/v1_37.txt"), include_str!("../schema/removed.txt")];

/// The values that stand for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    /// Base64 text.
    Bytes,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    Quantity,
    IntOrString,
}

/// An object or something else: what a JSON schema says of items.
#[derive(Clone, Copy, Debug)]
pub struct Either<'s> {
    pub object: TypeRef<'s>,
    /// What it may be instead; a boolean where this is none.
    pub list: Option<TypeRef<'s>>,
}

/// What a type looks like.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'s> {
    Scalar(Scalar),
    /// Any JSON, kept as it is.
    Any,
    Object(Object<'s>),
    Map(MapType<'s>),
    List(List<'s>),
}

/// A type in a schema. Cheap to copy.
#[derive(Clone, Copy)]
pub struct TypeRef<'s> {
    schema: &'s Schema,
    node: u32,
}

/// An object with named fields.
#[derive(Clone, Copy)]
pub struct Object<'s> {
    schema: &'s Schema,
    node: u32,
}

/// A map from names to values of one type.
#[derive(Clone, Copy, Debug)]
pub struct MapType<'s> {
    pub value: TypeRef<'s>,
    /// Patches and server-side apply replace the map as a whole.
    pub atomic: bool,
}

/// A list of values of one type.
#[derive(Clone, Copy, Debug)]
pub struct List<'s> {
    pub item: TypeRef<'s>,
    pub kind: ListKind<'s>,
}

/// How a list merges in server-side apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind<'s> {
    /// As a whole.
    Atomic,
    /// By value.
    Set,
    /// Items are known by these fields.
    Map(&'s [Str]),
}

/// Whether a field is on the wire when it is zero: 0, false, "", [], {}.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// As it was given: zero and absent are different things.
    Kept,
    /// Left out.
    Omitted,
    /// Written, also when it was not given (scalars and objects; lists and maps are `Kept` instead).
    Written,
}

/// How strategic merge treats a field. `Replace` and `Merge` for lists; `RetainKeys` for objects whose
/// fields exclude each other, and which may come with merge as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

/// A field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: Str,
    node: u32,
    pub required: bool,
    pub zero: Zero,
    pub patch: PatchStrategy,
    /// The key that strategic merge finds list items by.
    pub merge_key: Option<Str>,
}

impl Field {
    /// Its type; `of` is the object that the field was looked up in.
    pub fn ty<'s>(&self, of: Object<'s>) -> TypeRef<'s> {
        TypeRef { schema: of.schema, node: self.node }
    }
}

#[derive(Debug)]
enum Node {
    Scalar(Scalar),
    Any,
    Either {
        one: u32,
        /// Its list; a boolean where it has none.
        other: Option<u32>,
    },
    Object(ObjectNode),
    Map {
        value: u32,
        atomic: bool,
    },
    List {
        item: u32,
        kind: OwnedListKind,
    },
    /// A type of the built-in schema in another one: `ObjectMeta`.
    Builtin(TypeRef<'static>),
}

/// How the values of one type are read in a schema that a CustomResourceDefinition brings: what has the wrong
/// type is kept, for validation to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lenience {
    /// As those of built-in types.
    Strict,
    /// Null is as good as absent.
    Absent,
    /// Null is a value.
    Nullable,
}

#[derive(Debug, Default)]
struct ObjectNode {
    name: Str,
    atomic: bool,
    /// Fields that it does not name are kept.
    open: bool,
    /// What a field is that is left out, where it is a key of list items.
    key_defaults: Vec<(Str, Value)>,
    /// Its part of the schema's fields.
    first: u32,
    end: u32,
    /// Open-addressed: places among the fields by the hash of their names, [`FREE`] where there is none.
    /// Empty for objects with more fields than a byte counts.
    table: Box<[u8]>,
    /// The places of the fields that are written even when zero.
    written: Box<[u8]>,
}

const FREE: u8 = u8::MAX;

impl ObjectNode {
    /// Indexes the fields, of which there are at most 254.
    fn index(&mut self, fields: &[Field]) {
        if fields.len() >= usize::from(FREE) {
            return;
        }
        let mut table = vec![FREE; (fields.len() * 2).next_power_of_two()].into_boxed_slice();
        let mut written = Vec::new();
        for (place, field) in (0_u8..).zip(fields) {
            let mut at = hash(&field.name) & (table.len() - 1);
            while table[at] != FREE {
                at = (at + 1) & (table.len() - 1);
            }
            table[at] = place;
            if field.zero == Zero::Written {
                written.push(place);
            }
        }
        self.table = table;
        self.written = written.into();
    }
}

/// Spreads field names by their length and their first eight bytes.
fn hash(name: &str) -> usize {
    let mut head = [0; 8];
    let length = name.len().min(8);
    head[..length].copy_from_slice(&name.as_bytes()[..length]);
    let mixed = (u64::from_le_bytes(head) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as usize
}

#[derive(Debug)]
enum OwnedListKind {
    Atomic,
    Set,
    Map(Box<[Str]>),
}

/// An arena of types.
#[derive(Debug, Default)]
pub struct Schema {
    nodes: Vec<Node>,
    /// The fields of each object stand together, sorted by name.
    fields: Vec<Field>,
    /// By kind, so that a look-up borrows its key: group, version and node of each.
    roots: HashMap<Str, Vec<(Str, Str, u32)>>,
    names: HashMap<Str, u32>,
    /// Of each node; empty for the built-in schema, all of whose types are strict.
    lenience: Vec<Lenience>,
}

impl Schema {
    /// The structure of the built-in kinds, read once from the artefact.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Schema> = OnceLock::new();
        BUILTIN.get_or_init(|| reader::read(&ARTEFACTS))
    }

    /// The type of a built-in kind.
    pub fn of(group: &str, version: &str, kind: &str) -> Option<TypeRef<'static>> {
        Self::builtin().root(group, version, kind)
    }

    /// The type of the kind that this schema describes under a group and version.
    pub fn root(&self, group: &str, version: &str, kind: &str) -> Option<TypeRef<'_>> {
        let found = self.roots.get(kind)?.iter().find(|(g, v, _)| g == group && v == version)?;
        Some(TypeRef { schema: self, node: found.2 })
    }

    /// The type that the artefact calls `name`: `core.v1.PodSpec`.
    pub fn named(&self, name: &str) -> Option<TypeRef<'_>> {
        self.names.get(name).map(|&node| TypeRef { schema: self, node })
    }

    /// Every kind with its group and version.
    pub fn roots(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.roots
            .iter()
            .flat_map(|(k, all)| all.iter().map(|(g, v, _)| (g.as_ref(), v.as_ref(), k.as_ref())))
    }
}

impl<'s> TypeRef<'s> {
    pub fn shape(self) -> Shape<'s> {
        let at = |node: u32| TypeRef { schema: self.schema, node };
        match &self.schema.nodes[self.node as usize] {
            Node::Scalar(s) => Shape::Scalar(*s),
            Node::Any | Node::Either { .. } => Shape::Any,
            Node::Builtin(ty) => ty.shape(),
            Node::Object(_) => Shape::Object(Object { schema: self.schema, node: self.node }),
            Node::Map { value, atomic } => Shape::Map(MapType { value: at(*value), atomic: *atomic }),
            Node::List { item, kind } => Shape::List(List {
                item: at(*item),
                kind: match kind {
                    OwnedListKind::Atomic => ListKind::Atomic,
                    OwnedListKind::Set => ListKind::Set,
                    OwnedListKind::Map(keys) => ListKind::Map(keys),
                },
            }),
        }
    }

    /// What a value may be that is one of two things. Its shape is [`Shape::Any`], for only decoding minds.
    pub fn either(self) -> Option<Either<'s>> {
        let at = |node: u32| TypeRef { schema: self.schema, node };
        match &self.schema.nodes[self.node as usize] {
            Node::Either { one, other } => Some(Either { object: at(*one), list: other.map(at) }),
            _ => None,
        }
    }

    /// Whether values of a wrong type are kept, for validation to tell.
    pub fn is_lenient(self) -> bool {
        self.lenience() != Lenience::Strict
    }

    /// Whether null is a value, and not the absence of one.
    pub fn is_nullable(self) -> bool {
        self.lenience() == Lenience::Nullable
    }

    fn lenience(self) -> Lenience {
        self.schema.lenience.get(self.node as usize).copied().unwrap_or(Lenience::Strict)
    }

    /// The object, where this is one.
    pub fn object(self) -> Option<Object<'s>> {
        match self.shape() {
            Shape::Object(o) => Some(o),
            _ => None,
        }
    }

    /// The list, where this is one.
    pub fn list(self) -> Option<List<'s>> {
        match self.shape() {
            Shape::List(l) => Some(l),
            _ => None,
        }
    }

    /// The type of a field, where this is an object that has it.
    pub fn field(self, name: &str) -> Option<TypeRef<'s>> {
        let object = self.object()?;
        object.field(name).map(|f| f.ty(object))
    }

    /// The type at a path of field names; a list's items and a map's values are passed through by any name.
    pub fn at(self, path: &[&str]) -> Option<TypeRef<'s>> {
        path.iter().try_fold(self, |ty, name| match ty.shape() {
            Shape::Object(o) => o.field(name).map(|f| f.ty(o)),
            Shape::Map(m) => Some(m.value),
            Shape::List(l) => Some(l.item),
            Shape::Any => Some(ty),
            Shape::Scalar(_) => None,
        })
    }
}

impl std::fmt::Debug for TypeRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TypeRef({})", self.node)
    }
}

impl<'s> Object<'s> {
    fn node(self) -> &'s ObjectNode {
        match &self.schema.nodes[self.node as usize] {
            Node::Object(object) => object,
            // Objects are only made from object nodes.
            _ => unreachable!("an Object refers to an object node"),
        }
    }

    /// `core.v1.PodSpec`.
    pub fn name(self) -> &'s str {
        &self.node().name
    }

    /// Server-side apply replaces it as a whole.
    pub fn atomic(self) -> bool {
        self.node().atomic
    }

    /// Fields that it does not name are kept as they are.
    pub fn open(self) -> bool {
        self.node().open
    }

    /// All fields, sorted by name.
    pub fn fields(self) -> &'s [Field] {
        let node = self.node();
        &self.schema.fields[node.first as usize..node.end as usize]
    }

    pub fn field(self, name: &str) -> Option<&'s Field> {
        self.position(name).map(|i| &self.fields()[i])
    }

    /// Where a field stands among [`Self::fields`].
    pub fn position(self, name: &str) -> Option<usize> {
        let (fields, table) = (self.fields(), &self.node().table);
        if table.is_empty() {
            return fields.binary_search_by(|f| f.name.as_ref().cmp(name)).ok();
        }
        let mut at = hash(name) & (table.len() - 1);
        // At least half of the table is free, so the search ends.
        while table[at] != FREE {
            let place = usize::from(table[at]);
            if fields[place].name == name {
                return Some(place);
            }
            at = (at + 1) & (table.len() - 1);
        }
        None
    }

    /// The fields that are on the wire even when they are zero.
    pub fn written(self) -> impl Iterator<Item = &'s Field> {
        let fields = self.fields();
        self.node().written.iter().map(move |place| &fields[usize::from(*place)])
    }

    /// The value that an item's key has when the item leaves it out: a port without protocol is a TCP port.
    pub fn key_default(self, key: &str) -> Option<Value> {
        match (self.name(), key) {
            ("core.v1.ContainerPort" | "core.v1.ServicePort", "protocol") => Some("TCP".into()),
            _ => self.node().key_defaults.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()),
        }
    }
}

impl std::fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({})", self.name())
    }
}

/// Reads the artefact. It is part of the binary and checked by a test, so a broken line is a bug, not input.
mod reader {
    use super::{
        Cow, Field, HashMap, Node, ObjectNode, OwnedListKind, PatchStrategy, Scalar, Schema, Str, Zero,
    };

    pub(super) fn read(texts: &[&'static str]) -> Schema {
        let mut reader = Reader::default();
        // A field may name a type that stands further down, so the objects get their nodes first.
        let lines = || texts.iter().flat_map(|text| text.lines());
        for line in lines().filter(|l| !l.starts_with([' ', '+'])) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let mut atomic = false;
            let node = reader.schema.nodes.len() as u32;
            for word in words {
                let mut gvk = word.splitn(3, '/');
                match (gvk.next(), gvk.next(), gvk.next()) {
                    (Some(group), Some(version), Some(kind)) => {
                        let root = (group.into(), version.into(), node);
                        reader.schema.roots.entry(kind.into()).or_default().push(root);
                    }
                    _ => atomic = word == "atomic",
                }
            }
            reader.schema.names.insert(name.into(), node);
            let object = ObjectNode { name: name.into(), atomic, ..ObjectNode::default() };
            reader.schema.nodes.push(Node::Object(object));
        }
        let mut object = None;
        let mut opened = 0..;
        for line in lines() {
            if let Some(field) = line.strip_prefix(' ') {
                reader.field(field);
                continue;
            }
            reader.close(object);
            object = match line.strip_prefix('+') {
                Some(name) => Some(reader.reopen(name)),
                None => opened.next(),
            };
        }
        reader.close(object);
        reader.schema
    }

    #[derive(Default)]
    struct Reader {
        schema: Schema,
        /// Types are shared by their notation.
        types: HashMap<&'static str, u32>,
        first: u32,
    }

    impl Reader {
        fn close(&mut self, object: Option<usize>) {
            let fields_end = self.schema.fields.len() as u32;
            if let Some(Node::Object(object)) = object.and_then(|o| self.schema.nodes.get_mut(o)) {
                let fields = &mut self.schema.fields[self.first as usize..];
                fields.sort_by(|a, b| a.name.cmp(&b.name));
                (object.first, object.end) = (self.first, fields_end);
                object.index(fields);
            }
            self.first = fields_end;
        }

        /// Goes on with an object that is closed already: its fields move to where the others will stand.
        fn reopen(&mut self, name: &str) -> usize {
            let node = self.schema.names.get(name).map(|node| *node as usize);
            let Some((node, Node::Object(object))) = node.and_then(|n| Some((n, self.schema.nodes.get(n)?)))
            else {
                unreachable!("{name} is reopened in the schema artefact before it is there")
            };
            let fields = self.schema.fields[object.first as usize..object.end as usize].to_vec();
            self.schema.fields.extend(fields);
            node
        }

        fn field(&mut self, line: &'static str) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let node = self.ty(words.next().unwrap_or_default());
            let mut field = Field {
                name: Cow::Borrowed(name),
                node,
                required: false,
                zero: Zero::Kept,
                patch: PatchStrategy::default(),
                merge_key: None,
            };
            for word in words {
                if let Some(strategy) = word.strip_prefix("patch=") {
                    for s in strategy.split(',') {
                        match s {
                            "merge" => field.patch.merge = true,
                            "replace" => field.patch.replace = true,
                            "retainKeys" => field.patch.retain_keys = true,
                            other => unreachable!("patch strategy {other} in the schema artefact"),
                        }
                    }
                } else if let Some(key) = word.strip_prefix("key=") {
                    field.merge_key = Some(key.into());
                } else {
                    for flag in word.chars() {
                        match flag {
                            '!' => field.required = true,
                            '~' => field.zero = Zero::Omitted,
                            '=' => field.zero = Zero::Written,
                            other => unreachable!("flag {other} in the schema artefact"),
                        }
                    }
                }
            }
            self.schema.fields.push(field);
        }

        fn ty(&mut self, notation: &'static str) -> u32 {
            if let Some(&node) = self.types.get(notation) {
                return node;
            }
            let either = notation.split_once('|').filter(|(one, _)| one.starts_with('@'));
            if let Some((one, other)) = either {
                let one = self.ty(one);
                let other = (other != "b").then(|| self.ty(other));
                let node = self.push(Node::Either { one, other });
                self.types.insert(notation, node);
                return node;
            }
            let node = match notation.as_bytes().first() {
                Some(b'@') => self.schema.names.get(&notation[1..]).copied(),
                Some(b'{') => {
                    let (how, value) = notation[1..].split_once('}').unwrap_or_default();
                    let value = self.ty(value);
                    Some(self.push(Node::Map { value, atomic: how == "=" }))
                }
                Some(b'[') => {
                    let (how, item) = notation[1..].split_once(']').unwrap_or_default();
                    let item = self.ty(item);
                    let kind = match how {
                        "" => OwnedListKind::Atomic,
                        "=" => OwnedListKind::Set,
                        keys => OwnedListKind::Map(keys.split(',').map(Str::from).collect()),
                    };
                    Some(self.push(Node::List { item, kind }))
                }
                _ => scalar(notation).map(|node| self.push(node)),
            };
            let node = node.unwrap_or_else(|| unreachable!("type {notation} in the schema artefact"));
            self.types.insert(notation, node);
            node
        }

        fn push(&mut self, node: Node) -> u32 {
            self.schema.nodes.push(node);
            self.schema.nodes.len() as u32 - 1
        }
    }

    fn scalar(notation: &str) -> Option<Node> {
        Some(Node::Scalar(match notation {
            "s" => Scalar::String,
            "i" => Scalar::Int32,
            "l" => Scalar::Int64,
            "b" => Scalar::Bool,
            "d" => Scalar::Double,
            "y" => Scalar::Bytes,
            "t" => Scalar::Time,
            "u" => Scalar::MicroTime,
            "q" => Scalar::Quantity,
            "x" => Scalar::IntOrString,
            "o" => return Some(Node::Any),
            _ => return None,
        }))
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
