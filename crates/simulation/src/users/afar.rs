//! What has to do with the neighbour: objects that it keeps, what owns them, what they own, and namespaces that hold both.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::User;
use crate::{
    api::{self, code},
    neighbour::{GROUP, VERSION},
};

const AFAR: &str = "afar";
/// A namespace that is deleted in the end, while the neighbour is away.
const LAST: &str = "last";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

fn maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn notes(namespace: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/notes")
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

fn note(name: &str) -> Value {
    json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Note", "metadata": {"name": name}})
}

impl User {
    /// Tells the API server of its neighbour.
    async fn introduce(&self) {
        self.namespace(AFAR).await;
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "neighbour"},
            "spec": {"ports": [{"port": 443}]}});
        self.create("/api/v1/namespaces/afar/services", service).await;
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "neighbour", "labels": {"kubernetes.io/service-name": "neighbour"}},
            "endpoints": [{"addresses": ["10.9.9.9"]}], "ports": [{"port": 443, "name": ""}]});
        self.create("/apis/discovery.k8s.io/v1/namespaces/afar/endpointslices", slice).await;
        let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{VERSION}.{GROUP}")}, "spec": {"group": GROUP, "version": VERSION,
                "groupPriorityMinimum": 1000, "versionPriority": 10, "insecureSkipTLSVerify": true,
                "service": {"namespace": AFAR, "name": "neighbour", "port": 443}}});
        self.create(SERVICES, service).await;
        while api::get(&self.client, &notes(AFAR)).await.is_err() {
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Makes an object, and another that it owns.
    async fn family(&self, owner: (&str, Value), owned: (&str, Value)) {
        let name = owner.1["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.create(owner.0, owner.1.clone()).await;
        let path = format!("{}/{name}", owner.0);
        let made = loop {
            match api::get(&self.client, &path).await {
                Ok(made) => break made,
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        };
        let mut child = owned.1;
        child["metadata"]["ownerReferences"] = json!([{"apiVersion": owner.1["apiVersion"],
            "kind": owner.1["kind"], "name": name, "uid": made["metadata"]["uid"]}]);
        self.create(owned.0, child).await;
    }

    /// A namespace with something here, and something there.
    async fn both(&self, namespace: &str) {
        self.namespace(namespace).await;
        self.create(&maps(namespace), map("here")).await;
        self.create(&notes(namespace), note("there")).await;
    }

    /// Makes objects here and there, and takes some away again.
    pub(crate) async fn correspond(&self, lasts: Duration) {
        self.introduce().await;
        self.both(LAST).await;
        let mut there = Vec::new();
        let end = Instant::now() + lasts;
        let mut number = 0;
        while Instant::now() < end {
            sleep(self.chance.millis(3000, 20_000)).await;
            if !there.is_empty() && self.chance.one_in(2) {
                let path: String = there.remove(self.chance.index(there.len()));
                self.delete(&path, "Background").await;
                continue;
            }
            number += 1;
            let (maps_here, notes_there) = (maps(AFAR), notes(AFAR));
            let (first, second) = (format!("first-{number}"), format!("second-{number}"));
            match self.chance.below(6) {
                0..=2 => {
                    self.family((&maps_here, map(&first)), (&notes_there, note(&second))).await;
                    there.push(format!("{maps_here}/{first}"));
                }
                3 | 4 => {
                    self.family((&notes_there, note(&first)), (&maps_here, map(&second))).await;
                    there.push(format!("{notes_there}/{first}"));
                }
                _ => {
                    let name = format!("brief-{number}");
                    self.both(&name).await;
                    there.push(format!("/api/v1/namespaces/{name}"));
                }
            }
        }
    }

    /// While the neighbour is away its part of the API says so, and what has nothing to do with it goes on.
    pub(crate) async fn look_for_neighbour(&self) {
        match api::get(&self.client, &notes(AFAR)).await {
            Err(error) if code(&error) == Some(503) => {}
            other => self.trace.fail(format!("the neighbour is away, and answers {other:?}")),
        }
        self.family((&maps(AFAR), map("parent")), (&maps(AFAR), map("child"))).await;
        self.delete(&format!("{}/parent", maps(AFAR)), "Background").await;
        self.delete(&format!("/api/v1/namespaces/{LAST}"), "Background").await;
    }
}
