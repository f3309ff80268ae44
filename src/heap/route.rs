//! Which way a request goes, by its size and alignment alone: a small class, a middle class, a mapping of its own. An
//! allocation and the free with the same layout go the same way, and so may any layout between the size that was asked
//! for and the usable size.

use core::ptr::{self, NonNull};

use crate::base::align;
use crate::config::{GRANULE, HARDENED, MIDDLE_MAX, Options, SMALL_MAX};
use crate::heap::cache::{Cache, unmark};
use crate::heap::huge::Refusal;
use crate::heap::huge_mapping::is_possible;
use crate::heap::magazine::{FRESH, FRESH_WITHIN};
use crate::heap::segment::{Kind, Segment};
use crate::heap::size_class::{INLINE_MAX, LINEAR_MAX, SizeClass};
use crate::heap::tops::{self, Tops};
use crate::heap::{fault, hardened, huge, middle, process, purge, window, work};
use crate::vm::{KeepErrno, page_size};

/// What C's `malloc` promises.
const MALLOC_ALIGN: usize = 16;

/// Where blocks of a layout come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Small(SizeClass),
    Middle(SizeClass),
    Huge,
}

#[inline]
fn route(size: usize, align: usize) -> Route {
    let rounded = align::up(size, align);
    if align > GRANULE || rounded > MIDDLE_MAX {
        Route::Huge
    } else if rounded > SMALL_MAX {
        Route::Middle(SizeClass::of(rounded))
    } else {
        Route::Small(SizeClass::of(rounded))
    }
}

/// Bytes that a block of this layout really has.
pub(crate) fn usable_size_of_layout(size: usize, align: usize) -> usize {
    if HARDENED {
        return size;
    }
    match route(size, align) {
        Route::Small(class) | Route::Middle(class) => class.size(),
        Route::Huge => align::up(size, page_size()),
    }
}

/// Bytes from the block's first on that belong to it; at least as many as were asked for.
///
/// # Safety
/// `block` was allocated by this heap and has not been freed.
#[must_use]
pub unsafe fn usable_size(block: NonNull<u8>) -> usize {
    if HARDENED {
        // SAFETY: passed on to the caller.
        return unsafe { hardened::usable_size(block) };
    }
    match Segment::kind_at(block) {
        Kind::Class(class) => class.size(),
        // SAFETY: passed on to the caller.
        Kind::Huge => unsafe { huge::usable_size(block) },
        Kind::None => fault::die_of_foreign_block(block.as_ptr()),
    }
}

/// When hardened: ends the process with one line unless the block was asked for with `size` bytes.
///
/// # Safety
/// As for [`usable_size`].
#[inline]
pub unsafe fn check_size(block: NonNull<u8>, size: usize) {
    // SAFETY: passed on to the caller.
    if HARDENED && unsafe { hardened::usable_size(block) } != size {
        fault::die_of_bad_free(block.as_ptr(), false);
    }
}

/// When hardened: ends the process with one line if `len` bytes from `start` on begin in this heap's memory, and do not
/// lie in one block that is out. For those who copy.
#[inline]
pub fn check_write(start: NonNull<u8>, len: usize) {
    if HARDENED {
        hardened::bounds::check_write(start, len);
    }
}

/// What to ask [`Cache::alloc`] for where a caller wants `size` bytes, none perhaps: one byte in the place of none, but
/// when hardened, where a block of no bytes is an address that nothing can be read from or written to, aligned to 16.
#[inline(always)]
#[must_use]
pub const fn askable_size(size: usize) -> usize {
    if HARDENED || size > 0 { size } else { 1 }
}

/// Allocates `size` bytes aligned to 16, as C's `malloc` does, if that takes no more than to take a block from the
/// thread's cache: no call is made. Null where it takes more, or the size is zero or too large: [`Cache::alloc`] does it
/// then.
///
/// # Safety
/// The tops are those of a cache that the calling thread owns.
#[inline(always)]
pub unsafe fn alloc_if_cached(tops: impl Tops, size: usize) -> *mut u8 {
    if HARDENED {
        return ptr::null_mut();
    }
    // Zero becomes the largest number.
    let above = size.wrapping_sub(1);
    if above < LINEAR_MAX {
        return tops::pop_sixteens(tops, size);
    }
    if above < INLINE_MAX - MALLOC_ALIGN {
        return tops::pop(tops, SizeClass::of_inline(align::up(size, MALLOC_ALIGN)));
    }
    ptr::null_mut()
}

/// Frees a block of unknown layout if that takes no more than to put it into the thread's cache: no call is made, so
/// `errno` stays as it is. False, and nothing was done, where it takes more, or the pointer is null:
/// [`Cache::free_unsized`] does it then.
///
/// # Safety
/// As for [`Cache::free_unsized`], but for null. The tops are those of a cache that the calling thread owns.
#[inline(always)]
#[must_use]
pub unsafe fn free_if_cached(tops: impl Tops, block: *mut u8) -> bool {
    if HARDENED {
        return false;
    }
    let Some(kind) = window::kind_at(block.addr()) else { return false };
    // SAFETY: passed on to the caller; no kind is above the last small class's, and that of null is zero.
    unsafe { tops::push(tops, kind, block) }
}

/// Whether a block of `size` bytes aligned to 16 would be like this one, so that [`Cache::realloc_unsized`] would return
/// it as it is. False for null, for no bytes, and where it takes more than a look at two tables to say.
#[inline(always)]
#[must_use]
pub fn fits_as_it_is(block: *mut u8, size: usize) -> bool {
    // Zero becomes the largest number.
    if HARDENED || size.wrapping_sub(1) >= INLINE_MAX - MALLOC_ALIGN {
        return false;
    }
    let class = SizeClass::of_inline(align::up(size, MALLOC_ALIGN));
    window::kind_at(block.addr()) == Some(class.index() + 1)
}

/// The way that a block came; ends the process with one line where there is none.
#[inline]
fn route_of(block: NonNull<u8>) -> Route {
    if let Some(kind @ 1..) = window::kind_at(block.addr().get()) {
        return Route::Small(SizeClass::from_index(kind - 1));
    }
    match Segment::kind_at(block) {
        Kind::Class(class) if class.index() < SizeClass::SMALL => Route::Small(class),
        Kind::Class(class) => Route::Middle(class),
        Kind::Huge => Route::Huge,
        Kind::None => fault::die_of_foreign_block(block.as_ptr()),
    }
}

impl Cache {
    /// Allocates `size` bytes aligned to `align`; null when out of memory. `options` hold if this is the process's
    /// first allocation.
    ///
    /// # Safety
    /// The calling thread owns the cache. `size` is one that [`askable_size`] gives and `align` a power of two, and `size`
    /// rounded up to a multiple of it is at most `isize::MAX`.
    #[inline(always)]
    pub unsafe fn alloc(&self, options: &Options, size: usize, align: usize) -> *mut u8 {
        if HARDENED {
            // SAFETY: passed on to the caller.
            return unsafe { self.alloc_checked(options, size, align) };
        }
        let rounded = align::up(size, align);
        if rounded <= INLINE_MAX {
            return self.pop(options, SizeClass::of_inline(rounded));
        }
        self.alloc_large(options, size, align)
    }

    /// The same, and the `size` bytes are zero: pages that the kernel has just cleared are not cleared again.
    ///
    /// # Safety
    /// As for [`Cache::alloc`].
    #[inline(always)]
    pub unsafe fn alloc_zeroed(&self, options: &Options, size: usize, align: usize) -> *mut u8 {
        if HARDENED {
            // SAFETY: passed on to the caller.
            return unsafe { self.alloc_checked(options, size, align) };
        }
        let rounded = align::up(size, align);
        if rounded > INLINE_MAX {
            return self.alloc_anew(options, size, align, true);
        }
        let block = self.pop(options, SizeClass::of_inline(rounded));
        if !block.is_null() {
            // SAFETY: the block is this function's and at least `size` bytes long.
            unsafe { block.write_bytes(0, size) };
        }
        block
    }

    /// Calls nothing where a block is at hand, so it needs no frame for that.
    #[inline(never)]
    fn alloc_large(&self, options: &Options, size: usize, align: usize) -> *mut u8 {
        let at_hand = match route(size, align) {
            Route::Small(class) => unmark(tops::pop(self, class)).0,
            Route::Middle(class) => middle::alloc_kept(class),
            Route::Huge => None,
        };
        match at_hand {
            Some(block) => block.as_ptr(),
            None => self.alloc_anew(options, size, align, false),
        }
    }

    #[inline(never)]
    fn alloc_anew(&self, options: &Options, size: usize, align: usize, zeroed: bool) -> *mut u8 {
        match route(size, align) {
            Route::Small(class) => {
                let (Some(block), mark) = unmark(self.pop(options, class)) else { return ptr::null_mut() };
                if zeroed {
                    // SAFETY: the block is this function's and at least `size` bytes long.
                    unsafe { clear(block, size, mark) };
                }
                block.as_ptr()
            }
            Route::Middle(class) => {
                let Some(block) = middle::alloc_kept(class) else {
                    let cleared = if zeroed { size } else { 0 };
                    return self.alloc_unsplit(options, size, align, || middle::alloc(class, cleared));
                };
                if zeroed {
                    // SAFETY: the block is this function's and at least as long.
                    unsafe { block.write_bytes(0, size) };
                }
                block.as_ptr()
            }
            Route::Huge => self.alloc_unsplit(options, size, align, || huge::alloc(size, align, zeroed)),
        }
    }

    /// Frees a block by its layout, without looking at it.
    ///
    /// # Safety
    /// The calling thread owns the cache. `block` came from this heap with this `align` and with a size from which
    /// `size` differs by no more than the usable size allows; it has not been freed, and is not used any more.
    #[inline(always)]
    pub unsafe fn free(&self, options: &Options, block: NonNull<u8>, size: usize, align: usize) {
        if HARDENED {
            // SAFETY: passed on to the caller.
            return unsafe { self.free_checked(options, block, size, align) };
        }
        let rounded = align::up(size, align);
        // SAFETY: passed on to the caller; the route is the one that the block came by.
        unsafe {
            if rounded <= INLINE_MAX {
                return self.push(options, SizeClass::of_inline(rounded), block.as_ptr());
            }
            self.free_large(options, block, size, align);
        }
    }

    /// Calls nothing where there is a place for the block, so it needs no frame for that.
    ///
    /// # Safety
    /// As for [`Cache::free`].
    #[inline(never)]
    unsafe fn free_large(&self, options: &Options, block: NonNull<u8>, size: usize, align: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            match route(size, align) {
                Route::Small(class) => self.push(options, class, block.as_ptr()),
                Route::Middle(class) => free_middle(class, block),
                Route::Huge => free_huge(block),
            }
        }
    }

    /// Frees a block of unknown layout: its class stands in its segment's header.
    ///
    /// # Safety
    /// The calling thread owns the cache. `block` came from this heap, has not been freed, and is not used any more.
    #[inline(never)]
    pub unsafe fn free_unsized(&self, options: &Options, block: NonNull<u8>) {
        if HARDENED {
            // SAFETY: passed on to the caller.
            return unsafe { self.free_checked_unsized(options, block, None) };
        }
        // Of a large heap, most blocks lie where the window does not reach.
        if let Some(class) = Segment::small_class_at(block) {
            // SAFETY: passed on to the caller.
            return unsafe { self.push(options, class, block.as_ptr()) };
        }
        // SAFETY: passed on to the caller.
        unsafe {
            match Segment::kind_at(block) {
                Kind::Class(class) if Segment::is_start_of_run(block) => free_middle(class, block),
                Kind::Class(_) => fault::die_of_inner_pointer(block.as_ptr()),
                Kind::Huge => free_huge(block),
                Kind::None => fault::die_of_foreign_block(block.as_ptr()),
            }
        }
    }

    /// Makes the block `new_size` bytes long, where it is if possible; null when out of memory, and the block is as it
    /// was.
    ///
    /// # Safety
    /// As for [`Cache::free`], and `new_size` as for [`Cache::alloc`].
    #[inline(never)]
    pub unsafe fn realloc(
        &self,
        options: &Options,
        block: NonNull<u8>,
        size: usize,
        align: usize,
        new_size: usize,
    ) -> *mut u8 {
        let (old_rounded, new_rounded) = (align::up(size, align), align::up(new_size, align));
        // SAFETY: passed on to the caller.
        unsafe {
            if HARDENED {
                return self.realloc_checked(options, block, Some(size), align, new_size);
            }
            let resized = if old_rounded <= INLINE_MAX && new_rounded <= INLINE_MAX {
                let is_same = SizeClass::of_inline(old_rounded) == SizeClass::of_inline(new_rounded);
                if is_same { block.as_ptr() } else { ptr::null_mut() }
            } else {
                self.resize(block, route(size, align), route(new_size, align), new_size)
            };
            if !resized.is_null() {
                return resized;
            }
            let Some(new) = NonNull::new(self.alloc(options, new_size, align)) else {
                return ptr::null_mut();
            };
            new.copy_from_nonoverlapping(block, size.min(new_size));
            self.free(options, block, size, align);
            new.as_ptr()
        }
    }

    /// The same for a block of unknown layout that was allocated with this `align` or a larger one; a block that moves
    /// is aligned to this.
    ///
    /// # Safety
    /// As for [`Cache::free_unsized`], and `new_size` and `align` as for [`Cache::alloc`].
    #[inline(never)]
    pub unsafe fn realloc_unsized(
        &self,
        options: &Options,
        block: NonNull<u8>,
        new_size: usize,
        align: usize,
    ) -> *mut u8 {
        // SAFETY: passed on to the caller.
        unsafe {
            if HARDENED {
                return self.realloc_checked(options, block, None, align, new_size);
            }
            let from = route_of(block);
            let resized = self.resize(block, from, route(new_size, align), new_size);
            if !resized.is_null() {
                return resized;
            }
            let Some(new) = NonNull::new(self.alloc(options, new_size, align)) else {
                return ptr::null_mut();
            };
            let old_size = match from {
                Route::Small(class) | Route::Middle(class) => class.size(),
                Route::Huge => huge::usable_size(block),
            };
            new.copy_from_nonoverlapping(block, old_size.min(new_size));
            if !free_if_cached(self, block.as_ptr()) {
                self.free_unsized(options, block);
            }
            new.as_ptr()
        }
    }

    /// Runs `alloc` for a block of this layout that is no part of a slab, again if need be after memory was given back.
    pub(super) fn alloc_unsplit(
        &self,
        options: &Options,
        size: usize,
        align: usize,
        alloc: impl Fn() -> *mut u8,
    ) -> *mut u8 {
        process::start(options);
        if !is_possible(size, align) {
            return ptr::null_mut();
        }
        let block = self.retry_after_reclaim(|| NonNull::new(alloc()));
        purge::note_growth();
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Makes a block that came by one route one of the other without copying it; null, and it is as it was, where that
    /// cannot be done.
    ///
    /// # Safety
    /// The block came by the route `from` and is the caller's.
    unsafe fn resize(&self, block: NonNull<u8>, from: Route, to: Route, size: usize) -> *mut u8 {
        match (from, to) {
            (Route::Small(old), Route::Small(new)) if old == new => block.as_ptr(),
            (Route::Middle(old), Route::Middle(new)) => {
                // SAFETY: passed on to the caller.
                if old != new && !unsafe { middle::resize(old, new, block) } {
                    return ptr::null_mut();
                }
                if new < old {
                    purge::note_work();
                } else {
                    purge::note_growth();
                }
                block.as_ptr()
            }
            (Route::Huge, Route::Huge) if is_possible(size, 1) => {
                // SAFETY: passed on to the caller; nothing has changed after a failure.
                let resized = self.retry_after_reclaim(|| match unsafe { huge::realloc(block, size) } {
                    Err(Refusal::NoRoom) => None,
                    resized => Some(resized.ok()),
                });
                purge::note_growth();
                resized.flatten().map_or(ptr::null_mut(), NonNull::as_ptr)
            }
            _ => ptr::null_mut(),
        }
    }

    /// Gives back to the system what this thread's cache holds and all that the process holds in common; returns how
    /// many bytes of memory that were. What other threads' caches hold stays.
    pub fn trim(&self) -> usize {
        self.flush();
        purge::trim()
    }
}

/// Clears the first `size` bytes of a block, as far as its mark does not say that they are.
///
/// # Safety
/// The block is the caller's, and at least `size` bytes long.
unsafe fn clear(block: NonNull<u8>, size: usize, mark: usize) {
    let page = page_size();
    let start = block.addr().get();
    let end = start + size;
    let (first_page, last_page) = (align::up(start, page), align::down(end, page));
    // SAFETY: the ranges lie within the block.
    unsafe {
        match mark {
            FRESH => {}
            FRESH_WITHIN if first_page < last_page => {
                block.write_bytes(0, first_page - start);
                block.add(last_page - start).write_bytes(0, end - last_page);
            }
            _ => block.write_bytes(0, size),
        }
    }
}

/// # Safety
/// As for [`middle::free`].
#[inline]
unsafe fn free_middle(class: SizeClass, block: NonNull<u8>) {
    // SAFETY: passed on to the caller.
    let is_kept = unsafe { middle::keep(class, block) };
    if is_kept && work::is_noted() {
        return;
    }
    // SAFETY: passed on to the caller, whose the block still is if it was not kept.
    unsafe { free_middle_slowly(class, block, is_kept) };
}

/// # Safety
/// As for [`middle::free`] if it was not kept.
#[inline(never)]
unsafe fn free_middle_slowly(class: SizeClass, block: NonNull<u8>, is_kept: bool) {
    let _errno = KeepErrno::new();
    if !is_kept {
        // SAFETY: passed on to the caller.
        unsafe { middle::free(class, block) };
    }
    purge::note_work();
}

/// # Safety
/// As for [`huge::free`].
#[inline(never)]
unsafe fn free_huge(block: NonNull<u8>) {
    let _errno = KeepErrno::new();
    // SAFETY: passed on to the caller.
    unsafe { huge::free(block) };
    purge::note_work();
}
