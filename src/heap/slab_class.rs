//! The slabs of one size class in one group of processors: where blocks come from in bulk and where they go home.
//!
//! A slab belongs to the group that it was made in, and its blocks go home there, whoever brings them. Before a group makes
//! a slab it takes from others that have more free than a slab holds: so what threads leave behind when they move to
//! another group is a slab's worth.
//!
//! Slabs with free blocks are in one of two lists. *Active*: a block left or came home lately; a slab that was full
//! goes to the front, so that the fullest are used first and the emptiest can empty. *Settled*: nothing changed for a
//! round of the purger, and the free whole pages have been purged.

use core::ptr::{self, NonNull};

use crate::base::padded::Padded;
use crate::config::{GROUPS_MAX, SLAB_LEAD};
use crate::heap::group::Group;
use crate::heap::magazine::{MARKS, Slot};
use crate::heap::segment::{Run, Segment};
use crate::heap::segments::SEGMENTS;
use crate::heap::size_class::SizeClass;
use crate::heap::slab::{self, Home, Slab};
use crate::heap::{fault, middle, round, window};
use crate::vm::{Lock, page_size};

#[derive(Debug)]
struct List {
    head: *mut Slab,
    tail: *mut Slab,
    len: usize,
}

#[derive(Debug)]
struct SlabClass {
    active: List,
    settled: List,
    slabs: usize,
    /// Blocks that are out: with callers, in magazines or in the depot.
    out: usize,
}

// SAFETY: slabs belong to the struct, which a lock guards.
unsafe impl Send for SlabClass {}

static CLASSES: [[Padded<Lock<SlabClass>>; SizeClass::SMALL]; GROUPS_MAX] =
    [const { [const { Padded(Lock::new(SlabClass::new())) }; SizeClass::SMALL] }; GROUPS_MAX];

fn slabs(group: Group, class: SizeClass) -> &'static Lock<SlabClass> {
    &CLASSES[group.index()][class.index()]
}

/// Counts of one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) slabs: usize,
    pub(crate) out: usize,
}

/// Takes up to `blocks.len()` free blocks, those of one slab in the order of their addresses, from a new slab if need
/// be; returns how many. Zero only when out of memory. Fewer than asked for rather than a second new slab.
pub(crate) fn take(class: SizeClass, blocks: &mut [Slot]) -> usize {
    let group = Group::current();
    let mut own = slabs(group, class).lock();
    let taken = own.take(blocks);
    let is_first = own.slabs == 0;
    drop(own);
    if taken > 0 {
        return taken;
    }
    let taken = take_from_others(group, class, class.slab_blocks(), blocks);
    if taken > 0 {
        return taken;
    }
    // Without the lock: a new slab may cost a system call.
    let Some(slab) = new_slab(group, class, is_first) else {
        // Another thread may have freed in the meantime.
        let taken = slabs(group, class).lock().take(blocks);
        return if taken > 0 { taken } else { take_from_others(group, class, 0, blocks) };
    };
    let mut slabs = slabs(group, class).lock();
    slabs.slabs += 1;
    // SAFETY: the slab was made just now and is in no list.
    unsafe { slabs.active.push_front(slab, Home::Active) };
    slabs.take(blocks)
}

/// The same from a group other than `group` that has more than `spared` free blocks.
fn take_from_others(group: Group, class: SizeClass, spared: usize, blocks: &mut [Slot]) -> usize {
    Group::all()
        .filter(|other| *other != group)
        .map(|other| {
            let mut slabs = slabs(other, class).lock();
            if slabs.free(class) > spared { slabs.take(blocks) } else { 0 }
        })
        .find(|taken| *taken > 0)
        .unwrap_or(0)
}

/// Takes blocks home. Slabs that become empty go back to their segments.
///
/// # Safety
/// Each block is a block of `class` that is out, and the caller's.
pub(crate) unsafe fn give(class: SizeClass, blocks: &[Slot]) {
    let mut emptied = ptr::null_mut();
    let mut left = blocks;
    while let Some(&first) = left.first() {
        // SAFETY: passed on to the caller.
        let group = unsafe { Segment::group_of(Segment::slab_of(first)) };
        let mut slabs = slabs(group, class).lock();
        // SAFETY: passed on to the caller.
        unsafe {
            left = slabs.give(class, left, &mut emptied);
            while let Some(&next) = left.first()
                && Segment::group_of(Segment::slab_of(next)) == group
            {
                left = slabs.give(class, left, &mut emptied);
            }
        }
    }
    // SAFETY: the emptied slabs are in no list but this one.
    unsafe { release(emptied) };
}

/// Purges the free pages of slabs in which nothing changed for a round (of all, if `all`). Returns how many
/// bytes were given back, and whether changed slabs remain. The purger's lock is held.
pub(crate) fn purge(group: Group, class: SizeClass, all: bool) -> (usize, bool) {
    let lock = slabs(group, class);
    let mut purged = 0;
    let mut more = false;
    let mut left = lock.lock().active.len;
    while left > 0 {
        let mut slabs = lock.lock();
        let Some(tail) = NonNull::new(slabs.active.tail) else { break };
        left -= 1;
        // SAFETY: slabs in a list are valid, and the lock makes this the only reference.
        let slab = unsafe { &mut *tail.as_ptr() };
        // SAFETY: it is in the active list.
        unsafe { slabs.active.remove(slab) };
        if !all && !round::is_past(slab.stamp) {
            more = true;
            // SAFETY: it is in no list now.
            unsafe { slabs.active.push_front(slab, Home::Active) };
            continue;
        }
        let segment = Run::at(slab.base, class.granules()).segment;
        let (base, pages, out) = (slab.base, slab.purgeable(Segment::was_huge(segment)), slab.out);
        slab.home = Home::Purging;
        drop(slabs);
        if pages != 0 {
            Segment::keep_pages_small(segment);
        }
        // SAFETY: the pages hold free blocks only, and nobody takes blocks from a slab that is off the lists.
        let pages = unsafe { slab::purge_pages(base, pages) };

        let mut slabs = lock.lock();
        // SAFETY: the slab stays where it is while it is being purged, and the lock makes this the only reference.
        let slab = unsafe { &mut *tail.as_ptr() };
        purged += (pages & slab.touched()).count_ones() as usize * page_size();
        // Pages that are locked into memory stay, and keep their contents.
        slab.mark_purged(pages);
        // SAFETY: the slab is in no list.
        unsafe {
            if slab.is_empty() {
                slab.home = Home::None;
                slab.next = ptr::null_mut();
                slabs.slabs -= 1;
                drop(slabs);
                release(slab);
            } else if slab.out == out {
                slabs.settled.push_front(slab, Home::Settled);
            } else {
                more = true;
                slabs.active.push_front(slab, Home::Active);
            }
        }
    }
    (purged, more)
}

/// Whether a block is free and in its slab: neither with a caller, nor in a magazine, nor in a depot.
///
/// # Safety
/// `block` is a block of `class` in a slab.
pub(crate) unsafe fn is_home(class: SizeClass, block: *mut u8) -> bool {
    // SAFETY: passed on to the caller; the lock makes this the only reference.
    unsafe {
        let slab = Segment::slab_of(block);
        let _slabs = slabs(Segment::group_of(slab), class).lock();
        (*slab).is_home(block)
    }
}

pub(crate) fn counts(class: SizeClass) -> Counts {
    Group::all().fold(Counts { slabs: 0, out: 0 }, |sum, group| {
        let slabs = slabs(group, class).lock();
        Counts { slabs: sum.slabs + slabs.slabs, out: sum.out + slabs.out }
    })
}

#[cfg(arenite_lock_counts)]
pub(crate) fn lock_counts(class: SizeClass) -> impl Iterator<Item = crate::vm::lock_counts::LockCounts> {
    Group::all().map(move |group| slabs(group, class).counts())
}

/// Takes the locks for a fork.
pub(crate) fn freeze() {
    Group::all().flat_map(|group| &CLASSES[group.index()]).for_each(|class| class.acquire());
}

/// # Safety
/// Follows [`freeze`] in the same thread, or in the child's only one.
pub(crate) unsafe fn thaw() {
    // SAFETY: passed on to the caller.
    Group::all().flat_map(|group| &CLASSES[group.index()]).for_each(|class| unsafe { class.release() });
}

fn new_slab(group: Group, class: SizeClass, is_first: bool) -> Option<&'static mut Slab> {
    // A class that filled a slab will fill another; most never fill the first.
    let run = middle::granules(class.granules(), !is_first)?;
    let (slab, bits) = run.slab();
    // SAFETY: the run is this function's, and with it the places for its descriptor and bitmap. Descriptors lie in
    // headers, which stay mapped as long as their slabs live.
    unsafe {
        run.set_group(group);
        run.set_class(class);
        window::set(run.base(), class.granules(), Some(class));
        slab.write(Slab::new(run.base(), bits, class, run.dirty_pages()));
        Some(&mut *slab)
    }
}

/// Gives the runs of slabs, linked by `next`, back to their segments.
///
/// # Safety
/// The slabs are empty, in no list, and not used any more.
unsafe fn release(first: *mut Slab) {
    let mut next = first;
    // SAFETY: passed on to the caller; the link is read before the run is given up.
    while let Some(slab) = unsafe { next.as_mut() } {
        next = slab.next;
        let run = Run::at(slab.base, slab.class.granules());
        // SAFETY: the run is the slab's, and so the caller's.
        unsafe {
            run.set_dirty_pages(slab.touched());
            window::set(slab.base, slab.class.granules(), None);
            SEGMENTS.lock().give(run);
        }
    }
}

impl SlabClass {
    const fn new() -> SlabClass {
        SlabClass { active: List::new(), settled: List::new(), slabs: 0, out: 0 }
    }

    /// Blocks that are free; those of slabs that are being purged among them.
    fn free(&self, class: SizeClass) -> usize {
        self.slabs * (class.slab_blocks() - SLAB_LEAD) - self.out
    }

    fn take(&mut self, blocks: &mut [Slot]) -> usize {
        let mut taken = 0;
        while taken < blocks.len() {
            let from_active = !self.active.head.is_null();
            let head = if from_active { self.active.head } else { self.settled.head };
            // SAFETY: slabs in a list are valid, and the lock makes this the only reference.
            let Some(slab) = (unsafe { head.as_mut() }) else { break };
            taken += slab.take(&mut blocks[taken..]);
            slab.stamp = round::current();
            let list = if from_active { &mut self.active } else { &mut self.settled };
            // SAFETY: the slab is the head of this list.
            unsafe {
                if slab.is_full() {
                    list.remove(slab);
                } else if !from_active {
                    list.remove(slab);
                    self.active.push_front(slab, Home::Active);
                }
            }
        }
        self.out += taken;
        taken
    }

    /// Takes those blocks home that lie in the slab of the first of them, up to the first that does not; returns the
    /// others. Blocks that were freed together often lie together.
    ///
    /// # Safety
    /// Each block is a block of this class that is out, and the caller's. There is one, of this group.
    unsafe fn give<'b>(
        &mut self,
        class: SizeClass,
        blocks: &'b [Slot],
        emptied: &mut *mut Slab,
    ) -> &'b [Slot] {
        // SAFETY: passed on to the caller; the lock makes this the only reference.
        let slab = unsafe { &mut *Segment::slab_of(blocks[0]) };
        let given = if slab.class == class { slab.give(blocks) } else { 0 };
        if given == 0 {
            // A block that comes home from a magazine may still be marked.
            fault::die_of_bad_free(blocks[0].map_addr(|addr| addr & !MARKS), slab.class == class);
        }
        slab.stamp = round::current();
        self.out -= given;
        // SAFETY: `home` says which list the slab is in.
        unsafe {
            match slab.home {
                Home::Purging => return &blocks[given..],
                Home::Active => {}
                Home::None => self.active.push_front(slab, Home::Active),
                Home::Settled => {
                    self.settled.remove(slab);
                    self.active.push_front(slab, Home::Active);
                }
            }
            // One empty slab may stay, so that a class that goes up and down by a block does not make slabs anew.
            if slab.is_empty() && self.active.len + self.settled.len > 1 {
                self.active.remove(slab);
                self.slabs -= 1;
                slab.next = *emptied;
                *emptied = slab;
            }
        }
        &blocks[given..]
    }
}

impl List {
    const fn new() -> List {
        List { head: ptr::null_mut(), tail: ptr::null_mut(), len: 0 }
    }

    /// # Safety
    /// The slab is valid and in no list.
    unsafe fn push_front(&mut self, slab: &mut Slab, home: Home) {
        slab.home = home;
        slab.prev = ptr::null_mut();
        slab.next = self.head;
        // SAFETY: a list's members are valid.
        match unsafe { self.head.as_mut() } {
            Some(head) => head.prev = slab,
            None => self.tail = slab,
        }
        self.head = slab;
        self.len += 1;
    }

    /// # Safety
    /// The slab is in this list.
    unsafe fn remove(&mut self, slab: &mut Slab) {
        slab.home = Home::None;
        // SAFETY: a list's members are valid.
        unsafe {
            match slab.prev.as_mut() {
                Some(prev) => prev.next = slab.next,
                None => self.head = slab.next,
            }
            match slab.next.as_mut() {
                Some(next) => next.prev = slab.prev,
                None => self.tail = slab.prev,
            }
        }
        self.len -= 1;
    }
}
