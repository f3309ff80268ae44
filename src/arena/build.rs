//! Values that are made in place by code of the user's: closures, iterators, `Clone`, `Display`.
//!
//! Such code may allocate in the same arena, panic, or give up. Therefore each place is taken, cursor and all, before
//! the code runs, and [`Slot`] or [`Row`] takes it back if the code does not finish, as far as nothing lies behind it.

use core::alloc::Layout;
use core::ffi::CStr;
use core::fmt;
use core::mem::{self, MaybeUninit};
use core::ptr::{self, NonNull};

use crate::arena::error::ArenaError;
use crate::arena::header::Header;
use crate::base::bump;

/// Room for one value. Dropped before [`Slot::write`], it is given back.
#[derive(Debug)]
pub(crate) struct Slot<'h, T, const MIN: usize> {
    header: &'h Header,
    place: NonNull<T>,
}

impl<'h, T, const MIN: usize> Slot<'h, T, MIN> {
    #[inline(always)]
    pub(crate) fn try_take(header: &'h Header) -> Result<Self, ArenaError> {
        let place = if size_of::<T>() == 0 {
            NonNull::dangling()
        } else {
            header.try_take::<MIN>(Layout::new::<T>())?.cast()
        };
        Ok(Slot { header, place })
    }

    #[inline(always)]
    #[track_caller]
    pub(crate) fn take(header: &'h Header) -> Self {
        let place = if size_of::<T>() == 0 {
            NonNull::dangling()
        } else {
            header.take::<MIN>(Layout::new::<T>()).cast()
        };
        Slot { header, place }
    }

    /// The value is there to stay.
    #[inline(always)]
    pub(crate) fn write(self, value: T) -> NonNull<T> {
        let place = self.place;
        mem::forget(self);
        // SAFETY: the slot is aligned, large enough, and nobody else's; a type of size zero writes nothing.
        unsafe { place.write(value) };
        place
    }

    /// The place is there to stay, with nothing in it.
    #[inline(always)]
    pub(crate) fn leave(self) -> NonNull<MaybeUninit<T>> {
        let place = self.place.cast();
        mem::forget(self);
        place
    }
}

impl<T, const MIN: usize> Drop for Slot<'_, T, MIN> {
    fn drop(&mut self) {
        if size_of::<T>() > 0 {
            // SAFETY: the slot's place, into which nothing was written and which nobody knows.
            unsafe { self.header.give::<MIN>(self.place.cast(), size_of::<T>()) };
        }
    }
}

/// A row of values that grows: where it is while it is the arena's last block, else by moving. Dropped before
/// [`Row::finish`], its values are dropped and its room is given back.
#[derive(Debug)]
pub(crate) struct Row<'h, T, const MIN: usize> {
    header: &'h Header,
    start: NonNull<T>,
    /// Values that are there.
    len: usize,
    /// Values that there is room for.
    capacity: usize,
}

impl<'h, T, const MIN: usize> Row<'h, T, MIN> {
    /// Room for `capacity` values.
    #[inline(always)]
    pub(crate) fn with_capacity(header: &'h Header, capacity: usize) -> Result<Self, ArenaError> {
        let mut row = Row { header, start: NonNull::dangling(), len: 0, capacity };
        if size_of::<T>() > 0 && capacity > 0 {
            row.capacity = 0;
            row.start = header.try_take::<MIN>(layout::<T>(capacity)?)?.cast();
            row.capacity = capacity;
        }
        Ok(row)
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, value: T) -> Result<(), ArenaError> {
        if self.len == self.capacity {
            self.grow(1)?;
        }
        // SAFETY: `len < capacity`, so the place is the row's, and nothing is in it.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
        Ok(())
    }

    /// Copies the values to the end.
    #[inline(always)]
    pub(crate) fn extend(&mut self, values: &[T]) -> Result<(), ArenaError>
    where
        T: Copy,
    {
        if values.len() > self.capacity - self.len {
            self.grow(values.len())?;
        }
        // SAFETY: there is room for so many behind `len`, which nobody else has a reference to.
        unsafe {
            ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(self.len).as_ptr(), values.len());
        }
        self.len += values.len();
        Ok(())
    }

    /// Room for `more` values at least, beyond those that are there.
    #[cold]
    fn grow(&mut self, more: usize) -> Result<(), ArenaError> {
        let needed = self.len.checked_add(more).ok_or_else(ArenaError::overflow)?;
        if size_of::<T>() == 0 {
            self.capacity = usize::MAX;
            return Ok(());
        }
        // Growing in place costs a few instructions and may do it often; moving costs a copy.
        let more = if self.is_last() { self.capacity / 8 } else { self.capacity };
        let wanted = self.capacity.saturating_add(more).saturating_add(4).max(needed);
        // Where that does not fit, what is needed may.
        match self.grow_to(wanted) {
            Err(_) if wanted > needed => self.grow_to(needed),
            done => done,
        }
    }

    fn is_last(&self) -> bool {
        let size = self.capacity * size_of::<T>();
        bump::end(self.start.addr().get(), size, MIN) == self.header.cursor_addr()
    }

    fn grow_to(&mut self, capacity: usize) -> Result<(), ArenaError> {
        let new = layout::<T>(capacity)?;
        let old_size = self.capacity * size_of::<T>();
        // SAFETY: the block is the row's.
        let grown = self.capacity > 0
            && unsafe { self.header.grow_last::<MIN>(self.start.cast(), old_size, new.size()) };
        if !grown {
            let start = self.header.try_take::<MIN>(new)?.cast::<T>();
            // SAFETY: the new block is another one, with room for what is there.
            unsafe { start.copy_from_nonoverlapping(self.start, self.len) };
            self.start = start;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// The values, to stay. Room that is left over is given back if the row is the last block.
    #[inline(always)]
    pub(crate) fn finish(self) -> NonNull<[T]> {
        let (start, len) = (self.start, self.len);
        if size_of::<T>() > 0 && len < self.capacity {
            // SAFETY: the block is the row's, and nothing lies behind `len` values.
            unsafe { self.give_behind(len) };
        }
        mem::forget(self);
        NonNull::slice_from_raw_parts(start, len)
    }

    /// # Safety
    /// The values from `len` on are not used any more.
    unsafe fn give_behind(&self, len: usize) {
        let (old, new) = (self.capacity * size_of::<T>(), len * size_of::<T>());
        // SAFETY: passed on to the caller.
        unsafe { self.header.shrink_last::<MIN>(self.start.cast(), old, new) };
    }
}

impl<T, const MIN: usize> Drop for Row<'_, T, MIN> {
    fn drop(&mut self) {
        // SAFETY: the first `len` values are there, and nobody else has them.
        unsafe {
            NonNull::slice_from_raw_parts(self.start, self.len).drop_in_place();
            if size_of::<T>() > 0 {
                self.give_behind(0);
            }
        }
    }
}

/// Text that is being formatted. A full arena is remembered, because `fmt::Error` says nothing.
#[derive(Debug)]
pub(crate) struct Text<'h, const MIN: usize> {
    row: Row<'h, u8, MIN>,
    failure: Option<ArenaError>,
}

impl<'h, const MIN: usize> Text<'h, MIN> {
    /// The text of `arguments`, and `end` behind it.
    #[track_caller]
    pub(crate) fn of(
        header: &'h Header,
        arguments: fmt::Arguments<'_>,
        end: &[u8],
    ) -> Result<NonNull<[u8]>, ArenaError> {
        let row = Row::<u8, MIN>::with_capacity(header, arguments.as_str().map_or(32, str::len) + end.len())?;
        let mut text = Text { row, failure: None };
        match (fmt::write(&mut text, arguments), text.failure) {
            // Also where the formatting went on as if nothing had happened: the text has a hole.
            (_, Some(error)) => Err(error),
            (Ok(()), None) => {
                text.row.extend(end)?;
                Ok(text.row.finish())
            }
            (Err(_), None) => panic!("a formatting trait implementation returned an error"),
        }
    }
}

impl<const MIN: usize> fmt::Write for Text<'_, MIN> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.row.extend(text.as_bytes()).map_err(|error| {
            self.failure = Some(error);
            fmt::Error
        })
    }
}

/// The layout of `len` values.
#[inline(always)]
pub(crate) fn layout<T>(len: usize) -> Result<Layout, ArenaError> {
    match Layout::array::<T>(len) {
        Ok(layout) => Ok(layout),
        Err(_) => Err(ArenaError::overflow()),
    }
}

/// The values, as many as the iterator promises at the most.
#[inline(always)]
pub(crate) fn of_exact<T, const MIN: usize>(
    header: &Header,
    values: impl ExactSizeIterator<Item = T>,
) -> Result<NonNull<[T]>, ArenaError> {
    let len = values.len();
    let mut row = Row::<T, MIN>::with_capacity(header, len)?;
    for value in values.take(len) {
        row.push(value)?;
    }
    Ok(row.finish())
}

/// The values.
#[inline(always)]
pub(crate) fn of_any<T, const MIN: usize>(
    header: &Header,
    values: impl Iterator<Item = T>,
) -> Result<NonNull<[T]>, ArenaError> {
    // A hint may be any number. Room is cheap, but not if the number is a mistake.
    let hint = values.size_hint().0.min(HINT_MAX / size_of::<T>().max(1));
    let mut row = Row::<T, MIN>::with_capacity(header, hint)?;
    for value in values {
        row.push(value)?;
    }
    Ok(row.finish())
}

/// The text up to its first NUL, as a C string.
pub(crate) fn c_text<const MIN: usize>(header: &Header, text: &str) -> Result<NonNull<CStr>, ArenaError> {
    let until_nul = text.bytes().take_while(|&byte| byte != 0).count();
    let mut row = Row::<u8, MIN>::with_capacity(header, until_nul + 1)?;
    row.extend(&text.as_bytes()[..until_nul])?;
    row.push(0)?;
    Ok(as_c_str(row.finish()))
}

/// What an iterator's hint is believed, in bytes.
const HINT_MAX: usize = 1 << 20;

/// Copies the values to the block.
///
/// # Safety
/// The block is as large, aligned for them, and nobody else's.
#[inline(always)]
pub(crate) unsafe fn copy_to<T: Copy>(block: NonNull<u8>, values: &[T]) -> NonNull<[T]> {
    let (start, from) = (block.cast::<T>(), NonNull::from(values));
    // SAFETY: passed on to the caller.
    unsafe {
        if size_of::<T>() == 1 && values.len() <= 16 {
            copy_short(block, from.cast(), values.len());
        } else {
            start.copy_from_nonoverlapping(from.cast(), values.len());
        }
    }
    NonNull::slice_from_raw_parts(start, values.len())
}

/// Copies at most 16 bytes without a call, in two parts that may overlap: most texts are short.
///
/// # Safety
/// Both ranges are `len` bytes long, and do not overlap.
#[inline(always)]
unsafe fn copy_short(to: NonNull<u8>, from: NonNull<u8>, len: usize) {
    debug_assert!(len <= 16);
    // The bytes may be uninitialised: what is copied may itself be a `MaybeUninit`.
    // SAFETY: each part lies within `len` bytes, and all are read before any is written.
    unsafe {
        if len >= 8 {
            copy_two_parts::<MaybeUninit<u64>>(to, from, len);
        } else if len >= 4 {
            copy_two_parts::<MaybeUninit<u32>>(to, from, len);
        } else if len >= 2 {
            copy_two_parts::<MaybeUninit<u16>>(to, from, len);
        } else if len == 1 {
            to.cast::<MaybeUninit<u8>>().write(from.cast().read());
        }
    }
}

/// Copies the first and the last bytes, as many as a `W` has.
///
/// # Safety
/// Both ranges are `len` bytes long and do not overlap; `len` is at least the size of a `W` and at most twice that. A `W`
/// is any bytes, initialised or not.
#[inline(always)]
unsafe fn copy_two_parts<W: Copy>(to: NonNull<u8>, from: NonNull<u8>, len: usize) {
    let last = len - size_of::<W>();
    // SAFETY: passed on to the caller.
    unsafe {
        let head = from.cast::<W>().read_unaligned();
        let tail = from.add(last).cast::<W>().read_unaligned();
        to.cast::<W>().write_unaligned(head);
        to.add(last).cast::<W>().write_unaligned(tail);
    }
}

/// Bytes that are UTF-8, as text.
pub(crate) fn as_text(bytes: NonNull<[u8]>) -> NonNull<str> {
    // SAFETY: the pointer stays the same, and with it what it is not.
    unsafe { NonNull::new_unchecked(bytes.as_ptr() as *mut str) }
}

/// Bytes that end with their only NUL, as a C string.
pub(crate) fn as_c_str(bytes: NonNull<[u8]>) -> NonNull<CStr> {
    // SAFETY: as above; a C string is laid out as the slice of its bytes.
    unsafe { NonNull::new_unchecked(bytes.as_ptr() as *mut CStr) }
}
