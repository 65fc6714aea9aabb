//! The values behind `fieldRef` and `resourceFieldRef`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tiphys_client::placement;

use crate::pod;

/// Why a reference has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No such field, or not one that may be referred to.
    #[error("unsupported fieldPath: {0}")]
    Path(String),
    /// No such resource.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// The container that the reference names is not there.
    #[error("container {0} not found")]
    Container(String),
}

/// Addresses as they are known when the value is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses<'a> {
    /// The pod's, the primary first.
    pub pod: &'a [String],
    /// The node's, the primary first.
    pub host: &'a [String],
}

/// The value of a `fieldRef`.
pub fn field(pod: &Pod, addresses: Addresses<'_>, path: &str) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(FieldError::Path(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => pod::spec(pod).node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => pod::spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(addresses.host),
        "status.hostIPs" => addresses.host.join(","),
        "status.podIP" => first(addresses.pod),
        "status.podIPs" => addresses.pod.join(","),
        _ => return Err(FieldError::Path(path.to_owned())),
    })
}

/// Splits `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

/// A map as a file has it: one `key="value"` a line, in order of keys, values quoted as Go quotes them.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", go_quote(v))).collect();
    lines.join("\n")
}

fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef` of `container`, in units of its divisor, rounded up. What has no limit is
/// limited by the pod as a whole, or by the node.
pub fn resource(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, FieldError> {
    let named = selector.container_name.as_deref().filter(|n| !n.is_empty() && *n != container.name);
    let other = match named {
        Some(name) => {
            Some(pod::find_container(pod, name).ok_or_else(|| FieldError::Container(name.to_owned()))?)
        }
        None => None,
    };
    let container: &Container = other.as_ref().map_or(container, |c| &c.spec);
    let unknown = || FieldError::Resource(selector.resource.clone());
    let (list, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(unknown());
    }
    let resources = container.resources.as_ref();
    let value = match list {
        "limits" => resources
            .and_then(|r| r.limits.as_ref())
            .and_then(|l| l.get(name))
            .or_else(|| pod::spec(pod).resources.as_ref()?.limits.as_ref()?.get(name))
            .or_else(|| allocatable.get(name)),
        "requests" => resources.and_then(|r| r.requests.as_ref()).and_then(|l| l.get(name)),
        _ => return Err(unknown()),
    };
    let in_thousandths = name == "cpu";
    let number = |q: &Quantity| if in_thousandths { placement::milli(q) } else { placement::units(q) };
    let value = value.and_then(number).unwrap_or(0);
    let divisor = selector.divisor.as_ref().and_then(number).filter(|d| *d > 0);
    let divisor = divisor.unwrap_or(if in_thousandths { 1000 } else { 1 });
    Ok(value.div_euclid(divisor).saturating_add(i64::from(value.rem_euclid(divisor) > 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_from;
    use serde_json::json;

    #[test]
    fn reads_fields() {
        let pod = pod_from(json!({"metadata": {"name": "n", "namespace": "ns", "uid": "u",
            "labels": {"b": "2\"\n", "a": "1"}}, "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": []}}));
        let ips = ["10.0.0.1".to_owned(), "fd::1".to_owned()];
        let addresses = Addresses { pod: &ips, host: &ips[1..] };
        let cases = [
            ("metadata.name", "n"),
            ("metadata.uid", "u"),
            ("metadata.labels['a']", "1"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "a=\"1\"\nb=\"2\\\"\\n\""),
            ("spec.nodeName", "node"),
            ("status.podIP", "10.0.0.1"),
            ("status.podIPs", "10.0.0.1,fd::1"),
            ("status.hostIP", "fd::1"),
        ];
        for (path, want) in cases {
            assert_eq!(field(&pod, addresses, path).as_deref(), Ok(want), "{path}");
        }
        assert!(field(&pod, addresses, "spec.containers").is_err());
    }

    #[test]
    fn reads_resources_by_their_divisor() {
        let pod = pod_from(json!({"spec": {"containers": [{"name": "c", "resources":
            {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}}}]}}));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let allocatable = BTreeMap::from([("memory".to_owned(), Quantity("1Gi".into()))]);
        let get = |resource: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: divisor.map(|d| Quantity(d.into())),
                container_name: None,
            };
            super::resource(&pod, container, &selector, &allocatable)
        };
        assert_eq!(get("limits.cpu", None).as_deref(), Ok("2"));
        assert_eq!(get("limits.cpu", Some("1m")).as_deref(), Ok("1500"));
        assert_eq!(get("requests.memory", Some("1Mi")).as_deref(), Ok("100"));
        assert_eq!(get("limits.memory", None).as_deref(), Ok("1073741824"));
        assert_eq!(get("requests.cpu", Some("0")).as_deref(), Ok("0"));
        assert!(get("limits.gpu", None).is_err());
        let whole = pod_from(
            json!({"spec": {"resources": {"limits": {"memory": "2Mi"}}, "containers": [{"name": "c"}]}}),
        );
        let selector = ResourceFieldSelector { resource: "limits.memory".into(), ..Default::default() };
        let of_pod =
            super::resource(&whole, &whole.spec.as_ref().unwrap().containers[0], &selector, &allocatable);
        assert_eq!(of_pod.as_deref(), Ok("2097152"));
    }
}
