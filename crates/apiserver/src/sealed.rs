//! A store whose Secrets are encrypted, seen as one whose values are plain. What it is asked for is counted on the way.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tiphys_store::{
    Batch, Change, Error, Event, Events, History, Key, Outcome, Page, Range, Record, Records, Revision,
    Store, Write,
};

use crate::at_rest::Transformer;
use crate::metrics::Storage;

/// Seals what is written and opens what is read, for the keys of collections that [`Transformer::covers`].
pub struct Sealed {
    store: Arc<dyn Store>,
    transformer: Arc<Transformer>,
    counts: Arc<Storage>,
}

impl Sealed {
    pub fn new(store: Arc<dyn Store>, transformer: Transformer) -> Self {
        Self { store, transformer: Arc::new(transformer), counts: Arc::new(Storage::new()) }
    }

    /// What the store was asked for.
    pub(crate) fn counts(&self) -> &Arc<Storage> {
        &self.counts
    }
}

fn is_covered(key: &Key) -> bool {
    let mut parts = key.as_str().trim_start_matches("/registry/").split('/');
    let (Some(group), Some(resource)) = (parts.next(), parts.next()) else { return false };
    Transformer::covers(if group == "core" { "" } else { group }, resource)
}

fn failed(step: &'static str) -> impl FnOnce(crate::at_rest::Error) -> Error {
    move |source| Error::Engine { step, source: Arc::new(source) }
}

fn open(transformer: &Transformer, key: &Key, value: Bytes) -> Result<Bytes, Error> {
    if is_covered(key) {
        transformer.open(key, value).map_err(failed("decrypting a value"))
    } else {
        Ok(value)
    }
}

fn open_record(transformer: &Transformer, mut record: Record) -> Result<Record, Error> {
    record.value = open(transformer, &record.key, record.value)?;
    Ok(record)
}

fn open_batch(transformer: &Transformer, mut batch: Batch) -> Result<Batch, Error> {
    for Event { key, value, .. } in &mut batch.events {
        if let Some(sealed) = value.take() {
            *value = Some(open(transformer, key, sealed)?);
        }
    }
    Ok(batch)
}

#[async_trait]
impl Store for Sealed {
    async fn revision(&self) -> Result<Revision, Error> {
        self.store.revision().await
    }

    async fn mended(&self) -> Result<(), Error> {
        self.store.mended().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        let call = self.counts.call("get", key.as_str());
        let found = call.end(self.store.get(key).await)?;
        found.map(|record| open_record(&self.transformer, record)).transpose()
    }

    async fn range(&self, range: Range, at: Option<Revision>) -> Result<Page, Error> {
        let call = self.counts.call("list", &range.prefix);
        let mut page = call.end(self.store.range(range, at).await)?;
        let records = page.records.into_iter().map(|record| open_record(&self.transformer, record));
        page.records = records.collect::<Result<_, _>>()?;
        Ok(page)
    }

    async fn scan(&self, prefix: String, at: Revision) -> Result<Records, Error> {
        let transformer = Arc::clone(&self.transformer);
        let call = self.counts.call("list", &prefix);
        let pieces = call.end(self.store.scan(prefix, at).await)?;
        let open = move |record| open_record(&transformer, record);
        Ok(pieces.map(move |piece| piece?.into_iter().map(&open).collect()).boxed())
    }

    async fn commit(&self, mut writes: Vec<Write>) -> Result<Outcome, Error> {
        for write in writes.iter_mut().filter(|write| is_covered(&write.key)) {
            if let Change::Put { value, .. } = &mut write.change {
                *value = self.transformer.seal(&write.key, value).map_err(failed("encrypting a value"))?;
            }
        }
        let call = self.counts.commit(&writes);
        Ok(match call.end(self.store.commit(writes).await)? {
            Outcome::Conflict { key, current } => {
                let current = current.map(|record| open_record(&self.transformer, record)).transpose()?;
                Outcome::Conflict { key, current }
            }
            committed => committed,
        })
    }

    async fn watch(&self, prefix: String, after: Revision) -> Result<Events, Error> {
        let transformer = Arc::clone(&self.transformer);
        let events = self.store.watch(prefix, after).await?;
        Ok(events.map(move |batch| open_batch(&transformer, batch?)).boxed())
    }

    async fn versions(&self, key: &Key, until: Option<Revision>, limit: usize) -> Result<History, Error> {
        let mut history = self.store.versions(key, until, limit).await?;
        for version in &mut history.versions {
            if let Some(sealed) = version.value.take() {
                version.value = Some(open(&self.transformer, key, sealed)?);
            }
        }
        Ok(history)
    }

    async fn compact(&self, floor: Revision) -> Result<(), Error> {
        self.store.compact(floor).await
    }

    async fn size(&self) -> Result<u64, Error> {
        self.store.size().await
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
