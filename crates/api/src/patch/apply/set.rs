//! Sets of fields, as `metadata.managedFields[].fieldsV1` writes them.
//!
//! A set is a tree of path elements; its form in memory is its form on the wire. Each element is the key of
//! an object: `f:<name>` a struct field or map key, `k:{"name":"a"}` an item of a keyed list, `v:"a"` a
//! member of a set, `i:0` a position. An element is a member of the set if its object is empty or holds the
//! key `.`; otherwise it only leads to members.

use serde_json::{Map, Value};

/// The children of one element.
pub(super) type Node = Map<String, Value>;

const SELF: &str = ".";

/// A set of fields. No element in it leads nowhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set(pub(super) Node);

/// Why a `fieldsV1` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("fields must be objects")]
    NotAnObject,
    #[error("{0:?} is no path element")]
    Element(String),
}

impl Set {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a `fieldsV1` and brings its elements into the one form that they are compared in, which is the one that
    /// they are stored in.
    pub fn decode(fields: Value) -> Result<Self, SetError> {
        let Value::Object(fields) = fields else { return Err(SetError::NotAnObject) };
        if !fields.contains_key(SELF) && is_canonical(&fields) {
            return Ok(Self(fields));
        }
        let mut set = Node::new();
        for (element, below) in fields {
            if element != SELF {
                decode_child(&mut set, &element, below)?;
            }
        }
        Ok(Self(set))
    }

    pub fn encode(self) -> Value {
        Value::Object(self.0)
    }

    /// A set with these paths of struct fields as members.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let mut node = Node::new();
            for (depth, name) in path.iter().rev().enumerate() {
                let children = std::mem::take(&mut node);
                node.insert(field(name), Value::Object(if depth == 0 { Node::new() } else { children }));
            }
            union(&mut set.0, node);
        }
        set
    }

    pub(super) fn union(&mut self, other: Self) {
        union(&mut self.0, other.0);
    }

    /// Takes the members of `other` out.
    pub(super) fn subtract(&mut self, other: &Self) {
        subtract(&mut self.0, &other.0);
    }

    /// Takes the members of `other` out with everything below them.
    pub(super) fn subtract_recursive(&mut self, other: &Self) {
        subtract_recursive(&mut self.0, &other.0);
    }

    /// Whether every member of `other` is one of this set.
    pub(super) fn contains_all(&self, other: &Self) -> bool {
        contains_all(&self.0, &other.0)
    }

    pub(super) fn intersect(&self, other: &Self) -> Self {
        Self(intersect(&self.0, &other.0))
    }

    /// The members as paths in the form that messages show: `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        collect_paths(&self.0, &mut String::new(), &mut paths);
        paths
    }
}

/// Whether everything below a node has the form that [`Set::decode`] gives it.
fn is_canonical(node: &Node) -> bool {
    node.iter().all(|(element, below)| {
        let Value::Object(below) = below else { return false };
        if element == SELF {
            // It tells something only beside children.
            return below.is_empty() && node.len() > 1;
        }
        let plain = element.starts_with("f:") || canonical(element).is_ok_and(|plain| plain == *element);
        plain && is_canonical(below)
    })
}

fn decode_child(set: &mut Node, element: &str, below: Value) -> Result<(), SetError> {
    let marked = below.get(SELF).is_some();
    let children = Set::decode(below)?.0;
    let member = marked || children.is_empty();
    let mut one = Node::new();
    one.insert(canonical(element)?, Value::Object(node(member, children).unwrap_or_default()));
    union(set, one);
    Ok(())
}

/// Checks an element and puts the JSON in it into its shortest form with sorted keys.
fn canonical(element: &str) -> Result<String, SetError> {
    let bad = || SetError::Element(element.to_owned());
    let (kind, rest) = element.split_once(':').ok_or_else(bad)?;
    match kind {
        "f" => Ok(element.to_owned()),
        "i" => rest.parse::<usize>().map(|i| format!("i:{i}")).map_err(|_| bad()),
        "k" | "v" => {
            let value: Value = serde_json::from_str(rest).map_err(|_| bad())?;
            if (kind == "k") != value.is_object() {
                return Err(bad());
            }
            Ok(format!("{kind}:{value}"))
        }
        _ => Err(bad()),
    }
}

/// The element of a struct field or map key.
pub(super) fn field(name: &str) -> String {
    let mut element = String::with_capacity(name.len() + 2);
    element.push_str("f:");
    element.push_str(name);
    element
}

pub(super) fn is_member(node: &Node) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// The object of an element; `None` if it would lead nowhere.
pub(super) fn node(member: bool, mut children: Node) -> Option<Node> {
    match (member, children.is_empty()) {
        (_, true) => member.then_some(children),
        (false, false) => Some(children),
        (true, false) => {
            children.insert(SELF.to_owned(), Value::Object(Node::new()));
            Some(children)
        }
    }
}

/// The elements below a node, with theirs.
pub(super) fn children(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    node.iter().filter(|(element, _)| *element != SELF).filter_map(|(element, below)| match below {
        Value::Object(below) => Some((element.as_str(), below)),
        _ => None,
    })
}

pub(super) fn child<'a>(node: &'a Node, element: &str) -> Option<&'a Node> {
    match node.get(element) {
        Some(Value::Object(below)) => Some(below),
        _ => None,
    }
}

fn union(a: &mut Node, b: Node) {
    for (element, theirs) in b {
        let Value::Object(theirs) = theirs else { continue };
        if element == SELF {
            continue;
        }
        match a.get_mut(&element) {
            Some(Value::Object(ours)) => {
                let member = is_member(ours) || is_member(&theirs);
                ours.remove(SELF);
                union(ours, theirs);
                *ours = node(member, std::mem::take(ours)).unwrap_or_default();
            }
            _ => {
                a.insert(element, Value::Object(theirs));
            }
        }
    }
}

fn subtract(a: &mut Node, b: &Node) {
    for (element, theirs) in children(b) {
        let Some(Value::Object(ours)) = a.get_mut(element) else { continue };
        let member = is_member(ours) && !is_member(theirs);
        ours.remove(SELF);
        subtract(ours, theirs);
        match node(member, std::mem::take(ours)) {
            Some(left) => *ours = left,
            None => {
                a.remove(element);
            }
        }
    }
}

fn subtract_recursive(a: &mut Node, b: &Node) {
    for (element, theirs) in children(b) {
        if is_member(theirs) {
            a.remove(element);
            continue;
        }
        let Some(Value::Object(ours)) = a.get_mut(element) else { continue };
        let member = is_member(ours);
        ours.remove(SELF);
        subtract_recursive(ours, theirs);
        match node(member, std::mem::take(ours)) {
            Some(left) => *ours = left,
            None => {
                a.remove(element);
            }
        }
    }
}

fn contains_all(a: &Node, b: &Node) -> bool {
    children(b).all(|(element, theirs)| {
        child(a, element)
            .is_some_and(|ours| (is_member(ours) || !is_member(theirs)) && contains_all(ours, theirs))
    })
}

fn intersect(a: &Node, b: &Node) -> Node {
    let mut both = Node::new();
    for (element, ours) in children(a) {
        let Some(theirs) = child(b, element) else { continue };
        let member = is_member(ours) && is_member(theirs);
        if let Some(shared) = node(member, intersect(ours, theirs)) {
            both.insert(element.to_owned(), Value::Object(shared));
        }
    }
    both
}

fn collect_paths(set: &Node, path: &mut String, paths: &mut Vec<String>) {
    for (element, below) in children(set) {
        let length = path.len();
        push_element(path, element);
        if is_member(below) {
            paths.push(path.clone());
        }
        collect_paths(below, path, paths);
        path.truncate(length);
    }
}

fn push_element(path: &mut String, element: &str) {
    match element.split_once(':') {
        Some(("f", name)) => {
            path.push('.');
            path.push_str(name);
        }
        Some(("k", keys)) => {
            let keys: Node = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            path.push_str(&format!("[{}]", keys.join(",")));
        }
        Some(("v", value)) => path.push_str(&format!("[={value}]")),
        Some((_, index)) => path.push_str(&format!("[{index}]")),
        None => {}
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
