//! Arenas and scopes as allocators of collections: for the two versions of allocator-api2 that the ecosystem is split
//! over, and for nightly's own trait. One implementation; the three traits differ in name only.

use core::alloc::Layout;
use core::ptr::NonNull;

use crate::arena::Arena;
use crate::arena::error::ArenaError;
use crate::arena::header::{Header, dangling};
use crate::arena::scope::Scope;

type Block = Result<NonNull<[u8]>, ArenaError>;

impl Header {
    #[inline(always)]
    fn allocate<const MIN: usize>(&self, layout: Layout) -> Block {
        let start = if layout.size() == 0 { dangling(layout) } else { self.try_take::<MIN>(layout)? };
        Ok(NonNull::slice_from_raw_parts(start, layout.size()))
    }

    /// Clears only what may hold something: what the system has just made is zero.
    #[inline]
    fn allocate_zeroed<const MIN: usize>(&self, layout: Layout) -> Block {
        let cursor_before = self.cursor_addr();
        let block = self.allocate::<MIN>(layout)?;
        if layout.size() > 0 {
            let dirty = self.dirty_from(block.cast(), layout.size(), cursor_before);
            // SAFETY: a part of the block, which is nobody's yet.
            unsafe { block.cast::<u8>().write_bytes(0, dirty) };
        }
        Ok(block)
    }

    /// # Safety
    /// As for `Allocator::deallocate`.
    #[inline(always)]
    unsafe fn deallocate<const MIN: usize>(&self, start: usize, block: NonNull<u8>, layout: Layout) {
        // A block of an outer scope stays, though it be the last: nobody may take memory from below this one's start.
        if block.addr().get() >= start {
            // SAFETY: passed on to the caller.
            unsafe { self.give::<MIN>(block, layout.size()) };
        }
    }

    /// # Safety
    /// As for `Allocator::grow`.
    #[inline(always)]
    unsafe fn grow<const MIN: usize>(
        &self,
        start: usize,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Block {
        let at = block.addr().get();
        let may_stay = at >= start && is_aligned(block, old, new);
        // SAFETY: passed on to the caller.
        if may_stay && unsafe { self.grow_last::<MIN>(block, old.size(), new.size()) } {
            return Ok(NonNull::slice_from_raw_parts(block, new.size()));
        }
        // SAFETY: passed on to the caller.
        unsafe { self.move_block::<MIN>(block, old, new) }
    }

    /// # Safety
    /// As for `Allocator::shrink`.
    #[inline(always)]
    unsafe fn shrink<const MIN: usize>(
        &self,
        start: usize,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Block {
        if !is_aligned(block, old, new) {
            // SAFETY: passed on to the caller.
            return unsafe { self.move_block::<MIN>(block, old, new) };
        }
        if block.addr().get() >= start {
            // SAFETY: passed on to the caller. If it is not the last block, it stays as long as it is.
            unsafe { self.shrink_last::<MIN>(block, old.size(), new.size()) };
        }
        Ok(NonNull::slice_from_raw_parts(block, new.size()))
    }

    /// # Safety
    /// The old block is the caller's, and has the old layout.
    #[inline(never)]
    unsafe fn move_block<const MIN: usize>(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Block {
        let moved = self.allocate::<MIN>(new)?;
        // SAFETY: the new block is another one, as the old one still belongs to the caller; both have so many bytes.
        unsafe { moved.cast::<u8>().copy_from_nonoverlapping(block, old.size().min(new.size())) };
        Ok(moved)
    }
}

/// Whether a block with the old layout has the alignment of the new one: by its layouts, which are mostly constant, or
/// by its address.
#[inline(always)]
fn is_aligned(block: NonNull<u8>, old: Layout, new: Layout) -> bool {
    old.align() >= new.align() || block.addr().get().is_multiple_of(new.align())
}

/// The trait of one crate, for one type of handle. `$start` is the address below which blocks are not the handle's to
/// take back: an arena has no such blocks.
macro_rules! allocator {
    ([$($api:tt)*] [$($life:lifetime)?] $handle:ty, $start:expr) => {
        // SAFETY: blocks stay where they are and belong to nobody else until they are given back or the arena is rewound
        // below them. Rewinding borrows it mutably, or ends the scope, which no copy of the handle outlives. Copies of a
        // handle lead to the same header; moving an arena moves no block.
        unsafe impl<$($life,)? const MIN_ALIGN: usize> $($api)*::Allocator for &$handle {
            #[inline(always)]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, $($api)*::AllocError> {
                self.header().allocate::<MIN_ALIGN>(layout).map_err(|_| $($api)*::AllocError)
            }

            #[inline(always)]
            fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, $($api)*::AllocError> {
                self.header().allocate_zeroed::<MIN_ALIGN>(layout).map_err(|_| $($api)*::AllocError)
            }

            #[inline(always)]
            unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: passed on to the caller.
                unsafe { self.header().deallocate::<MIN_ALIGN>(($start)(self), block, layout) };
            }

            #[inline(always)]
            unsafe fn grow(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $($api)*::AllocError> {
                // SAFETY: passed on to the caller.
                unsafe { self.header().grow::<MIN_ALIGN>(($start)(self), block, old, new) }
                    .map_err(|_| $($api)*::AllocError)
            }

            #[inline(always)]
            unsafe fn grow_zeroed(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $($api)*::AllocError> {
                // SAFETY: passed on to the caller; what lies behind the old size is the new block's.
                unsafe {
                    let grown = self.grow(block, old, new)?;
                    grown.cast::<u8>().add(old.size()).write_bytes(0, new.size() - old.size());
                    Ok(grown)
                }
            }

            #[inline(always)]
            unsafe fn shrink(
                &self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $($api)*::AllocError> {
                // SAFETY: passed on to the caller.
                unsafe { self.header().shrink::<MIN_ALIGN>(($start)(self), block, old, new) }
                    .map_err(|_| $($api)*::AllocError)
            }
        }
    };
}

allocator!([allocator_api2::alloc] [] Arena<MIN_ALIGN>, |_| 0);
allocator!([allocator_api2::alloc] ['s] Scope<'s, MIN_ALIGN>, Scope::start_addr);

#[cfg(feature = "allocator-api2-02")]
allocator!([allocator_api2_02::alloc] [] Arena<MIN_ALIGN>, |_| 0);
#[cfg(feature = "allocator-api2-02")]
allocator!([allocator_api2_02::alloc] ['s] Scope<'s, MIN_ALIGN>, Scope::start_addr);

#[cfg(feature = "nightly")]
allocator!([std::alloc] [] Arena<MIN_ALIGN>, |_| 0);
#[cfg(feature = "nightly")]
allocator!([std::alloc] ['s] Scope<'s, MIN_ALIGN>, Scope::start_addr);
