//! Storage version migration (KEP-4192): every object of a collection is written anew, so that none lies in the store in a
//! version that is no longer the one to store.
//!
//! An object is written by a patch that changes nothing, under the version that was seen: the server stores it anew where
//! it lies in an older version, and leaves it alone where it does not. A migration that was cut short begins again,
//! which costs nothing for what it had done.

mod definition;
mod plan;

use jiff::Timestamp;
use k8s_openapi::{
    api::storagemigration::v1::StorageVersionMigration, apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, ObjectMeta, Patch, PatchParams},
    discovery::ApiResource,
};
use serde_json::{Value, json};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use self::plan::{Outcome, State, Target};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    discovery::discover,
    informers::Informers,
    object::Object,
};

/// How many objects are asked for at a time.
const PAGE: u32 = 500;

/// What is told of a migration that failed.
const NO_RESOURCE: &str = "resource does not exist in discovery";
const REFUSED: &str = "migration encountered unhandled error";

pub(crate) struct StorageVersionMigrations {
    client: Client,
    queue: Queue<ObjectKey>,
    migrations: Reader<StorageVersionMigration>,
}

impl StorageVersionMigrations {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.migrations.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        Self { client: tools.client, queue, migrations: informers.migrations.reader() }
    }

    async fn tell(
        &self,
        migration: &StorageVersionMigration,
        status: Value,
    ) -> Result<StorageVersionMigration, kube::Error> {
        let api: Api<StorageVersionMigration> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"metadata": {"uid": migration.uid()}, "status": status}));
        api.patch_status(migration.name(), &PatchParams::default(), &patch).await
    }

    /// Tells what the migration has come to.
    async fn come_to(
        &self,
        migration: &StorageVersionMigration,
        state: State,
        message: &str,
    ) -> Result<(), kube::Error> {
        let conditions: Option<Vec<Condition>> = plan::come_to(migration, state, message, Timestamp::now());
        match conditions {
            Some(conditions) => self.tell(migration, json!({"conditions": conditions})).await.map(drop),
            None => Ok(()),
        }
    }

    /// Notes the revision from which on nothing is stored in an old version, and that work begins.
    async fn begin(
        &self,
        migration: &StorageVersionMigration,
        collection: &Api<DynamicObject>,
    ) -> Result<StorageVersionMigration, kube::Error> {
        let mut status = json!({});
        if let Some(conditions) = plan::come_to(migration, State::Running, "", Timestamp::now()) {
            status["conditions"] = json!(conditions);
        }
        let known = migration.status.as_ref().and_then(|status| status.resource_version.as_deref());
        if known.unwrap_or_default().is_empty() {
            let newest = collection.list_metadata(&ListParams::default().limit(1)).await?;
            status["resourceVersion"] = json!(newest.metadata.resource_version);
        }
        if status.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(migration.clone());
        }
        self.tell(migration, status).await
    }

    /// The definition of the kind that is to be migrated; `None` if it is no custom one.
    async fn definition(
        &self,
        migration: &StorageVersionMigration,
    ) -> Result<Option<DynamicObject>, kube::Error> {
        let wanted = migration.spec.as_ref().map(|spec| &spec.resource).filter(|r| !r.group.is_empty());
        let Some(wanted) = wanted else { return Ok(None) };
        self.definitions().get_opt(&format!("{}.{}", wanted.resource, wanted.group)).await
    }

    fn definitions(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &definition::resource())
    }

    /// Tells the definition's users how the migration goes, unless the definition was changed since it was seen.
    async fn note(&self, definition: &DynamicObject, told: &Value) -> Result<(), kube::Error> {
        let params = PatchParams::apply(Self::NAME).force();
        self.definitions()
            .patch_status(
                definition.metadata.name.as_deref().unwrap_or_default(),
                &params,
                &Patch::Apply(told),
            )
            .await
            .map(drop)
    }

    /// Writes every object anew; whether the server would have all of them.
    async fn migrate(
        &self,
        resource: &ApiResource,
        collection: &Api<DynamicObject>,
    ) -> Result<bool, kube::Error> {
        let mut next = ListParams::default().limit(PAGE);
        loop {
            let page = collection.list_metadata(&next).await?;
            for object in &page.items {
                let answer = self.touch(resource, &object.metadata).await;
                match (plan::outcome(&answer), answer) {
                    (Outcome::Later, Err(error)) => return Err(error),
                    (Outcome::Refused, _) => return Ok(false),
                    _ => {}
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => next = ListParams::default().limit(PAGE).continue_token(&token),
                None => return Ok(true),
            }
        }
    }

    async fn touch(&self, resource: &ApiResource, meta: &ObjectMeta) -> Result<(), kube::Error> {
        let name = meta.name.as_deref().unwrap_or_default();
        let api: Api<DynamicObject> = match &meta.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        // With both, neither what came meanwhile by that name is touched, nor what went is made again.
        let same =
            Patch::Merge(json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}}));
        let params = PatchParams { field_manager: Some(Self::NAME.to_owned()), ..PatchParams::default() };
        api.patch_metadata(name, &params, &same).await.map(drop)
    }
}

impl Controller for StorageVersionMigrations {
    const NAME: &'static str = "storage-version-migrator-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.migrations.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let migration = self.migrations.get(key).filter(|migration| !plan::is_over(migration));
        let Some(migration) = migration else { return Ok(Verdict::Done) };
        // First the definition, then how the server stores its objects: that may take a moment to follow.
        let defined = self.definition(&migration).await?;
        let found = discover(&self.client).await?;
        let resource = match plan::target(&migration, &found) {
            Target::Collection(resource) => resource,
            Target::Unknown => return Ok(Verdict::Again),
            Target::Nothing => {
                gone_is_fine(self.come_to(&migration, State::Failed, NO_RESOURCE).await)?;
                return Ok(Verdict::Done);
            }
        };
        let stored_as = |d: &DynamicObject| found.is_stored_as(resource, definition::storage_version(d));
        let defined = defined.and_then(|d| Some((stored_as(&d)?, d)));
        match &defined {
            Some((false, _)) => return Ok(Verdict::Again),
            Some((true, seen)) => {
                let told = definition::begun(seen, migration.name(), Timestamp::now());
                self.note(seen, &told).await?;
            }
            None => {}
        }
        let collection = Api::all_with(self.client.clone(), resource);
        let Some(begun) = gone_is_fine(self.begin(&migration, &collection).await)? else {
            return Ok(Verdict::Done);
        };
        let succeeded = self.migrate(resource, &collection).await?;
        if defined.is_some()
            && let Some(seen) = self.definition(&migration).await?
        {
            self.note(&seen, &definition::ended(&seen, succeeded, Timestamp::now())).await?;
        }
        let (state, message) = if succeeded { (State::Succeeded, "") } else { (State::Failed, REFUSED) };
        gone_is_fine(self.come_to(&begun, state, message).await)?;
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
#[path = "storage_version_tests.rs"]
mod tests;
