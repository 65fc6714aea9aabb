//! What can go wrong with keys and certificates.

use std::{io, path::PathBuf};

/// A failed step. The text of each variant ends with what a person can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("{step} {}: {source}", path.display())]
    File { step: &'static str, path: PathBuf, source: io::Error },
    /// A file is there, but does not hold what it must.
    #[error(
        "{} does not hold {what}: {why}; restore the file from a backup, or remove the directory that it is in \
         to start over with new keys (every certificate, kubeconfig and token issued before becomes invalid, \
         and encrypted secrets can no longer be read)",
        path.display()
    )]
    Corrupt { path: PathBuf, what: &'static str, why: String },
    /// A file that somebody named is not what it is to be.
    #[error("{} does not hold {what}: {why}", path.display())]
    Given { path: PathBuf, what: &'static str, why: String },
    /// A certificate's private key is gone.
    #[error(
        "{} is missing although {} exists; restore it from a backup, or remove both files to make a new \
         authority (every certificate and kubeconfig issued before becomes invalid)",
        missing.display(), present.display()
    )]
    KeyMissing { missing: PathBuf, present: PathBuf },
    /// An authority's certificate is outside its validity.
    #[error(
        "{} is only valid from {not_before} to {not_after}; correct the host's clock, or remove the file and its \
         key to make a new authority (every certificate and kubeconfig issued before becomes invalid)",
        path.display()
    )]
    OutsideValidity { path: PathBuf, not_before: String, not_after: String },
    /// Making a key or signing a certificate failed.
    #[error("{step}: {source}")]
    Issue { step: &'static str, source: rcgen::Error },
    /// A key could not be used for TLS.
    #[error("{step}: {source}")]
    Tls { step: &'static str, source: rustls::Error },
    /// The system's random number generator failed.
    #[error("{step}: the system gave no random numbers")]
    Random { step: &'static str },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
