//! What expressions that select devices see (KEP-4381): `device`, with who drives it and what is told of it, by the
//! domain and the name of what is told.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;

use tiphys_api::{quantity::Quantity, semver::Semver};

use crate::error::EvalError;
use crate::library::Opaque;
use crate::program::{Bindings, Budget, Environment, PER_CALL_LIMIT, Program};
use crate::types::{Declared, Type};
use crate::value::{Key, Map, Str, Value};

/// The variable `device`, and `cel.bind`.
pub static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let told = |of: Type| Type::map(Type::String, Type::map(Type::String, of));
    let device = Declared::plain(
        "kubernetes.DRADevice",
        [
            ("driver", Type::String),
            ("attributes", told(Type::Dyn)),
            ("capacity", told(Type::Opaque("kubernetes.Quantity"))),
            ("allowMultipleAllocations", Type::Bool),
        ],
    );
    Environment::new().with("device", Type::Object(device)).with_bind()
});

/// What is told of a device in one attribute.
#[derive(Clone, Copy, Debug)]
pub enum Attribute<'a> {
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Version(&'a Semver),
}

/// A device. Attributes and capacities come by domain and name.
pub struct Device<'a> {
    pub driver: &'a str,
    pub allows_multiple: bool,
    pub attributes: Vec<(&'a str, &'a str, Attribute<'a>)>,
    pub capacity: Vec<(&'a str, &'a str, Quantity)>,
}

fn key(text: &str) -> Key<'_> {
    Key::String(Str::Borrowed(text))
}

/// By domain, then by name. Of a domain that nothing is told of, an empty map is known.
fn by_domain<'a>(told: impl Iterator<Item = (&'a str, &'a str, Value<'a>)>) -> Value<'a> {
    let mut domains: BTreeMap<Key<'a>, BTreeMap<Key<'a>, Value<'a>>> = BTreeMap::new();
    for (domain, name, value) in told {
        domains.entry(key(domain)).or_default().insert(key(name), value);
    }
    let names = |names| Value::Map(Map::Made(Rc::new(names)));
    Value::Map(Map::Open(Rc::new(domains.into_iter().map(|(domain, of)| (domain, names(of))).collect())))
}

impl<'a> Device<'a> {
    /// The value of `device`.
    pub fn value(&self) -> Value<'a> {
        let attributes = self.attributes.iter().map(|(domain, name, attribute)| {
            let value = match *attribute {
                Attribute::Bool(b) => Value::Bool(b),
                Attribute::Int(i) => Value::Int(i),
                Attribute::Text(text) => Value::from(text),
                Attribute::Version(version) => Value::Opaque(Rc::new(Opaque::Semver(version.clone()))),
            };
            (*domain, *name, value)
        });
        let quantity = |of: Quantity| Value::Opaque(Rc::new(Opaque::Quantity(of)));
        let capacity = self.capacity.iter().map(|(domain, name, of)| (*domain, *name, quantity(*of)));
        let fields = [
            ("driver", Value::from(self.driver)),
            ("allowMultipleAllocations", Value::Bool(self.allows_multiple)),
            ("attributes", by_domain(attributes)),
            ("capacity", by_domain(capacity)),
        ];
        Value::Map(Map::Made(Rc::new(fields.into_iter().map(|(name, value)| (key(name), value)).collect())))
    }
}

/// Whether an expression selects the device that [`Device::value`] made.
///
/// # Errors
/// It went wrong, costs too much, or is neither true nor false.
pub fn selects<'a>(program: &'a Program, device: &Value<'a>) -> Result<bool, EvalError> {
    let bindings = Bindings::new().with("device", device.clone());
    match program.evaluate(&bindings, &mut Budget::new(PER_CALL_LIMIT))? {
        Value::Bool(selects) => Ok(selects),
        _ => Err(EvalError::new("CEL result was not a bool")),
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
