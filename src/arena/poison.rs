//! Marks what nobody may touch: under AddressSanitizer everything between cursor and limit is poisoned, in debug builds
//! what the cursor falls back over is filled with [`PATTERN`]. In other builds these functions are empty.

use core::ptr::NonNull;

use crate::vm::sanitizer;

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
