//! The life of the process and of its threads, as the heap sees it: the first allocation, a thread's first and last, `fork`.
//!
//! Locks are taken in this order, and by `fork` all of them: purger, threads, depots, slab classes, huge blocks,
//! segments, metadata. A thread holds at most one lock of each layer, and no depot's lock with a slab class's. Out of order
//! the purger's is tried only: whoever does not get it does without.

use core::ffi::c_void;
use core::ptr;

use crate::base::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::config::{HARDENED, Options};
use crate::heap::cache::Cache;
use crate::heap::hardened::secret;
use crate::heap::segments::SEGMENTS;
use crate::heap::settings::settings;
use crate::heap::{depot, group, huge, metadata, purge, slab_class, threads};
use crate::vm::hooks::{self, ExitKey};
use crate::vm::{platform, sys};

const NEW: u32 = 0;
const READY: u32 = u32::MAX;

/// [`NEW`], [`READY`], or the number of the process in which a thread is at it. A child of a fork beside that finds
/// another number than its own: the thread stayed behind.
static STATE: AtomicU32 = AtomicU32::new(NEW);

const NO_THREAD: usize = 0;

/// The thread that is at it, once all is there but the hooks around `fork`.
static STARTER: AtomicUsize = AtomicUsize::new(NO_THREAD);

/// For how many milliseconds others wait for these hooks. Without an end they would wait for ever where a hook of somebody
/// else's allocates, and the C library holds the lock that ours are added under.
const WAIT_FOR_HOOKS_MS: u32 = 100;

const NO_KEY: usize = usize::MAX;

/// The key whose destructor runs at a thread's end.
static EXIT_KEY: AtomicUsize = AtomicUsize::new(NO_KEY);

/// The thread that holds all locks for a fork.
static FREEZER: AtomicUsize = AtomicUsize::new(NO_THREAD);

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
    let process = sys::process_id();
    let mut waited = 0;
    loop {
        match STATE.load(Ordering::Acquire) {
            READY => return,
            state if state == process => {
                // Acquire: the settings are seen.
                match STARTER.load(Ordering::Acquire) {
                    NO_THREAD => {}
                    // This thread, from inside of the C library.
                    starter if starter == hooks::this_thread() => return,
                    _ if waited >= WAIT_FOR_HOOKS_MS => return,
                    _ => waited += 1,
                }
                platform::wait(&STATE, process, Some(1));
            }
            state => {
                if STATE.compare_exchange(state, process, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    break;
                }
            }
        }
    }
    // In the child of a fork the parent's thread may have come so far.
    if STARTER.load(Ordering::Relaxed) == NO_THREAD {
        settings().set(options);
        group::set();
        if HARDENED {
            secret::set();
        }
        if let Ok(key) = ExitKey::new(on_thread_exit) {
            EXIT_KEY.store(key.into_raw() as usize, Ordering::Relaxed);
        }
    }
    // Release: whoever sees a starter, or READY, sees the settings and the key.
    STARTER.store(hooks::this_thread(), Ordering::Release);
    // May allocate, so only now. Before READY, so that no fork finds other threads in the heap and no hooks. A refusal
    // leaves a process whose forked children cannot allocate while threads run.
    let _ = hooks::at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
    STATE.store(READY, Ordering::Release);
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

/// These hooks may be there twice: in the child of a fork in which the parent had just added them.
extern "C" fn before_fork() {
    if is_frozen() {
        return;
    }
    purge::freeze();
    threads::freeze();
    depot::freeze();
    slab_class::freeze();
    huge::freeze();
    SEGMENTS.acquire();
    metadata::freeze();
    FREEZER.store(hooks::this_thread(), Ordering::Relaxed);
}

/// Whether the calling thread holds the locks: not any more where a hook that is there twice comes again.
fn is_frozen() -> bool {
    // Relaxed: other threads' values differ from this one's number, whichever is seen.
    FREEZER.load(Ordering::Relaxed) == hooks::this_thread()
}

/// # Safety
/// Follows [`before_fork`] in the same thread, or in the child's only one.
unsafe fn thaw() {
    FREEZER.store(NO_THREAD, Ordering::Relaxed);
    // SAFETY: passed on to the caller.
    unsafe {
        metadata::thaw();
        SEGMENTS.release();
        huge::thaw();
        slab_class::thaw();
        depot::thaw();
        threads::thaw();
        purge::thaw();
    }
}

extern "C" fn after_fork_in_parent() {
    if is_frozen() {
        // SAFETY: the C library calls this after `before_fork`, in the thread that forked.
        unsafe { thaw() };
    }
}

extern "C" fn after_fork_in_child() {
    if !is_frozen() {
        return;
    }
    // The thread that added these hooks may not have come to say so.
    STATE.store(READY, Ordering::Release);
    // SAFETY: the C library calls this after `before_fork`, in the child's only thread, and the lists of threads
    // and the purger are put right before anybody else can see them.
    unsafe {
        purge::forget_thread();
        let own = match EXIT_KEY.load(Ordering::Relaxed) {
            NO_KEY => ptr::null_mut(),
            raw => ExitKey::from_raw(raw as _).get(),
        };
        threads::forget_other_threads(own.cast());
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
