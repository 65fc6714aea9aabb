//! A cluster that idles is small: what it does not use goes back to the kernel.
//!
//! Under load, what is free is kept for a while: it will be asked for again, and a twelfth of a write would be handing
//! it to and fro. When that is over all of it goes, and so does what is mapped of the program: a start passes through most
//! of it once, and what is needed again is mapped again from the page cache, at a microsecond a piece.

use std::{ptr, time::Duration};

use nix::libc;
use tokio::runtime::Handle;

use crate::allocator;

/// How long what is free waits under load to be used again.
const KEPT: Duration = Duration::from_secs(1);
/// How often [`attend`] looks whether there is load, and how long the threads must have worked since for that.
const LOOK: Duration = Duration::from_secs(1);
const LOAD: Duration = Duration::from_millis(250);

/// Makes what is free go back at once, as long as nobody attends. To be called first.
pub(crate) fn settle() {
    allocator::give_back_after(Duration::ZERO);
}

/// Follows how much the threads of this runtime have to do; a start is much.
pub(crate) async fn attend() {
    let metrics = Handle::current().metrics();
    let worked = || (0..metrics.num_workers()).map(|n| metrics.worker_total_busy_duration(n)).sum();
    let mut load = Load { worked: worked(), is_high: true };
    allocator::give_back_after(KEPT);
    loop {
        tokio::time::sleep(LOOK).await;
        if !load.changes(worked()) {
            continue;
        }
        allocator::give_back_after(if load.is_high { KEPT } else { Duration::ZERO });
        if !load.is_high {
            allocator::give_back();
            unmap_program();
        }
    }
}

/// What the threads have worked until the last look, and whether that was much.
#[derive(Debug)]
struct Load {
    worked: Duration,
    is_high: bool,
}

impl Load {
    /// Takes note of what they have worked until now; whether there is load where there was none, or none any more.
    fn changes(&mut self, worked: Duration) -> bool {
        let was_high = self.is_high;
        self.is_high = worked.saturating_sub(self.worked) >= LOAD;
        self.worked = worked;
        self.is_high != was_high
    }
}

unsafe extern "C" {
    /// Where the program begins and where its code ends; all between is mapped from its file and never written.
    static __executable_start: u8;
    static etext: u8;
}

/// Lets go of the mapped pages of the program's constants and code.
fn unmap_program() {
    let (begin, end) = (ptr::addr_of!(__executable_start), ptr::addr_of!(etext));
    let Some(length) = end.addr().checked_sub(begin.addr()) else { return };
    // SAFETY: the pages are private, clean and backed by the program's file, from which they come back as they were
    // when somebody reads or runs them.
    let failed = unsafe { libc::madvise(begin.cast_mut().cast(), length, libc::MADV_DONTNEED) } != 0;
    if failed {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the program stays mapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_seen_to_come_and_to_go() {
        let mut load = Load { worked: Duration::ZERO, is_high: false };
        let seen = [10, 300, 600, 610, 610].map(|worked| load.changes(Duration::from_millis(worked)));
        assert_eq!(seen, [false, true, false, true, false]);
        assert!(!load.is_high);
    }

    #[test]
    fn a_program_runs_on_that_was_unmapped() {
        let known = "what stands in the program".to_owned();
        unmap_program();
        assert_eq!(known, "what stands in the program");
        settle();
    }
}
