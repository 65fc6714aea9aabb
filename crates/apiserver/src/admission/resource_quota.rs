//! ResourceQuota: usage is not counted yet, so a quota that would promise to bound it is not taken in.

use async_trait::async_trait;
use serde_json::Value;
use tiphys_api::status::{Reason, Status};

use super::{Attributes, Operation, Plugin};

pub struct ResourceQuota;

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    async fn validate(&self, request: &Attributes<'_>, _: &Value, _: &Value) -> Result<(), Status> {
        if request.is(Operation::Create, "", "resourcequotas") {
            let why =
                "resource quotas are not enforced yet, so none are taken in; bound pods by a LimitRange";
            return Err(Status::new(Reason::NotImplemented, why));
        }
        Ok(())
    }
}
