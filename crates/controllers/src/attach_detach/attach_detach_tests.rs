use http::Method;
use serde_json::Value;
use tiphys_client::events::Recorder;

use super::*;
use crate::testing;

/// A cluster with a node, a pod on it, and the pod's volume of a driver; what is written is kept.
fn objects() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "annotations": {plan::MANAGED: "true"}}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "a", "name": "web", "uid": "p"},
            "spec": {"nodeName": "n", "containers": [],
                "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "a", "name": "data", "uid": "c"},
            "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"},
            "spec": {"csi": {"driver": "d", "volumeHandle": "h"}, "claimRef": {"namespace": "a", "name": "data", "uid": "c"}}}),
    ]
}

/// What is attached when the driver says this of itself.
async fn attached(driver: Option<Value>) -> Option<Value> {
    let (told, posted) = tokio::sync::mpsc::unbounded_channel();
    let client = testing::client(move |asked| {
        if asked.method == Method::POST {
            told.send(asked.body.clone()).unwrap();
            return (201, asked.body.clone());
        }
        let of = |kind: &str| objects().into_iter().filter(|o| o["kind"] == kind).collect::<Vec<_>>();
        let (version, kind, items) = match asked.path.rsplit('/').next().unwrap() {
            "nodes" => ("v1", "Node", of("Node")),
            "pods" => ("v1", "Pod", of("Pod")),
            "persistentvolumes" => ("v1", "PersistentVolume", of("PersistentVolume")),
            "persistentvolumeclaims" => ("v1", "PersistentVolumeClaim", of("PersistentVolumeClaim")),
            "csidrivers" => ("storage.k8s.io/v1", "CSIDriver", driver.clone().into_iter().collect()),
            _ => ("v1", "Other", Vec::new()),
        };
        testing::list(version, kind, &items)
    });
    let mut posted = posted;
    let mut informers = Informers::new(&client);
    let (events, _sink) = Recorder::new(client.clone(), "test", "");
    let controller = AttachDetach::new(Tools { client, events }, &mut informers);
    let mut tasks = tokio::task::JoinSet::new();
    informers.start(&mut tasks);
    controller.synced().await;
    let key = ObjectKey::new("", "n");
    let look = controller.look(&key);
    tokio::select! {
        result = look => { result.expect("a look"); posted.try_recv().ok() }
        attachment = posted.recv() => attachment,
    }
}

#[tokio::test(start_paused = true)]
async fn a_pods_volume_is_attached_to_its_node_where_its_driver_wants_that() {
    let attachment = attached(None).await.expect("an attachment");
    let spec = json!({"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "pv"}});
    assert_eq!(attachment["spec"], spec);
    let driver = |required: bool| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "d"},
            "spec": {"attachRequired": required}})
    };
    assert!(attached(Some(driver(true))).await.is_some());
    assert_eq!(attached(Some(driver(false))).await, None);
}
