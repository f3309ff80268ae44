//! The purger's clock: the number of its rounds. What carries the number of a round was changed in it, and is left alone
//! until that is long enough ago.

use crate::base::sync::{AtomicU32, Ordering};

static ROUND: AtomicU32 = AtomicU32::new(2);

pub(super) fn current() -> u32 {
    // Relaxed: a stamp that is a round old only makes a purge come early by a round.
    ROUND.load(Ordering::Relaxed)
}

/// Begins the next round. Only the holder of the purger's lock does.
pub(super) fn begin() {
    ROUND.fetch_add(1, Ordering::Relaxed);
}

/// Whether at least a whole round has passed since `stamp`. Right after `begin`: not in this round, nor in the one that
/// ended.
pub(super) fn is_past(stamp: u32) -> bool {
    // Wrapping: only the difference counts.
    current().wrapping_sub(stamp) >= 2
}
