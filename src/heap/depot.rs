//! Depots: where threads exchange magazines, whole, one depot a size class.
//!
//! A depot's `limit`, in blocks, follows the flow: it doubles when a thread finds the depot empty after another was turned away
//! because it was full, and falls when magazines lay there unused for a round of the purger. `low` is the fewest
//! magazines that lay there since the last round (Bonwick and Adams' working set): those nobody needed.

use crate::base::padded::Padded;
use crate::config::{DEPOT_BYTES_MAX, DEPOT_BYTES_MIN};
use crate::heap::magazine::{Magazine, Stack};
use crate::heap::metadata;
use crate::heap::size_class::SizeClass;
use crate::vm::Lock;

#[derive(Debug)]
struct Depot {
    full: Stack,
    /// Blocks in `full`: magazines of threads that ended may hold fewer than the others.
    blocks: usize,
    empty: Stack,
    limit: usize,
    low: usize,
    turned_away: bool,
}

static DEPOTS: [Padded<Lock<Depot>>; SizeClass::SMALL] =
    [const { Padded(Lock::new(Depot::new())) }; SizeClass::SMALL];

/// Empty magazines that a depot keeps; more go back to the pool of all classes.
const EMPTIES: usize = 4;

impl Depot {
    const fn new() -> Depot {
        Depot { full: Stack::new(), blocks: 0, empty: Stack::new(), limit: 0, low: 0, turned_away: false }
    }
}

/// The most blocks that a depot of `class` may hold for `bytes`: a magazine's worth at least.
fn blocks_in(bytes: usize, class: SizeClass) -> usize {
    (bytes / class.size()).max(class.capacity())
}

/// Exchanges an empty magazine, if the caller has one to spare, for a full one. None, and the empty one stays the
/// caller's, when there is none.
///
/// # Safety
/// `spare` is the caller's and empty.
pub(crate) unsafe fn take_full(class: SizeClass, spare: Option<Magazine>) -> Option<Magazine> {
    invariant!(spare.is_none_or(Magazine::is_empty));
    let mut depot = DEPOTS[class.index()].lock();
    let Some(full) = depot.full.pop() else {
        depot.low = 0;
        if depot.turned_away {
            depot.turned_away = false;
            depot.limit = (depot.limit * 2).min(blocks_in(DEPOT_BYTES_MAX, class));
        }
        return None;
    };
    depot.blocks -= full.len();
    depot.low = depot.low.min(depot.full.len());
    let spare = match spare {
        Some(spare) if depot.empty.len() < EMPTIES => {
            // SAFETY: passed on to the caller.
            unsafe { depot.empty.push(spare) };
            None
        }
        spare => spare,
    };
    drop(depot);
    if let Some(spare) = spare {
        // SAFETY: passed on to the caller.
        unsafe { metadata::give_magazine(spare) };
    }
    Some(full)
}

/// Gives a magazine of blocks to the depot; false, and it stays the caller's, when the depot holds enough.
///
/// # Safety
/// The magazine is the caller's and not empty.
#[must_use]
pub(crate) unsafe fn give_full(class: SizeClass, full: Magazine) -> bool {
    invariant!(!full.is_empty());
    let mut depot = DEPOTS[class.index()].lock();
    depot.limit = depot.limit.max(blocks_in(DEPOT_BYTES_MIN, class));
    if depot.blocks + full.len() > depot.limit {
        depot.turned_away = true;
        return false;
    }
    depot.blocks += full.len();
    // SAFETY: passed on to the caller.
    unsafe { depot.full.push(full) };
    true
}

/// An empty magazine for `capacity` blocks, or none when out of memory.
pub(crate) fn take_empty(class: SizeClass, capacity: usize) -> Option<Magazine> {
    let Some(mut empty) = DEPOTS[class.index()].lock().empty.pop() else {
        return metadata::take_magazine(capacity);
    };
    // SAFETY: the magazine came out of the depot and is this function's.
    unsafe { empty.clear(capacity) };
    Some(empty)
}

/// Takes out a magazine that is to go home: one that nobody needed in the last round, or any if `all`.
pub(crate) fn take_idle(class: SizeClass, all: bool) -> Option<Magazine> {
    let mut depot = DEPOTS[class.index()].lock();
    if !all && depot.low == 0 {
        return None;
    }
    depot.low = depot.low.saturating_sub(1);
    let idle = depot.full.pop()?;
    depot.blocks -= idle.len();
    depot.limit = depot.limit.saturating_sub(idle.len()).max(blocks_in(DEPOT_BYTES_MIN, class));
    Some(idle)
}

/// Begins a round: from now on `low` counts anew. Returns whether the depot still holds magazines.
pub(crate) fn begin_round(class: SizeClass) -> bool {
    let mut depot = DEPOTS[class.index()].lock();
    depot.low = depot.full.len();
    depot.low > 0
}

/// Magazines that lie in the depot.
pub(crate) fn magazines(class: SizeClass) -> usize {
    DEPOTS[class.index()].lock().full.len()
}

/// Blocks that lie in the depot.
pub(crate) fn blocks(class: SizeClass) -> usize {
    DEPOTS[class.index()].lock().blocks
}

/// Takes the locks for a fork.
pub(crate) fn freeze() {
    for depot in &DEPOTS {
        depot.acquire();
    }
}

/// # Safety
/// Follows [`freeze`] in the same thread, or in the child's only one.
pub(crate) unsafe fn thaw() {
    for depot in &DEPOTS {
        // SAFETY: passed on to the caller.
        unsafe { depot.release() };
    }
}
