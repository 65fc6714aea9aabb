//! The DNS service as API objects, so that ordinary proxying carries questions to us.

use std::{collections::BTreeMap, fmt::Debug, net::SocketAddrV4};

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::Config;
use crate::proxy::model::SERVICE_LABEL;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

/// Makes the `kube-dns` Service in kube-system and this node's EndpointSlice of it, whose endpoint is `listener`, or
/// puts them right if they are there. Needs get, create and update of both kinds there.
pub async fn publish(client: Client, config: &Config, listener: SocketAddrV4) -> Result<(), kube::Error> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    put(&services, service(config), |there, wanted| {
        // The server has filled in the rest.
        let spec = there.spec.get_or_insert_default();
        let wanted = wanted.spec.unwrap_or_default();
        spec.ports = wanted.ports;
        spec.selector = None;
    })
    .await?;
    put(&slices, slice(config, listener), |there, wanted| {
        there.metadata.labels = wanted.metadata.labels;
        there.endpoints = wanted.endpoints;
        there.ports = wanted.ports;
    })
    .await
}

/// Creates the object, or brings the one of that name in line.
async fn put<K>(api: &Api<K>, wanted: K, amend: impl FnOnce(&mut K, K)) -> Result<(), kube::Error>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + PartialEq
        + Serialize
        + DeserializeOwned,
{
    match api.create(&PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        outcome => return outcome.map(drop),
    }
    let name = wanted.meta().name.clone().unwrap_or_default();
    let there = api.get(&name).await?;
    let mut amended = there.clone();
    amend(&mut amended, wanted);
    if amended != there {
        api.replace(&name, &PostParams::default(), &amended).await?;
    }
    Ok(())
}

fn labels(own: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    let all = [("k8s-app", NAME)];
    Some(all.iter().chain(own).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn service(config: &Config) -> Service {
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53});
    Service {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: labels(&[
                ("kubernetes.io/cluster-service", "true"),
                ("kubernetes.io/name", "Tiphys-DNS"),
            ]),
            ..ObjectMeta::default()
        },
        spec: from_json(json!({
            "type": "ClusterIP",
            "clusterIP": config.service_ip,
            "clusterIPs": [config.service_ip],
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        })),
        ..Service::default()
    }
}

fn slice(config: &Config, listener: SocketAddrV4) -> EndpointSlice {
    let port =
        |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": listener.port()});
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{NAME}-{}", config.node)),
            namespace: Some(NAMESPACE.to_owned()),
            labels: labels(&[
                (SERVICE_LABEL, NAME),
                ("endpointslice.kubernetes.io/managed-by", "dns.tiphys"),
            ]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: from_json(json!([{
            "addresses": [listener.ip()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": config.node,
            // Pods ask their own node's while it has one; that of another may be gone.
            "hints": {"forNodes": [{"name": config.node}]},
        }])),
        ports: from_json(json!([port("dns", "UDP"), port("dns-tcp", "TCP")])),
    }
}

/// A part of an object from its JSON, whose shape is known here.
fn from_json<T: DeserializeOwned>(value: serde_json::Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_are_whole() {
        let config = Config {
            service_ip: [10, 96, 0, 10].into(),
            node: "here".to_owned(),
            ..Config::new([10, 244, 0, 1].into())
        };
        let service = service(&config);
        let ports = service.spec.unwrap().ports.unwrap();
        assert_eq!(ports.len(), 2);
        let slice = slice(&config, "10.244.0.1:10053".parse().unwrap());
        let endpoints = slice.endpoints.unwrap();
        assert_eq!(endpoints[0].addresses, ["10.244.0.1"]);
        let hints = endpoints[0].hints.as_ref().and_then(|hints| hints.for_nodes.as_ref()).unwrap();
        assert_eq!(hints[0].name, "here");
        let matching = slice.ports.unwrap();
        assert_eq!(matching[0].name, ports[0].name);
        assert_eq!(matching[0].port, Some(10_053));
    }
}
