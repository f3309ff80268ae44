//! The life of the process and of its threads, as the heap sees it: the first allocation, a thread's first and last, `fork`.
//!
//! Locks are taken in this order, and by `fork` all of them: purger, threads, depots, slab classes, huge blocks,
//! segments, metadata. A thread holds at most one lock of each layer, and no depot's lock with a slab class's. Out of order
//! the purger's is tried only: whoever does not get it does without.

use core::ffi::c_void;
use core::ptr;

use crate::base::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::config::{HARDENED, Options};
use crate::heap::cache::{self, Cache};
use crate::heap::hardened::secret;
use crate::heap::segments::SEGMENTS;
use crate::heap::settings::settings;
use crate::heap::{depot, group, huge, metadata, purge, slab_class};
use crate::vm::hooks::{self, ExitKey};
use crate::vm::platform;

const NEW: u32 = 0;
const STARTING: u32 = 1;
const READY: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(NEW);

const NO_KEY: usize = usize::MAX;

/// The key whose destructor runs at a thread's end.
static EXIT_KEY: AtomicUsize = AtomicUsize::new(NO_KEY);

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
    settings().set(options);
    group::set();
    if HARDENED {
        secret::set();
    }
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
    unsafe { Cache::on_thread_exit(value.cast()) };
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

impl Cache {
    /// Makes a new cache live; false when it must not be used (any more).
    #[cold]
    pub(super) fn enter(&self, options: &Options) -> bool {
        if self.is_over() {
            return false;
        }
        // The C library may allocate in here, and come back to this function.
        start(options);
        if self.is_live() {
            return true;
        }
        self.go_live();
        if call_at_thread_exit(ptr::from_ref(self).cast_mut().cast()) {
            return true;
        }
        // Without a hook what the cache holds would be lost with the thread.
        self.leave();
        false
    }
}
