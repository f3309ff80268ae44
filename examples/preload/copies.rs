//! `memcpy` in the hardened library: the copy is looked at before it is made, so that one that leaves its block ends the
//! program before it has changed anything. So does snmalloc (its documentation calls it guarded memcpy).
//!
//! What a compiler copies in place, and what the C library copies inside of itself, does not come by here. `memmove` is
//! the C library's own, which does the work.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use arenite::heap;

/// `len` bytes from `from` to `to`.
///
/// # Safety
/// As in C, but for a range at `to` that leaves a block of the heap: that ends the process.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
    if let Some(to) = NonNull::new(to) {
        heap::check_write(to.cast(), len);
    }
    // SAFETY: passed on to the caller.
    unsafe { libc::memmove(to, from, len) }
}

/// What `memcpy` is compiled to where the compiler knows how much room there is at `to`.
///
/// # Safety
/// As for [`memcpy`].
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __memcpy_chk(
    to: *mut c_void,
    from: *const c_void,
    len: usize,
    room: usize,
) -> *mut c_void {
    unsafe extern "C" {
        fn __chk_fail() -> c_int;
    }
    if len > room {
        // SAFETY: ends the process with the C library's own words.
        unsafe { __chk_fail() };
    }
    // SAFETY: passed on to the caller.
    unsafe { memcpy(to, from, len) }
}
