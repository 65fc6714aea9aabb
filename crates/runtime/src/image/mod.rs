//! Images: a content-addressed store, what fills it (import, pull, the binary itself), and unpacked layers.
//!
//! ```text
//! blobs/sha256/<hex>     image configurations and manifests
//! images/<hex>.json      one record an image: its names and its layers; the image is there once this is
//! layers/<12 hex>/       a layer unpacked in overlayfs' own form; valid once <12 hex>.json lies beside it
//! ingest/                what is being written; emptied when the store is opened
//! ```
//!
//! A layer is known by its *chain ID*: the digest over itself and all layers below it. Compressed layers aren't
//! kept after they are unpacked.

mod archive;
mod layer;
mod overlay;
mod pack;
mod pull;

mod store;

pub use archive::ImportProgress;
pub use pack::SelfImage;
pub use pull::{Credentials, Pull, PullProgress};

pub(crate) use overlay::{mount_overlay, mount_to_read};
pub use store::{ImageConfig, ImageRecord, Store};

use oci_client::Reference;

use crate::error::{Error, Result};

/// Reads an image's name as the field does: `nginx` is `docker.io/library/nginx:latest`.
///
/// # Errors
/// [`Error::Invalid`] for anything that can't name an image.
pub fn parse_name(name: &str) -> Result<Reference> {
    let reference: Reference = name
        .parse()
        .map_err(|error| Error::Invalid(format!("{name:?} is no valid image reference: {error}")))?;
    if reference.tag().is_none() && reference.digest().is_none() {
        return Ok(Reference::with_tag(
            reference.registry().to_owned(),
            reference.repository().to_owned(),
            "latest".to_owned(),
        ));
    }
    Ok(reference)
}
