//! Gangs: one that has room, and one that never has.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{User, template};
use crate::laws::TROUPE;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/troupe/deployments";

impl User {
    async fn gang(&self, name: &str, least: u64, cpu: &str) {
        let group = json!({"apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup",
            "metadata": {"name": name}, "spec": {"schedulingPolicy": {"gang": {"minCount": least}}}});
        self.create("/apis/scheduling.k8s.io/v1beta1/namespaces/troupe/podgroups", group).await;
        let mut template: Value = template(name, "Always", json!({}));
        template["spec"]["schedulingGroup"] = json!({"podGroupName": name});
        template["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": least, "selector": {"matchLabels": {"app": name}}, "template": template}});
        self.create(DEPLOYMENTS, deployment).await;
    }

    /// Has a gang break up and come together again.
    pub(crate) async fn rehearse(self, lasts: Duration) {
        self.namespace(TROUPE).await;
        // More than two of them have no room on a node.
        self.gang("giants", 9, "2500m").await;
        self.gang("dancers", 4, "300m").await;
        let resize = async |replicas: u64| {
            self.patch(&format!("{DEPLOYMENTS}/dancers"), json!({"spec": {"replicas": replicas}})).await;
        };
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            sleep(self.chance.millis(15_000, 60_000)).await;
            resize(*self.chance.pick(&[0, 0, 3, 4, 5, 6])).await;
        }
        resize(5).await;
    }
}
