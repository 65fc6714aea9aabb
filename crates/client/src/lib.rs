//! What every client of the API shares: informers, the work queue, expectations, back-off, events.
//!
//! A controller reads from [`informer::Informer`]s, learns what to look at from a [`queue::Queue`], and
//! knows by its [`expectations::Expectations`] whether its informers have seen its own last writes.
//! Nothing here knows a kind.

pub mod events;
pub mod expectations;
pub mod informer;
pub mod key;
pub mod queue;

pub use events::Recorder;
pub use expectations::Expectations;
pub use informer::{Change, Informer, Reader};
pub use key::{ObjectKey, ObjectRef};
pub use queue::{Queue, Verdict};
