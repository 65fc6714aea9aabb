//! Objects whose versions a webhook converts.
//!
//! Everything else is converted where it is read and written, without waiting. These objects come to the registry,
//! and leave it, in the version of the request; what is stored and admitted is in the storage version.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tiphys_api::custom::Converter;
use tiphys_api::kind::{Kind, api_version, split_api_version};
use tiphys_api::meta;
use tiphys_api::status::Status;

use super::{Call, Current, Registry, cache_status};
use crate::cache::{self, ListOptions, Page};

/// Objects that are converted at once.
const BATCH: usize = 500;

async fn converted(
    converter: &Arc<dyn Converter>,
    kind: &Kind,
    objects: Vec<Value>,
    version: &str,
) -> Result<Vec<Value>, Status> {
    let wanted = api_version(&kind.group, version);
    let converted = converter.convert(objects, &wanted).await;
    converted.map_err(|why| {
        Status::internal(format!("conversion webhook for {}, Kind={} failed: {why}", wanted, kind.kind))
    })
}

impl Registry {
    /// The stored form of an object that a request wrote; it is judged by the schema of its own version first.
    pub(super) async fn to_stored(
        &self,
        call: &Call,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let kind = &call.kind;
        let (Some(converter), Some(custom)) = (kind.converter(&call.version), &kind.custom) else {
            return Ok(());
        };
        let errors = custom.judge(&call.version, object, old);
        if !errors.is_empty() {
            return Err(Status::invalid(&kind.group, &kind.kind, meta::name(object), &errors));
        }
        let version = super::storage(kind)?.version.to_string();
        let mut all = converted(converter, kind, vec![object.take()], &version).await?;
        *object = all.pop().unwrap_or_default();
        Ok(())
    }

    /// A stored object in the version of a request; `None`: it is in that already.
    pub(super) async fn spoken(&self, call: &Call, stored: &Value) -> Result<Option<Value>, Status> {
        let Some(converter) = call.kind.converter(&call.version) else { return Ok(None) };
        let mut all = converted(converter, &call.kind, vec![stored.clone()], &call.version).await?;
        Ok(all.pop())
    }

    /// What a change starts from, in the storage version.
    pub(super) async fn settled<'a>(&self, kind: &Kind, from: &'a Current) -> Result<Cow<'a, Value>, Status> {
        let version = &super::storage(kind)?.version;
        let Some(converter) = kind.converter(version).filter(|_| from.outdated) else {
            return Ok(Cow::Borrowed(&from.tree));
        };
        let mut all = converted(converter, kind, vec![from.tree.clone()], version).await?;
        Ok(Cow::Owned(all.pop().unwrap_or_default()))
    }

    /// The objects of a kind that `options` asks for. Those that a webhook converts come as the call's version shows them, and
    /// are selected by that; others come as they are stored.
    ///
    /// # Errors
    /// What a list of the collection answers, and what [`Registry::shown`] does.
    pub(crate) async fn list(&self, call: &Call, options: ListOptions) -> Result<Page, Status> {
        let (kind, collection) = (&call.kind, self.collection(&call.kind)?);
        if kind.converter(&call.version).is_none() {
            return collection.list(options).await.map_err(cache_status);
        }
        let (wanted, filter) = (options.filter.unconverted(), options.filter);
        // What is found in it decides where a page ends.
        let (asked, limit) = if wanted.rough { (0, options.limit) } else { (options.limit, 0) };
        let asked = ListOptions { at: options.at, filter: wanted, limit: asked };
        let mut page = collection.list(asked).await.map_err(cache_status)?;
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let (mut found, mut batch) = (Vec::new(), limit.min(BATCH));
        while found.len() < limit {
            let objects: Vec<_> = page.by_ref().take(batch).collect();
            if objects.is_empty() {
                break;
            }
            let shown = Self::objects_shown(kind, &call.version, &objects).await?;
            found.extend(shown.into_iter().filter(|object| filter.matches(object)).map(Arc::new));
            batch = (2 * batch).min(BATCH);
        }
        let more = if found.len() < limit { None } else { found.get(limit).cloned().or_else(|| page.next()) };
        found.truncate(limit);
        let next = match more {
            Some(first) => Some(collection.next_page(page.revision, &first)),
            None => page.next.clone(),
        };
        Ok(page.showing(found, next))
    }

    /// The same as [`Registry::shown`] of objects of the cache.
    pub(crate) async fn objects_shown(
        kind: &Kind,
        version: &str,
        stored: &[Arc<cache::Object>],
    ) -> Result<Vec<cache::Object>, Status> {
        let json = stored.iter().map(|object| object.json().clone()).collect();
        let shown = Self::shown(kind, version, json).await?;
        let objects = stored.iter().zip(shown).map(|(object, json)| object.shown(json));
        objects.collect::<Result<_, _>>().map_err(Status::internal)
    }

    /// Stored objects as a version shows them, where a webhook converts; others as they are.
    ///
    /// # Errors
    /// The webhook does not convert them.
    pub(crate) async fn shown(kind: &Kind, version: &str, stored: Vec<Bytes>) -> Result<Vec<Bytes>, Status> {
        let Some(converter) = kind.converter(version) else { return Ok(stored) };
        let mut shown = Vec::with_capacity(stored.len());
        for batch in stored.chunks(BATCH) {
            let read = |json: &Bytes| {
                let mut tree: Value = serde_json::from_slice(json).map_err(Status::internal)?;
                let own = split_api_version(meta::text(&tree, &["apiVersion"])).1.to_owned();
                kind.fill_defaults(&own, &mut tree);
                Ok(tree)
            };
            let objects = batch.iter().map(read).collect::<Result<Vec<_>, Status>>()?;
            for object in converted(converter, kind, objects, version).await? {
                shown.push(Bytes::from(object.to_string()));
            }
        }
        Ok(shown)
    }
}
