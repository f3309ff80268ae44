//! What an arena knows of itself, and its fast path.
//!
//! The header is the first thing in the arena's own reservation, so that an arena is one pointer, can be moved while
//! blocks are borrowed through other handles, and waits in the pool without any memory elsewhere. An arena over somebody
//! else's mapping has its header in a box: another process may write to the mapping.
//!
//! ```text
//!  base      first                cursor          limit               ceiling     end
//!    | header  |   in use           |   committed   |    reserved       |  guard   |
//! ```
//!
//! Invariant, held by [`Header::check`]: `first <= cursor <= limit <= ceiling`, the cursor is a multiple of the least
//! alignment, and `first..limit` is readable and writable. Bytes below the cursor belong to whoever got them; bytes
//! from the cursor on to nobody. The cursor falls in one place, [`Header::fall_to`].
//!
//! One thread at a time uses a header: the arena is `Send` and not `Sync`. Every field is a cell, because several
//! handles point here.

use core::alloc::Layout;
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::num::NonZero;
use core::ptr::NonNull;

use static_assertions::const_assert;

use crate::arena::error::ArenaError;
use crate::arena::memory::Memory;
use crate::arena::options::Shape;
use crate::arena::poison;
use crate::base::bump;

/// See the file's head. Written by the arena's owner only, through its handles.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    /// The first free byte.
    pub(crate) cursor: Cell<NonNull<u8>>,
    /// The first byte that was ever free. It stands here because aarch64 would load a cursor and a limit side by side
    /// as one pair, which cannot be forwarded from the store of the cursor before.
    pub(crate) first: NonNull<u8>,
    /// The end of what the fast path may hand out, as an address.
    pub(crate) limit: Cell<usize>,
    /// The end of what the arena may ever hand out, as an address.
    pub(crate) ceiling: Cell<usize>,
    /// The highest cursor since the innermost scope began, as an address; the cursor itself may be higher.
    pub(crate) high: Cell<usize>,
    /// Bytes from here on are as the kernel made them: zero. The cursor may be higher. An address.
    pub(crate) dirty: Cell<usize>,
    /// The end of what is committed, in bytes from the memory's start.
    pub(crate) committed: Cell<usize>,
    pub(crate) growth_step: Cell<usize>,
    pub(crate) keep: Cell<usize>,
    /// Bytes that may be in use at the most, as the user wants it; `usize::MAX` is no limit. The ceiling is higher as
    /// long as more is in use.
    pub(crate) bound: Cell<usize>,
    pub(crate) shape: Shape,
    /// The next in the pool of warm reservations.
    pub(crate) next: Cell<Option<NonNull<Header>>>,
    /// Borrowed mutably only by calls that have the arena to themselves.
    pub(crate) memory: UnsafeCell<Memory>,
}

/// Bytes at the start of a reservation that the header takes; a multiple of every cache line.
pub(crate) const HEADER_SIZE: usize = 256;
const_assert!(size_of::<Header>() <= HEADER_SIZE);
const_assert!(offset_of!(Header, cursor).abs_diff(offset_of!(Header, limit)) > size_of::<usize>());

/// A point that the cursor may fall back to, and what it needs to be as then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) cursor: NonNull<u8>,
    high: usize,
}

impl Header {
    /// A block of the layout, or `None` if what is committed has no room for it.
    #[inline(always)]
    pub(crate) fn bump<const MIN: usize>(&self, layout: Layout) -> Option<NonNull<u8>> {
        let cursor = self.cursor.get();
        let place = bump::place(cursor.addr().get(), layout.size(), layout.align(), MIN);
        if place.end > self.limit.get() {
            return None;
        }
        // SAFETY: start and end lie between cursor and limit, which are in one mapping and not null.
        let (start, end) = unsafe { (at(cursor, place.start), at(cursor, place.end)) };
        self.cursor.set(end);
        poison::lift(start, place.end - place.start);
        Some(start)
    }

    /// A block of the layout.
    #[inline(always)]
    pub(crate) fn try_take<const MIN: usize>(&self, layout: Layout) -> Result<NonNull<u8>, ArenaError> {
        match self.bump::<MIN>(layout) {
            Some(block) => Ok(block),
            None => self.take_slowly::<MIN>(layout),
        }
    }

    /// A block of the layout.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn take<const MIN: usize>(&self, layout: Layout) -> NonNull<u8> {
        match self.bump::<MIN>(layout) {
            Some(block) => block,
            None => self.take_slowly_or_panic::<MIN>(layout),
        }
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn take_slowly_or_panic<const MIN: usize>(&self, layout: Layout) -> NonNull<u8> {
        self.take_slowly::<MIN>(layout).unwrap_or_else(|error| error.panic())
    }

    /// Commits more, then takes the block.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_slowly<const MIN: usize>(&self, layout: Layout) -> Result<NonNull<u8>, ArenaError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        let place = bump::place(self.cursor_addr(), layout.size(), layout.align(), MIN);
        self.commit_to(place.end, layout.size())?;
        self.check::<MIN>();
        // The limit has passed the place's end, so there is one.
        self.bump::<MIN>(layout).ok_or_else(ArenaError::overflow)
    }

    /// Makes the last block longer where it is. `false` if it is not the last, or there is no room.
    ///
    /// # Safety
    /// `block` is `old` bytes long, of this arena, and the caller's; `new` is not less.
    #[inline(always)]
    pub(crate) unsafe fn grow_last<const MIN: usize>(
        &self,
        block: NonNull<u8>,
        old: usize,
        new: usize,
    ) -> bool {
        debug_assert!(old <= new);
        let cursor = self.cursor.get();
        let start = block.addr().get();
        if bump::end(start, old, MIN) != cursor.addr().get() {
            return false;
        }
        let end = bump::end(start, new, MIN);
        if end > self.limit.get() && self.commit_to(end, new - old).is_err() {
            return false;
        }
        // SAFETY: the block's start and its new end lie below the limit, in the cursor's mapping.
        self.cursor.set(unsafe { at(cursor, end) });
        poison::lift(cursor, end - cursor.addr().get());
        true
    }

    /// Makes the last block shorter; a block that is not the last stays as it is.
    ///
    /// # Safety
    /// `block` is `old` bytes long, of this arena, and the caller's; what `new`, which is not more, cuts off is not used
    /// any more.
    #[inline(always)]
    pub(crate) unsafe fn shrink_last<const MIN: usize>(&self, block: NonNull<u8>, old: usize, new: usize) {
        debug_assert!(new <= old);
        let start = block.addr().get();
        if bump::end(start, old, MIN) == self.cursor_addr() {
            // SAFETY: the block's new end lies below the cursor, in its mapping.
            self.fall_to(unsafe { at(self.cursor.get(), bump::end(start, new, MIN)) });
        }
    }

    /// Takes the block back if it is the last; else it stays until the arena is rewound.
    ///
    /// # Safety
    /// `block` is `size` bytes long, of this arena, the caller's, and not used any more.
    #[inline(always)]
    pub(crate) unsafe fn give<const MIN: usize>(&self, block: NonNull<u8>, size: usize) {
        if bump::end(block.addr().get(), size, MIN) == self.cursor_addr() {
            self.fall_to(block);
        }
    }

    /// Lowers the cursor.
    #[inline(always)]
    pub(crate) fn fall_to(&self, to: NonNull<u8>) {
        let from = self.cursor_addr();
        debug_assert!(self.first <= to && to.addr().get() <= from);
        self.high.set(self.high.get().max(from));
        self.dirty.set(self.dirty.get().max(from));
        self.cursor.set(to);
        poison::lay(to, from - to.addr().get());
    }

    /// Where the arena is, to fall back to; a scope's high-water mark begins anew.
    #[inline(always)]
    pub(crate) fn mark(&self) -> Mark {
        let cursor = self.cursor.get();
        let high = self.high.replace(cursor.addr().get());
        Mark { cursor, high }
    }

    /// Falls back to the mark, if anything was allocated since.
    #[inline(always)]
    pub(crate) fn rewind(&self, mark: Mark) {
        if mark.cursor < self.cursor.get() {
            self.fall_to(mark.cursor);
        }
        self.high.set(self.high.get().max(mark.high));
    }

    #[inline(always)]
    pub(crate) fn cursor_addr(&self) -> usize {
        self.cursor.get().addr().get()
    }

    /// The highest cursor since the innermost scope began, as an address.
    pub(crate) fn peak(&self) -> usize {
        self.high.get().max(self.cursor_addr())
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.cursor_addr() - self.first.addr().get()
    }

    /// Bytes of the block that may hold something, from its start on: behind them it is zero. To be asked before the
    /// block is taken, with the cursor as it was.
    pub(crate) fn dirty_from(&self, block: NonNull<u8>, size: usize, cursor_before: usize) -> usize {
        self.dirty.get().max(cursor_before).saturating_sub(block.addr().get()).min(size)
    }

    /// What must hold between calls.
    pub(crate) fn check<const MIN: usize>(&self) {
        let (cursor, limit) = (self.cursor_addr(), self.limit.get());
        debug_assert!(self.first.addr().get() <= cursor && cursor <= limit && limit <= self.ceiling.get());
        debug_assert!(cursor.is_multiple_of(MIN));
    }
}

/// A pointer to `addr` in the mapping of `ptr`.
///
/// # Safety
/// Both lie in one mapping, or at its end.
#[inline(always)]
pub(crate) unsafe fn at(ptr: NonNull<u8>, addr: usize) -> NonNull<u8> {
    // SAFETY: the difference leads to an address in the same mapping, which is not null.
    unsafe { ptr.offset(addr.wrapping_sub(ptr.addr().get()).cast_signed()) }
}

/// A block of no bytes: aligned, and in no memory that anybody could write.
#[inline(always)]
pub(crate) const fn dangling(layout: Layout) -> NonNull<u8> {
    match NonZero::new(layout.align()) {
        Some(align) => NonNull::without_provenance(align),
        None => NonNull::dangling(),
    }
}
