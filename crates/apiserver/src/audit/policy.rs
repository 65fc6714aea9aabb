//! Which requests are recorded, and how much of them.

use serde::Deserialize;
use tiphys_api::codec::yaml;

use crate::authz::Target;
use crate::identity::Identity;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    #[default]
    None,
    /// Who, what, when, and how it ended.
    Metadata,
    /// The body of the request, too.
    Request,
    /// The bodies of request and answer, too.
    RequestResponse,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When in the life of a request an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Only of what goes on for long.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What a policy says of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub level: Level,
    omitted: u8,
    pub omit_managed_fields: bool,
}

impl Decision {
    /// Whether an event is told at this stage.
    pub fn tells(self, stage: Stage) -> bool {
        self.level > Level::None && self.omitted & (1 << stage as u8) == 0
    }
}

/// `audit.k8s.io/v1` `Policy`: the first rule that fits a request decides; without one it is not recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    #[allow(dead_code, reason = "policies may carry metadata like all objects; it means nothing here")]
    metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a text is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("it is no YAML: {0}")]
    Yaml(String),
    #[error("it is no audit policy: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("it must be a Policy of audit.k8s.io/v1, not a {kind} of {api_version}")]
    Kind { api_version: String, kind: String },
    #[error("it has no rules")]
    Empty,
    #[error("rules[{rule}]: {what}")]
    Rule { rule: usize, what: &'static str },
}

impl Policy {
    /// Writes by anybody are recorded without their bodies, and so is what reads Secrets or runs commands in pods; what
    /// the cluster's own parts do all the time is not.
    pub const DEFAULT: &'static str = include_str!("default-policy.yaml");

    /// Reads a policy from YAML or JSON.
    ///
    /// # Errors
    /// It is none, or contradicts itself.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let json = yaml::to_json(text).map_err(|e| PolicyError::Yaml(e.to_string()))?;
        let policy: Self = serde_json::from_slice(&json)?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            let Self { api_version, kind, .. } = policy;
            return Err(PolicyError::Kind { api_version, kind });
        }
        if policy.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        for (rule, checked) in policy.rules.iter().enumerate() {
            checked.check().map_err(|what| PolicyError::Rule { rule, what })?;
        }
        Ok(policy)
    }

    /// What is recorded of a request. `user` is missing where nobody could prove who asks.
    pub fn decide(&self, user: Option<&Identity>, verb: &str, target: &Target<'_>) -> Decision {
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(user, verb, target)) else {
            return Decision::default();
        };
        let omitted = self.omit_stages.iter().chain(&rule.omit_stages);
        Decision {
            level: rule.level,
            omitted: omitted.fold(0, |bits, stage| bits | 1 << *stage as u8),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), &'static str> {
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if about_resources && !self.paths.is_empty() {
            return Err("a rule is about resources or about nonResourceURLs, not both");
        }
        let wrong = |path: &String| path != "*" && !path.starts_with('/');
        if self.paths.iter().any(wrong) {
            return Err("nonResourceURLs begin with a slash, or are *");
        }
        if self.paths.iter().any(|path| path.trim_end_matches('*').contains('*')) {
            return Err("nonResourceURLs have a * only at their end");
        }
        if self.resources.iter().any(|r| !r.resource_names.is_empty() && r.resources.is_empty()) {
            return Err("resourceNames need resources");
        }
        Ok(())
    }

    fn fits(&self, user: Option<&Identity>, verb: &str, target: &Target<'_>) -> bool {
        let among = |list: &[String], word: &str| list.is_empty() || list.iter().any(|w| w == word);
        let users = self.users.is_empty() || user.is_some_and(|user| among(&self.users, user.name()));
        let in_group = |user: &Identity| self.user_groups.iter().any(|group| user.in_group(group));
        let groups = self.user_groups.is_empty() || user.is_some_and(in_group);
        if !users || !groups || !among(&self.verbs, verb) {
            return false;
        }
        match target {
            Target::Path(path) => {
                self.resources.is_empty()
                    && self.namespaces.is_empty()
                    && (self.paths.is_empty() || self.paths.iter().any(|pattern| path_fits(pattern, path)))
            }
            Target::Resource { group, resource, subresource, namespace, name, .. } => {
                self.paths.is_empty()
                    && among(&self.namespaces, namespace)
                    && (self.resources.is_empty()
                        || self.resources.iter().any(|r| r.fits(group, resource, subresource, name)))
            }
        }
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == pattern,
    }
}

impl Resources {
    fn fits(&self, group: &str, resource: &str, subresource: &str, name: &str) -> bool {
        if self.group != "*" && self.group != group {
            return false;
        }
        if !self.resource_names.is_empty() && !self.resource_names.iter().any(|n| n == name) {
            return false;
        }
        self.resources.is_empty()
            || self.resources.iter().any(|pattern| match pattern.split_once('/') {
                None => pattern == "*" || (subresource.is_empty() && pattern == resource),
                Some(("*", below)) => !subresource.is_empty() && (below == "*" || below == subresource),
                // Upstream lets `pods/*` mean the pods themselves, too.
                Some((of, "*")) => of == resource,
                Some((of, below)) => of == resource && below == subresource,
            })
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
