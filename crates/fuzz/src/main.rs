//! What libFuzzer drives. The environment names the target, so that one program holds them all.

#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("TIPHYS_FUZZ_TARGET").unwrap_or_default();
    tiphys_fuzz::target(&name).unwrap_or_else(|| {
        eprintln!("TIPHYS_FUZZ_TARGET={name:?} names no target; run this with `cargo xtask fuzz`");
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
