//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or can't be reached.

use async_trait::async_trait;
use serde_json::{Value, json};
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};

const SECONDS: u32 = 300;

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Create, "", "pods") || request.is(Operation::Update, "", "pods")
    }

    async fn admit(&self, request: &Attributes<'_>, pod: &mut Value, _: &Value) -> Result<(), Status> {
        if !self.handles(request) {
            return Ok(());
        }
        for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerates = |toleration: &Value| {
                let text = |key: &str| toleration[key].as_str().unwrap_or_default();
                ["", taint].contains(&text("key")) && ["", "NoExecute"].contains(&text("effect"))
            };
            if !meta::items(pod, &["spec", "tolerations"]).iter().any(tolerates) {
                super::list_mut(pod, &["spec", "tolerations"]).push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
        Ok(())
    }
}
