//! Certificates that renew themselves while a process runs.

use std::{fmt, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{authority::Authority, error::Result, leaf::Leaf};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A certificate that is issued again, for a new key, once half of its life is over. That is looked at when a
/// handshake needs the certificate, so nothing runs in between; connections that are open keep what they have.
pub struct Rotating {
    authority: Arc<Authority>,
    leaf: Leaf,
    clock: Clock,
    current: Mutex<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    issued_at: SystemTime,
    renew_at: SystemTime,
}

impl Rotating {
    /// Issues the first certificate.
    pub fn new(authority: Arc<Authority>, leaf: Leaf, clock: Clock) -> Result<Self> {
        let current = Mutex::new(issue(&authority, &leaf, clock())?);
        Ok(Self { authority, leaf, clock, current })
    }

    /// The certificate to show now. Should renewal fail, the one before it serves on.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        let now = (self.clock)();
        let mut current = self.current.lock();
        // A clock that was set back makes the certificate one of the future.
        if now >= current.renew_at || now < current.issued_at {
            match issue(&self.authority, &self.leaf, now) {
                Ok(renewed) => *current = renewed,
                Err(error) => {
                    tracing::error!(%error, name = self.leaf.common_name, "cannot renew a certificate");
                }
            }
        }
        Arc::clone(&current.key)
    }
}

fn issue(authority: &Authority, leaf: &Leaf, now: SystemTime) -> Result<Current> {
    let key = authority.issue(leaf, now)?.certified_key()?;
    Ok(Current { key, issued_at: now, renew_at: now + leaf.lifetime / 2 })
}

impl fmt::Debug for Rotating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotating").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Rotating {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified_key())
    }
}

impl ResolvesClientCert for Rotating {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified_key())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[path = "rotating_tests.rs"]
mod tests;
