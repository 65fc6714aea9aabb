//! Leader election by Lease, as client-go's `leaderelection` does it, so that programs of both makes elect one leader.
//!
//! What to do, [`Candidate`] decides, which is pure; [`Election`] asks and writes. No clock but this host's own counts:
//! a lease is over when its record has not changed for as long as it says, seen from here.
//!
//! A leader ends before anybody else may begin. It counts its time from when it sent the last renewal that succeeded,
//! which is before anybody could see that one, and gives up after the renew deadline, which is shorter than the lease.
//! The [`Fence`] that its clients go through lets no write out after that, whatever its loops are about to do: also
//! when the process was stopped for a while and does not know yet.

mod candidate;
mod fence;
mod runner;

pub use candidate::{Candidate, Step, Tenure, Timing, TimingError};
pub use fence::{Fence, Fenced, NotLeading};
pub use runner::{Election, NAMESPACE};
