//! What a migration means to the definition of the kind that is migrated: while it goes on, the definition tells so, and
//! when it has succeeded, the versions that nothing is stored in any more are no longer noted there, so that they may
//! be taken out of the definition. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    api::{DynamicObject, GroupVersionKind},
    discovery::ApiResource,
};
use serde_json::{Value, json};
use tiphys_api::meta;

const CONDITION: &str = "StorageMigrating";

/// Where definitions are.
pub(super) fn resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"))
}

/// The version that objects are stored in from now on.
pub(super) fn storage_version(definition: &DynamicObject) -> &str {
    let versions = meta::items(&definition.data, &["spec", "versions"]);
    versions.iter().find(|v| v["storage"] == true).map_or("", |v| meta::text(v, &["name"]))
}

fn generation(definition: &DynamicObject) -> i64 {
    definition.metadata.generation.unwrap_or(0)
}

/// To be applied to the definition's status, if it is still as it was seen.
fn told(definition: &DynamicObject, [status, reason, message]: [&str; 3], now: Timestamp) -> Value {
    let condition = json!({
        "type": CONDITION, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": Time(now), "observedGeneration": generation(definition),
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": definition.metadata.name, "resourceVersion": definition.metadata.resource_version},
        "status": {"conditions": [condition]},
    })
}

/// The migration of this name begins.
pub(super) fn begun(definition: &DynamicObject, migration: &str, now: Timestamp) -> Value {
    let message = format!("Migration {migration} is running");
    told(definition, ["True", "MigrationRunning", &message], now)
}

/// It has ended. Versions are forgotten only if the definition has not changed since work began: what was written
/// anew meanwhile may lie there in a version that is an old one again.
pub(super) fn ended(definition: &DynamicObject, succeeded: bool, now: Timestamp) -> Value {
    if !succeeded {
        return told(definition, ["False", "MigrationFailed", "The migration has failed"], now);
    }
    let conditions = meta::items(&definition.data, &["status", "conditions"]);
    let since = conditions.iter().find(|c| c["type"] == CONDITION).map(|c| &c["observedGeneration"]);
    let is_same = since.is_some_and(|since| *since == generation(definition));
    let message = if is_same {
        "The migration has succeeded and the stored versions have been updated"
    } else {
        "The migration has succeeded but the stored versions have not been updated due to a generation mismatch"
    };
    let mut told = told(definition, ["False", "MigrationSucceeded", message], now);
    if is_same {
        told["status"]["storedVersions"] = json!([storage_version(definition)]);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_forgotten_only_of_the_definition_that_work_began_with() {
        let now = Timestamp::UNIX_EPOCH;
        let mut definition: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "things.example.com", "generation": 3, "resourceVersion": "9"},
            "spec": {"versions": [{"name": "v1"}, {"name": "v2", "storage": true}]},
            "status": {"storedVersions": ["v1", "v2"], "conditions": []},
        }))
        .unwrap();
        let beginning = begun(&definition, "m", now);
        assert_eq!(beginning["metadata"]["resourceVersion"], "9");
        definition.data["status"]["conditions"] = beginning["status"]["conditions"].clone();
        let condition = &definition.data["status"]["conditions"][0];
        let words = (&condition["status"], &condition["message"], &condition["observedGeneration"]);
        assert_eq!(words, (&json!("True"), &json!("Migration m is running"), &json!(3)));

        let end = ended(&definition, true, now);
        assert_eq!(end["status"]["storedVersions"], json!(["v2"]));
        assert_eq!(end["status"]["conditions"][0]["status"], "False");
        let failed = ended(&definition, false, now);
        assert_eq!(failed["status"]["conditions"][0]["reason"], "MigrationFailed");
        assert!(failed["status"].get("storedVersions").is_none());

        definition.metadata.generation = Some(4);
        let changed = ended(&definition, true, now);
        assert!(changed["status"].get("storedVersions").is_none());
        assert_eq!(changed["status"]["conditions"][0]["reason"], "MigrationSucceeded");
    }
}
