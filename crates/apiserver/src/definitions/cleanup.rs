//! A definition goes after its objects.

use std::sync::Arc;
use std::time::Duration;

use tiphys_api::custom::definition;
use tiphys_api::kind::Kind;
use tiphys_store::{Change, Expect, Key, Range, Write};

use super::write;
use crate::cache::{At, Filter, ListOptions};
use crate::registry::{Call, DeleteOptions, Registry, objectmeta};

/// What could not be deleted is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// Deletes all objects of a definition that is being deleted, waits for their end, and lets the definition go.
/// `None`: it never had any. Should that fail, it has to be tried again.
pub(super) async fn run(registry: &Registry, name: &str, row: Option<Arc<Kind>>) {
    let condition = |status: &'static str, reason: &'static str, message: String| {
        let now = objectmeta::time(registry.now());
        write(registry, name, move |live| {
            let done = status == "False";
            definition::set_condition(live, ["Terminating", status, reason, &message], &now);
            if let Some(finalizers) = live["metadata"]["finalizers"].as_array_mut().filter(|_| done) {
                finalizers.retain(|f| f != definition::FINALIZER);
            }
        })
    };
    let Some(row) = row else {
        let message = "resource was never established".to_owned();
        report(name, condition("False", "NeverEstablished", message).await);
        return;
    };
    let message = "CustomResource deletion is in progress".to_owned();
    report(name, condition("True", "InstanceDeletionInProgress", message).await);
    if let Err(why) = delete(registry, &row).await {
        let message = format!("could not issue all deletes: {why}");
        report(name, condition("True", "InstanceDeletionFailed", message).await);
        tokio::time::sleep(AGAIN).await;
        return;
    }
    report(name, condition("False", "InstanceDeletionCompleted", "removed all instances".to_owned()).await);
}

fn report(name: &str, written: Result<(), tiphys_api::status::Status>) {
    if let Err(status) = written {
        tracing::debug!(name, status = status.message, "the status of a definition was not written");
    }
}

async fn delete(registry: &Registry, row: &Arc<Kind>) -> Result<(), String> {
    let version = row.storage.as_ref().map(|s| s.version.to_string()).unwrap_or_default();
    let call = Call::own(row, &version, "", "");
    let failed = |status: tiphys_api::status::Status| status.message;
    let all = ListOptions { at: At::Newest, filter: Filter::default(), limit: 0 };
    registry.delete_collection(&call, &DeleteOptions::default(), all).await.map_err(failed)?;
    registry.cache().wait_newest().await.map_err(|e| e.to_string())?;
    let collection = registry.collection(row).map_err(failed)?;
    let mut changes = collection.changes();
    // Some may wait for their finalizers.
    while collection.iter(None).next().is_some() {
        changes.changed().await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Takes away what a write that was under way has left behind.
pub(super) async fn sweep(registry: &Registry, group: &str, resource: &str) {
    let prefix = format!("/registry/{group}/{resource}/");
    let range = Range { prefix, limit: Some(100), ..Range::default() };
    while let Ok(page) = registry.store().range(range.clone(), None).await {
        if page.records.is_empty() {
            return;
        }
        for record in page.records {
            let (key, expect): (Key, _) = (record.key, Expect::At(record.revision));
            let write = Write { key, expect, change: Change::Delete, note: None };
            if let Err(error) = registry.store().commit(vec![write]).await {
                return tracing::warn!(%error, group, resource, "an object of a definition that is gone remains");
            }
        }
    }
}
