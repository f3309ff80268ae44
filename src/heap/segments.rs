//! The collection of segments: runs of granules are taken from it and given back to it.
//!
//! Segments stand in lists by the length of their longest free run, so that finding one takes no search, and the
//! fullest that fit are used first. What will be filled, once there is some, has segments of its own, made of huge pages:
//! the first slabs of most classes are never filled, and would make them resident for nothing. One lock guards it all. Runs are
//! 64 KiB at least, so it is taken once for dozens to thousands of blocks.

use core::ptr::{self, NonNull};

use crate::base::align;
use crate::config::{COMMIT_STEP, DENSE_FROM, GRANULE, GRANULES, HARDENED, HUGE_PAGE, HugePages, SEGMENT};
use crate::heap::group::Group;
use crate::heap::region::Regions;
use crate::heap::segment::{Granules, HEADER_GRANULES, LEAD_GRANULES, Run, Segment, State, USABLE_GRANULES};
use crate::heap::settings::settings;
use crate::heap::size_class::SizeClass;
use crate::heap::{directory, footprint, window};
use crate::vm::release::release;
use crate::vm::{Lock, page_size, sys};

const BUCKETS: usize = GRANULES.ilog2() as usize + 1;
/// The bucket of segments with nothing free.
const FULL: usize = BUCKETS;

/// All segments.
#[derive(Debug)]
pub(crate) struct Segments {
    regions: Regions,
    /// For those that are not dense, and for those that are.
    buckets: [[*mut Segment; BUCKETS + 1]; 2],
    all: *mut Segment,
    pub(crate) count: usize,
    pub(crate) committed_granules: usize,
    /// Granules in use, the headers' not among them.
    pub(crate) used_granules: usize,
    /// Those of them that will be filled.
    dense_granules: usize,
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
    buckets: [[ptr::null_mut(); BUCKETS + 1]; 2],
    all: ptr::null_mut(),
    count: 0,
    committed_granules: 0,
    used_granules: 0,
    dense_granules: 0,
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

    /// Whether `bytes` more keep within the memory limit. Blocks in use count, and what is kept for reuse.
    fn is_within_limit(&self, bytes: usize) -> bool {
        let charged = self.used_granules * GRANULE + self.dirty_pages * page_size() + self.huge_bytes;
        charged.saturating_add(bytes) <= settings().memory_limit()
    }

    /// Takes `len` adjacent dirty granules, which cost no page faults. None when there are none in the segments that
    /// [`Segments::take`] would choose. `dense` as there.
    pub(crate) fn take_used(&mut self, len: usize, dense: bool) -> Option<Run> {
        let run = [dense, !dense].into_iter().find_map(|kind| {
            let segment = self.find(len, kind)?;
            Some(Run { segment, first: choose_dirty(segment, len)?, len })
        })?;
        self.take_run(run, dense).then_some(run)
    }

    /// Takes `len` adjacent granules, committed; dirty ones first. `dense`: they will be filled. None when out of memory or
    /// over the limit.
    pub(crate) fn take(&mut self, len: usize, dense: bool) -> Option<Run> {
        let is_apart = dense && self.are_dense_apart();
        let mut segment = self.find(len, is_apart);
        if segment.is_none() && self.is_within_limit(len * GRANULE) {
            segment = self.add(is_apart);
        }
        // What is refused here may be committed there already.
        segment.and_then(|segment| self.take_in(segment, len, dense)).or_else(|| {
            let other = self.find(len, !is_apart)?;
            self.take_in(other, len, dense)
        })
    }

    fn take_in(&mut self, segment: NonNull<Segment>, len: usize, dense: bool) -> Option<Run> {
        let run = Run { segment, first: choose(segment, len)?, len };
        self.take_run(run, dense).then_some(run)
    }

    /// Whether what will be filled has segments of its own.
    fn are_dense_apart(&self) -> bool {
        let from = if settings().background_purger() {
            DENSE_FROM
        } else if HARDENED {
            usize::MAX
        } else {
            // Slabs with parked blocks are resident as a whole there, until a round: each group has some.
            DENSE_FROM + (Group::count() - 1) * SEGMENT
        };
        settings().huge_pages() == HugePages::Large
            && self.dense_granules * GRANULE >= from
            // Where addresses are short.
            && settings().reservation() > SEGMENT
    }

    /// Takes these granules, which are free; false when out of memory or over the limit.
    fn take_run(&mut self, run: Run, dense: bool) -> bool {
        // Its dirty pages count already.
        if !self.is_within_limit(run.len * GRANULE - run.count_dirty() * page_size())
            || !self.commit(run.segment, run.first + run.len)
        {
            return false;
        }
        self.mark(run, false);
        // SAFETY: the lock makes this the only reference.
        let state = unsafe { state(run.segment) };
        state.was_empty = false;
        if dense {
            state.dense.fill(run.first, run.len, true);
            self.dense_granules += run.len;
        }
        self.relist(run.segment);
        self.check();
        true
    }

    /// Takes granules back.
    ///
    /// # Safety
    /// The run came from `take`, is the caller's, and its dirty pages are marked.
    pub(crate) unsafe fn give(&mut self, run: Run) {
        // SAFETY: passed on to the caller.
        unsafe { run.clear_kind() };
        self.mark(run, true);
        self.relist(run.segment);
        self.check();
    }

    /// Lengthens or shortens a run where it is; false when the granules behind it are not free.
    ///
    /// # Safety
    /// The run is the caller's.
    pub(crate) unsafe fn resize(&mut self, run: Run, len: usize) -> bool {
        if len <= run.len {
            if len < run.len {
                let tail = Run { first: run.first + len, len: run.len - len, ..run };
                // SAFETY: the tail is part of the caller's run.
                unsafe { self.give(tail) };
            }
            return true;
        }
        let more = Run { first: run.first + run.len, len: len - run.len, ..run };
        // SAFETY: the lock makes this the only reference.
        let free = unsafe { &state(run.segment).free };
        let is_free = more.first + more.len <= GRANULES
            && (more.first..more.first + more.len).all(|granule| free.get(granule));
        // Only middle blocks grow.
        is_free && self.take_run(more, true)
    }

    /// Moves granules between free and in use.
    fn mark(&mut self, run: Run, free: bool) {
        // SAFETY: the lock makes this the only reference.
        let state = unsafe { state(run.segment) };
        invariant!((run.first..run.first + run.len).all(|granule| state.free.get(granule) != free));
        state.free.fill(run.first, run.len, free);
        state.aging.fill(run.first, run.len, false);
        if free {
            self.used_granules -= run.len;
            let granules = run.first..run.first + run.len;
            self.dense_granules -= granules.filter(|&granule| state.dense.get(granule)).count();
            state.dense.fill(run.first, run.len, false);
            self.dirty_pages += run.count_dirty();
        } else {
            self.used_granules += run.len;
            self.dirty_pages -= run.count_dirty();
        }
        self.publish();
    }

    fn mark_all(&mut self, segment: NonNull<Segment>, granules: &Granules, free: bool) {
        let mut from = 0;
        while let Some((first, len)) = granules.next_run(from) {
            self.mark(Run { segment, first, len }, free);
            from = first + len;
        }
        self.relist(segment);
    }

    fn publish(&self) {
        let in_use = self.used_granules * GRANULE + self.huge_bytes;
        footprint::publish(in_use, self.dirty_pages * page_size());
    }

    /// Moves the segment to the list that it belongs in.
    fn relist(&mut self, segment: NonNull<Segment>) {
        // SAFETY: the lock makes this the only reference.
        let state = unsafe { state(segment) };
        let bucket = bucket(state);
        if bucket != state.bucket {
            self.unlink(segment);
            self.link(segment, bucket);
        }
    }

    fn link(&mut self, segment: NonNull<Segment>, bucket: usize) {
        // SAFETY: a list's members are valid, and the lock makes these the only references.
        unsafe {
            let state = state(segment);
            let list = &mut self.buckets[usize::from(state.is_dense)][bucket];
            let head = *list;
            *list = segment.as_ptr();
            state.bucket = bucket;
            state.prev = ptr::null_mut();
            state.next = head;
            if let Some(head) = NonNull::new(head) {
                self::state(head).prev = segment.as_ptr();
            }
        }
    }

    fn unlink(&mut self, segment: NonNull<Segment>) {
        // SAFETY: a list's members are valid, and the lock makes these the only references.
        unsafe {
            let State { next, prev, bucket, is_dense, .. } = *state(segment);
            match NonNull::new(prev) {
                Some(prev) => state(prev).next = next,
                None => self.buckets[usize::from(is_dense)][bucket] = next,
            }
            if let Some(next) = NonNull::new(next) {
                state(next).prev = prev;
            }
        }
    }

    /// A segment with `len` free granules in a row: of those that surely have them, one with the shortest runs, so
    /// that emptier segments can empty.
    fn find(&self, len: usize, dense: bool) -> Option<NonNull<Segment>> {
        let buckets = &self.buckets[usize::from(dense)];
        let sure = len.next_power_of_two().ilog2() as usize;
        if !len.is_power_of_two() {
            // A few of those that may have them.
            let mut next = buckets[sure - 1];
            for _ in 0..4 {
                let Some(segment) = NonNull::new(next) else { break };
                // SAFETY: a list's members are valid, and the lock makes this the only reference.
                let state = unsafe { state(segment) };
                if state.free.find_run(len).is_some() {
                    return Some(segment);
                }
                next = state.next;
            }
        }
        (sure..BUCKETS).find_map(|bucket| NonNull::new(buckets[bucket]))
    }

    fn add(&mut self, dense: bool) -> Option<NonNull<Segment>> {
        let base = self.regions.take(settings().reservation())?;
        // The first huge page is made when the header is touched, of what is committed then. It would be most of what is
        // resident of many segments that are hardly touched, so there is one. Hardened, there is a gap.
        let is_first =
            dense && !HARDENED && self.buckets[usize::from(dense)].iter().all(|list| list.is_null());
        let steps = [is_first.then_some(HUGE_PAGE / GRANULE), Some(HEADER_GRANULES)];
        // SAFETY: the segment was reserved just now and nobody knows of it.
        let commit = |granules: &usize| unsafe { sys::commit(base.as_ptr(), granules * GRANULE) }.is_ok();
        let Some(committed) = steps.into_iter().flatten().find(commit) else {
            self.regions.keep(base.as_ptr());
            return None;
        };
        let segment = base.cast::<Segment>();
        if dense || settings().huge_pages() == HugePages::Always {
            // SAFETY: as above.
            unsafe { Segment::ask_for_huge_pages(segment) };
        }
        // SAFETY: the header is committed zero memory, which is a valid header, and this is the only reference.
        let state = unsafe { state(segment) };
        state.free.fill(LEAD_GRANULES, USABLE_GRANULES, true);
        state.committed = committed.max(LEAD_GRANULES);
        state.is_dense = dense;
        state.next_all = self.all;
        if let Some(head) = NonNull::new(self.all) {
            // SAFETY: the list's members are valid, and the new segment is not among them.
            unsafe { self::state(head) }.prev_all = segment.as_ptr();
        }
        self.all = segment.as_ptr();
        self.count += 1;
        self.committed_granules += state.committed;
        self.link(segment, bucket(state));
        directory::add(base.as_ptr());
        window::open(base);
        Some(segment)
    }

    /// Commits at least the first `end` granules; false when that is refused.
    fn commit(&mut self, segment: NonNull<Segment>, end: usize) -> bool {
        // SAFETY: the lock makes this the only reference.
        let state = unsafe { state(segment) };
        let from = state.committed;
        if end <= from {
            return true;
        }
        // More than is needed, for fewer calls; just what is needed, where that is refused. The kernel makes no huge page
        // of what is committed in part.
        let step = if Segment::is_huge(segment) { HUGE_PAGE / GRANULE } else { COMMIT_STEP };
        let committed = [align::up(end, step), end].into_iter().find(|to| {
            let start = segment.as_ptr().cast::<u8>().wrapping_add(from * GRANULE);
            // SAFETY: the range lies within the segment, and nobody has anything in it yet.
            unsafe { sys::commit(start, (to - from) * GRANULE) }.is_ok()
        });
        if let Some(to) = committed {
            state.committed = to;
            self.committed_granules += to - from;
        }
        committed.is_some()
    }

    /// Takes an empty segment out of every list. Its slot is its region's again at once: when it is unmapped, its addresses
    /// may be another region's.
    ///
    /// # Safety
    /// None of its granules is in use, and the caller holds the purger's lock.
    unsafe fn remove(&mut self, segment: NonNull<Segment>) {
        self.unlink(segment);
        // SAFETY: the lists' members are valid, the segment is one of them, and the lock makes these the only
        // references.
        unsafe {
            let State { next_all, prev_all, committed, .. } = *state(segment);
            match NonNull::new(prev_all) {
                Some(prev) => state(prev).next_all = next_all,
                None => self.all = next_all,
            }
            if let Some(next) = NonNull::new(next_all) {
                state(next).prev_all = prev_all;
            }
            self.count -= 1;
            self.committed_granules -= committed;
        }
        let all = Run { segment, first: LEAD_GRANULES, len: USABLE_GRANULES };
        self.dirty_pages -= all.count_dirty();
        self.regions.give(segment.as_ptr().cast());
        self.publish();
        self.check();
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
        let (mut used, mut dense, mut dirty, mut committed, mut count) = (0, 0, 0, 0, 0);
        let (mut next, mut last) = (self.all, ptr::null_mut());
        while let Some(segment) = NonNull::new(next) {
            // SAFETY: the list's members are valid, and the lock makes this the only reference.
            let state = unsafe { state(segment) };
            invariant!(state.prev_all == last);
            last = segment.as_ptr();
            used += USABLE_GRANULES - state.free.count();
            dense += state.dense.count();
            invariant!(state.dense.and(&state.free).is_zero());
            let mut from = 0;
            while let Some((first, len)) = state.free.next_run(from) {
                dirty += Run { segment, first, len }.count_dirty();
                from = first + len;
            }
            invariant!(bucket(state) == state.bucket);
            committed += state.committed;
            count += 1;
            next = state.next_all;
        }
        invariant!((used, dense, dirty) == (self.used_granules, self.dense_granules, self.dirty_pages));
        invariant!((committed, count) == (self.committed_granules, self.count));
    }
}

/// What the lock guards of a segment.
///
/// # Safety
/// The segment is in the collection, the caller holds the collection's lock, and lets no two references overlap.
unsafe fn state<'a>(segment: NonNull<Segment>) -> &'a mut State {
    // SAFETY: passed on to the caller.
    unsafe { &mut (*segment.as_ptr()).state }
}

fn bucket(state: &State) -> usize {
    state.free.longest_run().checked_ilog2().map_or(FULL, |log| log as usize)
}

/// The first granule of a run of `len` free ones: dirty if possible.
fn choose(segment: NonNull<Segment>, len: usize) -> Option<usize> {
    // SAFETY: the caller holds the lock.
    choose_dirty(segment, len).or_else(|| unsafe { &state(segment).free }.find_run(len))
}

fn choose_dirty(segment: NonNull<Segment>, len: usize) -> Option<usize> {
    // SAFETY: the caller holds the lock.
    Segment::idle(segment, unsafe { state(segment) }).find_run(len)
}

/// Purges free granules that were dirty in the last round too, and unmaps segments that were empty in it too; all such
/// granules and segments, if `all`. Returns how many bytes were given back, and whether a further round would find some.
/// The purger's lock is held: nobody else takes segments out of the list.
pub(crate) fn purge(all: bool) -> (usize, bool) {
    let mut bytes = 0;
    let mut more = false;
    let mut next = SEGMENTS.lock().all;
    while let Some(segment) = NonNull::new(next) {
        let mut segments = SEGMENTS.lock();
        // SAFETY: the segment is in the list, which only the holder of the purger's lock shortens; the lock makes
        // this the only reference.
        let (idle, aging) = unsafe { (Segment::idle(segment, state(segment)), state(segment).aging) };
        let chosen = if all { idle } else { idle.and(&aging) };
        // Granules that wait for their system call count as taken, so that nobody else takes them.
        segments.mark_all(segment, &chosen, false);
        // SAFETY: as above.
        let state = unsafe { state(segment) };
        state.aging = state.free.and(&idle);
        // Those that the kernel refuses to take do not count: there would be no end.
        more |= !state.aging.is_zero();
        drop(segments);

        let mut from = 0;
        while let Some((first, len)) = chosen.next_run(from) {
            // SAFETY: the granules were free and are taken.
            bytes += unsafe { Run { segment, first, len }.purge() };
            from = first + len;
        }

        let mut segments = SEGMENTS.lock();
        segments.mark_all(segment, &chosen, true);
        // SAFETY: as above.
        let state = unsafe { self::state(segment) };
        next = state.next_all;
        if !state.is_empty() {
            continue;
        }
        if !all && !state.was_empty {
            state.was_empty = true;
            more = true;
            continue;
        }
        // SAFETY: no granule is in use. Then nothing leads to the segment any more, so it can be unmapped without
        // the lock.
        unsafe {
            segments.remove(segment);
            drop(segments);
            directory::remove(segment.as_ptr().cast());
            release(segment.as_ptr().cast(), SEGMENT);
            bytes += HEADER_GRANULES * GRANULE;
        }
    }
    (bytes, more)
}

/// Counts the bytes of a huge block against the memory limit; false when they exceed it.
pub(crate) fn charge(bytes: usize) -> bool {
    let mut segments = SEGMENTS.lock();
    let fits = segments.is_within_limit(bytes);
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
