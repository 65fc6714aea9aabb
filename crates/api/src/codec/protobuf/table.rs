//! The field numbers, distilled by `cargo xtask protobuf` into `schema/protobuf.txt`.
//!
//! A line that starts in the first column opens a message, the lines below it are its fields:
//!
//! ```text
//! core.v1.Volume
//!  1 name s
//!  2 volumeSource ^@core.v1.VolumeSource
//! ```
//!
//! Types: `s` string, `i` int32, `l` int64, `b` bool, `d` double, `y` bytes, `t` Time, `u` MicroTime, `q`
//! Quantity, `x` IntOrString, `o` raw JSON, `v` a list of strings in a message of its own, `A`, `B` and `S` a
//! JSON schema or an array of them, a bool, or strings; `@name` a message, `[]T` repeated, `{}T` a map by
//! strings. `^` marks a message whose fields stand in the object itself in JSON.

use std::{collections::HashMap, sync::OnceLock};

static ARTEFACT: &str = include_str!("../../../schema/protobuf.txt");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Raw,
    Strings,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    Message(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    Many,
    Map,
    /// The message's fields are the object's own.
    Embedded,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) ty: Type,
    pub(super) shape: Shape,
}

#[derive(Debug)]
struct Message {
    name: &'static str,
    /// By number.
    fields: Vec<Field>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    messages: Vec<Message>,
    names: HashMap<&'static str, u16>,
}

/// A message in the table. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageRef {
    table: &'static Table,
    index: u16,
}

impl Table {
    /// Read once, when the first client speaks protobuf.
    pub(super) fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Table> = OnceLock::new();
        BUILTIN.get_or_init(|| read(ARTEFACT))
    }

    /// The message of a kind. Kinds like `DeleteOptions` and `Status` are spoken in every version.
    pub(super) fn find(&'static self, api_version: &str, kind: &str) -> Option<MessageRef> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let package = match group.split('.').next().unwrap_or_default() {
            "" => "core",
            "internal" => "apiserverinternal",
            label => label,
        };
        self.named(&format!("{package}.{version}.{kind}")).or_else(|| self.named(&format!("meta.v1.{kind}")))
    }

    pub(super) fn named(&'static self, name: &str) -> Option<MessageRef> {
        self.names.get(name).map(|&index| MessageRef { table: self, index })
    }
}

impl MessageRef {
    fn message(self) -> &'static Message {
        &self.table.messages[usize::from(self.index)]
    }

    pub(super) fn name(self) -> &'static str {
        self.message().name
    }

    pub(super) fn fields(self) -> &'static [Field] {
        &self.message().fields
    }

    pub(super) fn field(self, number: u64) -> Option<&'static Field> {
        let fields = self.fields();
        fields.binary_search_by(|f| u64::from(f.number).cmp(&number)).ok().map(|at| &fields[at])
    }

    /// Another message of the same table.
    pub(super) fn other(self, index: u16) -> Self {
        Self { index, ..self }
    }

    /// The JSON schema of the same version as this message.
    pub(super) fn json_schema(self) -> Option<Self> {
        let package = self.name().rsplit_once('.').map_or("", |(package, _)| package);
        self.table.named(&format!("{package}.JSONSchemaProps"))
    }
}

/// Reads the artefact. It is part of the binary and checked by a test, so a broken line is a bug, not input.
fn read(text: &'static str) -> Table {
    let mut table = Table::default();
    for name in text.lines().filter(|line| !line.starts_with(' ')) {
        // Far fewer than 65,536 messages; a test counts them.
        table.names.insert(name, table.messages.len() as u16);
        table.messages.push(Message { name, fields: Vec::new() });
    }
    let mut message = 0;
    for line in text.lines() {
        let Some(field) = line.strip_prefix(' ') else {
            message = table.names.get(line).copied().unwrap_or_default();
            continue;
        };
        let field = read_field(field, &table.names);
        let field = field.unwrap_or_else(|| unreachable!("line {line:?} in the protobuf artefact"));
        table.messages[usize::from(message)].fields.push(field);
    }
    for message in &mut table.messages {
        message.fields.shrink_to_fit();
    }
    table
}

fn read_field(line: &'static str, names: &HashMap<&str, u16>) -> Option<Field> {
    let mut words = line.split(' ');
    let (number, name, notation) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let (shape, notation) = if let Some(rest) = notation.strip_prefix("[]") {
        (Shape::Many, rest)
    } else if let Some(rest) = notation.strip_prefix("{}") {
        (Shape::Map, rest)
    } else if let Some(rest) = notation.strip_prefix('^') {
        (Shape::Embedded, rest)
    } else {
        (Shape::One, notation)
    };
    let ty = match notation {
        "s" => Type::String,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "b" => Type::Bool,
        "d" => Type::Double,
        "y" => Type::Bytes,
        "t" => Type::Time,
        "u" => Type::MicroTime,
        "q" => Type::Quantity,
        "x" => Type::IntOrString,
        "o" => Type::Raw,
        "v" => Type::Strings,
        "A" => Type::SchemaOrArray,
        "B" => Type::SchemaOrBool,
        "S" => Type::SchemaOrStrings,
        _ => Type::Message(*names.get(notation.strip_prefix('@')?)?),
    };
    Some(Field { number, name, ty, shape })
}
