//! The page size, read at run time: 4, 16 or 64 KiB on the machines that Arenite knows.

use crate::base::sync::{AtomicUsize, Ordering};
use crate::vm::inject;

static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Bytes in a page of this machine, a power of two.
///
/// ```
/// assert!(arenite::vm::page_size().is_power_of_two());
/// ```
#[inline]
#[must_use]
pub fn page_size() -> usize {
    // Relaxed: every thread that finds zero computes the same value.
    match PAGE_SIZE.load(Ordering::Relaxed) {
        0 => read_page_size(),
        size => size,
    }
}

#[cold]
fn read_page_size() -> usize {
    // SAFETY: `sysconf` takes any name and touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let size = usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096);
    let size = inject::simulated_page_size().unwrap_or(size);
    PAGE_SIZE.store(size, Ordering::Relaxed);
    size
}
