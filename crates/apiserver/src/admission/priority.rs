//! Priority: resolves a pod's PriorityClass into the number that the scheduler orders by.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};
use crate::source::Source;

const GROUP: &str = "scheduling.k8s.io";

pub struct Priority {
    source: Arc<dyn Source>,
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
#[derive(Deserialize)]
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
        Self { source }
    }

    /// The class that is marked as default for all pods, and its name; of several, the one of lowest value.
    fn default_class(&self) -> Option<(String, Class)> {
        let classes = self.source.list(GROUP, "priorityclasses", None).into_iter();
        let read = classes.filter_map(|entry| Some((entry.read::<Class>()?, entry.name)));
        let default = read.filter(|(class, _)| class.global_default).min_by_key(|(class, _)| class.value)?;
        Some((default.1, default.0))
    }

    async fn class(&self, name: &str) -> Option<Class> {
        let get = || self.source.get(GROUP, "priorityclasses", "", name)?.read();
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
            self.default_class().map(|(name, class)| {
                super::spec_mut(pod).insert("priorityClassName".to_owned(), name.into());
                class
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
        writes(request, "", "pods") || writes(request, GROUP, "priorityclasses")
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
        if !writes(request, GROUP, "priorityclasses") || class["globalDefault"] != true {
            return Ok(());
        }
        match self.default_class() {
            Some((other, _)) if other != meta::name(class) => {
                let why =
                    format!("PriorityClass {other} is already marked as default. Only one default can exist");
                Err(request.forbidden(class, &why))
            }
            _ => Ok(()),
        }
    }
}
