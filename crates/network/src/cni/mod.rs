//! Foreign pod networks: plugin chains by the Container Network Interface, versions 0.3 to 1.1.
//!
//! The administrator's configuration (`/etc/cni/net.d`) names a chain of plugins. [`Cni::attach`] runs ADD through the
//! chain, each plugin given the result of the one before; [`Cni::detach`] runs DEL in the reverse order with what ADD
//! was given and answered, kept on disk, so that a pod is taken down as it was set up even when the configuration has
//! changed since or the process has.

mod attachment;
mod conf;
mod exec;

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use self::{
    attachment::Attachment,
    exec::{Call, Command},
};
use crate::{
    bridge::PortMapping,
    router::{self, Router},
    sandbox_files::{self, SandboxFiles},
};

pub use conf::{Chain, Error as ConfError};
pub use exec::Error as PluginError;

/// Where configurations, plugins and records lie.
#[derive(Clone, Debug)]
pub struct Config {
    /// Usually `/etc/cni/net.d`.
    pub conf_dir: PathBuf,
    /// Where plugins are looked for, in this order; usually `/opt/cni/bin`.
    pub bin_dirs: Vec<PathBuf>,
    /// Where the attachments are remembered. Made if missing.
    pub state_dir: PathBuf,
}

/// Who is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The sandbox's id: letters, digits, `.`, `_` and `-`.
    pub sandbox: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What failed with a foreign pod network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Conf(#[from] ConfError),
    #[error(transparent)]
    Plugin(#[from] PluginError),
    #[error(transparent)]
    Files(#[from] sandbox_files::Error),
    #[error("network {network} gave sandbox {sandbox} no address")]
    NoAddress { network: String, sandbox: String },
    #[error("entering network namespace {}: {source}", path.display())]
    Namespace { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Link(#[from] router::Error),
}

/// The interface that a pod's address is on.
const INTERFACE: &str = "eth0";

/// A pod network made by foreign plugins.
#[derive(Debug)]
pub struct Cni {
    chain: Chain,
    bin_dirs: Vec<PathBuf>,
    kept: SandboxFiles,
}

impl Cni {
    /// The first valid configuration of the directory, by file name; `None` if there is none. Every plugin of it must
    /// be there and speak the configuration's version.
    pub async fn open(config: Config) -> Result<Option<Cni>, Error> {
        let Some(chain) = Chain::load(&config.conf_dir)? else { return Ok(None) };
        let cni = Cni { chain, bin_dirs: config.bin_dirs, kept: SandboxFiles::open(&config.state_dir)? };
        let version = cni.chain.version().to_owned();
        for plugin in cni.chain.plugins() {
            let request = json!({"cniVersion": version});
            let answer = cni.call(Command::Version, plugin, None, request).await?.unwrap_or_default();
            let supported = answer["supportedVersions"].as_array();
            if !supported.is_some_and(|all| all.iter().any(|v| v.as_str() == Some(&version))) {
                let plugin = kind(plugin).to_owned();
                return Err(PluginError::Version { plugin, version }.into());
            }
        }
        Ok(Some(cni))
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        self.chain.name()
    }

    /// Whether the plugins could attach a pod now. Always, for versions before 1.1, which cannot tell.
    pub async fn status(&self) -> Result<(), Error> {
        if !self.chain.at_least((1, 1)) {
            return Ok(());
        }
        for plugin in self.chain.plugins() {
            self.call(Command::Status, plugin, None, self.chain.request(plugin)).await?;
        }
        Ok(())
    }

    /// Connects the sandbox's network namespace and tells its addresses. If a plugin fails, those that succeeded are
    /// undone before the error is returned. For a sandbox that is attached already, answers what ADD answered then.
    pub async fn attach(&self, netns: &Path, pod: &Pod, ports: &[PortMapping]) -> Result<Vec<IpAddr>, Error> {
        if let Some(attachment) = self.kept.get::<Attachment>(&pod.sandbox)? {
            return self.addresses(&attachment);
        }
        self.loopback(netns).await?;
        let mut attachment = Attachment {
            sandbox: pod.sandbox.clone(),
            netns: netns.to_owned(),
            args: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
                pod.namespace, pod.name, pod.sandbox, pod.uid
            ),
            ports: ports.to_vec(),
            conf: self.chain.conf().clone(),
            result: None,
        };
        // Written before the first plugin runs: whatever happens from here on, somebody knows what to undo.
        self.kept.put(&attachment.sandbox, &attachment)?;
        let added = self.add(&mut attachment).await.and_then(|()| {
            self.kept.put(&attachment.sandbox, &attachment)?;
            self.addresses(&attachment)
        });
        if added.is_err()
            && let Err(undo) = self.detach(&pod.sandbox).await
        {
            tracing::warn!(sandbox = pod.sandbox, %undo, "an attachment that failed could not be undone");
        }
        added
    }

    async fn add(&self, attachment: &mut Attachment) -> Result<(), Error> {
        for plugin in self.chain.plugins() {
            let request = attachment.request(&self.chain, plugin);
            // A plugin that answers nothing passes on what it was given.
            if let Some(result) = self.call(Command::Add, plugin, Some(attachment), request).await? {
                attachment.result = Some(result);
            }
        }
        Ok(())
    }

    /// Disconnects the sandbox. One that is not attached, and a namespace that is gone, are no error. If a plugin
    /// fails the attachment is kept, to be tried again.
    pub async fn detach(&self, sandbox: &str) -> Result<(), Error> {
        let Some(attachment) = self.kept.get::<Attachment>(sandbox)? else { return Ok(()) };
        let chain = Chain::from_conf(attachment.conf.clone())?;
        for plugin in chain.plugins().iter().rev() {
            let request = attachment.request(&chain, plugin);
            self.call(Command::Del, plugin, Some(&attachment), request).await?;
        }
        Ok(self.kept.remove(sandbox)?)
    }

    /// Whether the sandbox is connected as ADD left it, as far as the plugins can tell.
    pub async fn check(&self, sandbox: &str) -> Result<(), Error> {
        let Some(attachment) = self.kept.get::<Attachment>(sandbox)? else { return Ok(()) };
        let chain = Chain::from_conf(attachment.conf.clone())?;
        if !chain.checks() {
            return Ok(());
        }
        for plugin in chain.plugins() {
            let request = attachment.request(&chain, plugin);
            self.call(Command::Check, plugin, Some(&attachment), request).await?;
        }
        Ok(())
    }

    /// Detaches every sandbox that is not among `live`, and lets plugins of version 1.1 on collect what they hold for
    /// sandboxes that nobody remembers.
    pub async fn reconcile(&self, live: &BTreeSet<String>) -> Result<(), Error> {
        for sandbox in self.kept.sandboxes()?.iter().filter(|sandbox| !live.contains(*sandbox)) {
            self.detach(sandbox).await?;
        }
        if !self.chain.collects() {
            return Ok(());
        }
        let valid: Vec<Value> =
            live.iter().map(|sandbox| json!({"containerID": sandbox, "ifname": INTERFACE})).collect();
        for plugin in self.chain.plugins() {
            let mut request = self.chain.request(plugin);
            request["cni.dev/valid-attachments"] = json!(valid);
            self.call(Command::Gc, plugin, None, request).await?;
        }
        Ok(())
    }

    async fn call(
        &self,
        command: Command,
        plugin: &Value,
        attachment: Option<&Attachment>,
        request: Value,
    ) -> Result<Option<Value>, Error> {
        let call = Call { command, plugin: kind(plugin), attachment, request };
        Ok(call.run(&self.bin_dirs).await?)
    }

    /// The loopback interface is no plugin's business.
    async fn loopback(&self, netns: &Path) -> Result<(), Error> {
        let failed = |source| Error::Namespace { path: netns.to_owned(), source };
        let file = File::open(netns).map_err(failed)?;
        let inside = Router::inside(file, || Ok(())).await.map_err(failed)?;
        if let Some(lo) = inside.link("lo").await? {
            inside.up(lo.header.index).await?;
        }
        Ok(())
    }

    fn addresses(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, Error> {
        let addresses = attachment.result.as_ref().map(addresses).unwrap_or_default();
        match addresses.is_empty() {
            true => {
                Err(Error::NoAddress { network: self.name().to_owned(), sandbox: attachment.sandbox.clone() })
            }
            false => Ok(addresses),
        }
    }
}

fn kind(plugin: &Value) -> &str {
    plugin["type"].as_str().unwrap_or_default()
}

/// The addresses of a result that are inside the sandbox: those of no interface in particular, and those of an
/// interface that is not the host's.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let interfaces = result["interfaces"].as_array().map(Vec::as_slice).unwrap_or_default();
    let inside = |ip: &Value| match ip["interface"].as_u64() {
        None => true,
        Some(index) => {
            usize::try_from(index).ok().and_then(|index| interfaces.get(index)).is_some_and(|interface| {
                interface["sandbox"].as_str().is_some_and(|sandbox| !sandbox.is_empty())
            })
        }
    };
    let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    ips.iter()
        .filter(|ip| inside(ip))
        .filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok())
        .collect()
}
