//! What every client of the API shares: informers, the work queue, expectations, back-off, events, and the rules of placement.
//!
//! A controller reads from [`informer::Informer`]s, learns what to look at from a [`queue::Queue`], and
//! knows by its [`expectations::Expectations`] whether its informers have seen its own last writes.
//! What queues and clients do, [`metrics`] shows. Nothing of that knows a kind. What a room need not keep of an object, [`lean`] passes over. What several clients must read alike of pods and nodes is in [`placement`],
//! of claims to devices in [`devices`], what they tell each other of volumes in [`storage`]. Which of several runs its loops,
//! [`election`] decides.

pub mod devices;
pub mod election;
pub mod events;
pub mod expectations;
pub mod follow;
pub mod informer;
pub mod key;
pub mod lean;
pub mod metrics;
pub mod placement;
pub mod queue;
pub mod storage;

pub use events::Recorder;
pub use expectations::Expectations;
pub use follow::follow;
pub use informer::{Change, Informer, Reader};
pub use key::{ObjectKey, ObjectRef};
pub use queue::{Queue, Verdict};
