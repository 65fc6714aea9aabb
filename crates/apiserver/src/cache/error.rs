//! Why a read failed.

use tiphys_store::Revision;

/// What the cache answers instead of objects.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// What is asked for is no revision, or is one where a continue token says it.
    #[error("{0}")]
    Invalid(String),
    /// A continue token that this server did not make.
    #[error("invalid continue token: continue key is not valid: {0}")]
    InvalidContinue(&'static str),
    /// The list that the token belongs to is gone. The token goes on in the newest state instead.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can start a \
         new list without the continue parameter, or use the continue token in this response to retrieve \
         the remainder of the results. Continuing with the provided token results in an inconsistent list \
         - objects that were created, modified, or deleted between the time the first chunk was returned \
         and now may show up in the list."
    )]
    ContinueExpired { next: String },
    /// A list at an exact revision that is no longer known.
    #[error("The resourceVersion for the provided list is too old.")]
    Expired,
    /// A watch from a revision that is no longer known.
    #[error("too old resource version: {asked} ({oldest})")]
    Gone { asked: Revision, oldest: Revision },
    /// A watcher did not take what it was told; it can go on from the last that it has seen.
    #[error("the watcher could not keep up")]
    Slow,
    /// The revision did not happen in time.
    #[error("Timeout: Too large resource version: {asked}, current: {current}")]
    Future { asked: Revision, current: Revision },
    /// The collection is being loaded anew, or was removed.
    #[error("the collection is not available")]
    Unavailable,
    /// The collection was taken away, because its kind is no more.
    #[error("the server could not find the requested resource")]
    Removed,
    #[error("reading the store: {0}")]
    Store(#[from] tiphys_store::Error),
    /// What lies in the store is no object.
    #[error("the record {key} is damaged: {why}")]
    Damaged { key: String, why: String },
}
