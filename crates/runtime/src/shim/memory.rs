//! A shim is one of hundreds and idle: it gives back the pages that only its start needed.

use std::fs::File;
use std::io::{BufRead, BufReader};

use nix::libc;

/// The list of this process' mappings, which can be read later when there is no `/proc` any more.
pub(super) fn mappings() -> Option<File> {
    File::open("/proc/self/smaps").ok()
}

/// Lets go of the executable's pages that are as they are in the file: those that are needed again come back from
/// the page cache, which all shims share. What the loader or the program wrote to stays.
///
/// It only saves memory, so it fails in silence.
pub(super) fn let_go_of_clean_pages(mappings: Option<File>) {
    let Some(mappings) = mappings else { return };
    // First found, then let go of: what runs in between would only come back.
    for (start, length) in clean(BufReader::with_capacity(4096, mappings)) {
        // SAFETY: the mapping is this process' own, can't be written to and has no page that differs from its
        // file, so dropping its pages changes no byte that anyone can read.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// The places of the mappings that can be let go of.
fn clean(mappings: impl BufRead) -> Vec<(usize, usize)> {
    let (mut found, mut candidate) = (Vec::new(), None);
    for line in mappings.lines() {
        // A list that can't be read to its end is as good as shorter.
        let Ok(line) = line else { break };
        if let Some(next) = clean_candidate(&line) {
            candidate = next;
        } else if line.starts_with("Anonymous:")
            && let Some(place) = candidate.take()
            && line.split_whitespace().nth(1) == Some("0")
        {
            found.push(place);
        }
    }
    found
}

/// Whether the line begins a mapping, and its place if that is private, read-only and of a file.
#[allow(clippy::option_option)]
fn clean_candidate(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let of_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    let read_only = matches!(permissions, "r--p" | "r-xp");
    Some((of_file && read_only).then(|| (start, end.saturating_sub(start))))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
