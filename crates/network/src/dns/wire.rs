//! Messages as bytes, for what passes through unread.
//!
//! A forwarded answer goes to the asker as it came, whatever records it holds; only its id, the case of its question
//! and the records' remaining lives are touched.

/// The length of a message's header.
pub(super) const HEADER: usize = 12;

const OPT: u16 = 41;
const SOA: u16 = 6;
const NO_NAME: u8 = 3;

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(message.get(at..at + 4)?.try_into().ok()?))
}

/// Where the name that starts at `at` ends.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            length if length < 0x40 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

/// The length of the question, if the message has exactly one whose name is not compressed.
pub(super) fn question(message: &[u8]) -> Option<usize> {
    if u16_at(message, 4)? != 1 {
        return None;
    }
    let end = skip_name(message, HEADER)? + 4;
    let inside = message.len() >= end && message[HEADER..end - 4].last() == Some(&0);
    inside.then_some(end - HEADER)
}

/// Whether `message` is an answer to `query`: same id, same question.
pub(super) fn answers(message: &[u8], query: &[u8]) -> bool {
    let same_question = || {
        let length = question(query)?;
        let (asked, echoed) = (&query[HEADER..HEADER + length], message.get(HEADER..HEADER + length)?);
        Some(u16_at(message, 4)? == 1 && asked.eq_ignore_ascii_case(echoed))
    };
    message.len() >= HEADER
        && message[..2] == query[..2]
        && message[2] & 0x80 != 0
        && same_question().unwrap_or(false)
}

/// A record as it lies in a message.
struct Located {
    kind: u16,
    ttl: usize,
    data: std::ops::Range<usize>,
}

/// All records, or `None` if the message is broken.
fn records(message: &[u8]) -> Option<Vec<Located>> {
    let mut at = HEADER;
    for _ in 0..u16_at(message, 4)? {
        at = skip_name(message, at)? + 4;
    }
    let count: u32 =
        [6, 8, 10].into_iter().map(|at| u16_at(message, at).map(u32::from)).sum::<Option<u32>>()?;
    let mut found = Vec::new();
    for _ in 0..count {
        at = skip_name(message, at)?;
        let data = at + 10..at + 10 + usize::from(u16_at(message, at + 8)?);
        found.push(Located { kind: u16_at(message, at)?, ttl: at + 4, data: data.clone() });
        message.get(data.clone())?;
        at = data.end;
    }
    Some(found)
}

/// For how many seconds the answer may be kept: as long as its shortest-lived record, and what a zone says of names
/// that it does not have. `None` for what is not to be kept: failures, parts, and broken messages.
pub(super) fn life(message: &[u8]) -> Option<u32> {
    let (flags, code) = (*message.get(2)?, *message.get(3)? & 0xf);
    let truncated = flags & 2 != 0;
    if truncated || !(code == 0 || code == NO_NAME) {
        return None;
    }
    let negative = code == NO_NAME || u16_at(message, 6)? == 0;
    let mut life: Option<u32> = None;
    for record in records(message)?.iter().filter(|record| record.kind != OPT) {
        let mut ttl = u32_at(message, record.ttl)?;
        if record.kind == SOA && negative {
            ttl = ttl.min(u32_at(message, record.data.end.checked_sub(4)?)?);
        }
        life = Some(life.map_or(ttl, |life| life.min(ttl)));
    }
    life
}

/// Takes the seconds off every record's life. Leaves a broken message alone.
pub(super) fn age(message: &mut [u8], seconds: u32) {
    if seconds == 0 {
        return;
    }
    for record in records(message).unwrap_or_default().iter().filter(|record| record.kind != OPT) {
        if let Some(ttl) = u32_at(message, record.ttl) {
            message[record.ttl..record.ttl + 4].copy_from_slice(&ttl.saturating_sub(seconds).to_be_bytes());
        }
    }
}

/// The message behind its length, as it goes over TCP.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [(message.len() as u16).to_be_bytes().as_slice(), message].concat()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
