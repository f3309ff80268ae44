//! Middle blocks, from 32 KiB to 8 MiB: runs of granules, with a shelf for each class.
//!
//! A shelf is a few places that threads take blocks from and put blocks into with one atomic exchange, so that the
//! cost of a block that is freed and allocated again does not depend on its size. It is shared between threads: work
//! on a block of this size hides the exchange, and the purger sees what an idle thread left behind. Shelves are emptied
//! before the heap grows: what lies on one is of no use to the other classes.

use core::ptr::{self, NonNull};

use crate::base::padded::Padded;
use crate::base::sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use crate::config::{HARDENED, MIDDLE_KEPT, MIDDLE_KEPT_BYTES};
use crate::heap::segment::{Kind, Run, Segment};
use crate::heap::segments::{SEGMENTS, Segments};
use crate::heap::settings::settings;
use crate::heap::size_class::SizeClass;
use crate::heap::{fault, hardened, work};
use crate::vm::sys;

#[derive(Debug)]
struct Shelf {
    /// Blocks, or null. Whoever exchanges a block out owns it.
    places: [AtomicPtr<u8>; MIDDLE_KEPT],
    /// A block was put here since the purger's last round.
    used: AtomicBool,
    /// When hardened: how many blocks were put here, each into the next place.
    turn: AtomicUsize,
}

/// Blocks that must lie on a shelf before one is used again when hardened.
const QUARANTINED: usize = 2;

const MIDDLE: usize = SizeClass::COUNT - SizeClass::SMALL;

static SHELVES: [Padded<Shelf>; MIDDLE] = [const {
    Padded(Shelf {
        places: [const { AtomicPtr::new(ptr::null_mut()) }; MIDDLE_KEPT],
        used: AtomicBool::new(false),
        turn: AtomicUsize::new(0),
    })
}; MIDDLE];

/// Whether a shelf of `class` has a place with this number.
fn has_place(class: SizeClass, place: usize) -> bool {
    let settings = settings();
    let (least, bytes) = if settings.background_purger() {
        (1, MIDDLE_KEPT_BYTES)
    } else {
        // Nobody ages what lies here: all shelves together hold half of what may be retained.
        (0, settings.retain() / (2 * MIDDLE))
    };
    let least = if HARDENED { QUARANTINED } else { least };
    place < least || (place + 1) * class.size() <= bytes
}

fn shelf(class: SizeClass) -> (&'static Shelf, &'static [AtomicPtr<u8>]) {
    let shelf = &SHELVES[class.index() - SizeClass::SMALL];
    // Counted, as a division would take half of the time of a free.
    let places = (0..MIDDLE_KEPT).take_while(|&place| has_place(class, place)).count();
    (shelf, &shelf.places[..places])
}

/// A block of `class` that was freed a moment ago.
#[inline]
pub(crate) fn alloc_kept(class: SizeClass) -> Option<NonNull<u8>> {
    take_from(&SHELVES[class.index() - SizeClass::SMALL].places)
}

/// A block of `class` whose first `cleared` bytes are zero, or null when out of memory.
pub(crate) fn alloc(class: SizeClass, cleared: usize) -> *mut u8 {
    let Some(run) = take_run(class) else { return ptr::null_mut() };
    if cleared > 0 {
        // SAFETY: the run is this function's and at least as long.
        unsafe { run.clear(cleared) };
    }
    run.base()
}

/// # Safety
/// `block` is a block of `class` that is out, and the caller's.
pub(crate) unsafe fn free(class: SizeClass, block: NonNull<u8>) {
    // SAFETY: passed on to the caller; a block that lay on the shelf belongs to who took it.
    unsafe {
        if HARDENED {
            let (shelf, places) = shelf(class);
            if let Some(oldest) = shelf.put_in_turn(places, block) {
                take_home(class, oldest.as_ptr());
            }
        } else if !keep(class, block) {
            take_home(class, block.as_ptr());
        }
    }
}

/// Puts a block on its shelf if there is room; else it stays the caller's. `purge::note_work` is to be told.
///
/// # Safety
/// As for [`free`].
#[inline]
#[must_use]
pub(crate) unsafe fn keep(class: SizeClass, block: NonNull<u8>) -> bool {
    let shelf = &SHELVES[class.index() - SizeClass::SMALL];
    // Most often the first is free, and nothing is counted.
    let places = shelf.places.iter().enumerate().take_while(|&(place, _)| has_place(class, place));
    // Relaxed look first: a failed exchange would still fetch the line for writing.
    // What was written to the block is seen by who takes it; for the rest of the order see [`work::note`].
    let is_kept = places.map(|(_, place)| place).any(|place| {
        place.load(Ordering::Relaxed).is_null()
            && place
                .compare_exchange(ptr::null_mut(), block.as_ptr(), Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
    });
    if is_kept {
        shelf.used.store(true, Ordering::Relaxed);
    }
    is_kept
}

/// Makes a block of `old` one of `new` where it is; false, and nothing is changed, when there is no room behind it.
///
/// # Safety
/// `block` is a block of `old` that is out, and the caller's.
pub(crate) unsafe fn resize(old: SizeClass, new: SizeClass, block: NonNull<u8>) -> bool {
    let run = Run::at(block.as_ptr(), old.granules());
    let resized = Run { len: new.granules(), ..run };
    // SAFETY: the run is the caller's.
    unsafe {
        // What the caller wrote stays marked, also where it falls out of the block.
        run.mark_dirty(0, old.size());
        let mut segments = SEGMENTS.lock();
        if !segments.resize(run, resized.len) {
            return false;
        }
        resized.set_class(new);
        *segments.out_of(old) -= 1;
        *segments.out_of(new) += 1;
    }
    true
}

/// Sends home the blocks on shelves that were not used since the last call, or all of them. Returns whether blocks
/// remain on shelves.
pub(crate) fn flush(all: bool) -> bool {
    if HARDENED {
        for block in hardened::middle::take_kept() {
            if let Kind::Class(class) = Segment::kind_at(block) {
                // SAFETY: it was taken home before, and refused.
                unsafe { take_home(class, block.as_ptr()) };
            }
        }
    }
    let mut more = false;
    for index in SizeClass::SMALL..SizeClass::COUNT {
        let class = SizeClass::from_index(index);
        let (shelf, places) = shelf(class);
        if shelf.used.swap(false, Ordering::Relaxed) && !all {
            more = true;
            continue;
        }
        for _ in 0..MIDDLE_KEPT {
            let Some(block) = take_from(places) else { break };
            // SAFETY: a block from a shelf belongs to who took it.
            unsafe { take_home(class, block.as_ptr()) };
        }
    }
    more
}

/// Blocks of `class` on its shelf.
pub(crate) fn kept(class: SizeClass) -> usize {
    shelf(class).1.iter().filter(|place| !place.load(Ordering::Relaxed).is_null()).count()
}

fn take_from(places: &[AtomicPtr<u8>]) -> Option<NonNull<u8>> {
    places.iter().find_map(|place| {
        if place.load(Ordering::SeqCst).is_null() {
            return None;
        }
        // Acquire: what the last owner wrote happened before.
        NonNull::new(place.swap(ptr::null_mut(), Ordering::Acquire))
    })
}

/// When hardened: the block that has been on the shelf longest, if another stays there. So none is used again before
/// another was freed.
pub(super) fn take_from_quarantine(class: SizeClass) -> Option<NonNull<u8>> {
    if kept(class) < QUARANTINED {
        return None;
    }
    let (shelf, places) = shelf(class);
    let (newer, older) = places.split_at(shelf.turn.load(Ordering::Relaxed) % places.len());
    take_from(older).or_else(|| take_from(newer))
}

impl Shelf {
    /// When hardened: puts a block into the place of the one that has been there longest, which is the caller's then.
    fn put_in_turn(&self, places: &[AtomicPtr<u8>], block: NonNull<u8>) -> Option<NonNull<u8>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % places.len();
        self.used.store(true, Ordering::Relaxed);
        NonNull::new(places[turn].swap(block.as_ptr(), Ordering::SeqCst))
    }
}

pub(super) fn take_run(class: SizeClass) -> Option<Run> {
    // Hardened, guards would split huge pages.
    let run = granules(class.granules(), !HARDENED)?;
    *SEGMENTS.lock().out_of(class) += 1;
    // SAFETY: the run is this function's.
    unsafe { run.set_class(class) };
    Some(run)
}

/// So many adjacent granules, which will be filled if they are `dense`. Before fresh ones are touched all shelves are
/// emptied: what lies on them costs no page faults, and is of no use to other classes there.
pub(crate) fn granules(len: usize, dense: bool) -> Option<Run> {
    let used = SEGMENTS.lock().take_used(len, dense);
    used.or_else(|| {
        // What is freed when hardened stays away from its next owner.
        if !HARDENED {
            take_all_home();
        }
        SEGMENTS.lock().take(len, dense)
    })
}

fn take_all_home() {
    let mut found = false;
    for index in SizeClass::SMALL..SizeClass::COUNT {
        let class = SizeClass::from_index(index);
        // No more than can lie there now, however fast others bring new ones.
        for _ in 0..MIDDLE_KEPT {
            let Some(block) = alloc_kept(class) else { break };
            // SAFETY: a block from a shelf belongs to who took it.
            unsafe { take_home(class, block.as_ptr()) };
            found = true;
        }
    }
    if found {
        work::note();
    }
}

/// # Safety
/// `block` is a block of `class` that is out, and the caller's.
unsafe fn take_home(class: SizeClass, block: *mut u8) {
    let run = Run::at(block, class.granules());
    // SAFETY: passed on to the caller.
    unsafe {
        let kind = NonNull::new(block).map(Segment::kind_at);
        if kind != Some(Kind::Class(class)) {
            fault::die_of_bad_free(block, kind == Some(Kind::None));
        }
        if !HARDENED {
            run.mark_dirty(0, class.size());
        } else if !hardened::middle::release(run, class) {
            // The process has too many mappings, say: the run waits for the next round, without memory if that can be.
            let _ = sys::purge(block, run.len());
            hardened::middle::keep(block);
            return;
        }
        let mut segments = SEGMENTS.lock();
        *segments.out_of(class) -= 1;
        segments.give(run);
    }
}

impl Segments {
    /// Middle blocks of `class` that are out or on a shelf.
    pub(crate) fn out_of(&mut self, class: SizeClass) -> &mut usize {
        &mut self.middle_out[class.index() - SizeClass::SMALL]
    }
}
