//! What a process has once: the settings, the hooks for the end of threads and for `fork`, the one way to die.
//!
//! Locks are taken in this order, and by `fork` all of them: purger, threads, depots, slab classes, huge blocks,
//! segments, metadata. A thread holds at most one lock of each layer, and no depot's lock with a slab class's.

use core::ffi::{CStr, c_void};
use core::ptr;

use crate::base::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use crate::config::{HugePages, Options};
use crate::heap::segments::SEGMENTS;
use crate::heap::{cache, depot, huge, metadata, purge, slab_class};
use crate::vm::hooks::{self, ExitKey};
use crate::vm::{platform, sys};

/// The options that hold for the process. Written once, before `STATE` says that they are there; until then the
/// defaults that need no memory.
#[derive(Debug)]
pub(crate) struct Settings {
    purge_delay_ms: AtomicU32,
    huge_pages: AtomicU8,
    reservation: AtomicUsize,
    memory_limit: AtomicUsize,
    retain: AtomicUsize,
    background_purger: AtomicBool,
    is_commit_strict: AtomicBool,
}

static SETTINGS: Settings = Settings {
    purge_delay_ms: AtomicU32::new(0),
    huge_pages: AtomicU8::new(0),
    reservation: AtomicUsize::new(0),
    memory_limit: AtomicUsize::new(0),
    retain: AtomicUsize::new(0),
    background_purger: AtomicBool::new(false),
    is_commit_strict: AtomicBool::new(false),
};

const NEW: u32 = 0;
const STARTING: u32 = 1;
const READY: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(NEW);

const NO_KEY: usize = usize::MAX;

/// The key whose destructor runs at a thread's end.
static EXIT_KEY: AtomicUsize = AtomicUsize::new(NO_KEY);

pub(crate) fn settings() -> &'static Settings {
    &SETTINGS
}

// Relaxed: the settings are written once, before `STATE` is released, and each read stands behind an acquire of it.
impl Settings {
    pub(crate) fn purge_delay_ms(&self) -> u32 {
        self.purge_delay_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn huge_pages(&self) -> HugePages {
        match self.huge_pages.load(Ordering::Relaxed) {
            1 => HugePages::Large,
            2 => HugePages::Always,
            _ => HugePages::System,
        }
    }

    pub(crate) fn reservation(&self) -> usize {
        self.reservation.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_limit(&self) -> usize {
        self.memory_limit.load(Ordering::Relaxed)
    }

    pub(crate) fn retain(&self) -> usize {
        self.retain.load(Ordering::Relaxed)
    }

    pub(crate) fn background_purger(&self) -> bool {
        self.background_purger.load(Ordering::Relaxed)
    }

    /// The system charges memory when it is mapped, touched or not (`vm.overcommit_memory=2`).
    pub(crate) fn is_commit_strict(&self) -> bool {
        self.is_commit_strict.load(Ordering::Relaxed)
    }

    fn set(&self, options: &Options) {
        let options = override_from_environment(*options);
        // Under a limit on address space the rest of the process needs most of it.
        let share = sys::address_space_limit().map_or(usize::MAX, |limit| limit / 8);
        self.purge_delay_ms.store(options.purge_delay_ms, Ordering::Relaxed);
        self.huge_pages.store(options.huge_pages as u8, Ordering::Relaxed);
        self.reservation.store(options.reservation.min(share), Ordering::Relaxed);
        self.memory_limit.store(options.memory_limit, Ordering::Relaxed);
        self.retain.store(options.retain, Ordering::Relaxed);
        self.background_purger.store(options.background_purger, Ordering::Relaxed);
        self.is_commit_strict.store(platform::is_commit_strict(), Ordering::Relaxed);
    }
}

/// Makes the process ready; the first call's options hold. Must stand before anything else that the heap does.
#[inline]
pub(crate) fn start(options: &Options) {
    // Acquire: the settings are seen.
    if STATE.load(Ordering::Acquire) != READY {
        start_slowly(options);
    }
}

#[cold]
fn start_slowly(options: &Options) {
    if STATE.compare_exchange(NEW, STARTING, Ordering::Acquire, Ordering::Acquire).is_err() {
        // Another thread is at it, for some microseconds. (Not this one: nothing between here and READY allocates.)
        while STATE.load(Ordering::Acquire) != READY {
            platform::wait(&STATE, STARTING, Some(1));
        }
        return;
    }
    SETTINGS.set(options);
    if let Ok(key) = ExitKey::new(on_thread_exit) {
        EXIT_KEY.store(key.into_raw() as usize, Ordering::Relaxed);
    }
    // Release: whoever sees READY sees the settings and the key.
    STATE.store(READY, Ordering::Release);
    // May allocate, so only now. A refusal leaves a process whose forked children cannot allocate while threads run.
    let _ = hooks::at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/// Has `on_thread_exit` called with `value` at the calling thread's end. May allocate.
pub(crate) fn call_at_thread_exit(value: *mut c_void) -> bool {
    match EXIT_KEY.load(Ordering::Relaxed) {
        NO_KEY => false,
        raw => ExitKey::from_raw(raw as _).set(value).is_ok(),
    }
}

unsafe extern "C" fn on_thread_exit(value: *mut c_void) {
    // SAFETY: only caches are set as values, each by the thread that owns it.
    unsafe { cache::Cache::on_thread_exit(value.cast()) };
}

extern "C" fn before_fork() {
    purge::freeze();
    cache::freeze();
    depot::freeze();
    slab_class::freeze();
    huge::freeze();
    SEGMENTS.acquire();
    metadata::freeze();
}

/// # Safety
/// Follows [`before_fork`] in the same thread, or in the child's only one.
unsafe fn thaw() {
    // SAFETY: passed on to the caller.
    unsafe {
        metadata::thaw();
        SEGMENTS.release();
        huge::thaw();
        slab_class::thaw();
        depot::thaw();
        cache::thaw();
        purge::thaw();
    }
}

extern "C" fn after_fork_in_parent() {
    // SAFETY: the C library calls this after `before_fork`, in the thread that forked.
    unsafe { thaw() };
}

extern "C" fn after_fork_in_child() {
    // SAFETY: the C library calls this after `before_fork`, in the child's only thread, and the lists of threads
    // and the purger are put right before anybody else can see them.
    unsafe {
        purge::forget_thread();
        let own = match EXIT_KEY.load(Ordering::Relaxed) {
            NO_KEY => ptr::null_mut(),
            raw => ExitKey::from_raw(raw as _).get(),
        };
        cache::forget_other_threads(own.cast());
        thaw();
    }
}

/// Runs `attempt`; when it fails, gives back what can be and tries again. For the calls that make room: out of memory
/// means null only when nothing that the heap merely keeps stood in the way. Several times, because other threads may
/// meanwhile have freed, and had kept, what they held.
pub(crate) fn retry_after_reclaim<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    const RETRIES: usize = 4;
    attempt().or_else(|| {
        (0..RETRIES).find_map(|_| {
            purge::reclaim();
            attempt()
        })
    })
}

/// Ends the process with one line about a block that came home twice or as one of another size.
#[cold]
pub(crate) fn die_of_bad_free(block: *mut u8, is_of_class: bool) -> ! {
    die(
        block,
        if is_of_class { b" was freed twice\n" } else { b" was freed with the layout of another size\n" },
    )
}

/// Ends the process with one line about a pointer that leads to no block.
#[cold]
pub(crate) fn die_of_foreign_block(block: *mut u8) -> ! {
    die(block, b" is not a block of this heap, or was freed\n")
}

fn die(block: *mut u8, why: &[u8]) -> ! {
    let mut hex = [b'0'; 16];
    for (i, digit) in hex.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[block.addr() >> (60 - 4 * i) & 15];
    }
    sys::complain(&[b"arenite: the block at 0x", &hex, why]);
    sys::abort()
}

fn override_from_environment(mut options: Options) -> Options {
    // A program with more rights than its caller does not let the caller steer it.
    if platform::is_secure_execution() {
        return options;
    }
    if let Some(ms) = number(c"ARENITE_PURGE_DELAY_MS") {
        options.purge_delay_ms = u32::try_from(ms).unwrap_or(u32::MAX);
    }
    if let Some(bytes) = number(c"ARENITE_RESERVATION") {
        options.reservation = bytes;
    }
    if let Some(bytes) = number(c"ARENITE_MEMORY_LIMIT") {
        options.memory_limit = bytes;
    }
    if let Some(bytes) = number(c"ARENITE_RETAIN") {
        options.retain = bytes;
    }
    match sys::variable(c"ARENITE_BACKGROUND_PURGER") {
        None => {}
        Some(b"0") => options.background_purger = false,
        Some(b"1") => options.background_purger = true,
        Some(value) => refuse(c"ARENITE_BACKGROUND_PURGER", value, b"neither 0 nor 1"),
    }
    match sys::variable(c"ARENITE_HUGE_PAGES") {
        None => {}
        Some(b"system") => options.huge_pages = HugePages::System,
        Some(b"large") => options.huge_pages = HugePages::Large,
        Some(b"always") => options.huge_pages = HugePages::Always,
        Some(value) => refuse(c"ARENITE_HUGE_PAGES", value, b"none of system, large, always"),
    }
    options
}

/// A variable's decimal number, with `k`, `m` or `g` behind it for units of 1024, 1024² or 1024³.
fn number(name: &CStr) -> Option<usize> {
    let value = sys::variable(name)?;
    let parsed = parse_number(value);
    if parsed.is_none() {
        refuse(name, value, b"not a number (with k, m or g behind it for KiB, MiB or GiB)");
    }
    parsed
}

fn parse_number(value: &[u8]) -> Option<usize> {
    let (digits, unit) = match value.split_last()? {
        (b'k' | b'K', digits) => (digits, 1 << 10),
        (b'm' | b'M', digits) => (digits, 1 << 20),
        (b'g' | b'G', digits) => (digits, 1 << 30),
        _ => (value, 1),
    };
    if digits.is_empty() {
        return None;
    }
    let add = |sum: usize, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    digits.iter().try_fold(0, add)?.checked_mul(unit)
}

fn refuse(name: &CStr, value: &[u8], why: &[u8]) {
    sys::complain(&[b"arenite: ", name.to_bytes(), b"=", value, b" is ", why, b"; ignored\n"]);
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    #[test]
    fn numbers_with_units() {
        assert_eq!(parse_number(b"0"), Some(0));
        assert_eq!(parse_number(b"250"), Some(250));
        assert_eq!(parse_number(b"3k"), Some(3 << 10));
        assert_eq!(parse_number(b"2G"), Some(2 << 30));
        for bad in [&b""[..], b"k", b"-1", b"1.5", b"12q", b"99999999999999999999", b"18446744073709551615k"]
        {
            assert_eq!(parse_number(bad), None);
        }
    }
}
