//! Long work, away from the threads that answer.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{JoinError, spawn_blocking},
};

/// Runs a job on a thread of its own. A runtime of one thread has none to spare: whoever made it so wants everything to
/// happen in one order, so the job runs where it stands.
///
/// # Errors
/// The job panicked, or the runtime ends.
pub(crate) async fn apart<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(job()),
        _ => spawn_blocking(job).await,
    }
}
