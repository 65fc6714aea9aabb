//! The node's heartbeat.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;

/// Where the leases of nodes live.
const NAMESPACE: &str = "kube-node-lease";
/// How long a heartbeat is good for, in seconds.
const DURATION: i32 = 40;
/// From heartbeat to heartbeat.
const INTERVAL: Duration = Duration::from_secs(10);
/// From a failed heartbeat to the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Renews the lease every ten seconds until it is dropped.
pub(crate) async fn run(client: kube::Client, node: String, owner_uid: Option<String>) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut held: Option<Lease> = None;
    loop {
        match renew(&api, &node, owner_uid.as_deref(), held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                tokio::time::sleep(INTERVAL).await;
            }
            Err(error) => {
                tracing::debug!(%error, "the node's lease was not renewed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Renews by what was written last; after a conflict by what the API has.
async fn renew(
    api: &Api<Lease>,
    node: &str,
    owner: Option<&str>,
    held: Option<Lease>,
) -> Result<Lease, kube::Error> {
    let mut lease = match held {
        Some(lease) => lease,
        None => match api.get_opt(node).await? {
            Some(lease) => lease,
            None => return api.create(&PostParams::default(), &new_lease(node, owner)).await,
        },
    };
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(node.to_owned());
    spec.lease_duration_seconds = Some(DURATION);
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    lease.metadata.managed_fields = None;
    api.replace(node, &PostParams::default(), &lease).await
}

fn new_lease(node: &str, owner: Option<&str>) -> Lease {
    let owner = owner.map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: owner.map(|o| vec![o]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(DURATION),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    }
}
