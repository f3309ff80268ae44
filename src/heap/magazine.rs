//! Magazines: arrays of pointers to free blocks (Bonwick and Adams, *Magazines and Vmem*, USENIX 2001).
//!
//! A magazine is 512 bytes, aligned to 512, and never goes back to the system, so any part of the heap may hold a
//! pointer into it:
//!
//! ```text
//!  slot   0        1       2 .. floor-1   floor      floor+1 ..... 63
//!       [ link  | floor  |  unused      |  null   |  blocks, the first pushed lowest ]
//!                                                      ^ top when empty              ^ top when full
//! ```
//!
//! One pointer, `top`, is the whole state: the next free slot. Empty: the slot below is the floor's null, and the load
//! that fetches a block is the test. Full: `top` is a multiple of 512. The floor stands so high that as many blocks fit above
//! it as are wanted, which may be few, and the magazine itself says where that is. `link` is used while a magazine lies in
//! a depot or in the pool.
//!
//! Blocks that span pages may carry a mark in their low bits: [`FRESH`] says that they read as zero, [`FRESH_WITHIN`] that
//! their whole pages do, and the ends that they share with neighbours need not.

use core::ptr;

use static_assertions::{assert_eq_size, const_assert};

use crate::base::sync::{Ordering, PlacedUsize};
use crate::config::MAGAZINE_SLOTS;

/// A place in a magazine: a free block, or null.
pub(crate) type Slot = *mut u8;

pub(crate) const MAGAZINE_SIZE: usize = MAGAZINE_SLOTS * size_of::<Slot>();

/// The most blocks that a magazine can hold: all slots but those of the link, of the floor's place and of the floor.
pub(crate) const CAPACITY_MAX: usize = MAGAZINE_SLOTS - 3;

/// The mark of a block that reads as zero.
pub(crate) const FRESH: usize = 1;
/// The mark of a block whose whole pages read as zero.
pub(crate) const FRESH_WITHIN: usize = 2;
/// The bits of all marks: blocks that span pages are aligned to more.
pub(crate) const MARKS: usize = FRESH | FRESH_WITHIN;

/// A magazine that is empty and full at once, so that the first allocation and the first free of a thread both leave
/// the fast path. Never written. Public for shims that lay out a [`Cache`] by hand.
///
/// [`Cache`]: crate::heap::Cache
#[derive(Debug)]
#[repr(C, align(512))]
pub struct EmptyMagazine([usize; MAGAZINE_SLOTS]);

/// The one [`EmptyMagazine`]. A cache that was never used has each of its tops at the end of it.
pub static EMPTY_MAGAZINE: EmptyMagazine = EmptyMagazine([0; MAGAZINE_SLOTS]);

const_assert!(MAGAZINE_SIZE.is_power_of_two());
assert_eq_size!(EmptyMagazine, [u8; MAGAZINE_SIZE]);
const_assert!(align_of::<EmptyMagazine>() == MAGAZINE_SIZE);

/// The top of the magazine that a fresh cache stands on.
pub(crate) const fn sentinel() -> *mut Slot {
    (&raw const EMPTY_MAGAZINE).cast_mut().cast::<Slot>().wrapping_add(MAGAZINE_SLOTS)
}

/// A magazine by its `top`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Magazine {
    top: *mut Slot,
}

impl Magazine {
    /// The magazine whose top is `top`, null for none.
    pub(crate) fn from_top(top: *mut Slot) -> Option<Magazine> {
        (!top.is_null() && top != sentinel()).then_some(Magazine { top })
    }

    pub(crate) fn top(self) -> *mut Slot {
        self.top
    }

    pub(crate) fn base(self) -> *mut Slot {
        // A full one's top is its end.
        self.top.map_addr(|addr| (addr - 1) & !(MAGAZINE_SIZE - 1))
    }

    /// Where the magazine at `base` says that its floor is. Other threads read it while they count.
    fn floor_at<'a>(base: *mut Slot) -> &'a PlacedUsize {
        // SAFETY: the memory of a magazine is one for ever, and this slot of it holds nothing else.
        unsafe { base.add(1).cast::<PlacedUsize>().as_ref_unchecked() }
    }

    fn floor(self) -> usize {
        Magazine::floor_at(self.base()).load(Ordering::Relaxed)
    }

    /// An empty magazine for `capacity` blocks in the memory at `base`.
    ///
    /// # Safety
    /// `base` is a magazine's memory, and it is the caller's.
    pub(crate) unsafe fn empty_at(base: *mut Slot, capacity: usize) -> Magazine {
        invariant!((1..=CAPACITY_MAX).contains(&capacity));
        let floor = MAGAZINE_SLOTS - 1 - capacity;
        Magazine::floor_at(base).store(floor, Ordering::Relaxed);
        // SAFETY: the floor lies within the magazine.
        unsafe {
            base.add(floor).write(ptr::null_mut());
            Magazine { top: base.add(floor + 1) }
        }
    }

    /// How many blocks it holds. Of another thread's magazine, which may change meanwhile, about so many.
    pub(crate) fn len(self) -> usize {
        let below = (self.top.addr() - self.base().addr()) / size_of::<Slot>();
        below.saturating_sub(self.floor() + 1)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_full(self) -> bool {
        self.top.addr().is_multiple_of(MAGAZINE_SIZE)
    }

    /// Fills it, while it is empty, with at most `most` blocks that `take` writes, the first of them on top; returns how
    /// many.
    ///
    /// # Safety
    /// The magazine is the caller's and empty, and has room for `most`. `take` writes as many blocks as it says, and does
    /// not reach the magazine otherwise.
    pub(crate) unsafe fn fill(&mut self, most: usize, take: impl FnOnce(&mut [Slot]) -> usize) -> usize {
        invariant!(self.is_empty() && most < MAGAZINE_SLOTS - self.floor());
        // SAFETY: the slots from an empty magazine's top on are its own, and hold pointers, of old blocks or null.
        let slots = unsafe { core::slice::from_raw_parts_mut(self.top, most) };
        let taken = take(slots);
        slots[..taken].reverse();
        // SAFETY: at most the room that there is.
        self.top = unsafe { self.top.add(taken) };
        taken
    }

    /// # Safety
    /// The magazine is the caller's and not full.
    pub(crate) unsafe fn push(&mut self, block: *mut u8) {
        invariant!(!self.is_full());
        // SAFETY: not full, so the top lies within the magazine.
        unsafe {
            self.top.write(block);
            self.top = self.top.add(1);
        }
    }

    /// The blocks, the first pushed first.
    ///
    /// # Safety
    /// The magazine is the caller's for as long as the slice lives.
    pub(crate) unsafe fn blocks<'a>(self) -> &'a [Slot] {
        // SAFETY: the slots from the floor's next to the top were written by `push` or `fill`.
        unsafe { core::slice::from_raw_parts(self.base().add(self.floor() + 1), self.len()) }
    }

    /// Makes it empty, whatever it held, with room for `capacity` blocks.
    ///
    /// # Safety
    /// The magazine is the caller's.
    pub(crate) unsafe fn clear(&mut self, capacity: usize) {
        // SAFETY: passed on to the caller.
        *self = unsafe { Magazine::empty_at(self.base(), capacity) };
    }
}

/// Magazines in a row, linked through their first slots; the tops come out as they went in.
#[derive(Debug)]
pub(crate) struct Stack {
    head: *mut Slot,
    len: u32,
}

// SAFETY: the magazines in a stack belong to it; whoever owns the stack may touch them from any thread.
unsafe impl Send for Stack {}

impl Stack {
    pub(crate) const fn new() -> Stack {
        Stack { head: ptr::null_mut(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// # Safety
    /// The magazine is the caller's and becomes the stack's.
    pub(crate) unsafe fn push(&mut self, magazine: Magazine) {
        // SAFETY: the first slot of a magazine holds nothing but this link.
        unsafe { magazine.base().write(self.head.cast()) };
        self.head = magazine.top();
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Magazine> {
        let magazine = Magazine::from_top(self.head)?;
        // SAFETY: the magazine is the stack's, its first slot holds the link.
        self.head = unsafe { magazine.base().read() }.cast();
        self.len -= 1;
        Some(magazine)
    }
}
