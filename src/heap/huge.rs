//! Huge blocks: above 8 MiB, or aligned to more than a granule. Each has a mapping of its own:
//!
//! ```text
//!  start         a multiple of SEGMENT                                              start + mapped
//!  | slack       | header ... offset | data: size bytes in use | room to grow       |
//! ```
//!
//! The mapping is readable and writable throughout and twice as long as asked for, which costs nothing until it is
//! touched: growing into the room takes no system call. Beyond it the pages move to a new mapping by `mremap`, and no
//! byte is copied. Where the system never overcommits, or limits address space, mappings are made to measure.
//!
//! Freed blocks are kept for a moment (a buffer of 20 MiB costs milliseconds of page faults each time), bounded in
//! bytes, and unmapped by the purger, or for a newer one.

use core::ptr::{self, NonNull};

use crate::base::align;
use crate::base::sync::{AtomicUsize, Ordering};
use crate::config::{
    GRANULES, HARDENED, HUGE_CLEARED, HUGE_KEPT, HUGE_KEPT_BYTES, HUGE_SLACK_SHARE, HugePages, PAGE_MIN,
    SEGMENT,
};
use crate::heap::huge_mapping::{
    advise_growing, is_scarce, map_aligned, map_aligned_to_measure, roomy, whole_pages,
};
use crate::heap::segment::Segment;
use crate::heap::settings::settings;
use crate::heap::{directory, fault, hardened, purge, round, segments};
use crate::vm::release::release;
use crate::vm::{Errno, Lock, page_size, platform, sys};
use static_assertions::const_assert;

/// What stands at the multiple of a segment below the data.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Header {
    /// In the place of a segment's kinds: every one says huge.
    kind: [u8; GRANULES],
    /// The mapping.
    pub(super) start: *mut u8,
    pub(super) mapped: usize,
    /// From this header to the data.
    pub(super) offset: usize,
    /// Bytes in use, a multiple of the page size: what counts against the memory limit.
    pub(super) size: usize,
    /// Bytes of data from the first on that may not read as zero.
    pub(super) dirty: usize,
    /// When hardened: bytes that were asked for, zero once the block was freed.
    pub(super) asked: AtomicUsize,
}

const_assert!(size_of::<Header>() <= PAGE_MIN);

/// Why a block is not resized.
pub(crate) enum Refusal {
    /// There may be room once memory was given back.
    NoRoom,
    /// Its pages do not move.
    Immovable,
}

#[derive(Debug)]
struct Huge {
    /// Freed blocks, by their headers, the oldest first; with the round in which they came.
    kept: [Option<(NonNull<Header>, u32)>; HUGE_KEPT],
    counts: Counts,
}

// SAFETY: the kept headers belong to the struct, which a lock guards.
unsafe impl Send for Huge {}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Blocks that callers hold.
    pub(crate) blocks: usize,
    /// Bytes in them.
    pub(crate) bytes: usize,
    /// Freed blocks that are kept.
    pub(crate) kept: usize,
    pub(crate) kept_bytes: usize,
    /// Address space of all of them.
    pub(crate) mapped: usize,
}

static HUGE: Lock<Huge> = Lock::new(Huge {
    kept: [None; HUGE_KEPT],
    counts: Counts { blocks: 0, bytes: 0, kept: 0, kept_bytes: 0, mapped: 0 },
});

/// The bytes in kept blocks, for looks without the lock.
static KEPT_BYTES: AtomicUsize = AtomicUsize::new(0);
pub(crate) fn kept_bytes() -> usize {
    KEPT_BYTES.load(Ordering::Relaxed)
}

/// A block of at least `size` bytes aligned to `align`, zero throughout if `zeroed`; null when out of memory.
pub(crate) fn alloc(size: usize, align: usize, zeroed: bool) -> *mut u8 {
    let Some(len) = align::checked_up(size, page_size()) else { return ptr::null_mut() };
    if let Some(header) = take_kept(len, align) {
        // SAFETY: the kept block is this function's now.
        let reused = unsafe { reuse(header, size, zeroed) };
        if !reused.is_null() {
            return reused;
        }
    }
    // SAFETY: the header was made just now.
    map(size, align).map_or(ptr::null_mut(), |header| unsafe { data(header) })
}

/// # Safety
/// `block` is a huge block that is out, and the caller's.
pub(crate) unsafe fn free(block: NonNull<u8>) {
    if !directory::holds(block) {
        fault::die_of_foreign_block(block.as_ptr());
    }
    let header = header_of(block);
    // SAFETY: the directory knows the header; a block that is out has it.
    let (start, size) = unsafe { (data(header), (*header.as_ptr()).size) };
    if start != block.as_ptr() {
        fault::die_of_inner_pointer(block.as_ptr());
    }
    let mut huge = HUGE.lock();
    if huge.kept.iter().flatten().any(|&(kept, _)| kept == header) {
        fault::die_of_bad_free(block.as_ptr(), true);
    }
    huge.counts.blocks -= 1;
    huge.counts.bytes -= size;
    // Without a purger nobody ages what is kept, so it counts as retained.
    let retain = if settings().background_purger() { usize::MAX } else { settings().retain() };
    let bound = retain.min(HUGE_KEPT_BYTES) + huge.counts.bytes / 8;
    let is_full = |huge: &Huge| huge.counts.kept == HUGE_KEPT || huge.counts.kept_bytes + size > bound;
    // Under the purger's lock, as all that goes: who is out of memory, or forks, waits until it is gone.
    if size <= bound
        && is_full(&huge)
        && let Some(_purger) = purge::try_hold()
    {
        // The oldest makes room: sizes that are not asked for any more would keep out those that are.
        while is_full(&huge)
            && let Some(oldest) = huge.take(0)
        {
            drop(huge);
            // SAFETY: the block came out of the kept ones and is this function's.
            unsafe { unmap(oldest) };
            huge = HUGE.lock();
        }
    }
    if is_full(&huge) {
        drop(huge);
        // SAFETY: the block is the caller's, who is done with it.
        unsafe { unmap(header) };
        return;
    }
    huge.keep(header, size);
}

/// Bytes from the block's first on that belong to it.
///
/// # Safety
/// `block` is a huge block that is out.
pub(crate) unsafe fn usable_size(block: NonNull<u8>) -> usize {
    // SAFETY: passed on to the caller.
    unsafe { (*header_of(block).as_ptr()).size }
}

/// Makes the block `size` bytes long, moving its pages if need be; nothing is changed when that is refused.
///
/// # Safety
/// `block` is a huge block that is out, and the caller's.
pub(crate) unsafe fn realloc(block: NonNull<u8>, size: usize) -> Result<NonNull<u8>, Refusal> {
    let len = whole_pages(size).ok_or(Refusal::Immovable)?;
    let header = header_of(block);
    // SAFETY: a block that is out has its header, which belongs to the block's owner.
    unsafe {
        let old = (*header.as_ptr()).size;
        if len > old && !segments::charge(len - old) {
            return Err(Refusal::NoRoom);
        }
        let resized = if len <= capacity(header) { Ok(header) } else { enlarge(header, len) };
        let header = resized.inspect_err(|_| segments::uncharge(len - old))?;
        if len < old {
            drop_tail(header, len);
            segments::uncharge(old - len);
        }
        advise_growing((*header.as_ptr()).start, (*header.as_ptr()).mapped, old, len);
        (*header.as_ptr()).size = len;
        (*header.as_ptr()).dirty = (*header.as_ptr()).dirty.max(len);
        let mut huge = HUGE.lock();
        huge.counts.bytes = huge.counts.bytes - old + len;
        drop(huge);
        Ok(NonNull::new_unchecked(data(header)))
    }
}

/// Unmaps kept blocks that are older than a round, or all. Returns how many bytes that gave back, and whether blocks
/// remain.
pub(crate) fn flush(all: bool) -> (usize, bool) {
    if HARDENED {
        return hardened::huge::flush(all);
    }
    let mut bytes = 0;
    // No more than can lie there now, however fast others bring new ones.
    for _ in 0..HUGE_KEPT {
        let mut huge = HUGE.lock();
        let is_due = huge.kept[0].is_some_and(|(_, since)| all || round::is_past(since));
        let Some(header) = is_due.then(|| huge.take(0)).flatten() else { break };
        drop(huge);
        // SAFETY: the block came out of the kept ones and is this function's.
        bytes += unsafe { unmap(header) };
    }
    (bytes, HUGE.lock().counts.kept > 0)
}

/// When hardened: a block of `size` bytes is not a caller's any more.
pub(super) fn uncount(size: usize) {
    let counts = &mut HUGE.lock().counts;
    (counts.blocks, counts.bytes) = (counts.blocks - 1, counts.bytes - size);
}

pub(crate) fn counts() -> Counts {
    HUGE.lock().counts
}

#[cfg(arenite_lock_counts)]
pub(crate) fn lock_counts() -> crate::vm::lock_counts::LockCounts {
    HUGE.counts()
}

/// Takes the lock for a fork.
pub(crate) fn freeze() {
    HUGE.acquire();
}

/// # Safety
/// Follows [`freeze`] in the same thread, or in the child's only one.
pub(crate) unsafe fn thaw() {
    // SAFETY: passed on to the caller.
    unsafe { HUGE.release() };
}

pub(super) fn header_of(block: NonNull<u8>) -> NonNull<Header> {
    // SAFETY: a block never lies in the first segment of the address space.
    unsafe { NonNull::new_unchecked(Segment::of(block).cast_mut().cast()) }
}

/// # Safety
/// The header is valid, here and in the functions below.
pub(super) unsafe fn data(header: NonNull<Header>) -> *mut u8 {
    // SAFETY: the data lie in the header's mapping.
    unsafe { header.as_ptr().cast::<u8>().add((*header.as_ptr()).offset) }
}

/// Bytes from the data's first to the mapping's end.
unsafe fn capacity(header: NonNull<Header>) -> usize {
    // SAFETY: passed on to the caller.
    unsafe {
        let &Header { start, mapped, .. } = header.as_ref();
        start.addr() + mapped - data(header).addr()
    }
}

/// The kept block that fits best: room enough, and not much more dirty memory than is wanted.
fn take_kept(len: usize, align: usize) -> Option<NonNull<Header>> {
    let mut huge = HUGE.lock();
    if huge.counts.kept == 0 {
        return None;
    }
    let fitting = huge.kept.iter().enumerate().filter_map(|(place, kept)| {
        let (header, _) = (*kept)?;
        // SAFETY: kept headers are valid.
        let (size, capacity, start) =
            unsafe { ((*header.as_ptr()).size, capacity(header), data(header).addr()) };
        let fits = size <= len + len / 4
            && len <= size.saturating_mul(2).min(capacity)
            && start.is_multiple_of(align);
        fits.then_some((place, size))
    });
    let (place, _) = fitting.min_by_key(|&(_, size)| size.abs_diff(len))?;
    huge.take(place)
}

/// Makes a kept block one of `size` bytes.
///
/// # Safety
/// The block is the caller's, and large enough.
unsafe fn reuse(header: NonNull<Header>, size: usize, zeroed: bool) -> *mut u8 {
    let len = align::up(size, page_size());
    // SAFETY: passed on to the caller.
    unsafe {
        let old = (*header.as_ptr()).size;
        // A little more than was asked for stays: the pages given back would be faulted in again by the next block. Not
        // where it could be what another request fails for.
        let is_near = old > len && old - size <= size / HUGE_SLACK_SHARE;
        let len = if is_near && settings().memory_limit() == usize::MAX && !is_scarce() { old } else { len };
        if len > old && !segments::charge(len - old) {
            unmap(header);
            return ptr::null_mut();
        }
        if len < old {
            drop_tail(header, len);
            segments::uncharge(old - len);
        }
        let header_mut = &mut *header.as_ptr();
        if zeroed {
            // Clearing a page costs a tenth of a page fault. But of a block this large the caller may touch little.
            let is_large = header_mut.dirty > HUGE_CLEARED;
            if !(is_large && sys::purge(data(header), header_mut.dirty).is_ok()) {
                data(header).write_bytes(0, header_mut.dirty.min(size));
            }
        }
        header_mut.size = len;
        header_mut.dirty = header_mut.dirty.max(len);
        let mut huge = HUGE.lock();
        huge.counts.blocks += 1;
        huge.counts.bytes += len;
        drop(huge);
        data(header)
    }
}

/// Gives back the pages behind the first `len` bytes; where it is scarce, the address space too.
unsafe fn drop_tail(header: NonNull<Header>, len: usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        let &Header { mapped, dirty, .. } = header.as_ref();
        let (tail, tail_len) = (data(header).add(len), capacity(header) - len);
        if is_scarce() && tail_len > 0 && sys::unmap(tail, tail_len).is_ok() {
            (*header.as_ptr()).mapped = mapped - tail_len;
            remap_counts(mapped, mapped - tail_len);
            (*header.as_ptr()).dirty = dirty.min(len);
        } else if dirty > len && sys::purge(tail, dirty - len).is_ok() {
            (*header.as_ptr()).dirty = len;
        }
    }
}

/// Makes a mapping with a header.
pub(super) fn map(size: usize, align: usize) -> Option<NonNull<Header>> {
    let len = whole_pages(size)?;
    if !segments::charge(len) {
        return None;
    }
    let header = map_charged(len, align);
    if header.is_none() {
        segments::uncharge(len);
    }
    header
}

/// The same for `len` bytes of whole pages that count against the memory limit already.
pub(super) fn map_charged(len: usize, align: usize) -> Option<NonNull<Header>> {
    // Between the header and the data: a page, or what the alignment asks for. Data that are aligned to a segment or
    // more have their header a whole segment before them.
    let offset = align.clamp(page_size(), SEGMENT);
    let (start, mapped, header) = roomy(offset, len)
        .filter(|_| !HARDENED && !is_scarce())
        .and_then(|total| map_aligned(total, offset, align))
        .or_else(|| map_aligned_to_measure(len.checked_add(offset)?, offset, align))?;
    let header = header.cast::<Header>();
    // SAFETY: the header lies in the mapping, which is this function's.
    unsafe {
        Segment::mark_huge(header.cast());
        let fields = &mut *header;
        (fields.start, fields.mapped, fields.offset) = (start, mapped, offset);
        (fields.size, fields.dirty) = (len, len);
        if settings().huge_pages() == HugePages::Always {
            platform::advise_huge_pages(start, mapped);
        }
    }
    directory::add(header.cast());
    let mut huge = HUGE.lock();
    huge.counts.blocks += 1;
    huge.counts.bytes += len;
    huge.counts.mapped += mapped;
    NonNull::new(header)
}

/// Enlarges the mapping to room for `len` bytes, moving its pages if need be; nothing is changed when that is refused.
///
/// # Safety
/// The block is the caller's.
unsafe fn enlarge(header: NonNull<Header>, len: usize) -> Result<NonNull<Header>, Refusal> {
    // SAFETY: passed on to the caller.
    let &Header { start, mapped, offset, .. } = unsafe { header.as_ref() };
    if offset >= SEGMENT {
        return Err(Refusal::Immovable);
    }
    let from = header.as_ptr().cast::<u8>();
    let before = from.addr() - start.addr();
    let old = mapped - before;
    let want = if is_scarce() { len.checked_add(offset) } else { roomy(offset, len) };
    let want = align::up(want.ok_or(Refusal::Immovable)?, page_size());
    // SAFETY: the range is the block's mapping from the header on.
    match unsafe { platform::resize_range(from, old, want, false) } {
        Ok(_) => {
            // SAFETY: the header is valid, and the block's owner the only one to use it.
            unsafe { (*header.as_ptr()).mapped = before + want };
            remap_counts(mapped, before + want);
            return Ok(header);
        }
        // The kernel holds it in pieces, because somebody advised or locked a part, and moves only whole mappings.
        Err(Errno(libc::EFAULT)) => return Err(Refusal::Immovable),
        Err(_) => {}
    }
    let target = sys::reserve_aligned(want, SEGMENT).map_err(|_| Refusal::NoRoom)?;
    // Once the pages have moved the place is anybody's.
    directory::remove(from);
    // SAFETY: source and target are whole mappings of the caller's and of this function's.
    unsafe {
        move_to(from, old, target, want).inspect_err(|_| directory::add(from))?;
        if before > 0 {
            release(start, before);
        }
        directory::add(target.as_ptr());
        let moved = target.cast::<Header>();
        (*moved.as_ptr()).start = target.as_ptr();
        (*moved.as_ptr()).mapped = want;
        remap_counts(mapped, want);
        Ok(moved)
    }
}

/// Moves the `old` bytes at `from` to `target`, which becomes `want` bytes long; only `target` is gone when that is refused.
///
/// # Safety
/// Both are whole mappings of the caller's, and `target` is reserved for `want` bytes.
unsafe fn move_to(from: *mut u8, old: usize, target: NonNull<u8>, want: usize) -> Result<(), Refusal> {
    // SAFETY: passed on to the caller.
    unsafe {
        if !is_scarce() {
            // One call, so that it stays one mapping to the kernel.
            return platform::move_pages(from, old, target, want).map_err(Refusal::of_move);
        }
        // The new part is committed first: then the move asks for nothing more, and no limit can refuse it.
        if sys::commit(target.as_ptr().add(old), want - old).is_err() {
            release(target.as_ptr(), want);
            return Err(Refusal::NoRoom);
        }
        platform::move_pages(from, old, target, old).map_err(|errno| {
            release(target.as_ptr().add(old), want - old);
            Refusal::of_move(errno)
        })
    }
}

/// A mapping of `old` bytes is `new` bytes long now.
pub(super) fn remap_counts(old: usize, new: usize) {
    let mut huge = HUGE.lock();
    huge.counts.mapped = huge.counts.mapped - old + new;
}

/// Unmaps a block; returns how many bytes of it may have been resident.
///
/// # Safety
/// The block is the caller's, who is done with it.
pub(super) unsafe fn unmap(header: NonNull<Header>) -> usize {
    // SAFETY: passed on to the caller.
    let &Header { start, mapped, size, dirty, .. } = unsafe { header.as_ref() };
    directory::remove(header.as_ptr().cast());
    // SAFETY: the mapping is the block's.
    unsafe { release(start, mapped) };
    segments::uncharge(size);
    HUGE.lock().counts.mapped -= mapped;
    dirty
}

impl Refusal {
    /// The process may have as many mappings as it may, or as much memory.
    fn of_move(errno: Errno) -> Refusal {
        if errno == Errno(libc::ENOMEM) { Refusal::NoRoom } else { Refusal::Immovable }
    }
}

impl Huge {
    /// There is room.
    fn keep(&mut self, header: NonNull<Header>, size: usize) {
        self.kept[self.counts.kept] = Some((header, round::current()));
        self.counts.kept += 1;
        self.count_kept_bytes(self.counts.kept_bytes + size);
    }

    fn take(&mut self, place: usize) -> Option<NonNull<Header>> {
        let (header, _) = self.kept[place].take()?;
        self.kept[place..self.counts.kept].rotate_left(1);
        self.counts.kept -= 1;
        // SAFETY: kept headers are valid.
        self.count_kept_bytes(self.counts.kept_bytes - unsafe { (*header.as_ptr()).size });
        Some(header)
    }

    fn count_kept_bytes(&mut self, bytes: usize) {
        self.counts.kept_bytes = bytes;
        KEPT_BYTES.store(bytes, Ordering::Relaxed);
    }
}
