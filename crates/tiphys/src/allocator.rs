//! Where memory comes from: mimalloc.
//!
//! A request is hundreds of small allocations, made by one thread and given back by another.

use std::{
    alloc::{GlobalAlloc, Layout},
    time::Duration,
};

use libmimalloc_sys as mi;

pub(crate) struct Allocator;

/// What every block is aligned to that has at least this size.
const ALIGNED: usize = 16;
/// `mi_option_purge_delay`, in milliseconds.
const PURGE_DELAY: mi::mi_option_t = 15;

/// Has what is free go back to the kernel so long after it was freed; at once, to begin with, if this is called first.
pub(crate) fn give_back_after(delay: Duration) {
    let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    // SAFETY: the option exists, and setting it is atomic.
    unsafe { mi::mi_option_set(PURGE_DELAY, millis) };
}

/// Gives back all that is free now.
pub(crate) fn give_back() {
    // SAFETY: it may be called at any time, by any thread.
    unsafe { mi::mi_collect(true) };
}

/// Whether any block of the size will do; to ask for an alignment takes a slower way.
fn is_plain(align: usize, size: usize) -> bool {
    align <= ALIGNED && align <= size
}

// SAFETY: mimalloc's blocks are as large as asked for, stay until they are freed, and are aligned to the smaller of
// their size's power of two and 16, or to what was asked for. None of its functions unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (align, size) = (layout.align(), layout.size());
        // SAFETY: any size and any power of two will do.
        unsafe {
            if is_plain(align, size) { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) }
                .cast()
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (align, size) = (layout.align(), layout.size());
        // SAFETY: as above.
        unsafe {
            if is_plain(align, size) { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) }
                .cast()
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has the block from one of the others, and nobody uses it any more.
        unsafe { mi::mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: as above; the block may be of either sort.
        unsafe {
            if is_plain(align, size) {
                mi::mi_realloc(block.cast(), size)
            } else {
                mi::mi_realloc_aligned(block.cast(), size, align)
            }
            .cast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_zeroed_where_asked_and_keep_what_is_in_them() {
        for align in [1, 2, 4, 8, 16, 32, 128, 4096] {
            for size in [1, 3, 8, 9, 16, 24, 100, 5_000, 100_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: every block is used within its size, and given back once.
                unsafe {
                    let block = Allocator.alloc_zeroed(layout);
                    assert!(block.addr().is_multiple_of(align) && (0..size).all(|i| *block.add(i) == 0));
                    block.write(7);
                    let grown = Allocator.realloc(block, layout, 3 * size);
                    assert!(grown.addr().is_multiple_of(align) && *grown == 7, "{size} {align}");
                    Allocator.dealloc(grown, Layout::from_size_align(3 * size, align).unwrap());
                    let plain = Allocator.alloc(layout);
                    assert!(plain.addr().is_multiple_of(align));
                    Allocator.dealloc(plain, layout);
                }
            }
        }
    }
}
