//! Writes the field numbers of Kubernetes' protobuf encoding; `tiphys_api::codec::protobuf` documents their
//! format and reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A message's fields by number.
type Message = BTreeMap<u32, Field>;

struct Field {
    name: String,
    /// In the artefact's notation.
    ty: String,
}

/// What 1.13 had in the metadata of every object, in the form of `generated.proto`.
const INITIALIZERS: &str = "
package k8s.io.apimachinery.pkg.apis.meta.v1;
message Initializer {
  optional string name = 1;
}
message Initializers {
  repeated Initializer pending = 1;
  optional Status result = 2;
}
";

/// Reads every `generated.proto` below `roots` and the schema artefacts, and writes the numbers to `out`.
pub(crate) fn distil(roots: &[PathBuf], schemas: &[PathBuf], out: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for root in roots {
        find(root, &mut files)?;
    }
    let mut messages = BTreeMap::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        read(&text, &mut messages).with_context(|| format!("read {}", file.display()))?;
    }
    read(INITIALIZERS, &mut messages)?;
    if let Some(metadata) = messages.get_mut("meta.v1.ObjectMeta") {
        let field = Field { name: "initializers".to_owned(), ty: "@meta.v1.Initializers".to_owned() };
        metadata.insert(16, field);
    }
    let mut schema = String::new();
    for path in schemas {
        schema += &fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    }
    let properties = properties(&schema);
    rename(&mut messages, &properties);
    embed(&mut messages, &properties);

    let mut artefact = String::new();
    for (name, fields) in &messages {
        if special(name).is_some() || is_list_of_strings(fields) {
            continue;
        }
        writeln!(artefact, "{name}")?;
        for (number, field) in fields {
            let ty = match field.ty.split_once('@') {
                Some((prefix, inner)) if messages.get(inner).is_some_and(is_list_of_strings) => {
                    format!("{prefix}v")
                }
                _ => field.ty.clone(),
            };
            writeln!(artefact, " {number} {} {ty}", field.name)?;
        }
    }
    fs::write(out, artefact).with_context(|| format!("write {}", out.display()))
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.file_name().is_some_and(|name| name == "generated.proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn read(text: &str, messages: &mut BTreeMap<String, Message>) -> anyhow::Result<()> {
    let mut package = String::new();
    let mut current: Option<(String, Message)> = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with("//") {
            continue;
        }
        if let Some(name) = line.strip_prefix("package ") {
            package = name.trim_end_matches(';').to_owned();
        } else if let Some(name) = line.strip_prefix("message ") {
            let name = name.trim_end_matches('{').trim();
            current = Some((short(&format!("{package}.{name}")), Message::new()));
        } else if line == "}" {
            messages.extend(current.take());
        } else if let Some((message, fields)) = &mut current
            && let Some((declaration, number)) = line.trim_end_matches(';').split_once(" = ")
        {
            let (ty, name) = declaration.rsplit_once(' ').context("a field without a name")?;
            let field = Field { name: json_name(message, name), ty: notation(ty, &package)? };
            fields.insert(number.parse().context("a field's number")?, field);
        }
    }
    Ok(())
}

/// A field's name in JSON; only a JSON schema's fields have names that protobuf cannot have.
fn json_name(message: &str, name: &str) -> String {
    if !message.ends_with(".JSONSchemaProps") {
        return name.to_owned();
    }
    match name {
        "ref" | "schema" => format!("${name}"),
        _ if name.starts_with("xKubernetes") => {
            let mut kebab = String::new();
            for c in name.chars() {
                if c.is_ascii_uppercase() {
                    kebab.push('-');
                }
                kebab.push(c.to_ascii_lowercase());
            }
            kebab
        }
        _ => name.to_owned(),
    }
}

fn notation(ty: &str, package: &str) -> anyhow::Result<String> {
    let one = |ty: &str| {
        let scalar = match ty {
            "string" => "s",
            "int32" => "i",
            "int64" => "l",
            "bool" => "b",
            "double" => "d",
            "bytes" => "y",
            _ => "",
        };
        if !scalar.is_empty() {
            return scalar.to_owned();
        }
        let full = match ty.strip_prefix('.') {
            Some(absolute) => absolute.to_owned(),
            None => format!("{package}.{ty}"),
        };
        let name = short(&full);
        special(&name).map_or_else(|| format!("@{name}"), str::to_owned)
    };
    Ok(match ty.split_once(' ') {
        Some(("optional", ty)) => one(ty),
        Some(("repeated", ty)) => format!("[]{}", one(ty)),
        Some(("map<string,", ty)) => format!("{{}}{}", one(ty.trim_end_matches('>'))),
        _ => bail!("unknown field type {ty}"),
    })
}

/// `k8s.io.api.core.v1.Pod` → `core.v1.Pod`, as in the schema artefact.
fn short(full: &str) -> String {
    let parts: Vec<&str> = full.split('.').collect();
    let versioned = parts.iter().rev().nth(1).is_some_and(|p| p.starts_with('v'));
    parts[parts.len().saturating_sub(if versioned { 3 } else { 2 })..].join(".")
}

/// Messages that are no objects in JSON.
fn special(name: &str) -> Option<&'static str> {
    Some(match name {
        "resource.Quantity" => "q",
        "intstr.IntOrString" => "x",
        "meta.v1.Time" => "t",
        "meta.v1.MicroTime" => "u",
        "meta.v1.FieldsV1" | "runtime.RawExtension" => "o",
        "apiextensions.v1.JSON" | "apiextensions.v1beta1.JSON" => "o",
        "apiextensions.v1.JSONSchemaPropsOrArray" | "apiextensions.v1beta1.JSONSchemaPropsOrArray" => "A",
        "apiextensions.v1.JSONSchemaPropsOrBool" | "apiextensions.v1beta1.JSONSchemaPropsOrBool" => "B",
        "apiextensions.v1.JSONSchemaPropsOrStringArray"
        | "apiextensions.v1beta1.JSONSchemaPropsOrStringArray" => "S",
        _ => return None,
    })
}

/// A named list of strings is a message around the list.
fn is_list_of_strings(fields: &Message) -> bool {
    fields.len() == 1 && fields.values().all(|f| f.name == "items" && f.ty == "[]s")
}

/// The fields of each object, from the schema artefact.
fn properties(schema: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut properties: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut object = "";
    for line in schema.lines() {
        match line.strip_prefix(' ') {
            Some(field) => {
                properties.entry(object).or_default().insert(field.split(' ').next().unwrap_or_default());
            }
            None => object = line.trim_start_matches('+').split(' ').next().unwrap_or_default(),
        }
    }
    properties
}

/// Gives fields the case that they have in JSON: `Webhooks` and `uID` are written `webhooks` and `uid`. As
/// with [`embed`], older versions follow newer ones.
fn rename(messages: &mut BTreeMap<String, Message>, properties: &BTreeMap<&str, BTreeSet<&str>>) {
    let mut written = BTreeMap::new();
    for (name, fields) in &*messages {
        let Some(known) = properties.get(name.as_str()) else { continue };
        for field in fields.values().filter(|f| !known.contains(f.name.as_str())) {
            if let Some(json) = known.iter().find(|json| json.eq_ignore_ascii_case(&field.name)) {
                written.insert((tail(name), field.name.clone()), (*json).to_owned());
            }
        }
    }
    for (name, fields) in messages {
        for field in fields.values_mut() {
            if let Some(json) = written.get(&(tail(name), field.name.clone())) {
                field.name.clone_from(json);
            }
        }
    }
}

fn tail(name: &str) -> String {
    name.rsplit('.').next().unwrap_or_default().to_owned()
}

/// Marks message fields that JSON does not have: their fields stand in the object itself. Types that only
/// older versions have are told by the same field of their newer selves.
fn embed(messages: &mut BTreeMap<String, Message>, properties: &BTreeMap<&str, BTreeSet<&str>>) {
    let mut embedded = BTreeSet::new();
    for (name, fields) in &*messages {
        let Some(known) = properties.get(name.as_str()) else { continue };
        for field in fields.values().filter(|f| f.ty.starts_with('@') && !known.contains(f.name.as_str())) {
            embedded.insert((tail(name), field.name.clone()));
        }
    }
    for (name, fields) in messages {
        for field in fields.values_mut() {
            if embedded.contains(&(tail(name), field.name.clone()))
                && !properties.get(name.as_str()).is_some_and(|known| known.contains(field.name.as_str()))
            {
                field.ty.insert(0, '^');
            }
        }
    }
}
