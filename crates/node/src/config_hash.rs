//! The part of a container's spec whose change calls for a new container.

use k8s_openapi::api::core::v1::Container;
use sha2::{Digest, Sha256};

/// A short hash of name and image, which are all that may change in a running pod and need a restart.
pub(crate) fn of(container: &Container) -> String {
    let mut hash = Sha256::new();
    hash.update(container.name.as_bytes());
    hash.update([0]);
    hash.update(container.image.as_deref().unwrap_or_default().as_bytes());
    hex(&hash.finalize()[..8])
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
