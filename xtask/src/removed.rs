//! Writes the structure of the versions that upstream has removed; `tiphys_api::schema` reads it behind that of the
//! current ones.
//!
//! No release describes them all, so the facts come from Go sources of several: of a structure that stands in more
//! than one of the directories, the first is taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::schema::{GoField, last};

/// Package, group and kinds of each removed version. Their lists come along.
const REMOVED: &[(&str, &str, &[&str])] = &[
    (
        "extensions.v1beta1",
        "extensions",
        &["DaemonSet", "Deployment", "DeploymentRollback", "Ingress", "NetworkPolicy", "ReplicaSet"],
    ),
    ("apps.v1beta1", "apps", &["ControllerRevision", "Deployment", "DeploymentRollback", "StatefulSet"]),
    ("apps.v1beta2", "apps", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch.v1beta1", "batch", &["CronJob"]),
    ("batch.v2alpha1", "batch", &["CronJob"]),
    ("autoscaling.v2beta1", "autoscaling", &["HorizontalPodAutoscaler"]),
    ("autoscaling.v2beta2", "autoscaling", &["HorizontalPodAutoscaler"]),
    ("networking.v1beta1", "networking.k8s.io", &["Ingress", "IngressClass"]),
    ("policy.v1beta1", "policy", &["PodDisruptionBudget"]),
    (
        "rbac.v1alpha1",
        "rbac.authorization.k8s.io",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    ),
    (
        "rbac.v1beta1",
        "rbac.authorization.k8s.io",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    ),
    (
        "storage.v1beta1",
        "storage.k8s.io",
        &["CSIDriver", "CSINode", "CSIStorageCapacity", "StorageClass", "VolumeAttachment"],
    ),
    ("scheduling.v1alpha1", "scheduling.k8s.io", &["PriorityClass"]),
    ("scheduling.v1beta1", "scheduling.k8s.io", &["PriorityClass"]),
    ("coordination.v1beta1", "coordination.k8s.io", &["Lease"]),
    ("node.v1beta1", "node.k8s.io", &["RuntimeClass"]),
    ("discovery.v1beta1", "discovery.k8s.io", &["EndpointSlice"]),
    ("events.v1beta1", "events.k8s.io", &["Event"]),
    ("certificates.v1beta1", "certificates.k8s.io", &["CertificateSigningRequest"]),
    (
        "admissionregistration.v1beta1",
        "admissionregistration.k8s.io",
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
    ),
    ("admissionregistration.v1alpha1", "admissionregistration.k8s.io", &["InitializerConfiguration"]),
    ("apiextensions.v1beta1", "apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("authentication.v1beta1", "authentication.k8s.io", &["SelfSubjectReview", "TokenReview"]),
    (
        "authorization.v1beta1",
        "authorization.k8s.io",
        &[
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ],
    ),
    ("apiregistration.v1beta1", "apiregistration.k8s.io", &["APIService"]),
    ("flowcontrol.v1beta1", "flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("flowcontrol.v1beta2", "flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("flowcontrol.v1beta3", "flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
];

/// What 1.13 had in the metadata of every object. A `+` opens an object that stands in the current artefact.
const INITIALIZERS: &str = "\
meta.v1.Initializer
 name s !=
meta.v1.Initializers
 pending []@meta.v1.Initializer ! patch=merge key=name
 result @meta.v1.Status
+meta.v1.ObjectMeta
 initializers @meta.v1.Initializers
";

/// Reads the Go sources below `roots` and writes what `current`, the artefact of the current versions, lacks to `out`.
pub(crate) fn distil(roots: &[PathBuf], current: &Path, out: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(current).with_context(|| format!("read {}", current.display()))?;
    let known: BTreeSet<&str> =
        text.lines().filter(|l| !l.starts_with(' ')).filter_map(|l| l.split(' ').next()).collect();
    let mut types = Types::default();
    for root in roots {
        for (package, ..) in REMOVED {
            let directory = root.join(package.replace('.', "/"));
            if directory.is_dir() {
                types.read_package(package, &directory)?;
            }
        }
    }
    let mut wanted: Vec<String> = Vec::new();
    let mut kinds = HashMap::new();
    for (package, group, names) in REMOVED {
        let version = last(Path::new(&package.replace('.', "/")));
        for kind in names.iter().flat_map(|k| [(*k).to_owned(), format!("{k}List")]) {
            let name = format!("{package}.{kind}");
            if types.structs.contains_key(&name) {
                kinds.insert(name.clone(), format!("{group}/{version}/{kind}"));
                wanted.push(name);
            } else if !kind.ends_with("List") {
                bail!("{name} stands in none of the sources");
            }
        }
    }
    let mut artefact = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if known.contains(name.as_str()) || artefact.contains_key(&name) {
            continue;
        }
        let mut lines = name.clone();
        if types.structs.get(&name).is_some_and(|s| s.atomic) {
            lines.push_str(" atomic");
        }
        if let Some(kind) = kinds.get(&name) {
            write!(lines, " {kind}")?;
        }
        lines.push('\n');
        for (field, line) in types.fields(&name, &mut wanted)? {
            writeln!(lines, " {field} {line}")?;
        }
        artefact.insert(name, lines);
    }
    let lines: String = artefact.into_values().chain([INITIALIZERS.to_owned()]).collect();
    fs::write(out, lines).with_context(|| format!("write {}", out.display()))
}

/// A field as Go declares it.
struct Declared {
    /// Without a pointer.
    ty: String,
    go: GoField,
    required: bool,
    merge: Option<String>,
    merge_key: Option<String>,
    list: Option<String>,
    keys: Vec<String>,
}

#[derive(Default)]
struct Struct {
    atomic: bool,
    fields: BTreeMap<String, Declared>,
    inline: Vec<String>,
}

/// The types of all packages, by `group.version.Name`.
#[derive(Default)]
struct Types {
    structs: HashMap<String, Struct>,
    /// What a named type that is no struct stands for.
    aliases: HashMap<String, String>,
}

impl Types {
    fn read_package(&mut self, package: &str, directory: &Path) -> anyhow::Result<()> {
        let mut found = Self::default();
        for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
            let path = entry?.path();
            if last(&path).starts_with("types") && path.extension().is_some_and(|e| e == "go") {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                found.read_file(package, &text);
            }
        }
        for (name, read) in found.structs {
            self.structs.entry(name).or_insert(read);
        }
        for (name, alias) in found.aliases {
            self.aliases.entry(name).or_insert(alias);
        }
        Ok(())
    }

    fn read_file(&mut self, package: &str, text: &str) {
        let mut imports: HashMap<String, String> = HashMap::new();
        let mut current: Option<(String, Struct)> = None;
        let mut markers: Vec<&str> = Vec::new();
        for line in text.lines() {
            let trimmed = line.trim();
            if let Some(comment) = trimmed.strip_prefix("//") {
                markers.extend(comment.trim().strip_prefix('+'));
                continue;
            }
            if let Some(path) = trimmed.strip_suffix('"').and_then(|l| l.split_once('"')) {
                if current.is_none() && path.1.contains('/') {
                    let name = match path.0.trim().trim_start_matches("import").trim() {
                        "" => path.1.rsplit('/').next().unwrap_or_default(),
                        alias => alias,
                    };
                    imports.insert(name.to_owned(), imported(path.1));
                }
            } else if let Some(declared) = line.strip_prefix("type ") {
                let (name, rest) = declared.split_once(' ').unwrap_or((declared, ""));
                let full = format!("{package}.{name}");
                match rest.trim_start_matches("= ") {
                    "struct {" => {
                        let atomic = markers.contains(&"structType=atomic");
                        current = Some((full, Struct { atomic, ..Struct::default() }));
                    }
                    "struct {}" | "struct{}" => {
                        self.structs.insert(full, Struct::default());
                    }
                    other => {
                        let other = other.split(" //").next().unwrap_or_default().trim();
                        self.aliases.insert(full, qualify(other, package, &imports));
                    }
                }
            } else if line.starts_with('}') {
                if let Some((name, read)) = current.take() {
                    self.structs.insert(name, read);
                }
            } else if let Some((_, read)) = &mut current {
                read.read_line(package, trimmed, &markers, &imports);
            }
            markers.clear();
        }
    }

    /// The fields of a struct, each as the artefact writes it; what they name is added to `wanted`.
    fn fields(&self, name: &str, wanted: &mut Vec<String>) -> anyhow::Result<BTreeMap<String, String>> {
        let found =
            self.structs.get(name).with_context(|| format!("{name} stands in none of the sources"))?;
        let mut fields = BTreeMap::new();
        for inline in &found.inline {
            if inline == "meta.v1.TypeMeta" {
                fields.insert("apiVersion".to_owned(), "s".to_owned());
                fields.insert("kind".to_owned(), "s".to_owned());
            } else {
                fields.extend(self.fields(inline, wanted)?);
            }
        }
        for (field, declared) in &found.fields {
            let ty =
                self.notation(&declared.ty, declared, wanted).with_context(|| format!("{name}.{field}"))?;
            let required = if declared.required { "!" } else { "" };
            let flags = format!("{required}{}", declared.go.presence(&ty));
            let mut line = ty;
            if !flags.is_empty() {
                write!(line, " {flags}")?;
            }
            if let Some(merge) = &declared.merge {
                write!(line, " patch={merge}")?;
            }
            if let Some(key) = &declared.merge_key {
                write!(line, " key={key}")?;
            }
            fields.insert(field.clone(), line);
        }
        Ok(fields)
    }

    fn notation(&self, ty: &str, declared: &Declared, wanted: &mut Vec<String>) -> anyhow::Result<String> {
        if ty == "[]byte" {
            return Ok("y".to_owned());
        }
        if let Some(item) = ty.strip_prefix("[]") {
            let item = self.notation(item.trim_start_matches('*'), declared, wanted)?;
            return Ok(match declared.list.as_deref() {
                Some("map") => format!("[{}]{item}", declared.keys.join(",")),
                Some("set") => format!("[=]{item}"),
                _ => format!("[]{item}"),
            });
        }
        if let Some(value) = ty.strip_prefix("map[").and_then(|m| m.split_once(']')) {
            return Ok(format!("{{}}{}", self.notation(value.1, declared, wanted)?));
        }
        if let Some(alias) = self.aliases.get(ty).filter(|_| !self.structs.contains_key(ty)) {
            return self.notation(alias, declared, wanted);
        }
        Ok(match ty {
            "string" | "types.UID" | "meta.v1.Duration" | "core.v1.ConditionStatus" => "s",
            "int32" => "i",
            "int" | "int64" => "l",
            "bool" => "b",
            "float64" => "d",
            "resource.Quantity" => "q",
            "intstr.IntOrString" => "x",
            "meta.v1.Time" => "t",
            "meta.v1.MicroTime" => "u",
            "core.v1.ResourceList" => "{}q",
            "runtime.RawExtension" => "o",
            "apiextensions.v1beta1.JSON" => "o",
            "apiextensions.v1beta1.JSONSchemaPropsOrArray" => {
                "@apiextensions.v1beta1.JSONSchemaProps|[]@apiextensions.v1beta1.JSONSchemaProps"
            }
            "apiextensions.v1beta1.JSONSchemaPropsOrBool" => "@apiextensions.v1beta1.JSONSchemaProps|b",
            "apiextensions.v1beta1.JSONSchemaPropsOrStringArray" => {
                "@apiextensions.v1beta1.JSONSchemaProps|[]s"
            }
            // Types of other packages that are no structs.
            text if TEXTS.contains(&text) => "s",
            object if object.contains('.') => {
                wanted.push(object.to_owned());
                return Ok(format!("@{object}"));
            }
            other => bail!("a type that the artefact has no notation for: {other}"),
        }
        .to_owned())
    }
}

const TEXTS: &[&str] = &[
    "core.v1.PersistentVolumeAccessMode",
    "core.v1.PersistentVolumeMode",
    "coordination.v1.CoordinatedLeaseStrategy",
    "admissionregistration.v1.OperationType",
    "admissionregistration.v1.ReinvocationPolicyType",
    "admissionregistration.v1.ScopeType",
    "core.v1.MountPropagationMode",
    "core.v1.PersistentVolumeReclaimPolicy",
    "core.v1.PreemptionPolicy",
    "core.v1.Protocol",
    "core.v1.ResourceName",
];

impl Struct {
    fn read_line(&mut self, package: &str, line: &str, markers: &[&str], imports: &HashMap<String, String>) {
        let Some((declared, tags)) = line.split_once('`') else { return };
        let tag = |name: &str| {
            let (_, rest) = tags.split_once(&format!("{name}:\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let (Some(json), Some(ty)) = (tag("json"), declared.split_whitespace().last()) else { return };
        let pointer = ty.starts_with('*');
        let ty = qualify(ty.trim_start_matches('*'), package, imports);
        let (name, options) = json.split_once(',').unwrap_or((&json, ""));
        if name.is_empty() {
            self.inline.push(ty);
            return;
        }
        if name == "-" {
            return;
        }
        let marker = |name: &str| markers.iter().find_map(|m| m.strip_prefix(name)).map(str::to_owned);
        let omit_empty = options.contains("omitempty");
        self.fields.insert(
            name.to_owned(),
            Declared {
                ty,
                go: GoField { pointer, omit_empty, omit_zero: options.contains("omitzero") },
                required: !omit_empty && !markers.contains(&"optional"),
                merge: tag("patchStrategy"),
                merge_key: tag("patchMergeKey"),
                list: marker("listType="),
                keys: markers
                    .iter()
                    .filter_map(|m| m.strip_prefix("listMapKey="))
                    .map(str::to_owned)
                    .collect(),
            },
        );
    }
}

/// `k8s.io/api/core/v1` → `core.v1`; of packages without versions, the last name.
fn imported(path: &str) -> String {
    let parts: Vec<&str> = path.rsplit('/').take(2).collect();
    match parts[..] {
        [version, group] if version.starts_with('v') => format!("{group}.{version}"),
        [name, ..] => name.to_owned(),
        [] => String::new(),
    }
}

/// A Go type with its package written out.
fn qualify(ty: &str, package: &str, imports: &HashMap<String, String>) -> String {
    for prefix in ["[]", "*"] {
        if let Some(rest) = ty.strip_prefix(prefix) {
            return format!("{prefix}{}", qualify(rest, package, imports));
        }
    }
    if let Some((key, value)) = ty.strip_prefix("map[").and_then(|m| m.split_once(']')) {
        return format!("map[{key}]{}", qualify(value, package, imports));
    }
    match ty.split_once('.') {
        Some((alias, name)) => format!("{}.{name}", imports.get(alias).map_or(alias, String::as_str)),
        None if ty.starts_with(char::is_uppercase) => format!("{package}.{ty}"),
        None => ty.to_owned(),
    }
}
