//! Which address families a Service has (KEP-563), in a cluster whose Services have addresses of one family.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use tiphys_api::field::{Cause, Errors, Path};

use super::{error, text};

/// Fills in `ipFamilyPolicy` and `ipFamilies` of a Service that has addresses, or says why they cannot be had. `own` is
/// the family of the cluster's range; `old` is the spec before, `Null` if there was none.
pub(super) fn decide(spec: &mut Map<String, Value>, old: &Value, own: &str, errors: &mut Errors) {
    // Without an address and a selector nothing but the endpoints' author knows the families, so none is ruled out.
    let free = text(spec.get("clusterIP")) == "None"
        && spec.get("selector").and_then(Value::as_object).is_none_or(Map::is_empty);
    if text(spec.get("ipFamilyPolicy")).is_empty() {
        let default = match text(old.get("ipFamilyPolicy")) {
            "" if free => "RequireDualStack",
            "" => "SingleStack",
            before => before,
        };
        spec.insert("ipFamilyPolicy".into(), default.into());
    }
    let policy = text(spec.get("ipFamilyPolicy")).to_owned();
    let mut families = texts(spec.get("ipFamilies"));
    let had = texts(old.get("ipFamilies"));
    let before = errors.len();
    let path = Path::new("spec");
    let mut refuse_policy = |detail: &str| {
        let at = path.child("ipFamilyPolicy");
        errors.push(error(&at, Cause::Invalid, policy.as_str().into(), detail));
    };
    match &*policy {
        "SingleStack" if families.len() > 1 && families == had => families.truncate(1),
        "SingleStack" => {
            let addresses = spec.get("clusterIPs").and_then(Value::as_array).map_or(0, Vec::len);
            for (count, what) in [(addresses, "cluster IPs"), (families.len(), "IP families")] {
                if count == 2 {
                    refuse_policy(&format!(
                        "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                    ));
                }
            }
        }
        _ if had.len() == 2 && families.len() == 1 => {
            refuse_policy("must be 'SingleStack' to release the secondary IP family");
        }
        "RequireDualStack" if !free => {
            refuse_policy("this cluster is not configured for dual-stack services")
        }
        _ => {}
    }
    for (at, address) in texts(spec.get("clusterIPs")).iter().enumerate().skip(families.len()) {
        // What is no address is for validation to say.
        let Ok(address) = address.parse::<IpAddr>() else { break };
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        if family == own {
            families.push(family.to_owned());
        } else {
            let shown = spec.get("clusterIPs").cloned().unwrap_or_default();
            let detail = format!("{family} is not configured on this cluster");
            errors.push(error(&path.child("clusterIPs").index(at), Cause::Invalid, shown, &detail));
        }
    }
    if families.is_empty() && errors.len() == before {
        families.push(own.to_owned());
    }
    if free && families.len() == 1 && policy != "SingleStack" {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    if !free && errors.len() == before {
        for (at, family) in families.iter().enumerate().filter(|(_, family)| *family != own) {
            let detail = "not configured on this cluster";
            let at = path.child("ipFamilies").index(at);
            errors.push(error(&at, Cause::Invalid, family.as_str().into(), detail));
        }
    }
    spec.insert("ipFamilies".into(), json!(families));
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
