//! Shares of a device that several may have (KEP-5075): what a request takes of it, and what is taken.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, DeviceCapacity, DeviceRequestAllocationResult};
use tiphys_api::quantity::Quantity;

use super::kinds::{Device, amount, full_name};

/// Amounts of capacities, by their full names.
pub type Amounts = BTreeMap<Box<str>, Quantity>;

/// A capacity of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    /// As its driver writes it, with or without its domain.
    pub name: Box<str>,
    pub value: Quantity,
    policy: Option<Policy>,
}

/// How much of it may be asked for.
#[derive(Clone, Debug, PartialEq)]
struct Policy {
    default: Option<Quantity>,
    valid: Valid,
}

#[derive(Clone, Debug, PartialEq)]
enum Valid {
    All,
    /// In ascending order.
    Values(Vec<Quantity>),
    Range {
        min: Quantity,
        max: Option<Quantity>,
        step: Option<Quantity>,
    },
}

impl Policy {
    fn new(policy: CapacityRequestPolicy) -> Self {
        let read = |quantity: Option<_>| quantity.as_ref().and_then(amount);
        let values: Vec<Quantity> =
            policy.valid_values.into_iter().flatten().filter_map(|v| amount(&v)).collect();
        let range = policy.valid_range.and_then(|range| {
            let (max, step) = (read(range.max), read(range.step));
            Some(Valid::Range { min: amount(&range.min)?, max, step })
        });
        let valid = match (range, values.is_empty()) {
            (Some(range), _) => range,
            (None, false) => Valid::Values(values),
            (None, true) => Valid::All,
        };
        Self { default: read(policy.default), valid }
    }
}

impl Capacity {
    /// `None` for what is no amount, which validation has refused.
    pub fn new(name: &str, capacity: DeviceCapacity) -> Option<Self> {
        let policy = capacity.request_policy.map(Policy::new);
        Some(Self { name: name.into(), value: amount(&capacity.value)?, policy })
    }

    /// What somebody takes who asks for so much, rounded up to what may be asked for; `None` if so much may not be.
    ///
    /// # Errors
    /// What is asked for is more than can be counted.
    fn share(&self, asked: Option<Quantity>) -> Result<Option<Quantity>, String> {
        let Some(asked) = asked else {
            let default = self.policy.as_ref().and_then(|policy| policy.default);
            return Ok(Some(default.unwrap_or(self.value)));
        };
        Ok(match self.policy.as_ref().map(|policy| &policy.valid) {
            None | Some(Valid::All) => Some(asked),
            Some(Valid::Values(values)) => values.iter().find(|value| asked <= **value).copied(),
            Some(Valid::Range { min, max, step }) => {
                let share = match step {
                    _ if asked < *min => *min,
                    None => asked,
                    Some(step) => asked.stepped(*min, *step).ok_or_else(|| {
                        format!("the request {asked} cannot be rounded up to a step of {step}")
                    })?,
                };
                max.is_none_or(|max| share <= max).then_some(share)
            }
        })
    }
}

/// What a request that asks for so much takes of each capacity of the device, which it may be alone to have; `None` if
/// the device does not have that.
///
/// # Errors
/// The request means one capacity twice, or no number that can be counted.
pub fn share(device: &Device, asked: &BTreeMap<Box<str>, Quantity>) -> Result<Option<Amounts>, String> {
    let mut wanted = Amounts::new();
    for (name, amount) in asked {
        let full = full_name(&device.id.driver, name);
        if !device.capacity.contains_key(&full) {
            return Ok(None);
        }
        if wanted.insert(full, *amount).is_some() {
            return Err(format!("capacity {name} is requested with its domain and without"));
        }
    }
    let mut share = Amounts::new();
    let mut has_all = true;
    for (full, capacity) in &device.capacity {
        let fault = |why: String| format!("capacity {full}: {why}");
        let amount = capacity.share(wanted.get(full).copied()).map_err(fault)?;
        if amount.is_some_and(Quantity::is_negative) {
            return Err(fault("is negative".to_owned()));
        }
        match amount.filter(|amount| *amount <= capacity.value) {
            Some(amount) => drop(share.insert(full.clone(), amount)),
            // What can't be counted is told of any of them first.
            None => has_all = false,
        }
    }
    Ok(has_all.then_some(share))
}

/// Who has a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// For how many claims all of it is allocated.
    pub whole: usize,
    shares: usize,
    /// What the shares come to.
    pub consumed: Amounts,
}

impl Taken {
    /// Counts a result of an allocation, or counts it no longer.
    pub fn count(&mut self, result: &DeviceRequestAllocationResult, is_more: bool) {
        let counted = |count: usize| if is_more { count + 1 } else { count.saturating_sub(1) };
        if result.share_id.is_none() {
            self.whole = counted(self.whole);
            return;
        }
        self.shares = counted(self.shares);
        for (name, consumed) in result.consumed_capacity.iter().flatten() {
            let Some(consumed) = amount(consumed) else { continue };
            let sum = self.consumed.entry(full_name(&result.driver, name)).or_insert(Quantity::ZERO);
            *sum = if is_more { *sum + consumed } else { *sum - consumed };
        }
        self.consumed.retain(|_, amount| !amount.is_zero());
    }

    pub fn is_nothing(&self) -> bool {
        self.whole == 0 && self.shares == 0
    }
}

#[cfg(test)]
#[path = "capacity_tests.rs"]
mod tests;
