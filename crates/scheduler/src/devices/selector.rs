//! Expressions that select devices.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tiphys_cel::{Program, device};

use super::kinds::Device;

/// How many expressions are known at a time: those of a few classes, used again and again.
const KNOWN: usize = 64;

/// An expression, compiled once for all that have it.
#[derive(Debug)]
pub struct Selector {
    source: Box<str>,
    program: Result<Program, String>,
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Selector {
    pub fn read(source: &str) -> Arc<Self> {
        static LATEST: Mutex<VecDeque<Arc<Selector>>> = Mutex::new(VecDeque::new());
        // The queue is whole between any two statements.
        let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = latest.iter().find(|known| *known.source == *source) {
            return known.clone();
        }
        let program = Program::compile(source, &device::ENVIRONMENT).map_err(|errors| errors.to_string());
        let selector = Arc::new(Self { source: source.into(), program });
        latest.push_back(selector.clone());
        if latest.len() > KNOWN {
            latest.pop_front();
        }
        selector
    }

    /// Whether it selects the device.
    ///
    /// # Errors
    /// Why that cannot be told, in upstream's words.
    pub fn selects(&self, device: &Device) -> Result<bool, String> {
        let program = self.program.as_ref().map_err(|why| format!("CEL compile error: {why}"))?;
        let seen = device::Device {
            driver: &device.id.driver,
            allows_multiple: device.allows_multiple,
            attributes: split(&device.attributes, |attribute| attribute.seen()),
            capacity: split(&device.capacity, |amount| *amount),
        };
        device::selects(program, &seen.value()).map_err(|why| format!("CEL runtime error: {why}"))
    }
}

/// By domain and name.
fn split<'a, T, U>(
    of: &'a std::collections::BTreeMap<Box<str>, T>,
    read: impl Fn(&'a T) -> U,
) -> Vec<(&'a str, &'a str, U)> {
    of.iter()
        .filter_map(|(name, value)| name.split_once('/').map(|(domain, name)| (domain, name, read(value))))
        .collect()
}
