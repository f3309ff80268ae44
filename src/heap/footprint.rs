//! How large the heap is: two sums of the collection of segments, for looks at them without its lock.

use crate::base::sync::{AtomicUsize, Ordering};
use crate::heap::settings::settings;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static RETAINED: AtomicUsize = AtomicUsize::new(0);

/// Says how many bytes are in use and retained. The segments' lock is held.
pub(super) fn publish(in_use: usize, retained: usize) {
    IN_USE.store(in_use, Ordering::Relaxed);
    RETAINED.store(retained, Ordering::Relaxed);
}

/// Bytes of granules and huge blocks in use, touched or not, and of free pages that are kept.
pub(crate) fn footprint() -> usize {
    IN_USE.load(Ordering::Relaxed) + RETAINED.load(Ordering::Relaxed)
}

/// Whether more is free and kept for reuse, `elsewhere` included, than may be whatever its age: for processes without
/// a purger thread.
pub(crate) fn retains_too_much(elsewhere: usize) -> bool {
    RETAINED.load(Ordering::Relaxed) + elsewhere
        > settings().retain().saturating_add(IN_USE.load(Ordering::Relaxed) / 8)
}
