//! Where the cluster's objects are kept: the flags, and the engine that follows from them.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use tiphys_store::{Embedded, Etcd, Store, embedded, etcd};

use crate::files;

/// Where an etcd is, if the store is to be one.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct StorageFlags {
    /// URLs of the members of an etcd that keeps the objects, and may serve several API servers. By default they are
    /// kept in the data directory.
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    pub(crate) etcd_servers: Vec<String>,
    /// Who vouches for the members, in PEM; by default whom the host trusts.
    #[arg(long, requires = "etcd_servers", value_name = "FILE")]
    pub(crate) etcd_cafile: Option<PathBuf>,
    /// The certificate that is shown to them, in PEM.
    #[arg(long, requires = "etcd_keyfile", value_name = "FILE")]
    pub(crate) etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "etcd_certfile", value_name = "FILE")]
    pub(crate) etcd_keyfile: Option<PathBuf>,
    /// What the names of all keys in etcd begin with, before `/registry/`, for clusters that share one.
    #[arg(long, default_value = "", value_name = "PREFIX")]
    pub(crate) etcd_prefix: String,
}

/// The engine that the flags ask for.
pub(crate) enum Storage {
    Embedded(Arc<Embedded>),
    Etcd(Arc<Etcd>),
}

impl Storage {
    /// Opens the store; `dir` is where it is kept by default.
    pub(crate) async fn open(flags: &StorageFlags, dir: PathBuf) -> Result<Self> {
        if flags.etcd_servers.is_empty() {
            let store = Embedded::open(dir, embedded::Options::default()).context("opening the store")?;
            return Ok(Self::Embedded(Arc::new(store)));
        }
        let read = |file: &Option<PathBuf>| file.as_deref().map(files::read).transpose();
        let mut options = etcd::Options::new(flags.etcd_servers.clone());
        options.authority = read(&flags.etcd_cafile)?;
        options.identity = read(&flags.etcd_certfile)?.zip(read(&flags.etcd_keyfile)?);
        options.prefix.clone_from(&flags.etcd_prefix);
        let store = Etcd::open(options).await.context("opening the store in etcd (--etcd-servers)")?;
        Ok(Self::Etcd(Arc::new(store)))
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => Arc::clone(store) as Arc<dyn Store>,
            Self::Etcd(store) => Arc::clone(store) as Arc<dyn Store>,
        }
    }

    /// Finishes what is under way and lets the store go.
    pub(crate) async fn close(&self) {
        match self {
            Self::Embedded(store) => store.close().await,
            Self::Etcd(store) => store.close(),
        }
    }
}
