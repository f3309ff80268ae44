//! Marks what nobody may touch: under AddressSanitizer everything between cursor and limit is poisoned, in debug builds
//! what the cursor falls back over is filled with [`PATTERN`]. In other builds these functions are empty.
//!
//! The sanitizer is known at compile time only with the feature `nightly`; it needs a nightly compiler anyhow.

use core::ptr::NonNull;

/// What debug builds write over freed memory.
pub(crate) const PATTERN: u8 = 0xa5;

/// The block belongs to somebody from now on.
#[inline(always)]
pub(crate) fn lift(block: NonNull<u8>, len: usize) {
    sanitizer::unpoison(block.as_ptr(), len);
}

/// The block belongs to nobody from now on.
#[inline(always)]
pub(crate) fn lay(block: NonNull<u8>, len: usize) {
    if cfg!(debug_assertions) {
        // A sanitizer lets nobody write to what is poisoned, and parts of this may be.
        sanitizer::unpoison(block.as_ptr(), len);
        // SAFETY: the arena's committed memory below the old cursor, which nobody uses any more.
        unsafe { block.write_bytes(PATTERN, len) };
    }
    sanitizer::poison(block.as_ptr(), len);
}

/// Memory that was never anybody's.
#[inline(always)]
pub(crate) fn lay_fresh(block: *mut u8, len: usize) {
    sanitizer::poison(block, len);
}

/// The memory is the system's again, or for another owner.
#[inline(always)]
pub(crate) fn lift_all(block: *mut u8, len: usize) {
    sanitizer::unpoison(block, len);
}

#[cfg(feature = "nightly")]
#[cfg_attr(feature = "nightly", cfg(sanitize = "address"))]
mod sanitizer {
    use core::ffi::c_void;

    unsafe extern "C" {
        fn __asan_poison_memory_region(addr: *const c_void, size: usize);
        fn __asan_unpoison_memory_region(addr: *const c_void, size: usize);
    }

    pub(super) fn poison(block: *mut u8, len: usize) {
        // SAFETY: the range is an arena's; the call writes to the sanitizer's own memory.
        unsafe { __asan_poison_memory_region(block.cast(), len) };
    }

    pub(super) fn unpoison(block: *mut u8, len: usize) {
        // SAFETY: as above.
        unsafe { __asan_unpoison_memory_region(block.cast(), len) };
    }
}

#[cfg_attr(feature = "nightly", cfg(not(sanitize = "address")))]
mod sanitizer {
    #[inline(always)]
    pub(super) fn poison(_: *mut u8, _: usize) {}

    #[inline(always)]
    pub(super) fn unpoison(_: *mut u8, _: usize) {}
}
