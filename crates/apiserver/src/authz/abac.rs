//! Attribute-based access control: a file with a policy in each line, as upstream's mode `ABAC` reads it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::rule::Rule;
use super::{Attributes, Authorizer, Decision, Target, UserRules};
use crate::identity::{AUTHENTICATED, Identity};

const VERSION: &str = "abac.authorization.kubernetes.io/v1beta1";
const READS: [&str; 3] = ["get", "list", "watch"];

/// Who may do what. Empty fields say nothing; `*` stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    non_resource_path: String,
}

/// What a line of the file is wrong with.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ParseError {
    line: usize,
    why: String,
}

/// Reads a file; empty lines and those that begin with `#` are passed over.
///
/// # Errors
/// A line is no policy.
pub fn parse(text: &str) -> Result<Arc<[Policy]>, ParseError> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let policies = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let policies = policies.map(|(at, line)| Policy::read(line).map_err(|why| ParseError { line: at, why }));
    policies.collect()
}

impl Policy {
    fn read(line: &str) -> Result<Self, String> {
        let object: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let mut policy = match (object["apiVersion"].as_str(), object["kind"].as_str()) {
            (Some(VERSION), Some("Policy")) => Self::of(&object["spec"])?,
            (None | Some(""), None | Some("")) => Self::of(&object)?.unversioned(),
            (version, kind) => {
                let said = |text: Option<&str>| text.unwrap_or_default().to_owned();
                return Err(format!("{} {} is no Policy of {VERSION}", said(version), said(kind)));
            }
        };
        if policy.user == "*" || policy.group == "*" {
            (policy.user, policy.group) = (String::new(), AUTHENTICATED.to_owned());
        }
        Ok(policy)
    }

    fn of(fields: &Value) -> Result<Self, String> {
        // Of a list, every field would be left out, which may mean everything.
        if !fields.is_object() {
            return Err("the policy is no object".to_owned());
        }
        Self::deserialize(fields).map_err(|e| e.to_string())
    }

    /// A line of before there were versions: what it leaves out is everything.
    fn unversioned(mut self) -> Self {
        if self.user.is_empty() && self.group.is_empty() {
            AUTHENTICATED.clone_into(&mut self.group);
        }
        "*".clone_into(&mut self.api_group);
        self.non_resource_path = match self.namespace.is_empty() && self.resource.is_empty() {
            true => "*".to_owned(),
            false => String::new(),
        };
        for field in [&mut self.namespace, &mut self.resource] {
            if field.is_empty() {
                "*".clone_into(field);
            }
        }
        self
    }

    fn is_about(&self, user: &Identity) -> bool {
        let (by_name, by_group) = (!self.user.is_empty(), !self.group.is_empty());
        (by_name || by_group)
            && (!by_name || self.user == user.name())
            && (!by_group || user.groups().contains(&self.group))
    }

    fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let is = |policy: &str, asked: &str| policy == "*" || policy == asked;
        self.is_about(attributes.user)
            && (!self.readonly || READS.contains(&attributes.verb))
            && match attributes.target {
                Target::Resource { group, resource, namespace, .. } => {
                    is(&self.namespace, namespace)
                        && is(&self.resource, resource)
                        && is(&self.api_group, group)
                }
                Target::Path(path) => {
                    let prefix = self.non_resource_path.strip_suffix('*');
                    prefix.is_some_and(|prefix| path.starts_with(prefix)) || self.non_resource_path == path
                }
            }
    }

    /// As reviews tell it.
    fn rules(&self) -> impl Iterator<Item = Rule> {
        let verbs = || match self.readonly {
            true => READS.map(str::to_owned).to_vec(),
            false => vec!["*".to_owned()],
        };
        let on_resources = (!self.resource.is_empty()).then(|| Rule {
            verbs: verbs(),
            api_groups: vec![self.api_group.clone()],
            resources: vec![self.resource.clone()],
            ..Rule::default()
        });
        let on_paths = (!self.non_resource_path.is_empty()).then(|| Rule {
            verbs: verbs(),
            non_resource_urls: vec![self.non_resource_path.clone()],
            ..Rule::default()
        });
        on_resources.into_iter().chain(on_paths)
    }
}

/// Permits what one of the policies does.
pub struct Abac(pub Arc<[Policy]>);

impl Authorizer for Abac {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match self.0.iter().any(|policy| policy.allows(attributes)) {
            true => Decision::Allow { reason: String::new() },
            false => Decision::NoOpinion { reason: "No policy matched.".to_owned() },
        }
    }

    fn rules(&self, user: &Identity, namespace: &str) -> UserRules {
        let here = |policy: &&Policy| policy.namespace == "*" || policy.namespace == namespace;
        let own = self.0.iter().filter(|policy| policy.is_about(user)).filter(here);
        UserRules { rules: own.flat_map(Policy::rules).collect(), errors: Vec::new() }
    }
}

#[cfg(test)]
#[path = "abac_tests.rs"]
mod tests;
