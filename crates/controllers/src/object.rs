//! What all objects have in common, for plans.

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::Resource;
use tiphys_client::ObjectKey;

/// Shorthand for reading identities off any typed object.
pub(crate) trait Object: Resource<DynamicType = ()> {
    fn key(&self) -> ObjectKey {
        ObjectKey::of(self.meta())
    }
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }
    fn is_going(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }
    fn annotation(&self, name: &str) -> Option<&str> {
        self.meta().annotations.as_ref()?.get(name).map(String::as_str)
    }
    /// What a managed object says of this, its manager.
    fn as_controller(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::api_version(&()).into_owned(),
            kind: Self::kind(&()).into_owned(),
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
    /// What an event is about.
    fn as_reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(Self::api_version(&()).into_owned()),
            kind: Some(Self::kind(&()).into_owned()),
            namespace: self.meta().namespace.clone(),
            name: self.meta().name.clone(),
            uid: self.meta().uid.clone(),
            resource_version: self.meta().resource_version.clone(),
            field_path: None,
        }
    }
}

impl<K: Resource<DynamicType = ()>> Object for K {}

/// Encodes a hash as upstream's names do: decimal digits in an alphabet without vowels.
pub(crate) fn safe_encode(hash: u32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// FNV-1a over a value's JSON, whose maps are ordered: equal values have equal hashes.
pub(crate) fn hash(value: &impl serde::Serialize, salt: &[u8]) -> u32 {
    let json = serde_json::to_vec(value).unwrap_or_default();
    json.iter()
        .chain(salt)
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_hashes_can_stand_in_names() {
        assert_eq!(safe_encode(0), "4");
        assert_eq!(safe_encode(1_234_567_890), "56789bcdf4");
    }

    #[test]
    fn hashes_tell_values_and_salts_apart() {
        assert_eq!(hash(&"a", b""), hash(&"a", b""));
        assert_ne!(hash(&"a", b""), hash(&"b", b""));
        assert_ne!(hash(&"a", b"1"), hash(&"a", b"2"));
    }
}
