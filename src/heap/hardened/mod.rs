//! The feature `hardened`: misuse ends the process with one line that names the address and what is wrong.
//!
//! | what | how it is seen | when |
//! |---|---|---|
//! | a free of what is not ours | the directory of segments | at the free |
//! | a double free, a pointer into a block | a small block that is out ends in a tag, and no other memory does; a record for each run | at the free |
//! | a free with another size | the size that was asked for is kept in the tag, in the record, in a huge block's header | at the free |
//! | a write behind or before a block | canaries that differ for each address and process; guard pages from 32 KiB on | at the free; at once |
//! | a write after a free | free blocks are zero, which is looked at; the largest cannot be accessed | when the block leaves quarantine; at once |
//! | use of a block of no bytes | it has no memory | at once |
//!
//! Freed blocks wait in quarantine, for a time that nobody can tell; blocks of up to 256 bytes leave a slab from a
//! random one on.
//!
//! What it leaves out on purpose: reads behind a block that stay within the heap, writes that miss every canary, and a
//! write to a freed small block that has left quarantine, or never leaves it.
//!
//! All of it stands behind [`HARDENED`](crate::config::HARDENED), which `route` asks once for each call.

pub(super) mod bounds;
mod canary;
mod guard;
pub(super) mod huge;
pub(super) mod middle;
mod quarantine;
pub(super) mod secret;
mod small;
mod zero;

use core::ptr::{self, NonNull};

use self::small::Fit;
use crate::base::align;
use crate::config::{GRANULE, MIDDLE_MAX, Options, SMALL_MAX};
use crate::heap::cache::{Cache, unmark};
use crate::heap::route::Route;
use crate::heap::segment::{Kind, Segment};
use crate::heap::size_class::{INLINE_MAX, SizeClass};
use crate::heap::{fault, purge};
use crate::vm::KeepErrno;

/// Where blocks of a layout come from, what stands around them included.
#[inline(always)]
fn route(size: usize, align: usize) -> Route {
    let small = align::up(size + canary::TAG, align);
    if small <= INLINE_MAX {
        return Route::Small(SizeClass::of_inline(small));
    }
    if small <= SMALL_MAX {
        return Route::Small(SizeClass::of(small));
    }
    let middle = middle::padded(size, align);
    if align > GRANULE || middle > MIDDLE_MAX { Route::Huge } else { Route::Middle(SizeClass::of(middle)) }
}

impl Cache {
    /// [`Cache::alloc`] and [`Cache::alloc_zeroed`]: all that is handed out reads as zero.
    ///
    /// # Safety
    /// As for those.
    #[inline(always)]
    pub(super) unsafe fn alloc_checked(&self, options: &Options, size: usize, align: usize) -> *mut u8 {
        let Some(fit) = Fit::narrow(size, align) else {
            // SAFETY: passed on to the caller.
            return unsafe { self.alloc_checked_large(options, size, align) };
        };
        let block = self.pop(options, fit.class);
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the block is this function's.
            unsafe { small::hand_out(block, fit) };
        }
        block
    }

    /// The same for any layout.
    ///
    /// # Safety
    /// As for [`Cache::alloc_checked`].
    #[inline(never)]
    unsafe fn alloc_checked_large(&self, options: &Options, size: usize, align: usize) -> *mut u8 {
        if let Some(fit) = Fit::inline(size, align) {
            let block = self.pop(options, fit.class);
            if let Some(block) = NonNull::new(block) {
                // SAFETY: the block is this function's.
                unsafe { small::hand_out(block, fit) };
            }
            return block;
        }
        if size == 0 {
            let empty = if align <= zero::STEP { zero::alloc() } else { None };
            return match empty {
                Some(empty) => empty.as_ptr(),
                // SAFETY: passed on to the caller.
                None => unsafe { self.alloc_checked(options, 1, align) },
            };
        }
        match route(size, align) {
            Route::Small(class) => {
                let (Some(block), _) = unmark(self.pop(options, class)) else { return ptr::null_mut() };
                // SAFETY: the block is this function's; the class has room for the size and a tag.
                unsafe { small::hand_out(block, Fit::new(class, size)) };
                block.as_ptr()
            }
            Route::Middle(class) => {
                self.alloc_unsplit(options, size, align, || middle::alloc(class, size, align))
            }
            Route::Huge => self.alloc_unsplit(options, size, align, || huge::alloc(size, align)),
        }
    }

    /// [`Cache::free`]: dies of what is no block that is out, was asked for with another layout, or was written over.
    ///
    /// # Safety
    /// The calling thread owns the cache. If the block is one that is out, it is the caller's, who is done with it.
    #[inline(always)]
    pub(super) unsafe fn free_checked(
        &self,
        options: &Options,
        block: NonNull<u8>,
        size: usize,
        align: usize,
    ) {
        // SAFETY: passed on to the caller.
        unsafe {
            match Fit::narrow(size, align) {
                Some(fit) => self.free_as(options, block, fit),
                None => self.free_checked_large(options, block, size, align),
            }
        }
    }

    /// The same for any layout.
    ///
    /// # Safety
    /// As for [`Cache::free_checked`].
    #[inline(never)]
    unsafe fn free_checked_large(&self, options: &Options, block: NonNull<u8>, size: usize, align: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            match Fit::inline(size, align) {
                Some(fit) => self.free_as(options, block, fit),
                None => self.free_checked_unsized(options, block, Some(size)),
            }
        }
    }

    /// The same for a small block that must have this fit.
    ///
    /// # Safety
    /// As for [`Cache::free_checked`].
    #[inline(always)]
    unsafe fn free_as(&self, options: &Options, block: NonNull<u8>, fit: Fit) {
        // SAFETY: passed on to the caller; the block is looked at before it is taken.
        unsafe {
            small::expect(block, fit);
            small::take_tag(block, fit.room);
            self.quarantine(options, fit.class, fit.room, block);
        }
    }

    /// [`Cache::free_unsized`], and [`Cache::free`] of any `size`.
    ///
    /// # Safety
    /// As for [`Cache::free_checked`].
    #[inline(never)]
    pub(super) unsafe fn free_checked_unsized(
        &self,
        options: &Options,
        block: NonNull<u8>,
        size: Option<usize>,
    ) {
        // SAFETY: passed on to the caller; each kind of block is looked at as what it is.
        unsafe {
            match Segment::small_class_at(block) {
                Some(class) => {
                    let fit = small::look_at(block, class);
                    expect(block, size, fit.size);
                    small::take_tag(block, fit.room);
                    self.quarantine(options, class, fit.room, block);
                }
                None => free_large(block, size),
            }
        }
    }

    /// [`Cache::realloc`] and [`Cache::realloc_unsized`].
    ///
    /// # Safety
    /// As for [`Cache::free_checked`], and `new_size` and `align` as for [`Cache::alloc`].
    #[inline(never)]
    pub(super) unsafe fn realloc_checked(
        &self,
        options: &Options,
        block: NonNull<u8>,
        size: Option<usize>,
        align: usize,
        new_size: usize,
    ) -> *mut u8 {
        // SAFETY: passed on to the caller; the old block is looked at before it is read.
        unsafe {
            let old = match size.and_then(|size| Fit::inline(size, align)) {
                Some(fit) => {
                    small::expect(block, fit);
                    Some(fit)
                }
                None => Segment::small_class_at(block).map(|class| small::look_at(block, class)),
            };
            let old_size = old.map_or_else(|| usable_size(block), |fit| fit.size);
            expect(block, size, old_size);
            if let Some(old) = old
                && route(new_size, align) == Route::Small(old.class)
            {
                small::resize(block, old, Fit::new(old.class, new_size));
                return block.as_ptr();
            }
            if old.is_none()
                && new_size > 0
                && route(new_size, align) == Route::Huge
                && Segment::kind_at(block) == Kind::Huge
                && let Some(moved) = NonNull::new(huge::realloc(self, block, new_size, align))
            {
                purge::note_growth();
                purge::note_work();
                return moved.as_ptr();
            }
            let Some(new) = NonNull::new(self.alloc_checked(options, new_size, align)) else {
                return ptr::null_mut();
            };
            new.copy_from_nonoverlapping(block, old_size.min(new_size));
            match old {
                Some(old) => {
                    small::take_tag(block, old.room);
                    self.quarantine(options, old.class, old.room, block);
                }
                None => free_large(block, size),
            }
            new.as_ptr()
        }
    }
}

/// # Safety
/// As for [`Cache::free_checked`]; the block is not a small one.
#[cold]
unsafe fn free_large(block: NonNull<u8>, size: Option<usize>) {
    let _errno = KeepErrno::new();
    // SAFETY: passed on to the caller.
    unsafe {
        if zero::holds(block) {
            expect(block, size, 0);
            return zero::free(block);
        }
        expect(block, size, usable_size(block));
        match Segment::kind_at(block) {
            Kind::Class(class) => middle::free(class, block),
            _ => huge::free(block),
        }
    }
    purge::note_work();
}

/// Dies when a block was asked for with another size than the free says.
#[inline(always)]
fn expect(block: NonNull<u8>, size: Option<usize>, asked: usize) {
    if size.is_some_and(|size| size != asked) {
        fault::die_of_bad_free(block.as_ptr(), false);
    }
}

/// How many bytes a block that is out was asked for with: dies of any other pointer.
///
/// # Safety
/// If the block is one that is out, it is not freed meanwhile.
pub(super) unsafe fn usable_size(block: NonNull<u8>) -> usize {
    // SAFETY: passed on to the caller; each kind of block is looked at as what it is.
    unsafe {
        match Segment::kind_at(block) {
            Kind::Class(class) if class.index() < SizeClass::SMALL => small::look_at(block, class).size,
            Kind::Class(_) => middle::size(block),
            Kind::Huge => huge::size(block),
            Kind::None if zero::holds(block) => {
                zero::check(block);
                0
            }
            Kind::None => fault::die_of_foreign_block(block.as_ptr()),
        }
    }
}
