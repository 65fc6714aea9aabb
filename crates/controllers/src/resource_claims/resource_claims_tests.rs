use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use tiphys_client::events::Recorder;
use tokio::sync::Notify;

use super::*;
use crate::testing::{self, refused};

/// The claim's name was taken by a look that was cut short before it told the pod: it is found, and noted.
#[tokio::test(start_paused = true)]
async fn a_claim_is_made_once_and_noted_in_the_pod() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "a", "uid": "p1", "resourceVersion": "1"},
        "spec": {"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "big"}]},
    });
    let template = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"name": "big", "namespace": "a", "uid": "t1"},
        "spec": {"metadata": {"labels": {"l": "v"}}, "spec": {"devices": {}}},
    });
    let (told, noted) = (Arc::new(Mutex::new(Vec::<Value>::new())), Arc::new(Notify::new()));
    let client = testing::client({
        let (told, noted) = (Arc::clone(&told), Arc::clone(&noted));
        move |asked| {
            let list = |version, kind, items: &[Value]| testing::list(version, kind, items);
            match (&asked.method, &*asked.path) {
                (&Method::POST, _) => {
                    told.lock().push(asked.body.clone());
                    refused(409, "AlreadyExists")
                }
                (&Method::PATCH, path) => {
                    assert_eq!(path, "/api/v1/namespaces/a/pods/web/status");
                    told.lock().push(asked.body.clone());
                    noted.notify_one();
                    (200, pod.clone())
                }
                (_, "/api/v1/pods") => list("v1", "Pod", std::slice::from_ref(&pod)),
                (_, "/apis/resource.k8s.io/v1/resourceclaimtemplates") => {
                    list("resource.k8s.io/v1", "ResourceClaimTemplate", std::slice::from_ref(&template))
                }
                (_, path) if path.ends_with("/resourceclaims") => {
                    list("resource.k8s.io/v1", "ResourceClaim", &[])
                }
                (_, path) if path.contains("/resourceclaims/") => (200, told.lock()[0].clone()),
                (_, path) => testing::list("v1", path, &[]),
            }
        }
    });
    let mut informers = Informers::new(&client);
    let (events, _sink) = Recorder::new(client.clone(), "test", "");
    let controller = ResourceClaims::new(Tools { client, events }, &mut informers);
    let mut tasks = tokio::task::JoinSet::new();
    informers.start(&mut tasks);
    tokio::select! {
        () = controller.run() => {}
        () = noted.notified() => {}
    }
    let told = told.lock();
    let [claim, status] = &told[..] else { panic!("{told:?}") };
    let name = &claim["metadata"]["name"];
    assert_eq!(claim["metadata"]["annotations"], json!({plan::POD_CLAIM: "gpu"}));
    assert_eq!(claim["metadata"]["labels"], json!({"l": "v"}));
    assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], "p1");
    assert_eq!(
        status["status"]["resourceClaimStatuses"],
        json!([{"name": "gpu", "resourceClaimName": name}])
    );
}
