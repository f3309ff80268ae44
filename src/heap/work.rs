//! Whether there is something to give back, for the purger, and who is to do it.

use crate::base::sync::{AtomicBool, AtomicU32, Ordering};
use crate::heap::settings::settings;
use crate::vm::platform;

pub(super) const IDLE: u32 = 0;
pub(super) const BUSY: u32 = 1;

/// Something left the caches since the last time that an allocation failed for want of room.
pub(super) static FREED: AtomicBool = AtomicBool::new(false);

/// `BUSY` from the first free that leaves something to give back until a round finds nothing left. The thread sleeps
/// on this word.
pub(super) static WORK: AtomicU32 = AtomicU32::new(IDLE);

/// Whether the thread runs. A forked child begins without one.
pub(super) static THREAD: AtomicU32 = AtomicU32::new(NO_THREAD);
pub(super) const NO_THREAD: u32 = 0;
pub(super) const STARTED: u32 = 1;
/// The system refused a thread: rounds are run while freeing.
pub(super) const REFUSED: u32 = 2;

/// Says that there may be something to give back. Runs nothing.
pub(crate) fn note() {
    // Sequentially consistent, as are the exchanges on the shelves, which no lock orders: either the round that begins
    // sees what was freed, or this sees that it has begun; and so for the word of what was freed.
    if !FREED.load(Ordering::SeqCst) {
        FREED.store(true, Ordering::Relaxed);
    }
    if WORK.load(Ordering::SeqCst) == IDLE {
        WORK.store(BUSY, Ordering::Relaxed);
        if THREAD.load(Ordering::Relaxed) == STARTED {
            platform::wake_one(&WORK);
        }
    }
}

/// Whether frees run the rounds.
pub(crate) fn is_done_by_frees() -> bool {
    THREAD.load(Ordering::Relaxed) == REFUSED || !settings().background_purger()
}

/// Whether [`purge::note_work`](crate::heap::purge::note_work) would do nothing.
#[inline]
pub(crate) fn is_noted() -> bool {
    FREED.load(Ordering::SeqCst) && WORK.load(Ordering::SeqCst) == BUSY && !is_done_by_frees()
}
