//! Depots: where threads exchange magazines, whole: in each group of processors one depot a size class.
//!
//! A depot and its lock share one cache line, and a magazine that is given is paid for with an empty one on the spot: to
//! take, to give, each is one visit that moves two lines, the depot's and the magazine's.
//!
//! A depot's `limit`, in blocks, follows the flow: it doubles when a thread finds the depot empty after another was turned away
//! because it was full, and falls when magazines lay there unused for a round of the purger. `low` is the fewest
//! magazines that lay there since the last round (Bonwick and Adams' working set): those nobody needed.

use core::mem;

use static_assertions::const_assert;

use crate::base::padded::Padded;
use crate::config::{DEPOT_BYTES_MAX, DEPOT_BYTES_MIN, GROUPS_MAX};
use crate::heap::group::Group;
use crate::heap::magazine::{Magazine, Stack};
use crate::heap::metadata;
use crate::heap::size_class::SizeClass;
use crate::vm::Lock;

#[derive(Debug)]
struct Depot {
    full: Stack,
    /// Blocks in `full`: magazines of threads that ended may hold fewer than the others.
    blocks: u32,
    empty: Stack,
    limit: u32,
    low: u32,
    turned_away: bool,
}

// With the lock's word one cache line.
const_assert!(size_of::<Depot>() + size_of::<u64>() <= 64);
const_assert!(DEPOT_BYTES_MAX <= u32::MAX as usize);

static DEPOTS: [[Padded<Lock<Depot>>; SizeClass::SMALL]; GROUPS_MAX] =
    [const { [const { Padded(Lock::new(Depot::new())) }; SizeClass::SMALL] }; GROUPS_MAX];

/// Empty magazines that a depot keeps over a round; more go back to the pool of all classes. Within a round all stay, no
/// more than there were full ones: they are wanted again when the flow turns, and the pool has one lock for all.
const EMPTIES: usize = 4;

fn depot(group: Group, class: SizeClass) -> &'static Lock<Depot> {
    &DEPOTS[group.index()][class.index()]
}

impl Depot {
    const fn new() -> Depot {
        Depot { full: Stack::new(), blocks: 0, empty: Stack::new(), limit: 0, low: 0, turned_away: false }
    }

    /// # Safety
    /// As for [`give_full`].
    unsafe fn put(&mut self, class: SizeClass, full: Magazine) -> bool {
        self.limit = self.limit.max(blocks_at_first(class));
        if self.blocks + full.len() as u32 > self.limit {
            self.turned_away = true;
            return false;
        }
        self.blocks += full.len() as u32;
        // SAFETY: passed on to the caller.
        unsafe { self.full.push(full) };
        true
    }
}

/// The most blocks that a depot of `class` may hold for `bytes`: a magazine's worth at least.
fn blocks_in(bytes: usize, class: SizeClass) -> u32 {
    (bytes / class.size()).max(class.capacity()) as u32
}

/// What a depot of `class` may hold before exchanges show that more is of use: all groups together no more than one
/// would, or a magazine each.
fn blocks_at_first(class: SizeClass) -> u32 {
    blocks_in(DEPOT_BYTES_MIN / Group::count(), class)
}

/// Exchanges an empty magazine, if the caller has one to spare, for a full one. None, and the empty one stays the
/// caller's, when there is none.
///
/// # Safety
/// `spare` is the caller's and empty.
pub(crate) unsafe fn take_full(class: SizeClass, spare: Option<Magazine>) -> Option<Magazine> {
    invariant!(spare.is_none_or(Magazine::is_empty));
    let mut depot = depot(Group::current(), class).lock();
    let Some(full) = depot.full.pop() else {
        depot.low = 0;
        if depot.turned_away {
            depot.turned_away = false;
            depot.limit = (depot.limit * 2).min(blocks_in(DEPOT_BYTES_MAX, class));
        }
        return None;
    };
    depot.blocks -= full.len() as u32;
    depot.low = depot.low.min(depot.full.len() as u32);
    if let Some(spare) = spare {
        // SAFETY: passed on to the caller.
        unsafe { depot.empty.push(spare) };
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
    // SAFETY: passed on to the caller.
    unsafe { depot(Group::current(), class).lock().put(class, full) }
}

/// The same, for an empty magazine with room for `capacity` blocks, which is none when out of memory. An error, and the
/// full one stays the caller's, when the depot holds enough.
///
/// # Safety
/// As for [`give_full`].
pub(crate) unsafe fn exchange_full(
    class: SizeClass,
    full: Magazine,
    capacity: usize,
) -> Result<Option<Magazine>, Magazine> {
    invariant!(!full.is_empty());
    let mut depot = depot(Group::current(), class).lock();
    // SAFETY: passed on to the caller.
    if !unsafe { depot.put(class, full) } {
        return Err(full);
    }
    let empty = depot.empty.pop();
    drop(depot);
    Ok(or_new(empty, capacity))
}

/// An empty magazine for `capacity` blocks, or none when out of memory.
pub(crate) fn take_empty(class: SizeClass, capacity: usize) -> Option<Magazine> {
    let empty = depot(Group::current(), class).lock().empty.pop();
    or_new(empty, capacity)
}

/// The magazine that came out of a depot, made ready, or a new one.
fn or_new(empty: Option<Magazine>, capacity: usize) -> Option<Magazine> {
    let Some(mut empty) = empty else { return metadata::take_magazine(capacity) };
    // SAFETY: the magazine came out of the depot and is this function's.
    unsafe { empty.clear(capacity) };
    Some(empty)
}

/// Takes out a magazine that is to go home: one that nobody needed in the last round, or any if `all`.
pub(crate) fn take_idle(group: Group, class: SizeClass, all: bool) -> Option<Magazine> {
    let mut depot = depot(group, class).lock();
    if !all && depot.low == 0 {
        return None;
    }
    depot.low = depot.low.saturating_sub(1);
    let idle = depot.full.pop()?;
    depot.blocks -= idle.len() as u32;
    depot.limit = depot.limit.saturating_sub(idle.len() as u32).max(blocks_at_first(class));
    Some(idle)
}

/// Begins a round: from now on `low` counts anew, and few empty magazines stay. Returns whether the depot still holds magazines.
pub(crate) fn begin_round(group: Group, class: SizeClass) -> bool {
    let mut kept = Stack::new();
    let mut depot = depot(group, class).lock();
    depot.low = depot.full.len() as u32;
    let more = depot.low > 0;
    while kept.len() < EMPTIES
        && let Some(empty) = depot.empty.pop()
    {
        // SAFETY: the magazine came out of the depot.
        unsafe { kept.push(empty) };
    }
    let mut others = mem::replace(&mut depot.empty, kept);
    // Thousands may be left, each in a line of its own that is in no cache: not under the lock.
    drop(depot);
    while let Some(empty) = others.pop() {
        // SAFETY: the magazine came out of the depot and is this function's.
        unsafe { metadata::give_magazine(empty) };
    }
    more
}

/// Magazines that lie in the depot.
pub(crate) fn magazines(group: Group, class: SizeClass) -> usize {
    depot(group, class).lock().full.len()
}

/// Blocks that lie in the depots of a class.
pub(crate) fn blocks(class: SizeClass) -> usize {
    Group::all().map(|group| depot(group, class).lock().blocks as usize).sum()
}

#[cfg(arenite_lock_counts)]
pub(crate) fn lock_counts(class: SizeClass) -> impl Iterator<Item = crate::vm::lock_counts::LockCounts> {
    Group::all().map(move |group| depot(group, class).counts())
}

/// Takes the locks for a fork.
pub(crate) fn freeze() {
    Group::all().flat_map(|group| &DEPOTS[group.index()]).for_each(|depot| depot.acquire());
}

/// # Safety
/// Follows [`freeze`] in the same thread, or in the child's only one.
pub(crate) unsafe fn thaw() {
    // SAFETY: passed on to the caller.
    Group::all().flat_map(|group| &DEPOTS[group.index()]).for_each(|depot| unsafe { depot.release() });
}
