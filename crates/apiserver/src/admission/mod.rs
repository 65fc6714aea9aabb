//! The checks and changes between authorization and the store.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tiphys_api::status::Status;

use crate::identity::Identity;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What is being admitted. `group`, `version` and `resource` are those of the request.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    pub user: &'a Identity,
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub kind: &'a str,
    pub namespace: &'a str,
    /// Empty while a create still has only a `generateName`.
    pub name: &'a str,
    pub dry_run: bool,
}

/// One admission plug-in, named as upstream names it.
///
/// `admit` may change the object and runs before validation; `validate` sees what will be stored.
/// `object` is `Null` for a delete, `old` is `Null` for a create. Both are in the storage version.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    async fn admit(&self, _: &Attributes<'_>, _object: &mut Value, _old: &Value) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _: &Attributes<'_>, _object: &Value, _old: &Value) -> Result<(), Status> {
        Ok(())
    }
}

/// Plug-ins in the order in which they run.
#[derive(Clone, Default)]
pub struct Chain {
    plugins: Vec<Arc<dyn Plugin>>,
}

impl Chain {
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    /// Lets every plug-in change the object; the first refusal ends it.
    pub async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.admit(attributes, object, old).await?;
        }
        Ok(())
    }

    /// Lets every plug-in refuse what will be stored.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        old: &Value,
    ) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(attributes, object, old).await?;
        }
        Ok(())
    }
}
