//! Policies written as expressions: `ValidatingAdmissionPolicy` (KEP-3488) and `MutatingAdmissionPolicy` (KEP-3962)
//! with their bindings.
//!
//! Policies are compiled when they or their bindings change. A request that no policy is about costs two look-ups of
//! versions.

mod compile;
mod counts;
mod mutating;
mod params;
mod validating;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tiphys_api::kind::Kinds;
use tiphys_api::status::Status;
use tokio::sync::watch;

use self::compile::{Binding, Policy};
use self::params::Params;
use super::expressions::Asker;
use super::matching::{Candidate, GROUP, Matched, configures, is_exempt};
use super::webhooks::keep_managed_fields;
use super::{Attributes, Phase, Plugin, request};
use crate::authz::Chain;
use crate::derived::{Derived, Made};
use crate::source::Source;

pub use counts::Counts;

/// The resources of a phase's policies and of their bindings.
fn resources(phase: Phase) -> [&'static str; 2] {
    match phase {
        Phase::Mutating => ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
        Phase::Validating => ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
    }
}

/// What a phase's plug-in and kind are called.
fn title(phase: Phase) -> &'static str {
    match phase {
        Phase::Mutating => "MutatingAdmissionPolicy",
        Phase::Validating => "ValidatingAdmissionPolicy",
    }
}

/// Applies the policies of one phase.
pub struct Policies {
    phase: Phase,
    source: Arc<dyn Source>,
    authorizer: Arc<Chain>,
    kinds: watch::Receiver<Arc<Kinds>>,
    compiled: Derived<Vec<Bound>, 2>,
    counts: Arc<Counts>,
}

/// A policy with its bindings.
struct Bound {
    policy: Arc<Policy>,
    bindings: Vec<Arc<Binding>>,
}

/// A policy that a request is about, through one binding and with one object of parameters.
struct Invocation<'c> {
    policy: &'c Policy,
    binding: &'c Binding,
    matched: Matched,
    params: Option<Value>,
}

/// Why a policy could not be asked.
struct Misconfigured<'c> {
    policy: &'c Policy,
    binding: Option<&'c Binding>,
    why: String,
}

/// What a request means to the policies of a phase, in the order of their names.
enum Finding<'c> {
    Invoke(Invocation<'c>),
    Misconfigured(Misconfigured<'c>),
}

impl Policies {
    pub fn new(
        phase: Phase,
        source: Arc<dyn Source>,
        authorizer: Arc<Chain>,
        kinds: watch::Receiver<Arc<Kinds>>,
        counts: Arc<Counts>,
    ) -> Self {
        let compiled = Derived::of(GROUP, resources(phase));
        Self { phase, source, authorizer, kinds, compiled, counts }
    }

    /// The policies that are bound, as they are now, by name.
    fn compiled(&self) -> Arc<Made<Vec<Bound>, 2>> {
        self.compiled.get(&*self.source, |before| self.compile(before))
    }

    /// Compiles what has changed since `before`.
    fn compile(&self, before: &[Bound]) -> Vec<Bound> {
        let [policies, bindings] =
            resources(self.phase).map(|resource| self.source.list(GROUP, resource, None));
        let bindings: Vec<Arc<Binding>> =
            bindings.iter().map(|entry| Arc::new(Binding::read(&entry.name, &entry.tree()))).collect();
        let compile = |entry: &crate::source::Entry| {
            let known = before.iter().find(|bound| bound.policy.name == entry.name);
            match known.filter(|bound| bound.policy.revision == entry.revision) {
                Some(bound) => Arc::clone(&bound.policy),
                None => Arc::new(Policy::read(self.phase, &entry.name, entry.revision, &entry.tree())),
            }
        };
        let bound = policies.iter().filter_map(|entry| {
            let bindings: Vec<_> =
                bindings.iter().filter(|b| b.policy == entry.name).map(Arc::clone).collect();
            (!bindings.is_empty()).then(|| Bound { policy: compile(entry), bindings })
        });
        bound.collect()
    }

    /// Which policies the request is about.
    fn find<'c>(
        &self,
        policies: &'c [Bound],
        kinds: &Kinds,
        candidate: &Candidate<'_>,
        object: &Value,
        old: &Value,
    ) -> Vec<Finding<'c>> {
        let mut found = Vec::new();
        for Bound { policy, bindings } in policies {
            let wrong = |binding: Option<&'c Binding>, why: String| {
                Finding::Misconfigured(Misconfigured { policy, binding, why })
            };
            let matched = match &policy.matcher {
                Ok(matcher) => matcher.matches(candidate, object, old).map_err(|status| status.message),
                Err(why) => Err(why.clone()),
            };
            let matched = match matched {
                Ok(Some(matched)) => matched,
                Ok(None) => continue,
                Err(why) => {
                    found.push(wrong(None, format!("failed to configure policy: {why}")));
                    continue;
                }
            };
            for binding in bindings {
                let applies = match &binding.matcher {
                    Ok(matcher) => matcher.matches(candidate, object, old).map_err(|status| status.message),
                    Err(why) => Err(why.clone()),
                };
                let params = match applies {
                    Ok(None) => continue,
                    Ok(Some(_)) => Params { kinds, source: &*self.source }.collect(
                        policy.param_kind.as_ref(),
                        binding.params.as_ref(),
                        candidate.attributes.namespace,
                    ),
                    Err(why) => Err(why),
                };
                match params {
                    Ok(all) => found.extend(all.into_iter().map(|params| {
                        Finding::Invoke(Invocation { policy, binding, matched: matched.clone(), params })
                    })),
                    Err(why) => {
                        found.push(wrong(Some(binding), format!("failed to configure binding: {why}")))
                    }
                }
            }
        }
        found
    }

    /// The request's namespace, as expressions see it.
    fn namespace(candidate: &Candidate<'_>) -> Result<Value, Status> {
        let a = candidate.attributes;
        if a.namespace.is_empty() || a.group.is_empty() && a.resource == "namespaces" {
            return Ok(Value::Null);
        }
        let namespace = candidate.namespace_object().cloned();
        namespace.ok_or_else(|| Status::not_found("", "namespaces", a.namespace))
    }

    fn asker<'a>(&'a self, attributes: &Attributes<'a>) -> Asker<'a> {
        Asker::new(&self.authorizer, attributes.user)
    }

    /// Whether the request writes a policy of this phase, whose expressions are to be checked.
    fn is_own(&self, attributes: &Attributes<'_>) -> bool {
        configures(attributes, resources(self.phase)[0])
    }
}

#[async_trait]
impl Plugin for Policies {
    fn name(&self) -> &'static str {
        title(self.phase)
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        self.is_own(attributes) || !self.compiled().value.is_empty() && !is_exempt(attributes)
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if self.phase != Phase::Mutating || self.is_own(attributes) {
            return Ok(());
        }
        let managed = object["metadata"].get("managedFields").cloned();
        mutating::admit(self, attributes, object, old).await?;
        keep_managed_fields(managed, object, attributes);
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        if self.is_own(attributes) {
            return compile::check(self.phase, object, old);
        }
        match self.phase {
            Phase::Mutating => Ok(()),
            Phase::Validating => validating::validate(self, attributes, object, old).await,
        }
    }
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
