//! One Deployment that is changed again and again.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{User, image, template};

const STEADY: &str = "steady";

impl User {
    /// Changes one Deployment again and again, and never its size: nothing excuses that it has too few pods.
    pub(crate) async fn roll(self, lasts: Duration) {
        self.namespace(STEADY).await;
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 2}});
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "steady"},
            "spec": {"replicas": 5, "selector": {"matchLabels": {"app": "steady"}}, "strategy": rolling,
                "revisionHistoryLimit": 1, "template": template("steady", "Always", json!({}))}});
        let collection = "/apis/apps/v1/namespaces/steady/deployments";
        self.create(collection, object).await;
        let end = Instant::now() + lasts;
        let mut version = 1;
        while Instant::now() < end {
            sleep(self.chance.millis(10_000, 40_000)).await;
            version += 1;
            self.patch(&format!("{collection}/steady"), image(version)).await;
        }
    }
}
