//! When plug-ins look at an object once more.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::Value;

/// The rounds of plug-ins over one object.
///
/// Who changes an object after others have seen it may ask for a second round, in which all plug-ins admit it again;
/// there is no third.
#[derive(Debug, Default)]
pub struct Round(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    second: bool,
    asked: bool,
    notes: BTreeMap<&'static str, Value>,
}

impl Round {
    pub fn is_second(&self) -> bool {
        self.0.lock().second
    }

    /// The object has changed: the others shall see it again.
    pub fn ask_again(&self) {
        self.0.lock().asked = true;
    }

    /// Keeps something for the second round, by the plug-in's name.
    pub fn note(&self, plugin: &'static str, note: Value) {
        self.0.lock().notes.insert(plugin, note);
    }

    /// What the plug-in kept.
    pub fn noted(&self, plugin: &'static str) -> Option<Value> {
        self.0.lock().notes.remove(plugin)
    }

    /// Goes on to the second round if somebody asked for it in the first.
    pub(crate) fn next(&self) -> bool {
        let mut state = self.0.lock();
        let next = state.asked && !state.second;
        state.second |= next;
        next
    }
}
