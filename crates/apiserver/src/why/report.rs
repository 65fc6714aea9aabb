//! What components say of objects that the API has no field for: for a pod, what each node's answer was.
//!
//! A report lies beside the objects, under a key of its own; it goes a day after it was last renewed, and is
//! told only of the object that it was made of, while the condition that it explains is not true.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tiphys_api::meta;
use tiphys_store::{Change, Expect, Key, Outcome, Range, Store, Write};

use super::Cause;

const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The most causes of one report, and the longest text in one.
const CAUSES: usize = 200;
const TEXT: usize = 1024;
/// How many reports of one object are told.
const REPORTS: usize = 32;

/// What is posted: `why.tiphys.io/v1` `Report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    /// Of the object that is meant.
    pub(crate) uid: String,
    /// The condition that is explained; empty: none.
    #[serde(default)]
    pub(crate) explains: String,
    pub(crate) causes: Vec<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    pub(crate) reason: String,
    pub(crate) by: String,
    pub(crate) message: String,
}

impl Report {
    /// What is wrong with it.
    pub(crate) fn check(&self, uid: &str) -> Result<(), String> {
        if self.api_version != super::VERSION || self.kind != "Report" {
            return Err(format!("the body must be a Report of {}", super::VERSION));
        }
        if self.uid != uid {
            return Err(format!("uid: {:?} is not that of the object, {uid:?}", self.uid));
        }
        if self.causes.len() > CAUSES {
            return Err(format!("causes: must have at most {CAUSES} items"));
        }
        let texts = self.causes.iter().flat_map(|told| [&told.reason, &told.by, &told.message]);
        if texts.chain([&self.explains]).any(|text| text.len() > TEXT) {
            return Err(format!("causes: each text must be at most {TEXT} bytes long"));
        }
        Ok(())
    }

    /// What the report still says of the object.
    pub(crate) fn causes(self, object: &Value) -> Vec<Cause> {
        let explained = |condition: &Value| {
            meta::text(condition, &["type"]) == self.explains && meta::text(condition, &["status"]) == "True"
        };
        let is_over =
            !self.explains.is_empty() && meta::items(object, &["status", "conditions"]).iter().any(explained);
        if is_over || self.uid != meta::uid(object) {
            return Vec::new();
        }
        self.causes.into_iter().map(|t| Cause { reason: t.reason, by: t.by, message: t.message }).collect()
    }
}

/// Where the reports of the object at `object` lie; who wrote one is not part of a name that others may choose.
fn prefix(object: &Key) -> String {
    format!("/why{}/", object.as_str())
}

/// Keeps a report of `user`, in the place of an earlier one.
pub(crate) async fn keep(
    store: &dyn Store,
    object: &Key,
    user: &str,
    report: &Report,
) -> Result<(), tiphys_store::Error> {
    let key = Key::new(format!("{}{}", prefix(object), user.replace('/', ":")));
    let value = Bytes::from(serde_json::to_vec(report).unwrap_or_default());
    let now = store.get(&key).await?;
    let expect = now.map_or(Expect::Absent, |record| Expect::At(record.revision));
    let change = Change::Put { value, ttl: Some(LIFETIME) };
    match store.commit(vec![Write { key, expect, change, note: None }]).await? {
        // The user has made another report at the same time; either is as good.
        Outcome::Committed(_) | Outcome::Conflict { .. } => Ok(()),
    }
}

/// The reports of an object.
pub(crate) async fn kept(store: &dyn Store, object: &Key) -> Result<Vec<Report>, tiphys_store::Error> {
    let range = Range { prefix: prefix(object), limit: Some(REPORTS), ..Range::default() };
    let page = store.range(range, None).await?;
    Ok(page.records.iter().filter_map(|record| serde_json::from_slice(&record.value).ok()).collect())
}
