//! Reading of an object only what a room needs.
//!
//! An informer decodes every object of its collection, and may keep a hundred thousand. A room that needs a tenth of
//! a kind's fields has a type with these, and serde passes over all others without allocating anything. What all
//! such types share is here: metadata without annotations and managed fields, which are most of it.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, VecDeque},
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::Toleration,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use parking_lot::Mutex;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// Makes a type that has the `metadata` of a kind a resource of that kind.
#[macro_export]
macro_rules! resource_of {
    ($kind:ty, $lean:ty $(, $($generics:tt)+)?) => {
        impl $(<$($generics)+>)? kube::Resource for $lean {
            type DynamicType = ();
            type Scope = <$kind as kube::Resource>::Scope;

            fn kind(_: &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::kind(&())
            }
            fn group(_: &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::group(&())
            }
            fn version(_: &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::version(&())
            }
            fn plural(_: &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::plural(&())
            }
            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// Which annotations a room reads.
pub trait Reads {
    const ANNOTATIONS: &'static [&'static str];
}

/// Reads no annotations.
#[derive(Clone, Copy, Debug)]
pub struct NoAnnotations;

impl Reads for NoAnnotations {
    const ANNOTATIONS: &'static [&'static str] = &[];
}

/// Reads metadata, for serde's `deserialize_with`: what identifies an object, its labels, owners, finalizers and times,
/// and those annotations that `R` reads. Everything else is left out.
///
/// # Errors
/// It is no metadata.
pub fn metadata<'de, R: Reads, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", bound = "R: Reads")]
    struct Read<R> {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        deletion_grace_period_seconds: Option<i64>,
        labels: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
        finalizers: Option<Vec<String>>,
        annotations: Option<Annotations<R>>,
    }
    let read = Read::<R>::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        generation: read.generation,
        creation_timestamp: read.creation_timestamp,
        deletion_timestamp: read.deletion_timestamp,
        deletion_grace_period_seconds: read.deletion_grace_period_seconds,
        labels: read.labels,
        owner_references: read.owner_references,
        finalizers: read.finalizers,
        annotations: read.annotations.map(|read| read.found).filter(|found| !found.is_empty()),
        ..ObjectMeta::default()
    })
}

/// How many values of one sort are known at a time.
const KNOWN: usize = 16;

/// Values that many objects have alike, as those of one template do: each is held once, for as long as it is among
/// those that were met last.
#[derive(Debug)]
pub struct Alike<T: ?Sized>(Mutex<VecDeque<Arc<T>>>);

impl<T: ?Sized + PartialEq> Alike<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// The one that equals this value.
    pub fn hold<V: Borrow<T> + Into<Arc<T>>>(&self, value: V) -> Arc<T> {
        let mut known = self.0.lock();
        if let Some(one) = known.iter().find(|one| ***one == *value.borrow()) {
            return Arc::clone(one);
        }
        let one: Arc<T> = value.into();
        known.push_back(Arc::clone(&one));
        if known.len() > KNOWN {
            known.pop_front();
        }
        one
    }
}

impl<T: ?Sized + PartialEq> Default for Alike<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Tolerations, held once by all pods that have them alike, as nearly all do: admission gives every pod two, and a
/// template is many pods'.
pub fn alike(tolerations: Vec<Toleration>) -> Arc<[Toleration]> {
    static KNOWN_LISTS: Alike<[Toleration]> = Alike::new();
    KNOWN_LISTS.hold(tolerations)
}

/// Reads tolerations as [`alike`] holds them, for serde's `deserialize_with`.
///
/// # Errors
/// They are none.
pub fn tolerations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Toleration]>, D::Error> {
    Option::deserialize(deserializer).map(|read| alike(read.unwrap_or_default()))
}

struct Annotations<R> {
    found: BTreeMap<String, String>,
    reads: PhantomData<R>,
}

impl<'de, R: Reads> Deserialize<'de> for Annotations<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self { found: BTreeMap::new(), reads: PhantomData })
    }
}

impl<'de, R: Reads> Visitor<'de> for Annotations<R> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key::<Name<'de>>()? {
            match R::ANNOTATIONS.iter().find(|read| **read == name.0) {
                Some(read) => drop(self.found.insert((*read).to_owned(), map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(self)
    }
}

/// Text that is copied only where it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

#[cfg(test)]
#[path = "lean_tests.rs"]
mod tests;
