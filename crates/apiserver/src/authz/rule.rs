//! RBAC's rules: what they allow, and which of them cover others.

use serde::{Deserialize, Serialize};

use super::Target;

/// A `PolicyRule`: verbs on resources, or on paths that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub resource_names: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub non_resource_urls: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub verbs: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

/// Whether one of the resources is `resource/subresource`, `*`, or `*/subresource`.
fn names_resource(list: &[String], resource: &str, subresource: &str) -> bool {
    list.iter().any(|entry| {
        if entry == "*" {
            return true;
        }
        match entry.split_once('/') {
            None => subresource.is_empty() && entry == resource,
            Some((head, tail)) => {
                !subresource.is_empty() && tail == subresource && (head == "*" || head == resource)
            }
        }
    })
}

/// Whether one of the paths is `path`, or ends in `*` and starts it.
fn names_path(list: &[String], path: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => entry == path,
    })
}

impl Rule {
    /// Whether the rule lets `verb` be done to the target.
    pub fn allows(&self, verb: &str, target: &Target<'_>) -> bool {
        if !has(&self.verbs, verb) {
            return false;
        }
        match *target {
            Target::Path(path) => names_path(&self.non_resource_urls, path),
            Target::Resource { group, resource, subresource, name, .. } => {
                has(&self.api_groups, group)
                    && names_resource(&self.resources, resource, subresource)
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name))
            }
        }
    }

    /// The rule in parts that have one verb, one group, one resource and at most one name each.
    fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                parts.push(Rule {
                    verbs: vec![verb.clone()],
                    non_resource_urls: vec![url.clone()],
                    ..Rule::default()
                });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = Rule {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                    } else {
                        for name in &self.resource_names {
                            parts.push(Rule { resource_names: vec![name.clone()], ..part.clone() });
                        }
                    }
                }
            }
        }
        parts
    }

    /// Whether this rule allows all that `part` does, a rule as [`Self::parts`] makes them.
    fn covers_part(&self, part: &Rule) -> bool {
        let all = |own: &[String], theirs: &[String]| {
            own.iter().any(|o| o == "*") || theirs.iter().all(|t| own.contains(t))
        };
        let resource = |wanted: &String| {
            has(&self.resources, wanted)
                || wanted.split_once('/').is_some_and(|(_, sub)| self.resources.contains(&format!("*/{sub}")))
        };
        let url = |wanted: &String| {
            self.non_resource_urls.iter().any(|own| {
                own == wanted || own.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix))
            })
        };
        let names = self.resource_names.is_empty()
            || (!part.resource_names.is_empty()
                && part.resource_names.iter().all(|name| self.resource_names.contains(name)));
        all(&self.verbs, &part.verbs)
            && all(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(resource)
            && part.non_resource_urls.iter().all(url)
            && names
    }

    /// As escalation errors show it.
    pub(super) fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = parts
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", go_list(list)))
            .collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// Every verb on every resource.
pub(super) fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule { api_groups: all(), resources: all(), verbs: all(), ..Rule::default() }
}

/// Every verb on every path that names no resource.
pub(super) fn every_path() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule { non_resource_urls: all(), verbs: all(), ..Rule::default() }
}

/// A list as Go's `%q` shows it.
pub(super) fn go_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|entry| format!("{entry:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// What `wanted` allows and `owned` does not, one rule for each resource or path. Empty: all is covered.
///
/// A rule that is not covered by one owned rule may be by several; that is why it is taken apart.
pub(super) fn not_covered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing: Vec<Rule> = Vec::new();
    for part in wanted.iter().flat_map(Rule::parts) {
        if owned.iter().any(|own| own.covers_part(&part)) {
            continue;
        }
        // Parts that differ in their verb alone are shown as one.
        let same = missing.iter_mut().find(|m| {
            m.api_groups == part.api_groups
                && m.resources == part.resources
                && m.resource_names == part.resource_names
                && m.non_resource_urls == part.non_resource_urls
        });
        match same {
            Some(rule) if !rule.verbs.contains(&part.verbs[0]) => rule.verbs.extend(part.verbs),
            Some(_) => {}
            None => missing.push(part),
        }
    }
    missing
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
