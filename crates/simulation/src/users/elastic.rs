//! A Deployment whose pods have more or less to do, and its autoscaler.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{User, template};
use crate::laws::{ELASTIC, Laws};

impl User {
    /// Asks now more and now less of the pods. In the end it is little.
    pub(crate) async fn stretch(self, laws: Arc<Laws>, lasts: Duration) {
        self.namespace(ELASTIC).await;
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ELASTIC},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": ELASTIC}},
                "template": template(ELASTIC, "Always", json!({}))}});
        self.create("/apis/apps/v1/namespaces/elastic/deployments", object).await;
        let aim = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}});
        let mut scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": ELASTIC}, "spec": {"minReplicas": self.chance.between(1, 2),
                "maxReplicas": self.most(), "metrics": [aim],
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": ELASTIC}}});
        if self.chance.one_in(2) {
            let window = self.chance.between(0, 60);
            scaler["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": window}});
        }
        let scalers = "/apis/autoscaling/v2/namespaces/elastic/horizontalpodautoscalers";
        self.create(scalers, scaler).await;
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            match self.chance.one_in(4) {
                true => {
                    let change = json!({"spec": {"maxReplicas": self.most()}});
                    self.patch(&format!("{scalers}/{ELASTIC}"), change).await;
                }
                false => laws.demand(self.chance.between(1, 9) * 100 - 50),
            }
            sleep(self.chance.millis(10_000, 50_000)).await;
        }
        laws.demand(150);
    }

    fn most(&self) -> u64 {
        self.chance.between(3, 6)
    }
}
