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
const BUSY: Duration = Duration::from_millis(250);
/// After so many looks in a row that saw load, or none, it is there to stay, or over. A start is less.
const STAYS: u32 = 3;
const OVER: u32 = 5;

/// Makes what is free go back at once, as long as nobody attends. To be called first.
pub(crate) fn settle() {
    allocator::give_back_after(Duration::ZERO);
}

/// Follows how much the threads of this runtime have to do.
pub(crate) async fn attend() {
    let metrics = Handle::current().metrics();
    let worked = || (0..metrics.num_workers()).map(|n| metrics.worker_total_busy_duration(n)).sum();
    let mut load = Load::default();
    loop {
        tokio::time::sleep(LOOK).await;
        match load.look(worked()) {
            Some(Turn::Stays) => allocator::give_back_after(KEPT),
            Some(Turn::Over) => {
                allocator::give_back_after(Duration::ZERO);
                allocator::give_back();
                unmap_program();
            }
            None => {}
        }
    }
}

/// What has become of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Stays,
    Over,
}

#[derive(Debug, Default)]
struct Load {
    /// What the threads have worked until the last look.
    worked: Duration,
    /// How many looks in a row saw load, or none.
    busy: u32,
    calm: u32,
}

impl Load {
    /// Takes note of what they have worked until now.
    fn look(&mut self, worked: Duration) -> Option<Turn> {
        let is_busy = worked.saturating_sub(self.worked) >= BUSY;
        self.worked = worked;
        (self.busy, self.calm) = match is_busy {
            true => (self.busy.saturating_add(1), 0),
            false => (0, self.calm.saturating_add(1)),
        };
        match (self.busy, self.calm) {
            (STAYS, _) => Some(Turn::Stays),
            (_, OVER) => Some(Turn::Over),
            _ => None,
        }
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
        let mut load = Load::default();
        let mut worked = Duration::ZERO;
        let mut turns = |each: u64, looks: usize| {
            let turn = |_| {
                worked += Duration::from_millis(each);
                load.look(worked)
            };
            (0..looks).map(turn).collect::<Vec<_>>()
        };
        assert_eq!(turns(300, 2), [None, None], "a start");
        assert_eq!(turns(10, 7), [None, None, None, None, Some(Turn::Over), None, None]);
        assert_eq!(turns(300, 5), [None, None, Some(Turn::Stays), None, None]);
        assert_eq!(turns(10, 4), [None; 4]);
        assert_eq!(turns(300, 1), [None], "it goes on");
        assert_eq!(turns(10, 6), [None, None, None, None, Some(Turn::Over), None]);
    }

    #[test]
    fn a_program_runs_on_that_was_unmapped() {
        let known = "what stands in the program".to_owned();
        unmap_program();
        assert_eq!(known, "what stands in the program");
        settle();
    }
}
