//! What the steps of a request note for its audit event.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

/// The annotations of one request's audit event. Clones are the same; cheap, and free where nothing is recorded.
///
/// A key names its author, such as `authorization.k8s.io/decision`; values are short. What is noted first stays.
#[derive(Clone, Debug, Default)]
pub struct Annotations(Option<Arc<Notes>>);

/// Notes by their keys.
pub(super) type Noted = BTreeMap<Cow<'static, str>, Cow<'static, str>>;

#[derive(Debug, Default)]
struct Notes {
    notes: Mutex<Noted>,
    name: OnceLock<String>,
}

static SILENT: Annotations = Annotations(None);

impl Annotations {
    /// An event has at most this many.
    const MAX: usize = 64;
    /// A longer value is cut.
    const MAX_VALUE: usize = 10 << 10;

    /// Those of a request that is not recorded: notes are dropped unread.
    pub fn silent() -> &'static Self {
        &SILENT
    }

    /// Those of a request that is recorded.
    pub fn recording() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether anybody will read what is noted.
    pub fn is_recording(&self) -> bool {
        self.0.is_some()
    }

    /// Notes a value, which is made only if somebody will read it.
    pub fn add<V: Into<Cow<'static, str>>>(
        &self,
        key: impl Into<Cow<'static, str>>,
        value: impl FnOnce() -> V,
    ) {
        let Some(notes) = &self.0 else { return };
        let key = key.into();
        let mut notes = notes.notes.lock();
        if notes.len() < Self::MAX && !notes.contains_key(&key) {
            let mut value = value().into();
            if value.len() > Self::MAX_VALUE {
                let end = value.floor_char_boundary(Self::MAX_VALUE);
                value.to_mut().truncate(end);
            }
            notes.insert(key, value);
        }
    }

    /// What was noted so far.
    pub fn read(&self) -> BTreeMap<String, String> {
        let owned = |(key, value): (&Cow<'_, str>, &Cow<'_, str>)| (key.to_string(), value.to_string());
        self.with(|notes| notes.iter().map(owned).collect())
    }

    /// Shows what was noted so far; nothing is noted meanwhile.
    pub(super) fn with<T>(&self, show: impl FnOnce(&Noted) -> T) -> T {
        match &self.0 {
            Some(notes) => show(&notes.notes.lock()),
            None => show(&Noted::new()),
        }
    }

    /// Notes what an object is called that the request makes: its path does not say.
    pub fn named(&self, name: &str) {
        if let Some(notes) = &self.0 {
            notes.name.get_or_init(|| name.to_owned());
        }
    }

    /// The name that was noted.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.as_ref()?.name.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_note_stays_and_notes_are_bounded() {
        let notes = Annotations::recording();
        notes.add("a", || "1");
        notes.add("a", || "2");
        notes.add("long", || "ä".repeat(Annotations::MAX_VALUE));
        for n in 0..2 * Annotations::MAX {
            notes.add(n.to_string(), String::new);
        }
        let read = notes.read();
        assert_eq!((read["a"].as_str(), read.len()), ("1", Annotations::MAX));
        assert_eq!(read["long"].len(), Annotations::MAX_VALUE);
    }

    #[test]
    fn nothing_is_made_for_nobody() {
        Annotations::silent().add("a", || -> String { panic!("nobody reads it") });
        assert!(Annotations::silent().read().is_empty());
    }
}
