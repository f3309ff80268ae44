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
    /// One unit of the least alignment behind the end of what is this cursor's alone.
    beyond: *mut u8,
    /// Where the next block may begin, in bytes from `beyond`: less than zero, and a multiple of the least alignment.
    /// So moving on and asking whether a block fits is one addition and its sign.
    next: isize,
    header: &'c Header,
    life: PhantomData<&'a mut ()>,
}

impl<'c, 'a, const MIN_ALIGN: usize> Cursor<'c, 'a, MIN_ALIGN> {
    #[inline(always)]
    pub(crate) fn new(header: &'c Header) -> Self {
        let (beyond, next) = Self::take_rest(header);
        Cursor { beyond, next, header, life: PhantomData }
    }

    /// Moves the arena's cursor to the end of what is committed; returns what is behind that, and where it was from there.
    #[inline(always)]
    fn take_rest(header: &Header) -> (*mut u8, isize) {
        let next = header.cursor.get();
        // SAFETY: between cursor and limit, as the cursor is a multiple of the least alignment.
        let limit = unsafe { at(next, align::down(header.limit.get(), MIN_ALIGN)) };
        header.cursor.set(limit);
        let beyond = limit.as_ptr().wrapping_add(MIN_ALIGN);
        (beyond, next.addr().get().wrapping_sub(beyond.addr()).cast_signed())
    }

    /// Where the next block may begin.
    #[inline(always)]
    fn next(&self) -> NonNull<u8> {
        // SAFETY: where the arena's cursor was, or the end of a block behind that.
        unsafe { NonNull::new_unchecked(self.beyond.wrapping_offset(self.next)) }
    }

    /// Gives what is left from `next` on back. Nothing lies behind it: who has the cursor has the arena's to himself.
    #[inline(always)]
    fn give_back(header: &Header, beyond: *mut u8, next: NonNull<u8>) {
        debug_assert_eq!(header.cursor.get().as_ptr(), beyond.wrapping_sub(MIN_ALIGN));
        header.cursor.set(next);
    }

    /// A block from what the arena commits next; and where the cursor goes on. By value, because a pointer to the
    /// cursor that leaves its function keeps it out of registers.
    #[cold]
    #[inline(never)]
    fn refill(
        header: &Header,
        beyond: *mut u8,
        next: NonNull<u8>,
        layout: Layout,
    ) -> (Result<NonNull<u8>, ArenaError>, *mut u8, isize) {
        Self::give_back(header, beyond, next);
        let block = header.try_take::<MIN_ALIGN>(layout);
        let (beyond, next) = Self::take_rest(header);
        (block, beyond, next)
    }

    #[inline(always)]
    fn try_take(&mut self, layout: Layout) -> Result<NonNull<u8>, ArenaError> {
        let next = self.next();
        let place = bump::place(next.addr().get(), layout.size(), layout.align(), MIN_ALIGN);
        // At least one unit below zero before, at most `isize::MAX` and one unit's rounding more now: it cannot wrap.
        let end = place.end.wrapping_sub(self.beyond.addr()).cast_signed();
        if end >= 0 {
            let (block, beyond, next) = Self::refill(self.header, self.beyond, next, layout);
            (self.beyond, self.next) = (beyond, next);
            return block;
        }
        self.next = end;
        // SAFETY: the start lies between `next` and the end of what is the cursor's.
        let start = unsafe { at(next, place.start) };
        poison::lift(start, place.end - place.start);
        Ok(start)
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

    /// As [`Arena::try_alloc_str`](crate::arena::Arena::try_alloc_str).
    ///
    /// # Errors
    /// As for [`try_alloc`](Cursor::try_alloc).
    #[inline(always)]
    pub fn try_alloc_str(&mut self, text: &str) -> Result<&'a mut str, ArenaError> {
        let bytes = self.try_alloc_slice_copy(text.as_bytes())?;
        // SAFETY: as in `alloc_str`.
        Ok(unsafe { str::from_utf8_unchecked_mut(bytes) })
    }

    /// As [`Arena::alloc_slice_fill`](crate::arena::Arena::alloc_slice_fill), for what can be copied.
    #[inline]
    #[track_caller]
    pub fn alloc_slice_fill<T: Copy>(&mut self, len: usize, value: T) -> &'a mut [T] {
        self.try_alloc_slice_fill(len, value).unwrap_or_else(|error| error.panic())
    }

    /// As [`alloc_slice_fill`](Cursor::alloc_slice_fill).
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
        Self::give_back(self.header, self.beyond, self.next());
    }
}
