//! Import of what `docker save`, `skopeo` and `buildah` write: docker-archive and OCI layout tar files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use super::store::{MAX_DOCUMENT_BYTES, Store, hex_of};
use super::{ImageRecord, parse_name};
use crate::error::{Error, Result};
use crate::files;

/// How large an archive may be, unpacked, and how many files it may have.
const MAX_ARCHIVE_BYTES: u64 = 64 << 30;
const MAX_ARCHIVE_ENTRIES: usize = 10_000;

/// How far an import has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportProgress {
    /// This many bytes of the archive were read.
    Read(u64),
    /// Of the image's layers, this one is being unpacked.
    Unpacking { layer: usize, of: usize },
}

/// One file of the archive, kept under a name of ours.
struct Member {
    path: PathBuf,
    digest: String,
}

struct Members {
    dir: PathBuf,
    files: BTreeMap<PathBuf, Member>,
    links: BTreeMap<PathBuf, PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: PathBuf,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

/// One image of an archive: what [`Store::add`] takes.
struct Found {
    config: Vec<u8>,
    layers: Vec<PathBuf>,
    names: Vec<String>,
    digests: Vec<String>,
}

impl Store {
    /// Imports every image of a docker-archive or OCI layout tar stream, compressed with gzip or not.
    ///
    /// The archive is written to the store's disk once and checked against its own digests; nothing of it is
    /// visible before an image is whole.
    ///
    /// # Errors
    /// [`Error::Archive`] and [`Error::Digest`] for what isn't a sound archive, [`Error::Io`] for the disk.
    pub fn import(
        &self,
        archive: impl Read,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Vec<ImageRecord>> {
        let dir = self.ingest_path();
        files::create_dir(&dir)?;
        let imported = self.import_into(&dir, archive, progress);
        files::remove_dir(&dir)?;
        imported
    }

    fn import_into(
        &self,
        dir: &Path,
        archive: impl Read,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Vec<ImageRecord>> {
        let mut reader = BufReader::with_capacity(1 << 16, archive);
        let start = reader.fill_buf().map_err(Error::call("read archive"))?;
        let members = if start.starts_with(&[0x1f, 0x8b]) {
            Members::spool(MultiGzDecoder::new(reader), dir, progress)?
        } else {
            Members::spool(reader, dir, progress)?
        };
        let found = if members.has("manifest.json") {
            members.docker_images()?
        } else if members.has("index.json") {
            members.oci_images()?
        } else {
            return Err(Error::Archive("neither manifest.json nor index.json is in it".into()));
        };
        if found.is_empty() {
            return Err(Error::Archive("no image for this machine is in it".into()));
        }
        let mut records = Vec::new();
        for image in found {
            let mut unpacking = |layer, of| progress(ImportProgress::Unpacking { layer, of });
            records.push(self.add(
                &image.config,
                &image.layers,
                &image.names,
                &image.digests,
                true,
                &mut unpacking,
            )?);
        }
        Ok(records)
    }
}

impl Members {
    fn spool(stream: impl Read, dir: &Path, progress: &mut dyn FnMut(ImportProgress)) -> Result<Self> {
        let mut members = Self { dir: dir.to_owned(), files: BTreeMap::new(), links: BTreeMap::new() };
        let mut total = 0;
        let broken = |error: io::Error| Error::Archive(format!("not a readable tar stream: {error}"));
        for (number, entry) in Archive::new(stream).entries().map_err(broken)?.enumerate() {
            if number >= MAX_ARCHIVE_ENTRIES {
                return Err(Error::Archive(format!("more than {MAX_ARCHIVE_ENTRIES} entries")));
            }
            let mut entry = entry.map_err(broken)?;
            let name = normal(&entry.path().map_err(broken)?);
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let path = members.dir.join(format!("{number}"));
                    let mut file = File::create(&path).map_err(Error::io("create", &path))?;
                    let mut hash = Sha256::new();
                    let mut buffer = vec![0; 1 << 17];
                    loop {
                        let count = entry.read(&mut buffer).map_err(broken)?;
                        if count == 0 {
                            break;
                        }
                        total += count as u64;
                        if total > MAX_ARCHIVE_BYTES {
                            return Err(Error::Archive(format!("larger than {MAX_ARCHIVE_BYTES} bytes")));
                        }
                        hash.update(&buffer[..count]);
                        file.write_all(&buffer[..count]).map_err(Error::io("write", &path))?;
                        progress(ImportProgress::Read(total));
                    }
                    let digest = format!("sha256:{:x}", hash.finalize());
                    members.files.insert(name, Member { path, digest });
                }
                // Old docker archives name a layer that two images share by a link.
                EntryType::Symlink | EntryType::Link => {
                    if let Some(target) = entry.link_name().map_err(broken)? {
                        let symbolic = entry.header().entry_type() == EntryType::Symlink;
                        let base =
                            if symbolic { name.parent().unwrap_or(Path::new("")) } else { Path::new("") };
                        members.links.insert(name.clone(), normal(&base.join(target)));
                    }
                }
                _ => {}
            }
        }
        Ok(members)
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(Path::new(name))
    }

    fn member(&self, name: &Path) -> Result<&Member> {
        let name = normal(name);
        let followed = self.links.get(&name).unwrap_or(&name);
        self.files
            .get(followed)
            .ok_or_else(|| Error::Archive(format!("{} is named but not in it", name.display())))
    }

    fn document(&self, name: &Path) -> Result<Vec<u8>> {
        let member = self.member(name)?;
        let length = fs::metadata(&member.path).map_err(Error::io("look at", &member.path))?.len();
        if length > MAX_DOCUMENT_BYTES {
            return Err(Error::Archive(format!(
                "{} is larger than {MAX_DOCUMENT_BYTES} bytes",
                name.display()
            )));
        }
        fs::read(&member.path).map_err(Error::io("read", &member.path))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<&Member> {
        let digest = descriptor.digest().to_string();
        let member = self.member(&Path::new("blobs/sha256").join(hex_of(&digest)?))?;
        if member.digest != digest {
            return Err(Error::Digest {
                what: "blob".into(),
                expected: digest,
                found: member.digest.clone(),
            });
        }
        Ok(member)
    }

    fn blob_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.blob(descriptor)?;
        self.document(&Path::new("blobs/sha256").join(hex_of(descriptor.digest().as_ref())?))
    }

    fn docker_images(&self) -> Result<Vec<Found>> {
        let text = self.document(Path::new("manifest.json"))?;
        let images: Vec<DockerImage> =
            serde_json::from_slice(&text).map_err(Error::parse("manifest.json"))?;
        let mut found = Vec::new();
        for image in images {
            let mut names = Vec::new();
            for tag in image.repo_tags.unwrap_or_default() {
                names.push(parse_name(&tag)?.whole());
            }
            let layers =
                image.layers.iter().map(|layer| self.member(layer).map(|member| member.path.clone()));
            found.push(Found {
                config: self.document(&image.config)?,
                layers: layers.collect::<Result<_>>()?,
                names,
                digests: Vec::new(),
            });
        }
        Ok(found)
    }

    fn oci_images(&self) -> Result<Vec<Found>> {
        let text = self.document(Path::new("index.json"))?;
        let index: ImageIndex = serde_json::from_slice(&text).map_err(Error::parse("index.json"))?;
        let mut found = Vec::new();
        for descriptor in index.manifests() {
            let annotations = descriptor.annotations().clone().unwrap_or_default();
            let name = annotations
                .get("io.containerd.image.name")
                .or_else(|| annotations.get("org.opencontainers.image.ref.name"));
            let mut names = Vec::new();
            if let Some(name) = name {
                names.push(parse_name(name)?.whole());
            }
            let Some(manifest) = self.manifest_for_us(descriptor, 0)? else { continue };
            let text = self.blob_document(&manifest)?;
            let image: ImageManifest =
                serde_json::from_slice(&text).map_err(Error::parse("image manifest"))?;
            let layers =
                image.layers().iter().map(|layer| self.blob(layer).map(|member| member.path.clone()));
            let digest = manifest.digest().to_string();
            let digests = names.iter().filter_map(|name| {
                let reference = parse_name(name).ok()?;
                Some(format!("{}/{}@{digest}", reference.registry(), reference.repository()))
            });
            found.push(Found {
                config: self.blob_document(image.config())?,
                layers: layers.collect::<Result<_>>()?,
                digests: digests.collect(),
                names,
            });
        }
        Ok(found)
    }

    /// Follows an index to the manifest of this machine's platform.
    fn manifest_for_us(&self, descriptor: &Descriptor, depth: u32) -> Result<Option<Descriptor>> {
        if !matches!(descriptor.media_type(), MediaType::ImageIndex) {
            let other = descriptor.platform().as_ref().is_some_and(|platform| {
                *platform.os() != Os::Linux || *platform.architecture() != Arch::default()
            });
            return Ok((!other).then(|| descriptor.clone()));
        }
        if depth > 4 {
            return Err(Error::Archive("indexes lie in one another too deeply".into()));
        }
        let text = self.blob_document(descriptor)?;
        let index: ImageIndex = serde_json::from_slice(&text).map_err(Error::parse("image index"))?;
        for inner in index.manifests() {
            if let Some(manifest) = self.manifest_for_us(inner, depth + 1)? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }
}

/// The path without `.` and with `..` taken back, relative to the archive's root. It is only ever a map's key.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(part) => normal.push(part),
            std::path::Component::ParentDir => {
                normal.pop();
            }
            _ => {}
        }
    }
    normal
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
