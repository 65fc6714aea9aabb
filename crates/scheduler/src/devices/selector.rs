//! Expressions that select devices.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tiphys_cel::{Program, device};

use super::kinds::Device;

/// How many expressions are known at a time: those of a few classes, used again and again.
const KNOWN: usize = 64;

/// How many answers about a device are known at a time.
const JUDGEMENTS: usize = 8;

/// What expressions have said of a device, by their numbers: the same pods ask the same of it again and again. It is
/// what asking again would tell, and so no part of what the device is.
#[derive(Debug, Default)]
pub(super) struct Judged(Mutex<VecDeque<(u64, bool)>>);

impl Clone for Judged {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Judged {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// An expression, compiled once for all that have it.
#[derive(Debug)]
pub struct Selector {
    number: u64,
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
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        static LATEST: Mutex<VecDeque<Arc<Selector>>> = Mutex::new(VecDeque::new());
        let mut latest = LATEST.lock();
        if let Some(known) = latest.iter().find(|known| *known.source == *source) {
            return known.clone();
        }
        let program = Program::compile(source, &device::ENVIRONMENT).map_err(|errors| errors.to_string());
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let selector = Arc::new(Self { number, source: source.into(), program });
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
        let judged = || device.judged.0.lock();
        if let Some((_, known)) = judged().iter().find(|(number, _)| *number == self.number) {
            return Ok(*known);
        }
        let program = self.program.as_ref().map_err(|why| format!("CEL compile error: {why}"))?;
        let seen = device::Device {
            driver: &device.id.driver,
            allows_multiple: device.allows_multiple,
            attributes: split(&device.attributes, |attribute| attribute.seen()),
            capacity: split(&device.capacity, |capacity| capacity.value),
        };
        let selects =
            device::selects(program, &seen.value()).map_err(|why| format!("CEL runtime error: {why}"))?;
        let mut judged = judged();
        if judged.len() >= JUDGEMENTS {
            judged.pop_front();
        }
        judged.push_back((self.number, selects));
        Ok(selects)
    }
}

/// By domain and name.
fn split<'a, T, U>(of: &'a BTreeMap<Box<str>, T>, read: impl Fn(&'a T) -> U) -> Vec<(&'a str, &'a str, U)> {
    of.iter()
        .filter_map(|(name, value)| name.split_once('/').map(|(domain, name)| (domain, name, read(value))))
        .collect()
}
