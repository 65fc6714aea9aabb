//! Certificate authorities, short-lived certificates, kubeconfigs.
//!
//! [`Pki::open`] makes a cluster's keys at its first start and reads them later. From then on certificates are
//! made in memory, live a day, and renew themselves ([`Rotating`]); only a person's kubeconfig is a file.

mod asking;
mod authority;
mod der;
mod detached;
mod error;
mod file;
mod kubeconfig;
mod leaf;
mod peer;
mod possession;
mod request;
mod rotating;
mod sealing_keys;
mod secp521;
mod tls;
mod token_key;
mod unverified;
mod validity;

use std::{path::Path, sync::Arc, time::SystemTime};

pub use asking::AskingKey;
pub use authority::{Authority, Credential};
pub use der::pem;
pub use detached::detached_signature;
pub use error::Error;
pub use file::write_private;
pub use kubeconfig::Kubeconfig;
pub use leaf::{LONG, Leaf, SHORT, ServingNames, Usage};
pub use peer::{ClientTrust, Peer, Rejected};
pub use possession::{NotHeld, proves_its_key, proves_possession};
pub use request::{KeyUsage, NotARequest, SigningRequest, expiry};
pub use rotating::{Clock, Rotating};
pub use sealing_keys::SealingKey;
pub use secp521::{es512_verifies, provider};
pub use tls::{client_config, server_config};
pub use token_key::TokenKey;
pub use unverified::unverified_client_config;
pub use validity::check_validity;

/// Every key of one cluster.
pub struct Pki {
    /// Issues all certificates inside the cluster; clients and pods trust it as `ca.crt`.
    pub cluster: Arc<Authority>,
    /// Vouches for the API server towards aggregated API servers, which must not trust anybody else's word for
    /// who a user is.
    pub front_proxy: Arc<Authority>,
    /// Signs service-account tokens.
    pub tokens: Arc<TokenKey>,
    /// Encrypt stored secrets; the first seals, all open. Never empty.
    pub sealing: Vec<SealingKey>,
    clock: Clock,
}

impl Pki {
    /// Reads the keys in `dir`, and makes those that are not there yet: `ca.crt`, `ca.key`,
    /// `front-proxy-ca.crt`, `front-proxy-ca.key`, `sa.key` and `secrets.keys`. The directory gets mode 0700 and
    /// each new file 0600. A start that is interrupted leaves nothing half written.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with_clock(dir, Arc::new(SystemTime::now))
    }

    /// As [`Self::open`], with the time taken from `clock`.
    pub fn open_with_clock(dir: &Path, clock: Clock) -> Result<Self, Error> {
        file::private_dir(dir)?;
        let now = clock();
        Ok(Self {
            cluster: Arc::new(Authority::open(dir, "ca", "kubernetes", now)?),
            front_proxy: Arc::new(Authority::open(dir, "front-proxy-ca", "front-proxy-ca", now)?),
            tokens: Arc::new(TokenKey::open(&dir.join("sa.key"))?),
            sealing: sealing_keys::open(&dir.join("secrets.keys"))?,
            clock,
        })
    }

    /// A certificate of the cluster's authority that renews itself.
    pub fn rotating(&self, leaf: Leaf) -> Result<Arc<Rotating>, Error> {
        Rotating::new(Arc::clone(&self.cluster), leaf, Arc::clone(&self.clock)).map(Arc::new)
    }

    /// What client certificates are verified against.
    pub fn client_trust(&self) -> Result<ClientTrust, Error> {
        ClientTrust::new([self.cluster.certificate()])
    }

    /// Writes the administrator's kubeconfig unless the file at `path` still serves; tells whether it wrote.
    pub fn admin_kubeconfig(&self, path: &Path, cluster: &str, server: &str) -> Result<bool, Error> {
        self.kubeconfig(path, cluster, server, Leaf::admin())
    }

    /// The same for a component that runs elsewhere, whose certificate `leaf` describes; it is good for a year.
    pub fn kubeconfig(&self, path: &Path, cluster: &str, server: &str, leaf: Leaf) -> Result<bool, Error> {
        let leaf = Leaf { lifetime: leaf::LONG, ..leaf };
        let config = Kubeconfig { cluster, user: &leaf.common_name, server };
        config.ensure(path, &self.cluster, &leaf, (self.clock)())
    }
}

#[cfg(test)]
#[path = "lib_tests.rs"]
mod tests;
