use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::leaf::SHORT;

#[test]
fn renews_at_half_of_its_life_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let elapsed = Arc::new(AtomicU64::new(0));
    let clock: Clock = {
        let elapsed = Arc::clone(&elapsed);
        Arc::new(move || start + Duration::from_secs(elapsed.load(Ordering::Relaxed)))
    };
    let authority = Arc::new(Authority::open(dir.path(), "ca", "kubernetes", start).unwrap());
    let rotating = Rotating::new(authority, Leaf::scheduler(), clock).unwrap();

    let first = rotating.certified_key();
    elapsed.store(SHORT.as_secs() / 2 - 1, Ordering::Relaxed);
    assert_eq!(rotating.certified_key().cert, first.cert);
    elapsed.store(SHORT.as_secs() / 2, Ordering::Relaxed);
    let second = rotating.certified_key();
    assert_ne!(second.cert, first.cert);
    assert_eq!(rotating.certified_key().cert, second.cert);
    elapsed.store(0, Ordering::Relaxed);
    let third = rotating.certified_key();
    assert_ne!(third.cert, second.cert, "the clock was set back");
    assert_eq!(rotating.certified_key().cert, third.cert);
}
