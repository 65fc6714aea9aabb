//! The objects that a binding gives to its policy as parameters.

use serde_json::Value;
use tiphys_api::convert;
use tiphys_api::kind::{Kinds, split_api_version};
use tiphys_api::meta;
use tiphys_api::selector::LabelSelector;

use crate::source::Source;

/// `spec.paramKind` of a policy.
#[derive(Clone, Debug)]
pub(super) struct ParamKind {
    pub(super) api_version: String,
    pub(super) kind: String,
}

/// `spec.paramRef` of a binding.
#[derive(Clone, Debug)]
pub(super) struct ParamRef {
    name: String,
    namespace: String,
    selector: Option<Result<LabelSelector, String>>,
    /// A request without parameters is refused, not let through.
    needed: bool,
}

impl ParamRef {
    pub(super) fn read(from: &Value) -> Option<Self> {
        let text = |field| meta::text(from, &[field]).to_owned();
        from.is_object().then(|| Self {
            name: text("name"),
            namespace: text("namespace"),
            selector: from
                .get("selector")
                .filter(|s| !s.is_null())
                .map(|selector| LabelSelector::from_value(selector).map_err(|e| e.to_string())),
            needed: text("parameterNotFoundAction") == "Deny",
        })
    }
}

/// Where parameters are found.
pub(super) struct Params<'a> {
    pub(super) kinds: &'a Kinds,
    pub(super) source: &'a dyn Source,
}

impl Params<'_> {
    /// The policy is asked once for each; `None` is no parameters, where the policy or the binding wants none.
    pub(super) fn collect(
        &self,
        kind: Option<&ParamKind>,
        reference: Option<&ParamRef>,
        namespace: &str,
    ) -> Result<Vec<Option<Value>>, String> {
        let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
        let (group, version) = split_api_version(&kind.api_version);
        let row = self.kinds.kind(group, version, &kind.kind);
        let found = row.and_then(|row| Some((row, row.storage.as_ref()?)));
        let Some((row, storage)) = found else {
            let (version, kind) = (&kind.api_version, &kind.kind);
            return Err(format!(
                "paramKind kind `&ParamKind{{APIVersion:{version},Kind:{kind},}}` not known"
            ));
        };
        let place = match (row.is_namespaced(), reference.namespace.as_str(), namespace) {
            (false, "", _) => "",
            (false, ..) => {
                return Err(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()
                );
            }
            (true, "", "") => {
                let why =
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Err(why.to_owned());
            }
            (true, "", own) => own,
            (true, given, _) => given,
        };
        let shown = |mut object: Value| {
            convert::from_storage(row, version, &mut object);
            object
        };
        let params: Vec<Option<Value>> = match (reference.name.as_str(), &reference.selector) {
            ("", None) => return Err("one of name or selector must be provided".to_owned()),
            ("", Some(selector)) => {
                let selector = selector.as_ref().map_err(Clone::clone)?;
                let place = row.is_namespaced().then_some(place);
                let all = self.source.list(&storage.group, &storage.resource, place).into_iter();
                let all =
                    all.map(|entry| entry.tree()).filter(|object| selector.matches(meta::labels(object)));
                all.map(|object| Some(shown(object))).collect()
            }
            (_, Some(_)) => {
                return Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned());
            }
            (name, None) => {
                let entry = self.source.get(&storage.group, &storage.resource, place, name);
                entry.map(|entry| Some(shown(entry.tree()))).into_iter().collect()
            }
        };
        if params.is_empty() && reference.needed {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        Ok(params)
    }
}
