use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::events::Change;
use crate::image::Store;
use crate::network::PodNetwork;
use crate::sandbox::Sandbox;
use crate::spec::capability;
use crate::stats::Usage;
use crate::{cgroup, files, record, sys};

/// What a runtime is made from.
pub struct Config {
    /// Everything that the runtime keeps lies below this directory. It must be on a file system that overlayfs can
    /// write to, and is used by one runtime at a time.
    pub root: PathBuf,
    /// Tells the kernel objects of this cluster from those of others on the same host: 8 hexadecimal digits.
    pub instance: String,
    /// The executable that becomes a shim, static where containers are untrusted …
    pub shim_exe: PathBuf,
    /// … when it is run with these arguments and a directory: it must call [`crate::shim::main`] with that.
    pub shim_arguments: Vec<String>,
    pub network: Arc<dyn PodNetwork>,
}

/// The embedded container runtime. Cloning is cheap; all clones are the same runtime.
///
/// Sandboxes and containers don't belong to this process: they go on when it ends, and the next
/// [`Runtime::open`] on the same directory takes them over.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) host: cgroup::Host,
    pub(crate) bounding: BTreeSet<&'static str>,
    pub(crate) images: Arc<Store>,
    pub(crate) boot: String,
    /// The read-only mount of the executable that shims run from: no container can reach the file itself by way of
    /// `/proc/<pid>/exe` (CVE-2019-5736).
    pub(crate) exe: PathBuf,
    pub(crate) sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    pub(crate) containers: Mutex<BTreeMap<String, Arc<Container>>>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) usage: Mutex<Usage>,
    pub(crate) streaming: tokio::sync::OnceCell<tiphys_streaming::Server>,
}

/// How many changes a listener may be behind before it must list everything anew.
const CHANGES_KEPT: usize = 4096;

impl Runtime {
    /// Opens the runtime below `config.root` and takes over every sandbox that is still alive: containers that ended
    /// meanwhile have their exit codes, and those of a shim that died are killed and reported as lost.
    ///
    /// # Errors
    /// When the directory, the control groups or the executable can't be used. One broken sandbox is no error: it is
    /// reported as stopped.
    pub async fn open(config: Config) -> Result<Self> {
        let valid =
            config.instance.len() == 8 && config.instance.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !valid {
            return Err(Error::Invalid(format!("instance {:?} isn't 8 hexadecimal digits", config.instance)));
        }
        files::create_dir(&config.root)?;
        let config = Config {
            root: fs::canonicalize(&config.root).map_err(Error::io("find", &config.root))?,
            ..config
        };
        files::create_dir(&config.root.join("pods"))?;
        let inner = Inner {
            host: cgroup::Host::detect()?,
            bounding: capability::bounding()?,
            images: Arc::new(Store::open(&config.root)?),
            boot: record::boot_id()?,
            exe: protect_executable(&config.root, &config.shim_exe)?,
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            changes: broadcast::channel(CHANGES_KEPT).0,
            usage: Mutex::default(),
            streaming: tokio::sync::OnceCell::new(),
            config,
        };
        let runtime = Self { inner: Arc::new(inner) };
        runtime.adopt().await?;
        Ok(runtime)
    }

    /// The images of this runtime, for whoever imports or packs some.
    pub fn images(&self) -> Arc<Store> {
        self.inner.images.clone()
    }

    /// The IDs of all sandboxes whose network is in use, for a network that looks for what is left over.
    pub fn networked_sandboxes(&self) -> Vec<String> {
        let sandboxes = self.inner.sandboxes.lock();
        let networked =
            sandboxes.values().filter(|sandbox| sandbox.is_ready() && sandbox.network().is_some());
        networked.map(|sandbox| sandbox.id.clone()).collect()
    }

    /// The layers that containers need, whatever happens to their images.
    pub fn layers_in_use(&self) -> BTreeSet<String> {
        self.inner.layers_in_use()
    }

    async fn adopt(&self) -> Result<()> {
        let pods = self.inner.config.root.join("pods");
        for entry in fs::read_dir(&pods).map_err(Error::io("list", &pods))? {
            let dir = entry.map_err(Error::io("list", &pods))?.path();
            if let Err(error) = self.adopt_sandbox(&dir).await {
                tracing::error!(dir = %dir.display(), %error, "a sandbox can't be taken over");
            }
        }
        Ok(())
    }
}

impl Inner {
    /// The sandbox of an ID, or of the beginning of one that no other shares.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        by_prefix(&self.sandboxes.lock(), id).ok_or_else(|| Error::no_sandbox(id))
    }

    /// The container of an ID, or of the beginning of one that no other shares.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        by_prefix(&self.containers.lock(), id).ok_or_else(|| Error::no_container(id))
    }

    /// The containers of a sandbox, oldest first.
    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let containers = self.containers.lock();
        let mut found: Vec<_> =
            containers.values().filter(|container| container.sandbox.id == sandbox).cloned().collect();
        found.sort_by_key(|container| container.created_at());
        found
    }

    /// The layers that containers need, whatever happens to their images.
    pub(crate) fn layers_in_use(&self) -> BTreeSet<String> {
        self.containers.lock().values().flat_map(|container| container.layers()).collect()
    }

    /// The group that everything of a sandbox's shim is tracked by, absolute in its hierarchy.
    pub(crate) fn shim_group(&self, sandbox: &str) -> String {
        format!("{}/{sandbox}", group_of(&self.config.instance))
    }
}

/// The group of one cluster, which shims live in and, unless the kubelet says otherwise, pods.
pub(crate) fn group_of(instance: &str) -> String {
    format!("/tiphys-{instance}")
}

fn by_prefix<T>(map: &BTreeMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = map.get(id) {
        return Some(found.clone());
    }
    if id.len() < 6 {
        return None;
    }
    let mut matching = map.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    match (matching.next(), matching.next()) {
        (Some((_, found)), None) => Some(found.clone()),
        _ => None,
    }
}

/// Mounts the executable read-only below `root` and says where. Mounts of earlier executables go; shims that run
/// from them don't mind.
fn protect_executable(root: &Path, exe: &Path) -> Result<PathBuf> {
    let dir = root.join("exe");
    files::create_dir(&dir)?;
    let metadata = fs::metadata(exe).map_err(Error::io("look at", exe))?;
    let name = format!("{:x}-{:x}-{:x}", metadata.dev(), metadata.ino(), metadata.mtime());
    for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
        let entry = entry.map_err(Error::io("list", &dir))?;
        if entry.file_name() != name.as_str() {
            files::unmount(&entry.path())?;
            files::remove_file(&entry.path())?;
        }
    }
    let path = dir.join(name);
    let mounted =
        fs::metadata(&path).is_ok_and(|there| there.ino() == metadata.ino() && there.dev() == metadata.dev());
    if !mounted {
        fs::File::create(&path).map_err(Error::io("create", &path))?;
        sys::bind(exe, &path, true).map_err(Error::io("mount executable on", &path))?;
    }
    Ok(path)
}
