//! Writes the schema artefact; `tiphys_api::schema` documents its format and reads it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value};

/// Reads the definitions and the Go sources and writes the artefact to `out`.
pub(crate) fn distil(definitions: &Path, api: &Path, apimachinery: &Path, out: &Path) -> anyhow::Result<()> {
    let text = fs::read(definitions).with_context(|| format!("read {}", definitions.display()))?;
    let root: Value = serde_json::from_slice(&text).context("parse the definitions")?;
    let definitions = root["$defs"].as_object().context("the definitions have no $defs")?;
    let mut structs = Structs::default();
    for group in directories(api)? {
        for version in directories(&group)? {
            let package = format!("{}.{}", last(&group), last(&version));
            structs.read_package(&package, &version)?;
        }
    }
    structs.read_package("meta.v1", &apimachinery.join("pkg/apis/meta/v1"))?;

    let mut artefact = String::new();
    for (name, definition) in definitions {
        let name = short(name);
        if leaf(&name).is_none() {
            object(&mut artefact, &name, definition, definitions, &structs)
                .with_context(|| format!("definition {name}"))?;
        }
    }
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    fs::write(out, artefact).with_context(|| format!("write {}", out.display()))
}

fn directories(path: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("list {}", path.display()))? {
        let path = entry?.path();
        if path.is_dir() && !last(&path).starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn last(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `io.k8s.api.core.v1.Pod` → `core.v1.Pod`.
fn short(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let keep =
        if parts.iter().rev().nth(1).is_some_and(|p| p.starts_with('v') && *p != "version") { 3 } else { 2 };
    parts[parts.len().saturating_sub(keep)..].join(".")
}

/// Definitions that are values of their own rather than objects with fields.
fn leaf(name: &str) -> Option<&'static str> {
    Some(match name {
        "resource.Quantity" => "q",
        "intstr.IntOrString" => "x",
        "meta.v1.Time" => "t",
        "meta.v1.MicroTime" => "u",
        "meta.v1.FieldsV1" | "meta.v1.Patch" | "runtime.RawExtension" | "apiextensions.v1.JSON" => "o",
        "apiextensions.v1.JSONSchemaPropsOrArray" => {
            "@apiextensions.v1.JSONSchemaProps|[]@apiextensions.v1.JSONSchemaProps"
        }
        "apiextensions.v1.JSONSchemaPropsOrBool" => "@apiextensions.v1.JSONSchemaProps|b",
        "apiextensions.v1.JSONSchemaPropsOrStringArray" => "@apiextensions.v1.JSONSchemaProps|[]s",
        _ => return None,
    })
}

fn object(
    out: &mut String,
    name: &str,
    definition: &Value,
    definitions: &Map<String, Value>,
    structs: &Structs,
) -> anyhow::Result<()> {
    write!(out, "{name}")?;
    if definition["x-kubernetes-map-type"] == "atomic" {
        out.push_str(" atomic");
    }
    let served = definition["x-kubernetes-group-version-kind"].as_array();
    // The options of requests are served in every group; one is enough to find them.
    let shared = if name.starts_with("meta.") { 1 } else { usize::MAX };
    for gvk in served.into_iter().flatten().take(shared) {
        let part = |key: &str| gvk[key].as_str().unwrap_or_default().to_owned();
        write!(out, " {}/{}/{}", part("group"), part("version"), part("kind"))?;
    }
    out.push('\n');
    let required: Vec<&str> =
        definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let fields = structs.fields(name);
    for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
        let ty = type_of(schema, definitions).with_context(|| format!("field {field}"))?;
        let mut flags = String::new();
        if required.contains(&field.as_str()) {
            flags.push('!');
        }
        if let Some(go) = fields.get(field) {
            flags.push_str(go.presence(&ty));
        }
        write!(out, " {field} {ty}")?;
        if !flags.is_empty() {
            write!(out, " {flags}")?;
        }
        if let Some(strategy) = schema["x-kubernetes-patch-strategy"].as_str() {
            write!(out, " patch={strategy}")?;
            if let Some(key) = schema["x-kubernetes-patch-merge-key"].as_str() {
                write!(out, " key={key}")?;
            }
        }
        out.push('\n');
    }
    Ok(())
}

/// The type in the artefact's notation.
fn type_of(schema: &Value, definitions: &Map<String, Value>) -> anyhow::Result<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let full = reference.rsplit('/').next().unwrap_or_default();
        let name = short(full);
        return Ok(match leaf(&name) {
            Some(code) => code.to_owned(),
            None if definitions.contains_key(full) => format!("@{name}"),
            None => bail!("dangling reference {reference}"),
        });
    }
    let kind = match &schema["type"] {
        Value::String(s) => s.as_str(),
        Value::Array(a) => a.iter().filter_map(Value::as_str).find(|s| *s != "null").unwrap_or_default(),
        _ => "",
    };
    let format = schema["format"].as_str().unwrap_or_default();
    Ok(match (kind, format) {
        ("string", "byte") => "y".to_owned(),
        ("string", "date-time") => "t".to_owned(),
        ("string", _) => "s".to_owned(),
        ("integer", "int64") => "l".to_owned(),
        ("integer", "int32") => "i".to_owned(),
        ("boolean", _) => "b".to_owned(),
        ("number", _) => "d".to_owned(),
        ("array", _) => {
            let item = type_of(&schema["items"], definitions)?;
            let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            match schema["x-kubernetes-list-type"].as_str() {
                Some("map") => format!("[{}]{item}", keys.join(",")),
                Some("set") => format!("[=]{item}"),
                _ => format!("[]{item}"),
            }
        }
        ("object", _) => {
            let atomic = if schema["x-kubernetes-map-type"] == "atomic" { "=" } else { "" };
            match schema.get("additionalProperties") {
                Some(value) => format!("{{{atomic}}}{}", type_of(value, definitions)?),
                None => "o".to_owned(),
            }
        }
        other => bail!("a type that the artefact has no notation for: {other:?}"),
    })
}

/// How one field of a Go struct is written to JSON.
#[derive(Clone, Copy)]
pub(crate) struct GoField {
    pub(crate) pointer: bool,
    pub(crate) omit_empty: bool,
    pub(crate) omit_zero: bool,
}

impl GoField {
    /// `~`: left out when zero or empty; `=`: written even when zero; nothing: as it was given.
    pub(crate) fn presence(self, ty: &str) -> &'static str {
        let scalar = matches!(ty, "s" | "i" | "l" | "b" | "d");
        let many = ty == "y" || ty.starts_with(['[', '{']);
        match (self.pointer, self.omit_empty || self.omit_zero) {
            (true, _) => "",
            (false, true) if scalar || many => "~",
            (false, false) if scalar => "=",
            // What is a struct in Go is never empty.
            (false, _) if (ty == "q" || ty.starts_with('@')) && !self.omit_zero => "=",
            _ => "",
        }
    }
}

/// The structs of all packages, by `group.version.Name`.
#[derive(Default)]
struct Structs(HashMap<String, GoStruct>);

#[derive(Default)]
struct GoStruct {
    fields: BTreeMap<String, GoField>,
    inline: Vec<String>,
}

impl Structs {
    fn read_package(&mut self, package: &str, directory: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = last(&path);
            if name.ends_with(".go") && !name.ends_with("_test.go") && !name.contains("generated") {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                self.read_file(package, &text);
            }
        }
        Ok(())
    }

    fn read_file(&mut self, package: &str, text: &str) {
        let mut current: Option<(String, GoStruct)> = None;
        for line in text.lines() {
            let opened = line.strip_prefix("type ").and_then(|l| l.strip_suffix(" struct {"));
            if let Some(name) = opened {
                current = Some((format!("{package}.{name}"), GoStruct::default()));
            } else if line.starts_with('}') {
                if let Some((name, read)) = current.take() {
                    self.0.insert(name, read);
                }
            } else if let Some((_, read)) = &mut current {
                read.read_line(package, line);
            }
        }
    }

    fn fields(&self, name: &str) -> BTreeMap<String, GoField> {
        let Some(found) = self.0.get(name) else { return BTreeMap::new() };
        let mut fields = found.fields.clone();
        for inline in &found.inline {
            fields.extend(self.fields(inline));
        }
        fields
    }
}

impl GoStruct {
    /// `Replicas *int32 \`json:"replicas,omitempty"\``
    fn read_line(&mut self, package: &str, line: &str) {
        let Some((declared, rest)) = line.trim().split_once('`') else { return };
        let Some(tag) = rest.split_once("json:\"").and_then(|(_, t)| t.split_once('"')) else { return };
        let Some(go_type) = declared.split_whitespace().last().filter(|_| !declared.starts_with("//")) else {
            return;
        };
        let mut options = tag.0.split(',');
        let name = options.next().unwrap_or_default();
        let options: Vec<&str> = options.collect();
        // An embedded struct's fields are its own, whether its tag says `inline` or not.
        if name.is_empty() && declared.split_whitespace().count() == 1 {
            self.inline.push(format!("{package}.{}", go_type.trim_start_matches('*')));
        } else if !name.is_empty() && name != "-" {
            self.fields.insert(
                name.to_owned(),
                GoField {
                    pointer: go_type.starts_with('*'),
                    omit_empty: options.contains(&"omitempty"),
                    omit_zero: options.contains(&"omitzero"),
                },
            );
        }
    }
}
