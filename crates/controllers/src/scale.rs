//! The subresource `scale`, by which anything that has replicas is told how many, whatever its kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::Client;

/// What the API serves of a kind, by the name of the collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Collection {
    Nothing,
    /// It cannot be scaled.
    Fixed(String),
    Scalable(String),
}

/// Where the objects of a kind are, in this version of its group.
///
/// # Errors
/// The server does not say.
pub(crate) async fn find(client: &Client, api_version: &str, kind: &str) -> Result<Collection, kube::Error> {
    let list = match api_version.contains('/') {
        false => client.list_core_api_resources(api_version).await,
        true => client.list_api_group_resources(api_version).await,
    };
    match list {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Collection::Nothing),
        list => Ok(collection(&list?.resources, kind)),
    }
}

fn collection(list: &[APIResource], kind: &str) -> Collection {
    let Some(found) = list.iter().find(|r| r.kind == kind && !r.name.contains('/')) else {
        return Collection::Nothing;
    };
    let (plural, scale) = (found.name.clone(), format!("{}/scale", found.name));
    match list.iter().any(|r| r.name == scale) {
        true => Collection::Scalable(plural),
        false => Collection::Fixed(plural),
    }
}

/// The path of an object's `scale`.
pub(crate) fn path(api_version: &str, namespace: &str, plural: &str, name: &str) -> String {
    let root = if api_version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{api_version}/namespaces/{namespace}/{plural}/{name}/scale")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_has_a_scale_is_asked_for_it() {
        let list: Vec<APIResource> = ["wheels", "wheels/status", "wheels/scale", "axles"]
            .iter()
            .map(|name| {
                let kind = if name.starts_with("wheels") { "Wheel" } else { "Axle" };
                let kind = if name.ends_with("scale") { "Scale" } else { kind };
                let resource =
                    json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": []});
                serde_json::from_value(resource).expect("a resource")
            })
            .collect();
        assert_eq!(collection(&list, "Wheel"), Collection::Scalable("wheels".to_owned()));
        assert_eq!(collection(&list, "Axle"), Collection::Fixed("axles".to_owned()));
        assert_eq!(collection(&list, "Frame"), Collection::Nothing);
        assert_eq!(path("apps/v1", "ns", "wheels", "w"), "/apis/apps/v1/namespaces/ns/wheels/w/scale");
        assert_eq!(path("v1", "ns", "wheels", "w"), "/api/v1/namespaces/ns/wheels/w/scale");
    }
}
