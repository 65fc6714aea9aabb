use std::io;
use std::path::{Path, PathBuf};

use tonic::Status;

/// What went wrong, by the step that failed. It becomes a gRPC [`Status`] once, where a call is answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller named something that isn't here.
    #[error("{what} {name:?} not found")]
    NotFound { what: &'static str, name: String },
    /// The caller asked for something that can't be.
    #[error("{0}")]
    Invalid(String),
    /// What the caller asked for doesn't fit the state of its object.
    #[error("{0}")]
    Precondition(String),
    /// A file, directory or mount couldn't be worked on.
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    /// A system call without a path failed.
    #[error("{step}: {source}")]
    Call { step: &'static str, source: io::Error },
    /// A stored or received document doesn't read as what it should be.
    #[error("{what} doesn't parse: {source}")]
    Parse { what: String, source: serde_json::Error },
    /// Bytes that don't have the digest that they should.
    #[error("{what} has digest {found}, expected {expected}")]
    Digest { what: String, expected: String, found: String },
    /// An archive that isn't one, or that tries to leave its directory, or that is larger than allowed.
    #[error("image archive: {0}")]
    Archive(String),
    /// The pod's shim refused or couldn't be reached.
    #[error("shim: {0}")]
    Shim(String),
    /// A container's process couldn't be started; the text is meant for the user.
    #[error("{0}")]
    Start(String),
    /// The registry has no such image, or doesn't show it to this caller.
    #[error("pull {image}: {message}")]
    Registry { image: String, kind: RegistryFailure, message: String },
    /// The pod network couldn't attach or detach a sandbox.
    #[error("pod network: {0}")]
    Network(String),
    /// Something took longer than its deadline.
    #[error("{0}")]
    Deadline(String),
}

/// Why a registry didn't give an image: it decides what the kubelet reports and when it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryFailure {
    /// There is no such repository, tag or digest.
    Missing,
    /// The credentials are absent or wrong.
    Denied,
    /// The registry can't be reached or failed.
    Unreachable,
    /// The registry answered something that isn't an image for this machine.
    Unusable,
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` on operations with a path.
    pub(crate) fn io<E: Into<io::Error>>(
        step: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Error + use<E> {
        let path = path.to_owned();
        move |source| Error::Io { step, path, source: source.into() }
    }

    /// For `map_err` on system calls.
    pub(crate) fn call<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::Call { step, source: source.into() }
    }

    /// For `map_err` on JSON.
    pub(crate) fn parse(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Error {
        let what = what.into();
        move |source| Error::Parse { what, source }
    }

    pub(crate) fn no_container(id: &str) -> Error {
        Error::NotFound { what: "container", name: id.to_owned() }
    }

    pub(crate) fn no_sandbox(id: &str) -> Error {
        Error::NotFound { what: "sandbox", name: id.to_owned() }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let text = error.to_string();
        match error {
            Error::NotFound { .. } => Status::not_found(text),
            Error::Invalid(_) => Status::invalid_argument(text),
            Error::Precondition(_) => Status::failed_precondition(text),
            Error::Deadline(_) => Status::deadline_exceeded(text),
            Error::Digest { .. } | Error::Archive(_) => Status::data_loss(text),
            Error::Registry { kind: RegistryFailure::Missing, .. } => Status::not_found(text),
            Error::Registry { kind: RegistryFailure::Denied, .. } => Status::unauthenticated(text),
            Error::Registry { kind: RegistryFailure::Unreachable, .. } => Status::unavailable(text),
            Error::Registry { kind: RegistryFailure::Unusable, .. } => Status::failed_precondition(text),
            Error::Io { .. }
            | Error::Call { .. }
            | Error::Parse { .. }
            | Error::Shim(_)
            | Error::Start(_)
            | Error::Network(_) => Status::unknown(text),
        }
    }
}
