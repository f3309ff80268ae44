//! The first allocation of a process, in a thread that is about to be cancelled. The C library ends such a thread at the
//! next call of a certain kind (`open`, `read`, `write`, …), which the heap must not make while it starts.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod support;

use std::ffi::{c_int, c_void};
use std::ptr;

use support::process::{BareThread, alone, in_time};
use support::{Block, MIB, layout};

unsafe extern "C-unwind" {
    fn pthread_cancel(thread: libc::pthread_t) -> c_int;
    fn pthread_testcancel();
}

extern "C-unwind" fn allocate(_: *mut c_void) -> *mut c_void {
    // SAFETY: the thread's own handle; from here on the thread ends at the next call that allows it.
    unsafe { pthread_cancel(libc::pthread_self()) };
    for size in [100, 5000, MIB, 9 * MIB] {
        Block::alloc(layout(size, 8)).unwrap().realloc(2 * size).unwrap().free();
    }
    arenite::trim();
    // SAFETY: the end; no frame below has anything to drop.
    unsafe { pthread_testcancel() };
    unreachable!("the thread was cancelled")
}

/// Would catch a heap that stays half started (all other threads would wait for ever), and a lock that nobody opens.
#[test]
fn a_thread_that_is_being_cancelled_allocates_first() {
    alone("a_thread_that_is_being_cancelled_allocates_first", || {
        in_time(20, "the heap", || {
            // SAFETY: the function does not look at its argument.
            let thread = unsafe { BareThread::start(allocate, ptr::null_mut()) };
            // `PTHREAD_CANCELED`.
            assert_eq!(thread.join().addr(), usize::MAX);
            Block::alloc(layout(100, 8)).unwrap().free();
            assert_eq!(arenite::stats().in_use, 0);
        });
    });
}
