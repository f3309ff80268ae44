//! The collection of segments: runs of granules are taken from it and given back to it.
//!
//! Segments stand in lists by the length of their longest free run, so that finding one takes no search, and the
//! fullest that fit are used first. One lock guards it all. Runs are 64 KiB at least, so it is taken once for dozens to
//! thousands of blocks.

use core::ptr::{self, NonNull};

use crate::base::align;
use crate::base::bitmap::Bitmap;
use crate::base::sync::{AtomicUsize, Ordering};
use crate::config::{COMMIT_STEP, GRANULE, GRANULES, HugePages, SEGMENT};
use crate::heap::process;
use crate::heap::region::Regions;
use crate::heap::segment::{HEADER_GRANULES, KIND_NONE, Run, Segment, USABLE_GRANULES};
use crate::heap::size_class::SizeClass;
use crate::vm::{Lock, page_size, platform, sys};

const BUCKETS: usize = GRANULES.ilog2() as usize + 1;
/// The bucket of segments with nothing free.
const FULL: usize = BUCKETS;

/// Copies of two sums, for looks at them without the lock.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static RETAINED: AtomicUsize = AtomicUsize::new(0);

/// All segments.
#[derive(Debug)]
pub(crate) struct Segments {
    regions: Regions,
    buckets: [*mut Segment; BUCKETS + 1],
    all: *mut Segment,
    pub(crate) count: usize,
    pub(crate) committed_granules: usize,
    /// Granules in use, the headers' not among them.
    pub(crate) used_granules: usize,
    /// Pages that are free and may hold data.
    pub(crate) dirty_pages: usize,
    /// Bytes of huge blocks, which count against the memory limit too.
    pub(crate) huge_bytes: usize,
    /// Middle blocks that are out, by class.
    pub(crate) middle_out: [usize; SizeClass::COUNT - SizeClass::SMALL],
}

// SAFETY: segments belong to the struct, which a lock guards.
unsafe impl Send for Segments {}

pub(crate) static SEGMENTS: Lock<Segments> = Lock::new(Segments {
    regions: Regions::new(),
    buckets: [ptr::null_mut(); BUCKETS + 1],
    all: ptr::null_mut(),
    count: 0,
    committed_granules: 0,
    used_granules: 0,
    dirty_pages: 0,
    huge_bytes: 0,
    middle_out: [0; SizeClass::COUNT - SizeClass::SMALL],
});

impl Segments {
    pub(crate) fn reserved(&self) -> usize {
        self.regions.reserved()
    }

    pub(crate) fn regions(&self) -> usize {
        self.regions.count()
    }

    /// What counts against the memory limit, in bytes: blocks in use and what is kept for reuse.
    pub(crate) fn charged(&self) -> usize {
        self.used_granules * GRANULE + self.dirty_pages * page_size() + self.huge_bytes
    }

    /// Takes `len` adjacent granules, committed; dirty ones first, as they cost no page faults. None when out of
    /// memory or over the limit.
    pub(crate) fn take(&mut self, len: usize) -> Option<Run> {
        if self.charged().saturating_add(len * GRANULE) > process::settings().memory_limit() {
            return None;
        }
        let segment = match self.find(len) {
            Some(segment) => segment,
            None => self.add()?,
        };
        // SAFETY: segments in the lists are valid, and the lock makes this the only reference.
        let header = unsafe { &mut *segment.as_ptr() };
        let first = choose(header, len)?;
        self.commit(header, first + len)?;
        self.mark(header, first, len, false);
        self.check();
        Some(Run { segment, first, len })
    }

    /// Takes granules back.
    ///
    /// # Safety
    /// The run came from `take`, is the caller's, and its dirty pages are marked.
    pub(crate) unsafe fn give(&mut self, run: Run) {
        // SAFETY: segments with a run in use are valid.
        let header = unsafe { &mut *run.segment.as_ptr() };
        for granule in run.first..run.first + run.len {
            header.kind[granule].store(KIND_NONE, Ordering::Relaxed);
        }
        self.mark(header, run.first, run.len, true);
        self.check();
    }

    /// Lengthens or shortens a run where it is; false when the granules behind it are not free.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn resize(&mut self, run: Run, len: usize) -> bool {
        // SAFETY: segments with a run in use are valid.
        let header = unsafe { &mut *run.segment.as_ptr() };
        if len <= run.len {
            if len < run.len {
                let tail = Run { first: run.first + len, len: run.len - len, ..run };
                // SAFETY: the tail is part of the caller's run.
                unsafe { self.give(tail) };
            }
            return true;
        }
        let (first, extra) = (run.first + run.len, len - run.len);
        let limit = process::settings().memory_limit();
        let is_free =
            first + extra <= GRANULES && (first..first + extra).all(|granule| header.free.get(granule));
        if !is_free
            || self.charged().saturating_add(extra * GRANULE) > limit
            || self.commit(header, first + extra).is_none()
        {
            return false;
        }
        self.mark(header, first, extra, false);
        self.check();
        true
    }

    /// Moves granules between free and in use, and the segment to the list that it now belongs in.
    fn mark(&mut self, header: &mut Segment, first: usize, len: usize, free: bool) {
        invariant!((first..first + len).all(|granule| header.free.get(granule) != free));
        let dirty: u32 = header.dirty[first..first + len].iter().map(|pages| pages.count_ones()).sum();
        header.free.fill(first, len, free);
        header.aging.fill(first, len, false);
        if free {
            self.used_granules -= len;
            self.dirty_pages += dirty as usize;
        } else {
            self.used_granules += len;
            self.dirty_pages -= dirty as usize;
            header.was_empty = false;
        }
        self.relist(header);
        self.publish();
    }

    fn publish(&self) {
        IN_USE.store(self.used_granules * GRANULE + self.huge_bytes, Ordering::Relaxed);
        RETAINED.store(self.dirty_pages * page_size(), Ordering::Relaxed);
    }

    fn mark_all(&mut self, header: &mut Segment, granules: &Bitmap<{ GRANULES / 64 }>, free: bool) {
        let mut from = 0;
        while let Some((first, len)) = granules.next_run(from) {
            self.mark(header, first, len, free);
            from = first + len;
        }
    }

    /// Takes the segment out of every list and unmaps it.
    ///
    /// # Safety
    /// None of its granules is in use, and the caller holds the purger's lock.
    unsafe fn remove(&mut self, header: &mut Segment) {
        self.unlink(header);
        let mut link = &raw mut self.all;
        // SAFETY: the list's members are valid, and the header is one of them.
        unsafe {
            while *link != &raw mut *header {
                link = &raw mut (**link).next_all;
            }
            *link = header.next_all;
        }
        self.count -= 1;
        self.committed_granules -= header.committed;
        for granule in HEADER_GRANULES..GRANULES {
            self.dirty_pages -= header.dirty[granule].count_ones() as usize;
        }
        // SAFETY: nothing in the segment is used, and nothing leads to it any more.
        unsafe { self.regions.give(header.base()) };
    }

    fn relist(&mut self, header: &mut Segment) {
        let bucket = header.free.longest_run().checked_ilog2().map_or(FULL, |log| log as usize);
        if bucket != header.bucket {
            self.unlink(header);
            self.link(header, bucket);
        }
    }

    fn link(&mut self, header: &mut Segment, bucket: usize) {
        header.bucket = bucket;
        header.prev = ptr::null_mut();
        header.next = self.buckets[bucket];
        // SAFETY: a list's members are valid.
        if let Some(next) = unsafe { header.next.as_mut() } {
            next.prev = header;
        }
        self.buckets[bucket] = header;
    }

    fn unlink(&mut self, header: &mut Segment) {
        // SAFETY: a list's members are valid.
        unsafe {
            match header.prev.as_mut() {
                Some(prev) => prev.next = header.next,
                None => self.buckets[header.bucket] = header.next,
            }
            if let Some(next) = header.next.as_mut() {
                next.prev = header.prev;
            }
        }
    }

    /// A segment with `len` free granules in a row: of those that surely have them, one with the shortest runs, so
    /// that emptier segments can empty.
    fn find(&self, len: usize) -> Option<NonNull<Segment>> {
        let sure = len.next_power_of_two().ilog2() as usize;
        let fits = |segment: &NonNull<Segment>| {
            // SAFETY: a list's members are valid.
            unsafe { segment.as_ref() }.free.find_run(len).is_some()
        };
        if !len.is_power_of_two() {
            // A few of those that may have them.
            let mut next = self.buckets[sure - 1];
            for _ in 0..4 {
                let Some(segment) = NonNull::new(next) else { break };
                if fits(&segment) {
                    return Some(segment);
                }
                // SAFETY: as above.
                next = unsafe { segment.as_ref() }.next;
            }
        }
        (sure..BUCKETS).find_map(|bucket| NonNull::new(self.buckets[bucket]))
    }

    fn add(&mut self) -> Option<NonNull<Segment>> {
        let base = self.regions.take(process::settings().reservation())?;
        let len = HEADER_GRANULES * GRANULE;
        // SAFETY: the segment was reserved just now and nobody knows of it.
        if unsafe { sys::commit(base.as_ptr(), len) }.is_err() {
            // SAFETY: as above.
            unsafe { self.regions.give(base.as_ptr()) };
            return None;
        }
        if process::settings().huge_pages() == HugePages::Always {
            // SAFETY: as above.
            unsafe { platform::advise_huge_pages(base.as_ptr(), SEGMENT) };
        }
        let segment = base.cast::<Segment>();
        // SAFETY: the header is committed zero memory, which is a valid header, and this is the only reference.
        let header = unsafe { &mut *segment.as_ptr() };
        header.free.fill(HEADER_GRANULES, USABLE_GRANULES, true);
        header.committed = HEADER_GRANULES;
        header.next_all = self.all;
        self.all = header;
        self.count += 1;
        self.committed_granules += HEADER_GRANULES;
        self.link(header, USABLE_GRANULES.ilog2() as usize);
        Some(segment)
    }

    /// Commits at least the first `end` granules.
    fn commit(&mut self, header: &mut Segment, end: usize) -> Option<()> {
        let from = header.committed;
        if end <= from {
            return Some(());
        }
        // More than is needed, for fewer calls; just what is needed, where that is refused.
        for to in [align::up(end, COMMIT_STEP), end] {
            // SAFETY: the range lies within the segment.
            let start = unsafe { header.base().add(from * GRANULE) };
            // SAFETY: nobody has anything in the range yet.
            if unsafe { sys::commit(start, (to - from) * GRANULE) }.is_ok() {
                header.committed = to;
                self.committed_granules += to - from;
                return Some(());
            }
        }
        None
    }

    /// Gives back address space that no segment uses; returns how many bytes.
    pub(crate) fn release_reserved(&mut self) -> usize {
        self.regions.release_held()
    }

    /// Debug builds: the lists agree with the maps. Every segment is looked at while there are few.
    fn check(&self) {
        if !cfg!(debug_assertions) || self.count > 8 {
            return;
        }
        let (mut used, mut dirty, mut committed, mut count) = (0, 0, 0, 0);
        let mut next = self.all;
        // SAFETY: the list's members are valid.
        while let Some(header) = unsafe { next.as_ref() } {
            used += USABLE_GRANULES - header.free.count();
            for granule in (HEADER_GRANULES..GRANULES).filter(|&granule| header.free.get(granule)) {
                dirty += header.dirty[granule].count_ones() as usize;
            }
            let bucket = header.free.longest_run().checked_ilog2().map_or(FULL, |log| log as usize);
            invariant!(bucket == header.bucket);
            committed += header.committed;
            count += 1;
            next = header.next_all;
        }
        invariant!((used, dirty) == (self.used_granules, self.dirty_pages));
        invariant!((committed, count) == (self.committed_granules, self.count));
    }
}

/// Purges free granules that were dirty in the last round too, and unmaps segments that were empty in it too; all such
/// granules and segments, if `all`. Returns how many bytes were given back, and whether any remain. The purger's lock
/// is held: nobody else takes segments out of the list.
pub(crate) fn purge(all: bool) -> (usize, bool) {
    let mut bytes = 0;
    let mut more = false;
    let mut next = SEGMENTS.lock().all;
    while let Some(segment) = NonNull::new(next) {
        // Granules that wait for their system call are taken, so that nobody else takes them, but not one by one.
        let mut segments = SEGMENTS.lock();
        // SAFETY: the segment is in the list, which only the holder of the purger's lock shortens; the lock makes
        // this the only reference.
        let header = unsafe { &mut *segment.as_ptr() };
        let dirty = header.free_and_dirty();
        let chosen = if all { dirty } else { dirty.and(&header.aging) };
        segments.mark_all(header, &chosen, false);
        header.aging = header.free_and_dirty();
        more |= !header.aging.is_zero();
        drop(segments);

        let mut from = 0;
        while let Some((first, len)) = chosen.next_run(from) {
            // SAFETY: the granules were free and are taken.
            bytes += unsafe { Run { segment, first, len }.purge() };
            from = first + len;
        }

        let mut segments = SEGMENTS.lock();
        // SAFETY: as above.
        let header = unsafe { &mut *segment.as_ptr() };
        segments.mark_all(header, &chosen, true);
        next = header.next_all;
        if header.is_empty() {
            if all || header.was_empty {
                bytes += HEADER_GRANULES * GRANULE;
                // SAFETY: no granule is in use.
                unsafe { segments.remove(header) };
            } else {
                header.was_empty = true;
                more = true;
            }
        }
        segments.check();
    }
    (bytes, more)
}

/// Counts the bytes of a huge block against the memory limit; false when they exceed it.
pub(crate) fn charge(bytes: usize) -> bool {
    let mut segments = SEGMENTS.lock();
    let fits = segments.charged().saturating_add(bytes) <= process::settings().memory_limit();
    if fits {
        segments.huge_bytes += bytes;
        segments.publish();
    }
    fits
}

/// Takes back what [`charge`] counted.
pub(crate) fn uncharge(bytes: usize) {
    let mut segments = SEGMENTS.lock();
    segments.huge_bytes -= bytes;
    segments.publish();
}

/// Bytes of granules and huge blocks in use, touched or not, and of free pages that are kept.
pub(crate) fn footprint() -> usize {
    IN_USE.load(Ordering::Relaxed) + RETAINED.load(Ordering::Relaxed)
}

/// Whether more is free and kept for reuse than may be whatever its age: for processes without a purger thread.
pub(crate) fn retains_too_much() -> bool {
    RETAINED.load(Ordering::Relaxed)
        > process::settings().retain().saturating_add(IN_USE.load(Ordering::Relaxed) / 8)
}

/// The first granule of a run of `len` free ones: dirty if possible.
fn choose(header: &Segment, len: usize) -> Option<usize> {
    header.free_and_dirty().find_run(len).or_else(|| header.free.find_run(len))
}
