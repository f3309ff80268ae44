//! What AddressSanitizer is told about memory that it does not allocate itself. In other builds these functions are empty.
//!
//! The sanitizer is known at compile time only with the feature `nightly`; it needs a nightly compiler anyhow.

#[cfg(feature = "nightly")]
#[cfg_attr(feature = "nightly", cfg(sanitize = "address"))]
mod chosen {
    use core::ffi::c_void;

    unsafe extern "C" {
        fn __asan_poison_memory_region(addr: *const c_void, size: usize);
        fn __asan_unpoison_memory_region(addr: *const c_void, size: usize);
    }

    /// Memory is watched.
    pub(crate) const IS_ON: bool = true;

    /// Nobody may touch the range from now on.
    pub(crate) fn poison(block: *mut u8, len: usize) {
        // SAFETY: the call writes to the sanitizer's own memory.
        unsafe { __asan_poison_memory_region(block.cast(), len) };
    }

    /// Somebody may.
    pub(crate) fn unpoison(block: *mut u8, len: usize) {
        // SAFETY: as above.
        unsafe { __asan_unpoison_memory_region(block.cast(), len) };
    }
}

#[cfg_attr(feature = "nightly", cfg(not(sanitize = "address")))]
mod chosen {
    pub(crate) const IS_ON: bool = false;

    #[inline(always)]
    pub(crate) const fn poison(_: *mut u8, _: usize) {}

    #[inline(always)]
    pub(crate) const fn unpoison(_: *mut u8, _: usize) {}
}

pub(crate) use chosen::{IS_ON, poison, unpoison};
