//! `metadata.managedFields`: which manager owns which fields.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::set::{Set, SetError};

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// The version that `set` speaks of.
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// RFC 3339 in whole seconds; empty if unknown.
    pub(super) time: String,
    pub(super) set: Set,
}

impl Entry {
    /// Whether both are the same manager's. An applier is one whatever version it applies; updates in two
    /// versions are two entries.
    pub(super) fn same_manager(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As messages name the manager.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    fn decode(mut entry: Value) -> Result<Self, DecodeError> {
        let operation = match entry.get("operation").and_then(Value::as_str) {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return Err(DecodeError::Operation),
        };
        let mut take = |key: &str| entry.get_mut(key).map(Value::take);
        let mut text = |key: &str| match take(key) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (api_version, fields_type) = (text("apiVersion"), text("fieldsType"));
        let (manager, subresource, time) = (text("manager"), text("subresource"), text("time"));
        if api_version.is_empty() {
            return Err(DecodeError::ApiVersion);
        }
        if fields_type != "FieldsV1" {
            return Err(DecodeError::FieldsType(fields_type));
        }
        let set = match take("fieldsV1") {
            None | Some(Value::Null) => Set::default(),
            Some(fields) => Set::decode(fields)?,
        };
        Ok(Self { manager, operation, api_version, subresource, time, set })
    }

    fn encode(self) -> Value {
        let mut entry = Map::new();
        let mut put = |key: &str, text: String| {
            if !text.is_empty() {
                entry.insert(key.to_owned(), Value::String(text));
            }
        };
        put("manager", self.manager);
        put("operation", self.operation.as_str().to_owned());
        put("apiVersion", self.api_version);
        put("time", self.time);
        put("fieldsType", "FieldsV1".to_owned());
        put("subresource", self.subresource);
        entry.insert("fieldsV1".to_owned(), self.set.encode());
        Value::Object(entry)
    }
}

/// Why `managedFields` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    ApiVersion,
    #[error("invalid fieldsType {0:?}")]
    FieldsType(String),
    #[error("error decoding set: {0}")]
    Set(#[from] SetError),
}

/// Everyone who owns fields of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managers(pub(super) Vec<Entry>);

/// The most managers that are known by updates; the oldest beyond it are merged into one.
pub(super) const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

impl Managers {
    /// Reads `metadata.managedFields`; an absent one is empty.
    pub(super) fn decode(fields: Option<Value>) -> Result<Self, DecodeError> {
        let entries = match fields {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        let mut managers = Self::default();
        for entry in entries {
            let entry = Entry::decode(entry)?;
            match managers.find(&entry) {
                Some(same) => *same = entry,
                None => managers.0.push(entry),
            }
        }
        Ok(managers)
    }

    /// `None`: nobody owns anything.
    pub(super) fn encode(mut self) -> Option<Value> {
        self.0.retain(|entry| !entry.set.is_empty());
        self.0.sort_by(|a, b| a.order().cmp(&b.order()));
        (!self.0.is_empty()).then(|| self.0.into_iter().map(Entry::encode).collect())
    }

    pub(super) fn find(&mut self, entry: &Entry) -> Option<&mut Entry> {
        self.0.iter_mut().find(|known| known.same_manager(entry))
    }

    /// Merges the updaters that have been quiet for longest, version by version, until few enough are left.
    pub(super) fn cap_updaters(&mut self) {
        let updaters =
            |managers: &Self| managers.0.iter().filter(|e| e.operation == Operation::Update).count();
        if updaters(self) <= MAX_UPDATERS {
            return;
        }
        self.0.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut at = 0;
        while at < self.0.len() && updaters(self) > MAX_UPDATERS {
            let older = &self.0[at];
            if older.operation == Operation::Apply {
                at += 1;
                continue;
            }
            let version = older.api_version.clone();
            let partner = self.0[at + 1..]
                .iter()
                .position(|e| e.operation == Operation::Update && e.api_version == version)
                .map(|offset| at + 1 + offset);
            let Some(partner) = partner else {
                at += 1;
                continue;
            };
            let older = self.0.remove(at);
            let merged = &mut self.0[partner - 1];
            merged.set.union(older.set);
            merged.manager = ANCIENT.to_owned();
            merged.subresource.clear();
            // An earlier bucket of the same version was the older of the two, so there is still only one.
            let merged = self.0.remove(partner - 1);
            self.0.insert(at, merged);
        }
    }
}

impl Entry {
    fn order(&self) -> (Operation, &str, &str, &str, &str) {
        (self.operation, &self.time, &self.manager, &self.api_version, &self.subresource)
    }
}

/// A time as managed fields carry it.
pub(super) fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
