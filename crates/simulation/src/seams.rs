//! Time and chance of a process that plays a seed: this program defines what the C library would answer, so that hash
//! maps, jitter, UIDs, keys and time stamps are the same in every run.

use std::{
    ffi::{c_int, c_long, c_uint, c_void},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

use nix::{
    libc,
    sys::resource::{Resource, setrlimit},
};
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z.
const BEGIN: u64 = 1_767_225_600;
const NANOS: u64 = 1_000_000_000;

static SIMULATED: AtomicBool = AtomicBool::new(false);
static RANDOM: AtomicU64 = AtomicU64::new(0);
/// How long the simulation has lasted, in nanoseconds.
static NOW: AtomicU64 = AtomicU64::new(0);
/// By how many seconds the clock on the wall is wrong.
static WRONG: AtomicI64 = AtomicI64::new(0);

/// A run that takes so many seconds of a processor has got into a circle; it is killed.
const ENDLESS: u64 = 300;

/// From now on this process' clock stands, and its randomness follows from `seed`.
///
/// # Errors
/// The kernel does not bound how long it may work.
pub(crate) fn begin(seed: u64) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CPU, ENDLESS, ENDLESS)?;
    RANDOM.store(seed ^ 0x7469_7068_7973, Relaxed);
    SIMULATED.store(true, Relaxed);
    Ok(())
}

/// A runtime of one thread whose clock jumps to the next timer when there is nothing to do; the clocks of the C library
/// follow it.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let begin = std::sync::OnceLock::new();
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_unpark(move || {
            let now = Instant::now();
            let since = now.duration_since(*begin.get_or_init(|| now));
            NOW.store(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        })
        .build()
}

/// How long the simulation has lasted.
pub(crate) fn elapsed() -> std::time::Duration {
    std::time::Duration::from_nanos(NOW.load(Relaxed))
}

/// The clock on the wall jumps; it is wrong by so many seconds then. What has no wall to hang on goes on evenly.
pub(crate) fn jump(wrong: i64) {
    WRONG.store(wrong, Relaxed);
}

/// One step of splitmix64.
pub(crate) fn mix(state: u64) -> (u64, u64) {
    let next = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (next, z ^ (z >> 31))
}

/// What the C library's function of this name promises.
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if !SIMULATED.load(Relaxed) {
        // SAFETY: the caller's promise is the kernel's condition.
        let filled: c_long = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return isize::try_from(filled).unwrap_or(-1);
    }
    // SAFETY: by the caller's promise; whatever was there is written over, and never read.
    let buffer =
        unsafe { std::slice::from_raw_parts_mut(buffer.cast::<std::mem::MaybeUninit<u8>>(), length) };
    for piece in buffer.chunks_mut(8) {
        let (next, value) = mix(RANDOM.load(Relaxed));
        RANDOM.store(next, Relaxed);
        for (byte, random) in piece.iter_mut().zip(value.to_le_bytes()) {
            byte.write(random);
        }
    }
    isize::try_from(length).unwrap_or(-1)
}

/// What the C library's function of this name promises.
///
/// # Safety
/// `time` can be written to.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if !SIMULATED.load(Relaxed) {
        // SAFETY: the caller's promise is the kernel's condition.
        let told: c_long = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return c_int::try_from(told).unwrap_or(-1);
    }
    let now = NOW.load(Relaxed);
    let past = match clock {
        libc::CLOCK_REALTIME => BEGIN.saturating_add_signed(WRONG.load(Relaxed)),
        _ => 1_000,
    };
    let seconds = libc::time_t::try_from(past + now / NANOS).unwrap_or(libc::time_t::MAX);
    let nanos = c_long::try_from(now % NANOS).unwrap_or(0);
    // SAFETY: by the caller's promise.
    unsafe { time.write(libc::timespec { tv_sec: seconds, tv_nsec: nanos }) };
    0
}
