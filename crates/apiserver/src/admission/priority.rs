//! Priority: resolves a pod's PriorityClass into the number that the scheduler orders by.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};
use crate::{
    derived::{Derived, Made},
    source::Source,
};

const GROUP: &str = "scheduling.k8s.io";
const RESOURCE: &str = "priorityclasses";

pub struct Priority {
    source: Arc<dyn Source>,
    classes: Derived<Classes, 1>,
}

/// The PriorityClasses that there are.
#[derive(Default)]
struct Classes {
    by_name: HashMap<String, Class>,
    /// The one that is marked as default for all pods; of several, the one of lowest value.
    default: Option<String>,
}

impl Classes {
    fn compile(source: &dyn Source) -> Self {
        let classes = source.list(GROUP, RESOURCE, None).into_iter();
        let read: Vec<_> = classes.filter_map(|entry| Some((entry.read::<Class>()?, entry.name))).collect();
        let marked = read.iter().filter(|(class, _)| class.global_default);
        let default = marked.min_by_key(|(class, _)| class.value).map(|(_, name)| name.clone());
        Self { by_name: read.into_iter().map(|(class, name)| (name, class)).collect(), default }
    }
}

/// The PriorityClasses that every cluster has.
pub fn system_classes() -> [Value; 2] {
    [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if \
             necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]
    .map(|(name, value, description)| {
        json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": "PriorityClass",
            "metadata": { "name": name },
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        })
    })
}

/// What a pod takes from its PriorityClass.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    #[serde(default)]
    value: i64,
    preemption_policy: Option<String>,
    #[serde(default)]
    global_default: bool,
}

impl Priority {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, classes: Derived::of(GROUP, [RESOURCE]) }
    }

    fn classes(&self) -> Arc<Made<Classes, 1>> {
        self.classes.get(&*self.source, |_| Classes::compile(&*self.source))
    }

    async fn class(&self, name: &str) -> Option<Class> {
        let get = || self.classes().value.by_name.get(name).cloned();
        let class = get();
        if class.is_some() {
            return class;
        }
        self.source.settle().await;
        get()
    }

    async fn resolve(&self, request: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        let wanted = meta::text(pod, &["spec", "priorityClassName"]).to_owned();
        let class = if wanted.is_empty() {
            let Classes { by_name, default } = &self.classes().value;
            default.as_ref().and_then(|name| Some((name, by_name.get(name)?))).map(|(name, class)| {
                super::spec_mut(pod).insert("priorityClassName".to_owned(), name.as_str().into());
                class.clone()
            })
        } else {
            let class = self.class(&wanted).await.ok_or_else(|| {
                request.forbidden(pod, &format!("no PriorityClass with name {wanted} was found"))
            })?;
            Some(class)
        };
        let (priority, policy) = match class {
            Some(class) => (class.value, class.preemption_policy),
            None => (0, Some("PreemptLowerPriority".to_owned())),
        };
        let spec = &pod["spec"];
        if let Some(given) = spec["priority"].as_i64()
            && given != priority
        {
            let why = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {priority} from the given PriorityClass name"
            );
            return Err(request.forbidden(pod, &why));
        }
        if let (Some(given), Some(policy)) = (spec["preemptionPolicy"].as_str(), &policy)
            && given != policy
        {
            let why = format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority \
                 admission controller computed {policy} from the given PriorityClass name"
            );
            return Err(request.forbidden(pod, &why));
        }
        let spec = super::spec_mut(pod);
        spec.insert("priority".to_owned(), priority.into());
        if let Some(policy) = policy {
            spec.insert("preemptionPolicy".to_owned(), policy.into());
        }
        Ok(())
    }
}

fn writes(request: &Attributes<'_>, group: &str, resource: &str) -> bool {
    request.is(Operation::Create, group, resource) || request.is(Operation::Update, group, resource)
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        writes(request, "", "pods") || writes(request, GROUP, RESOURCE)
    }

    async fn admit(&self, request: &Attributes<'_>, pod: &mut Value, old: &Value) -> Result<(), Status> {
        if request.is(Operation::Create, "", "pods") && pod["spec"].is_object() {
            return self.resolve(request, pod).await;
        }
        if request.is(Operation::Update, "", "pods") && pod["spec"].is_object() {
            // Clients that don't know the fields leave them out.
            for field in ["priority", "preemptionPolicy"] {
                if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
                    super::spec_mut(pod).insert(field.to_owned(), old["spec"][field].clone());
                }
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &Attributes<'_>, class: &Value, _: &Value) -> Result<(), Status> {
        if !writes(request, GROUP, RESOURCE) || class["globalDefault"] != true {
            return Ok(());
        }
        match &self.classes().value.default {
            Some(other) if other != meta::name(class) => {
                let why =
                    format!("PriorityClass {other} is already marked as default. Only one default can exist");
                Err(request.forbidden(class, &why))
            }
            _ => Ok(()),
        }
    }
}
