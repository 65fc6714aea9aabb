//! Schemas that are not in the artefact: those that CustomResourceDefinitions bring.

use serde_json::Value;

use super::{Field, Lenience, Node, ObjectNode, OwnedListKind, PatchStrategy, Schema, TypeRef, Zero};
use crate::kind::Str;

/// Makes a schema node by node, the inner ones first.
#[derive(Debug, Default)]
pub struct Builder(Schema);

/// A node of the schema that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described(u32);

impl Builder {
    fn push(&mut self, node: Node, lenience: Lenience) -> Described {
        self.0.nodes.push(node);
        self.0.lenience.push(lenience);
        Described(self.0.nodes.len() as u32 - 1)
    }

    fn lenient(&mut self, node: Node, nullable: bool) -> Described {
        self.push(node, if nullable { Lenience::Nullable } else { Lenience::Absent })
    }

    /// Any value, kept as it is.
    pub fn any(&mut self, nullable: bool) -> Described {
        self.lenient(Node::Any, nullable)
    }

    /// A type of the built-in schema.
    pub fn builtin(&mut self, ty: TypeRef<'static>) -> Described {
        self.push(Node::Builtin(ty), Lenience::Strict)
    }

    pub fn map(&mut self, value: Described, atomic: bool, nullable: bool) -> Described {
        self.lenient(Node::Map { value: value.0, atomic }, nullable)
    }

    pub fn atomic_list(&mut self, item: Described, nullable: bool) -> Described {
        self.lenient(Node::List { item: item.0, kind: OwnedListKind::Atomic }, nullable)
    }

    pub fn set(&mut self, item: Described, nullable: bool) -> Described {
        self.lenient(Node::List { item: item.0, kind: OwnedListKind::Set }, nullable)
    }

    /// A list whose items are known by their `keys`.
    pub fn keyed_list(&mut self, item: Described, keys: Vec<Str>, nullable: bool) -> Described {
        self.lenient(Node::List { item: item.0, kind: OwnedListKind::Map(keys.into()) }, nullable)
    }

    /// An object with these fields, and others where it is `open`. `defaults` are those of its fields that can
    /// be keys of list items.
    pub fn object(
        &mut self,
        fields: Vec<(Str, Described)>,
        open: bool,
        atomic: bool,
        nullable: bool,
        defaults: Vec<(Str, Value)>,
    ) -> Described {
        let first = self.0.fields.len() as u32;
        let mut made: Vec<Field> = fields
            .into_iter()
            .map(|(name, node)| Field {
                name,
                node: node.0,
                required: false,
                zero: Zero::Kept,
                patch: PatchStrategy::default(),
                merge_key: None,
            })
            .collect();
        made.sort_by(|a, b| a.name.cmp(&b.name));
        let mut object = ObjectNode { atomic, open, key_defaults: defaults, first, ..ObjectNode::default() };
        object.index(&made);
        self.0.fields.append(&mut made);
        object.end = self.0.fields.len() as u32;
        self.lenient(Node::Object(object), nullable)
    }

    /// Names a node by group, version and kind.
    pub fn root(&mut self, group: Str, version: Str, kind: Str, node: Described) {
        self.0.roots.entry(kind).or_default().push((group, version, node.0));
    }

    pub fn finish(self) -> Schema {
        self.0
    }
}
