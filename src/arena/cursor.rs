//! A cursor outside of its arena, where the compiler can keep it in registers.
//!
//! A [`Cursor`] takes all that is committed and free for itself: the arena's own cursor stands at the end of it
//! meanwhile. When the cursor goes, the arena's comes back to where it is. If it is forgotten, what it had left is
//! unused until the arena is rewound, and nothing is handed out twice. Two that are swapped swap their memory.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::arena::build::{copy_to, layout};
use crate::arena::error::ArenaError;
use crate::arena::header::{Header, at};
use crate::arena::poison;
use crate::base::{align, bump};

/// Allocates a batch of values: made by [`Arena::cursor`](crate::arena::Arena::cursor) and
/// [`Scope::cursor`](crate::arena::Scope::cursor). Values live as long as those of the arena (while it is borrowed
/// mutably) or the scope.
///
/// ```
/// let mut arena = arenite::Arena::new();
/// arena.scope(|scope| {
///     let mut cursor = scope.cursor();
///     let first = cursor.alloc(1);
///     let second = cursor.alloc(2);
///     drop(cursor);
///     assert_eq!(*first + *second + *scope.alloc(3), 6);
/// });
/// ```
#[derive(Debug)]
pub struct Cursor<'c, 'a, const MIN_ALIGN: usize = 8> {
    /// This cursor's alone is `next..limit`, as addresses; both are multiples of the least alignment.
    next: NonNull<u8>,
    limit: usize,
    header: &'c Header,
    life: PhantomData<&'a mut ()>,
}

impl<'c, 'a, const MIN_ALIGN: usize> Cursor<'c, 'a, MIN_ALIGN> {
    #[inline(always)]
    pub(crate) fn new(header: &'c Header) -> Self {
        let (next, limit) = Self::take_rest(header);
        Cursor { next, limit, header, life: PhantomData }
    }

    /// Moves the arena's cursor to the end of what is committed, and returns where it was and is.
    #[inline(always)]
    fn take_rest(header: &Header) -> (NonNull<u8>, usize) {
        let next = header.cursor.get();
        let limit = align::down(header.limit.get(), MIN_ALIGN);
        // SAFETY: between cursor and limit, as the cursor is a multiple of the least alignment.
        header.cursor.set(unsafe { at(next, limit) });
        (next, limit)
    }

    /// Gives `next..limit` back if nothing was allocated behind it.
    #[inline(always)]
    fn give_back(header: &Header, next: NonNull<u8>, limit: usize) {
        if header.cursor_addr() == limit {
            header.cursor.set(next);
        }
    }

    #[inline(always)]
    fn bump(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let place = bump::place(self.next.addr().get(), layout.size(), layout.align(), MIN_ALIGN);
        if place.end > self.limit {
            return None;
        }
        // SAFETY: start and end lie between `next` and `limit`.
        let (start, end) = unsafe { (at(self.next, place.start), at(self.next, place.end)) };
        self.next = end;
        poison::lift(start, place.end - place.start);
        Some(start)
    }

    /// A block from what the arena commits next; and where the cursor goes on. By value, because a pointer to the
    /// cursor that leaves its function keeps it out of registers.
    #[cold]
    #[inline(never)]
    fn refill(
        header: &Header,
        next: NonNull<u8>,
        limit: usize,
        layout: Layout,
    ) -> (Result<NonNull<u8>, ArenaError>, NonNull<u8>, usize) {
        Self::give_back(header, next, limit);
        let block = header.try_take::<MIN_ALIGN>(layout);
        let (next, limit) = Self::take_rest(header);
        (block, next, limit)
    }

    #[inline(always)]
    fn try_take(&mut self, layout: Layout) -> Result<NonNull<u8>, ArenaError> {
        if let Some(block) = self.bump(layout) {
            return Ok(block);
        }
        let (block, next, limit) = Self::refill(self.header, self.next, self.limit, layout);
        (self.next, self.limit) = (next, limit);
        block
    }

    #[inline(always)]
    #[track_caller]
    fn take(&mut self, layout: Layout) -> NonNull<u8> {
        self.try_take(layout).unwrap_or_else(|error| error.panic())
    }

    /// As [`Arena::alloc`](crate::arena::Arena::alloc).
    #[inline(always)]
    #[track_caller]
    pub fn alloc<T>(&mut self, value: T) -> &'a mut T {
        let place =
            if size_of::<T>() == 0 { NonNull::dangling() } else { self.take(Layout::new::<T>()).cast() };
        // SAFETY: the place is aligned, large enough, and this caller's during `'a`.
        unsafe { write(place, value) }
    }

    /// As [`Arena::try_alloc`](crate::arena::Arena::try_alloc).
    ///
    /// # Errors
    /// The arena's range or limit is used up, or the system has no memory.
    #[inline(always)]
    pub fn try_alloc<T>(&mut self, value: T) -> Result<&'a mut T, ArenaError> {
        let place =
            if size_of::<T>() == 0 { NonNull::dangling() } else { self.try_take(Layout::new::<T>())?.cast() };
        // SAFETY: as in `alloc`.
        Ok(unsafe { write(place, value) })
    }

    /// As [`Arena::alloc_slice_copy`](crate::arena::Arena::alloc_slice_copy).
    #[inline(always)]
    #[track_caller]
    pub fn alloc_slice_copy<T: Copy>(&mut self, values: &[T]) -> &'a mut [T] {
        let start = self.take(Layout::for_value(values));
        // SAFETY: the block has room for the values, and is this caller's during `'a`.
        unsafe { copy_to(start, values).as_mut() }
    }

    /// As [`Arena::try_alloc_slice_copy`](crate::arena::Arena::try_alloc_slice_copy).
    ///
    /// # Errors
    /// As for [`try_alloc`](Cursor::try_alloc).
    #[inline(always)]
    pub fn try_alloc_slice_copy<T: Copy>(&mut self, values: &[T]) -> Result<&'a mut [T], ArenaError> {
        let start = self.try_take(Layout::for_value(values))?;
        // SAFETY: as in `alloc_slice_copy`.
        Ok(unsafe { copy_to(start, values).as_mut() })
    }

    /// As [`Arena::alloc_str`](crate::arena::Arena::alloc_str).
    #[inline(always)]
    #[track_caller]
    pub fn alloc_str(&mut self, text: &str) -> &'a mut str {
        let bytes = self.alloc_slice_copy(text.as_bytes());
        // SAFETY: a copy of what was UTF-8.
        unsafe { str::from_utf8_unchecked_mut(bytes) }
    }

    /// As [`Arena::alloc_slice_fill`](crate::arena::Arena::alloc_slice_fill), for what can be copied.
    ///
    /// # Errors
    /// As for [`try_alloc`](Cursor::try_alloc), and for a length that overflows.
    #[inline]
    pub fn try_alloc_slice_fill<T: Copy>(&mut self, len: usize, value: T) -> Result<&'a mut [T], ArenaError> {
        let start = self.try_take(layout::<T>(len)?)?.cast::<T>();
        // SAFETY: the block has room for `len` values, each written before the slice is made, and is this caller's.
        unsafe {
            for index in 0..len {
                start.add(index).write(value);
            }
            Ok(NonNull::slice_from_raw_parts(start, len).as_mut())
        }
    }
}

/// # Safety
/// The place is aligned, large enough, and the caller's during `'a`.
#[inline(always)]
unsafe fn write<'a, T>(mut place: NonNull<T>, value: T) -> &'a mut T {
    // SAFETY: passed on to the caller.
    unsafe {
        place.write(value);
        place.as_mut()
    }
}

impl<const MIN_ALIGN: usize> Drop for Cursor<'_, '_, MIN_ALIGN> {
    #[inline(always)]
    fn drop(&mut self) {
        Self::give_back(self.header, self.next, self.limit);
    }
}
