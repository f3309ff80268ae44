//! Giving memory back: in rounds, so that what is used again soon never leaves, and all at once in `trim`.
//!
//! A round, every half of the purge delay: depots send home the magazines that nobody needed since the last round;
//! middle and huge blocks that lay in their caches that long are freed; free pages in slabs that nothing changed are
//! purged; free granules that were dirty in the last round too are purged; segments that were empty in the last round
//! too are unmapped. So memory goes between half the delay and the whole of it after it was freed. The thread's round
//! comes early when the heap has grown by an eighth since the last: what lay unused meanwhile is what the growth was for.
//!
//! Rounds are run by a thread of our own. It is started when the heap has grown past [`WORTH_A_THREAD`], sleeps without
//! waking while there is nothing to give back, and holds no lock but the purger's for longer than a few list operations:
//! it calls the system on memory that was taken off the lists. Without the thread, frees that leave the caches look at
//! the clock and run the rounds, and what exceeds the bound on retained memory goes at once.
//!
//! One round at a time: the purger's lock. `fork` takes it first, so no memory is off the lists in the child.

use core::ffi::c_void;

use crate::base::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::heap::group::Group;
use crate::heap::settings::settings;
use crate::heap::size_class::SizeClass;
use crate::heap::work::{BUSY, FREED, IDLE, NO_THREAD, REFUSED, STARTED, THREAD, WORK};
use crate::heap::{depot, footprint, huge, metadata, middle, round, segments, slab_class, work};
use crate::vm::hooks;
use crate::vm::{Guard, Lock, platform, release};

static PURGER: Lock<()> = Lock::new(());

/// Bytes given back since the process began.
static GIVEN_BACK: AtomicU64 = AtomicU64::new(0);

/// Without the thread: when a purge of what exceeds the bound gave back nothing, in milliseconds. The kernel may refuse
/// (because the memory is locked, say), and shall not be asked again at each free.
static FUTILE_MS: AtomicU64 = AtomicU64::new(0);
const PAUSE_MS: u64 = 100;

/// The thread is started when the heap has grown to this, in bytes of granules: below it, little of them has been
/// touched, and small programs stay without a thread.
const WORTH_A_THREAD: usize = 8 << 20;

/// The size of the heap, in bytes, at which a round comes early; and how much more than after the last round it is at
/// least.
static EARLY_AT: AtomicUsize = AtomicUsize::new(EARLY_GROWTH);
const EARLY_GROWTH: usize = 16 << 20;

/// One part in so many of the time between rounds passes in any case.
const EARLIEST_SHARE: u32 = 8;

/// Not zero when a round is to come early. The thread sleeps on this word between rounds.
static HURRY: AtomicU32 = AtomicU32::new(0);

/// When the last round was run while freeing, in milliseconds of [`platform::now_ms`].
static LAST_ROUND_MS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn given_back() -> u64 {
    GIVEN_BACK.load(Ordering::Relaxed)
}

/// Says that there may be something to give back. Called where frees leave the caches, never on a fast path, and with
/// no lock held.
#[inline]
pub(crate) fn note_work() {
    work::note();
    if work::is_done_by_frees() {
        run_round_if_due();
    }
}

/// Starts the thread if the heap has grown enough for one, and lets a round come early if it has grown much. Called at the
/// end of allocations that made it grow, and not of frees: the C library frees memory under locks that starting a thread
/// needs, when this heap is its `malloc`.
#[inline]
pub(crate) fn note_growth() {
    let footprint = footprint::footprint();
    if footprint >= WORTH_A_THREAD && THREAD.load(Ordering::Relaxed) == NO_THREAD {
        start_thread();
    }
    if footprint >= EARLY_AT.load(Ordering::Relaxed) {
        hurry(footprint);
    }
}

/// Lets the thread's next round come now. Without it rounds are run by whoever frees, who is not to pay for growth.
#[cold]
fn hurry(footprint: usize) {
    EARLY_AT.store(early_after(footprint), Ordering::Relaxed);
    if THREAD.load(Ordering::Relaxed) == STARTED && HURRY.swap(1, Ordering::Relaxed) == 0 {
        platform::wake_one(&HURRY);
    }
}

fn early_after(footprint: usize) -> usize {
    footprint.saturating_add(EARLY_GROWTH.max(footprint / 8))
}

#[cold]
fn start_thread() {
    if settings().background_purger()
        && THREAD.compare_exchange(NO_THREAD, STARTED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        && hooks::spawn_detached(run).is_err()
    {
        THREAD.store(REFUSED, Ordering::Relaxed);
    }
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    platform::name_this_thread(c"arenite-purge");
    loop {
        take_turn();
    }
}

/// What the thread does time and again: waits for work and runs a round.
pub(crate) fn take_turn() {
    while WORK.load(Ordering::Relaxed) == IDLE {
        platform::wait(&WORK, IDLE, None);
        // Growth from before there was anything to give back.
        HURRY.store(0, Ordering::Relaxed);
    }
    sleep(settings().purge_delay_ms().div_ceil(2).max(1));
    // Before the round: what is freed during it sets the word again. Sequentially consistent: see `note_work`.
    WORK.store(IDLE, Ordering::SeqCst);
    if run_round(false).1 {
        WORK.store(BUSY, Ordering::Relaxed);
    }
}

/// Until the next round is due. An early one waits for a part of the time too: what was freed just now is not old after
/// two rounds, and blocks that come and go by the hundred megabytes would let one follow the other.
fn sleep(ms: u32) {
    let begin = platform::now_ms();
    let (earliest, latest) = (begin + u64::from(ms / EARLIEST_SHARE), begin + u64::from(ms));
    let deaf = AtomicU32::new(0);
    loop {
        let now = platform::now_ms();
        let is_early = now < earliest;
        if now >= latest || !is_early && HURRY.swap(0, Ordering::Relaxed) != 0 {
            return;
        }
        let (word, until) = if is_early { (&deaf, earliest) } else { (&HURRY, latest) };
        platform::wait(word, 0, Some((until - now) as u32));
    }
}

/// Without the thread: runs a round when half the delay has passed, or when more than the bound is retained.
#[cold]
fn run_round_if_due() {
    let now = platform::now_ms();
    let last = LAST_ROUND_MS.load(Ordering::Relaxed);
    if now.saturating_sub(last) >= u64::from(settings().purge_delay_ms().div_ceil(2)) {
        // One of the threads that see this runs the round.
        if LAST_ROUND_MS.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            run_round(false);
        }
    } else if footprint::retains_too_much(huge::kept_bytes())
        && now.saturating_sub(FUTILE_MS.load(Ordering::Relaxed)) >= PAUSE_MS
        && let Some(_purger) = PURGER.try_lock()
    {
        let bytes = huge::flush(true).0 + segments::purge(true).0;
        note_given_back(bytes);
        if bytes == 0 {
            FUTILE_MS.store(now, Ordering::Relaxed);
        }
    }
}

/// One round; everything that is free goes if `all`. Returns how many bytes were given back, and whether a further
/// round would find something.
fn run_round(all: bool) -> (usize, bool) {
    run_round_under(&PURGER.lock(), all)
}

fn run_round_under(_purger: &Guard<'_, ()>, all: bool) -> (usize, bool) {
    round::begin();
    let mut bytes = 0;
    let mut more = false;
    for (group, class) in by_group() {
        // No more than lie there now, however fast others bring new ones.
        let mut left = depot::magazines(group, class);
        while left > 0 {
            let Some(magazine) = depot::take_idle(group, class, all) else { break };
            left -= 1;
            // SAFETY: the magazine came out of the depot and is this function's, as are its blocks.
            unsafe {
                slab_class::give(class, magazine.blocks());
                metadata::give_magazine(magazine);
            }
        }
        more |= depot::begin_round(group, class);
    }
    more |= middle::flush(all);
    let (unmapped, huge_kept) = huge::flush(all);
    bytes += unmapped;
    more |= huge_kept;
    for (group, class) in by_group() {
        let (purged, changed) = slab_class::purge(group, class, all);
        bytes += purged;
        more |= changed;
    }
    let (purged, dirty) = segments::purge(all);
    bytes += purged;
    more |= dirty;
    release::retry();
    note_given_back(bytes);
    EARLY_AT.store(early_after(footprint::footprint()), Ordering::Relaxed);
    (bytes, more)
}

fn by_group() -> impl Iterator<Item = (Group, SizeClass)> {
    Group::all()
        .flat_map(|group| (0..SizeClass::SMALL).map(move |index| (group, SizeClass::from_index(index))))
}

fn note_given_back(bytes: usize) {
    GIVEN_BACK.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Gives back all that can be, the calling thread's cache not among it; returns how many bytes.
pub(crate) fn trim() -> usize {
    run_round(true).0
}

/// Makes room for an allocation that failed: everything free goes, address space that is only reserved too. Not again
/// before something was freed: a program that asks for the impossible time and again shall not pay for a round each.
#[cold]
pub(crate) fn reclaim() {
    // Under the lock: whoever finds that nothing was freed since finds the round that gave it back at its end too.
    let purger = PURGER.lock();
    if FREED.swap(false, Ordering::SeqCst) {
        run_round_under(&purger, true);
    }
    drop(purger);
    segments::SEGMENTS.lock().release_reserved();
}

/// The purger's lock, if nobody has it: for those who hold a lock that stands behind it, and so must not wait for it.
pub(crate) fn try_hold() -> Option<Guard<'static, ()>> {
    PURGER.try_lock()
}

#[cfg(arenite_lock_counts)]
pub(crate) fn lock_counts() -> crate::vm::lock_counts::LockCounts {
    PURGER.counts()
}

/// Takes the lock for a fork.
pub(crate) fn freeze() {
    PURGER.acquire();
}

/// # Safety
/// Follows [`freeze`] in the same thread, or in the child's only one.
pub(crate) unsafe fn thaw() {
    // SAFETY: passed on to the caller.
    unsafe { PURGER.release() };
}

/// In a forked child: the thread stayed with the parent, and is started again when there is work.
pub(crate) fn forget_thread() {
    THREAD.store(NO_THREAD, Ordering::Relaxed);
    // What the parent had freed waits in the child too.
    WORK.store(BUSY, Ordering::Relaxed);
}
