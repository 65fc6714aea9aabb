use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layer::{self, Limits};
use super::parse_name;
use crate::error::{Error, Result};
use crate::{clock, files, sys};

/// The image store below one directory. All operations block on the disk.
///
/// Several processes may have the same store open: each sees what the others add and remove.
pub struct Store {
    root: PathBuf,
    known: Mutex<Known>,
    ingested: AtomicU64,
}

/// The records as they were read from disk, and when the directory had last changed by then.
#[derive(Default)]
struct Known {
    images: BTreeMap<String, ImageRecord>,
    read_at: Option<(i64, i64)>,
}

/// What is known of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// The digest of its configuration, `sha256:<hex>`.
    pub id: String,
    /// Full names with a tag, `docker.io/library/nginx:1.7.9`.
    pub names: BTreeSet<String>,
    /// Full names with the manifest's digest, `docker.io/library/nginx@sha256:…`.
    pub digests: BTreeSet<String>,
    /// Chain IDs from the lowest layer to the highest, `sha256:<hex>`.
    pub layers: Vec<String>,
    /// Bytes of all layers, unpacked.
    pub size: u64,
    /// Whether somebody put it here by hand: garbage collection leaves it, and it stands for its names whatever
    /// their registries have.
    #[serde(default)]
    pub pinned: bool,
}

/// The part of an image's configuration that a container is started from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    pub user: Option<String>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: Option<String>,
    pub stop_signal: Option<String>,
}

/// An image's configuration file.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: Option<ImageConfig>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct LayerRecord {
    chain: String,
    size: u64,
}

/// The largest configuration or manifest that is read.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;

/// How long ago the directory of records must have changed to tell its next change by its time.
const SETTLED: i64 = 100_000_000;

/// How many layers one image may have: what one page of mount options holds, and what Docker allows.
const MAX_LAYERS: usize = 127;

impl Store {
    /// Opens the store below `root` or makes an empty one, and drops what an earlier process left half done.
    pub fn open(root: &Path) -> Result<Self> {
        for name in ["blobs/sha256", "images", "layers", "ingest"] {
            files::create_dir(&root.join(name))?;
        }
        files::create_dir(&root.join("layers/none"))?;
        remove_abandoned(&root.join("ingest"))?;
        Ok(Self { root: root.to_owned(), known: Mutex::default(), ingested: AtomicU64::new(0) })
    }

    /// All images, ordered by ID.
    pub fn list(&self) -> Result<Vec<ImageRecord>> {
        Ok(self.known()?.images.values().cloned().collect())
    }

    /// The image of a name, an ID, a unique prefix of an ID, or a name with a digest.
    ///
    /// # Errors
    /// [`Error::NotFound`], also for a name that isn't valid: there is no such image.
    pub fn find(&self, name: &str) -> Result<ImageRecord> {
        let known = self.known()?;
        let images = &known.images;
        let missing = || Error::NotFound { what: "image", name: name.to_owned() };
        if let Some(record) = images.get(name).or_else(|| images.get(&format!("sha256:{name}"))) {
            return Ok(record.clone());
        }
        if let Ok(reference) = parse_name(name) {
            let full = reference.whole();
            let found = images.values().find(|image| {
                image.names.contains(&full)
                    || image.digests.contains(&full)
                    || reference.digest().is_some_and(|digest| {
                        let pinned = format!("{}/{}@{digest}", reference.registry(), reference.repository());
                        image.digests.contains(&pinned)
                    })
            });
            if let Some(record) = found {
                return Ok(record.clone());
            }
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        if prefix.len() < 8 || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let prefix = format!("sha256:{prefix}");
        let mut matching = images.range(prefix.clone()..).take_while(|(id, _)| id.starts_with(&prefix));
        match (matching.next(), matching.next()) {
            (Some((_, record)), None) => Ok(record.clone()),
            _ => Err(missing()),
        }
    }

    /// The configuration that containers of `image` start from.
    pub fn config(&self, image: &ImageRecord) -> Result<ImageConfig> {
        let text = self.blob(&image.id)?;
        let file: ConfigFile = serde_json::from_slice(&text).map_err(Error::parse(image.id.clone()))?;
        Ok(file.config.unwrap_or_default())
    }

    /// Takes all names from the image that `name` finds; its layers go when no container in `used` has them.
    ///
    /// That there is no such image is success.
    pub fn remove(&self, name: &str, used: &BTreeSet<String>) -> Result<()> {
        let record = match self.find(name) {
            Ok(record) => record,
            Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        files::remove_file(&self.image_path(&record.id))?;
        files::remove_file(&self.blob_path(&record.id)?)?;
        self.sweep(used)
    }

    /// Removes every layer that neither an image nor a container in `used` (chain IDs) needs.
    ///
    /// While an image is being added nothing is removed: the next sweep does it.
    pub fn sweep(&self, used: &BTreeSet<String>) -> Result<()> {
        let Some(_alone) = self.lock(FlockArg::LockExclusiveNonblock)? else { return Ok(()) };
        let mut needed: BTreeSet<String> = used.iter().map(|chain| short(chain)).collect();
        needed.extend(self.list()?.iter().flat_map(|image| image.layers.iter().map(|chain| short(chain))));
        let dir = self.root.join("layers");
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let path = entry.map_err(Error::io("list", &dir))?.path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if stem == "none" || needed.contains(&stem) {
                continue;
            }
            if path.is_dir() {
                // Without its record the directory counts as unfinished, should the removal be cut short.
                files::remove_file(&path.with_extension("json"))?;
                files::remove_dir(&path)?;
            }
        }
        Ok(())
    }

    /// Bytes and inodes that layers and documents take.
    pub fn usage(&self) -> Result<(u64, u64)> {
        let dir = self.root.join("layers");
        let (mut bytes, mut inodes) = (0, 0);
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let path = entry.map_err(Error::io("list", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                // A layer that goes in this moment counts as nothing.
                if let Some(record) = files::read_json_if_there::<LayerRecord>(&path)? {
                    bytes += record.size;
                    inodes += 1;
                }
            }
        }
        Ok((bytes, inodes))
    }

    /// Adds an image from its configuration and its layers' tar files, lowest first.
    ///
    /// Every layer must have the digest that the configuration names. `names` are full names with tags (they move
    /// here from the images that had them), `digests` full names with the manifest's digest.
    pub(super) fn add(
        &self,
        config: &[u8],
        layers: &[PathBuf],
        names: &[String],
        digests: &[String],
        pinned: bool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ImageRecord> {
        let id = format!("sha256:{:x}", Sha256::digest(config));
        let file: ConfigFile = serde_json::from_slice(config).map_err(Error::parse(id.clone()))?;
        let diffs = &file.rootfs.diff_ids;
        if diffs.len() != layers.len() {
            let text = format!("{} layers, but the configuration names {}", layers.len(), diffs.len());
            return Err(Error::Archive(text));
        }
        let _adding = self.lock(FlockArg::LockShared)?;
        let mut chain: Vec<String> = Vec::new();
        for (position, (path, diff)) in layers.iter().zip(diffs).enumerate() {
            progress(position, layers.len());
            let parent = chain.last().map(String::as_str);
            if !self.has_layer(&chain_id(parent, diff))? {
                let file = File::open(path).map_err(Error::io("open", path))?;
                let plain = layer::decompress(BufReader::with_capacity(1 << 16, file))?;
                self.unpack(plain, parent, Some(diff))?;
            }
            chain.push(chain_id(parent, diff));
        }
        self.sync()?;
        self.record(config, chain, names, digests, pinned)
    }

    /// Unpacks one plain tar stream on top of `parent` and says its diff ID; it must be `expected` where given.
    pub(super) fn unpack(
        &self,
        plain: impl Read,
        parent: Option<&str>,
        expected: Option<&str>,
    ) -> Result<String> {
        let temporary = self.ingest_path();
        files::create_dir(&temporary)?;
        let unpacked = layer::unpack(plain, &temporary, Limits::default()).and_then(|unpacked| {
            let diff = expected.unwrap_or(&unpacked.diff_id);
            if diff != unpacked.diff_id {
                return Err(Error::Digest {
                    what: "layer".into(),
                    expected: diff.to_owned(),
                    found: unpacked.diff_id,
                });
            }
            let chain = chain_id(parent, diff);
            let path = self.layer_path(&chain);
            if !self.has_layer(&chain)? {
                files::remove_dir(&path)?;
                fs::rename(&temporary, &path).map_err(Error::io("rename", &temporary))?;
                files::write_json(&path.with_extension("json"), &LayerRecord { chain, size: unpacked.size })?;
            }
            Ok(unpacked.diff_id)
        });
        files::remove_dir(&temporary)?;
        unpacked
    }

    /// Writes down an image whose layers are all here.
    pub(super) fn record(
        &self,
        config: &[u8],
        layers: Vec<String>,
        names: &[String],
        digests: &[String],
        pinned: bool,
    ) -> Result<ImageRecord> {
        if layers.len() > MAX_LAYERS {
            return Err(Error::Archive(format!(
                "{} layers, at most {MAX_LAYERS} can be mounted",
                layers.len()
            )));
        }
        let id = self.put_blob(config)?;
        let mut size = 0;
        for chain in &layers {
            let path = self.layer_path(chain).with_extension("json");
            size += files::read_json::<LayerRecord>(&path)?.size;
        }
        let known = self.known()?;
        for other in known.images.values().filter(|other| other.id != id) {
            if names.iter().any(|name| other.names.contains(name)) {
                let mut other = other.clone();
                other.names.retain(|name| !names.contains(name));
                files::write_json_durably(&self.image_path(&other.id), &other)?;
            }
        }
        let mut record = known.images.get(&id).cloned().unwrap_or_else(|| ImageRecord {
            id: id.clone(),
            names: BTreeSet::new(),
            digests: BTreeSet::new(),
            layers,
            size,
            pinned,
        });
        record.names.extend(names.iter().cloned());
        record.digests.extend(digests.iter().cloned());
        record.pinned |= pinned;
        files::write_json_durably(&self.image_path(&id), &record)?;
        Ok(record)
    }

    /// Whether the layer is here and whole.
    pub(super) fn has_layer(&self, chain: &str) -> Result<bool> {
        let path = self.layer_path(chain).with_extension("json");
        match files::read_json_if_there::<LayerRecord>(&path) {
            Ok(Some(record)) if record.chain == chain => Ok(true),
            Ok(Some(record)) => {
                Err(Error::Archive(format!("layers {chain} and {} share a short name", record.chain)))
            }
            // Broken by a loss of power, it is as good as absent.
            Ok(None) | Err(Error::Parse { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The chain IDs of layers with these diff IDs, lowest first.
    pub(super) fn chain_of(diffs: &[String]) -> Vec<String> {
        let mut chain: Vec<String> = Vec::with_capacity(diffs.len());
        for diff in diffs {
            let next = chain_id(chain.last().map(String::as_str), diff);
            chain.push(next);
        }
        chain
    }

    /// The diff IDs that a configuration names, lowest first.
    pub(super) fn diffs_of(config: &[u8]) -> Result<Vec<String>> {
        let file: ConfigFile = serde_json::from_slice(config).map_err(Error::parse("image configuration"))?;
        Ok(file.rootfs.diff_ids)
    }

    fn put_blob(&self, content: &[u8]) -> Result<String> {
        let digest = format!("sha256:{:x}", Sha256::digest(content));
        files::write_atomically(&self.blob_path(&digest)?, content)?;
        Ok(digest)
    }

    fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.blob_path(digest)?;
        fs::read(&path).map_err(Error::io("read", &path))
    }

    /// A fresh path to write something at that isn't part of the store yet.
    pub(super) fn ingest_path(&self) -> PathBuf {
        let number = self.ingested.fetch_add(1, Ordering::Relaxed);
        self.root.join("ingest").join(format!("{}.{number}", std::process::id()))
    }

    /// Makes what was unpacked survive a loss of power before anything names it.
    pub(super) fn sync(&self) -> Result<()> {
        let dir = self.root.join("layers");
        File::open(&dir).and_then(sys::sync_file_system).map_err(Error::io("sync", &dir))
    }

    fn layer_path(&self, chain: &str) -> PathBuf {
        self.root.join("layers").join(short(chain))
    }

    fn image_path(&self, id: &str) -> PathBuf {
        self.root.join("images").join(format!("{}.json", id.trim_start_matches("sha256:")))
    }

    fn blob_path(&self, digest: &str) -> Result<PathBuf> {
        Ok(self.root.join("blobs/sha256").join(hex_of(digest)?))
    }

    /// Keeps other processes and tasks from removing layers, or from adding any; `None` when that isn't possible now.
    fn lock(&self, how: FlockArg) -> Result<Option<Flock<File>>> {
        let path = self.root.join("images.lock");
        let file = File::create(&path).map_err(Error::io("open", &path))?;
        match Flock::lock(file, how) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// The records, read anew when the directory has changed: each is written by a rename, which changes it.
    fn known(&self) -> Result<MutexGuard<'_, Known>> {
        let mut known = self.known.lock();
        let dir = self.root.join("images");
        let metadata = fs::metadata(&dir).map_err(Error::io("look at", &dir))?;
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        // The kernel's clock for files ticks slowly, so a directory that changed just now may change unseen.
        let age = clock::now_nanos() - (changed.0 * 1_000_000_000 + changed.1);
        if known.read_at == Some(changed) {
            return Ok(known);
        }
        known.images.clear();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let path = entry.map_err(Error::io("list", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                match files::read_json_if_there::<ImageRecord>(&path) {
                    Ok(Some(record)) => {
                        known.images.insert(record.id.clone(), record);
                    }
                    // Another process removed it meanwhile.
                    Ok(None) => {}
                    // Power was lost while it was written: one image is lost, and not all of them.
                    Err(Error::Parse { .. }) => {
                        tracing::warn!(path = %path.display(), "image record is broken")
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        known.read_at = (age > SETTLED).then_some(changed);
        Ok(known)
    }
}

/// Removes what processes that have ended were writing.
fn remove_abandoned(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let owner = path.file_stem().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            files::remove_dir(&path)?;
        }
    }
    Ok(())
}

/// The digest's hexadecimal part, which is safe to use as a file name.
pub(super) fn hex_of(digest: &str) -> Result<&str> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or_else(|| Error::Archive(format!("{digest:?} is no SHA-256 digest")))
}

/// The identity of a layer on top of others, as the image specification defines it.
pub(super) fn chain_id(parent: Option<&str>, diff: &str) -> String {
    match parent {
        None => diff.to_owned(),
        Some(parent) => format!("sha256:{:x}", Sha256::digest(format!("{parent} {diff}"))),
    }
}

/// The directory name of a layer: short, because a mount's options are one page for all layers together.
pub(super) fn short(chain: &str) -> String {
    chain.trim_start_matches("sha256:").chars().filter(char::is_ascii_hexdigit).take(12).collect()
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
