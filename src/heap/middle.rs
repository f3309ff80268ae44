//! Middle blocks, from 32 KiB to 8 MiB: runs of granules, with a shelf for each class.
//!
//! A shelf is a few places that threads take blocks from and put blocks into with one atomic exchange, so that the
//! cost of a block that is freed and allocated again does not depend on its size. It is shared between threads: work
//! on a block of this size hides the exchange, and the purger sees what an idle thread left behind. When a
//! run is asked for, all shelves together hold a bounded part of the heap: what lies on one is of no use to the other classes.

use core::ptr::{self, NonNull};

use crate::base::padded::Padded;
use crate::base::sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use crate::config::{HARDENED, MIDDLE_KEPT, MIDDLE_KEPT_BYTES, MIDDLE_KEPT_LEAST, MIDDLE_KEPT_SHARE};
use crate::heap::segment::{Kind, Run, Segment};
use crate::heap::segments::{SEGMENTS, Segments};
use crate::heap::settings::settings;
use crate::heap::size_class::SizeClass;
use crate::heap::{fault, hardened, purge, segments};
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

fn shelf(class: SizeClass) -> (&'static Shelf, &'static [AtomicPtr<u8>]) {
    let shelf = &SHELVES[class.index() - SizeClass::SMALL];
    let settings = settings();
    let places = if settings.background_purger() {
        (MIDDLE_KEPT_BYTES / class.size()).clamp(1, MIDDLE_KEPT)
    } else {
        // Nobody ages what lies here: all shelves together hold half of what may be retained.
        (settings.retain() / (2 * MIDDLE) / class.size()).min(MIDDLE_KEPT)
    };
    let places = if HARDENED { places.max(QUARANTINED) } else { places };
    (shelf, &shelf.places[..places])
}

/// A block of `class`, or null when out of memory.
pub(crate) fn alloc(class: SizeClass) -> *mut u8 {
    match take_from_shelf(class) {
        Some(block) => block.as_ptr(),
        None => take_run(class).map_or(ptr::null_mut(), Run::base),
    }
}

/// A block of `class` whose first `len` bytes are zero, or null when out of memory.
pub(crate) fn alloc_zeroed(class: SizeClass, len: usize) -> *mut u8 {
    if let Some(block) = take_from_shelf(class) {
        // SAFETY: the block is this function's and at least `len` bytes long.
        unsafe { block.write_bytes(0, len) };
        return block.as_ptr();
    }
    let Some(run) = take_run(class) else { return ptr::null_mut() };
    // SAFETY: the run is this function's and at least `len` bytes long.
    unsafe { run.clear(len) };
    run.base()
}

/// # Safety
/// `block` is a block of `class` that is out, and the caller's.
pub(crate) unsafe fn free(class: SizeClass, block: NonNull<u8>) {
    let (shelf, places) = shelf(class);
    if HARDENED {
        if let Some(oldest) = shelf.put_in_turn(places, block) {
            // SAFETY: a block that lay on the shelf belongs to who took it.
            unsafe { take_home(class, oldest.as_ptr()) };
        }
        return;
    }
    for place in places {
        // Relaxed look first: a failed exchange would still fetch the line for writing.
        // What was written to the block is seen by who takes it; for the rest of the order see `purge::note_work`.
        if place.load(Ordering::Relaxed).is_null()
            && place
                .compare_exchange(ptr::null_mut(), block.as_ptr(), Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        {
            shelf.used.store(true, Ordering::Relaxed);
            return;
        }
    }
    // SAFETY: passed on to the caller.
    unsafe { take_home(class, block.as_ptr()) };
}

/// Before a run is taken: sends blocks home from the shelves, class by class in turn, as long as all together hold too
/// much. What lay there when the sizes changed makes room for what is asked for now. (Without a purger the shelves are
/// short.)
fn shed() {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    if !settings().background_purger() {
        return;
    }
    let bound = (segments::in_use() / MIDDLE_KEPT_SHARE).max(MIDDLE_KEPT_LEAST);
    let mut held = held();
    if held <= bound {
        return;
    }
    for _ in 0..MIDDLE {
        let turn = TURN.fetch_add(1, Ordering::Relaxed) % MIDDLE;
        let class = SizeClass::from_index(SizeClass::SMALL + turn);
        while held > bound
            && let Some(block) = take_from_shelf(class)
        {
            held = held.saturating_sub(class.size());
            // SAFETY: a block from a shelf belongs to who took it.
            unsafe { take_home(class, block.as_ptr()) };
        }
    }
    purge::note_dirt();
}

/// Bytes on all shelves.
fn held() -> usize {
    let bytes = |(index, shelf): (usize, &Padded<Shelf>)| {
        let blocks = shelf.places.iter().filter(|place| !place.load(Ordering::Relaxed).is_null()).count();
        blocks * SizeClass::from_index(SizeClass::SMALL + index).size()
    };
    SHELVES.iter().enumerate().map(bytes).sum()
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
        run.mark_dirty(old.size());
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
        while let Some(block) = take_from(places) {
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

fn take_from_shelf(class: SizeClass) -> Option<NonNull<u8>> {
    take_from(shelf(class).1)
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
    shed();
    let mut segments = SEGMENTS.lock();
    let run = segments.take(class.granules())?;
    *segments.out_of(class) += 1;
    drop(segments);
    // SAFETY: the run is this function's.
    unsafe { run.set_class(class) };
    Some(run)
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
            run.mark_dirty(class.size());
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
