//! Small blocks when hardened:
//!
//! ```text
//!  another block | asked bytes ........ | slack: 0 to 7 bytes, more where aligned | tag |
//!           tag ^| ^ block                 canary in its first eight bytes, then zero  ^ end of the block
//! ```
//!
//! Each has a byte of state in its segment's header. A block that is free is zero throughout. So a free sees whether
//! the block is out, and whether the bytes behind it and the tag before it are as they were. When a block leaves
//! quarantine, it is seen whether anybody wrote to it: then, and not when it is used again, because then it would often
//! have to be fetched from memory.

use core::ptr::NonNull;

use super::canary::{self, TAG};
use super::secret::mix;
use crate::base::sync::{AtomicU8, Ordering};
use crate::heap::fault;
use crate::heap::segment::Segment;
use crate::heap::size_class::SizeClass;

/// Never handed out.
const NEW: u8 = 0;
const OUT: u8 = 1;
const FREED: u8 = 2;

/// The state of a block, which must begin there.
///
/// # Safety
/// `block` is an address in a slab of `class`.
#[inline(always)]
unsafe fn state<'a>(block: NonNull<u8>, class: SizeClass) -> &'a AtomicU8 {
    // SAFETY: passed on to the caller.
    match unsafe { Segment::state_of(block, class) } {
        Some(state) => state,
        None => fault::die_of_inner_pointer(block.as_ptr()),
    }
}

#[inline(always)]
fn tag_of(block: NonNull<u8>, class: SizeClass) -> NonNull<u8> {
    // SAFETY: the block is larger than a tag.
    unsafe { block.add(class.small_size() - TAG) }
}

/// Makes a block that is free one of `size` bytes that is out. It is not read: it may have left the processor's cache
/// long ago.
///
/// # Safety
/// `block` is a block of `class` and the caller's, and `size + TAG` is at most the class's size.
#[inline(always)]
pub(super) unsafe fn hand_out(block: NonNull<u8>, class: SizeClass, size: usize) {
    // SAFETY: passed on to the caller; the bytes that are written lie in the block.
    unsafe {
        let state = state(block, class);
        // Not an exchange: two threads that free a block at once may both have put it into a cache, and then the
        // second to take it out sees it here.
        if state.load(Ordering::Relaxed) == OUT {
            fault::die_of_bad_free(block.as_ptr(), true);
        }
        state.store(OUT, Ordering::Relaxed);
        let tag = tag_of(block, class);
        let slack = class.small_size() - TAG - size;
        canary::store(tag, canary::tag(tag.addr().get(), slack));
        match slack {
            0 => {}
            // The asked bytes before it are zero, and stay so.
            1..=8 => tag.cast::<u64>().sub(1).write(end_of(tag.cast::<u64>().sub(1), slack).to_le()),
            _ => mark_end(block, size, slack),
        }
    }
}

/// Writes the canary behind the asked bytes of a block with `slack`.
///
/// # Safety
/// As for [`hand_out`].
#[inline(always)]
unsafe fn mark_end(block: NonNull<u8>, size: usize, slack: usize) {
    // SAFETY: the block is the caller's, and what is written lies in its slack, but for asked bytes that are written
    // with what they hold.
    unsafe {
        let end = block.add(size);
        if slack > 8 {
            return end.cast::<u64>().write_unaligned(mix(end.addr().get() as u64).to_le());
        }
        // The last word before the tag: its first bytes are asked ones.
        let last = end.add(slack).cast::<u64>().sub(1);
        let kept = u64::from_le(last.read()) & !(u64::MAX << (64 - 8 * slack));
        last.write((kept | end_of(last, slack)).to_le());
    }
}

/// The canary in the last `slack` bytes, one to eight, of the word at `last`.
#[inline(always)]
fn end_of(last: NonNull<u64>, slack: usize) -> u64 {
    mix(last.addr().get() as u64) << (64 - 8 * slack)
}

/// Whether the slack of a block is as [`mark_end`] left it.
///
/// # Safety
/// As for [`hand_out`].
#[inline(always)]
unsafe fn is_end_intact(block: NonNull<u8>, size: usize, slack: usize) -> bool {
    // SAFETY: the block is out, and all that is read lies in it.
    unsafe {
        let end = block.add(size);
        if slack > 8 {
            let word = u64::from_le(end.cast::<u64>().read_unaligned());
            let rest = core::slice::from_raw_parts(end.add(8).as_ptr(), slack - 8);
            return word == mix(end.addr().get() as u64) && canary::is_zero_throughout(rest);
        }
        let last = end.add(slack).cast::<u64>().sub(1);
        (u64::from_le(last.read()) ^ end_of(last, slack)) >> (64 - 8 * slack) == 0
    }
}

/// Dies unless a block that was freed is as it was left: zero.
///
/// # Safety
/// `block` is a block of `class` that [`take_back`] was called with, and the caller's.
#[inline(always)]
pub(super) unsafe fn expect_zero(block: NonNull<u8>, class: SizeClass) {
    // SAFETY: passed on to the caller.
    if !unsafe { canary::is_zero(block, class.small_size()) } {
        fault::die_of_write_after_free(block.as_ptr());
    }
}

/// The block that is out at an address, if there is one.
///
/// # Safety
/// `inner` is an address in a slab of `class`.
pub(super) unsafe fn find(inner: NonNull<u8>, class: SizeClass) -> Option<NonNull<u8>> {
    // SAFETY: passed on to the caller; the offset is less than the address.
    unsafe {
        let block = inner.sub(Segment::offset_in_slab(inner) % class.small_size());
        let state = Segment::state_of(block, class)?;
        (state.load(Ordering::Relaxed) == OUT).then_some(block)
    }
}

/// How many bytes were asked for of a block that is out, as its tag says: dies when that was written over.
///
/// # Safety
/// `block` is a block of `class` that is out.
#[inline(always)]
pub(super) unsafe fn asked(block: NonNull<u8>, class: SizeClass) -> usize {
    // SAFETY: passed on to the caller.
    unsafe {
        let (tag, room) = (tag_of(block, class), class.small_size() - TAG);
        match canary::slack(tag.addr().get(), canary::load(tag)) {
            Some(slack) if slack < room => room - slack,
            _ => fault::die_of_overflow(block.as_ptr()),
        }
    }
}

/// How many bytes were asked for of a block that is out: dies of any other, and of one whose end was written over.
///
/// # Safety
/// `block` is an address in a slab of `class`.
#[inline(always)]
pub(super) unsafe fn size(block: NonNull<u8>, class: SizeClass) -> usize {
    // SAFETY: passed on to the caller.
    unsafe { size_and_state(block, class).0 }
}

/// # Safety
/// As for [`size`].
#[inline(always)]
unsafe fn size_and_state<'a>(block: NonNull<u8>, class: SizeClass) -> (usize, &'a AtomicU8) {
    // SAFETY: passed on to the caller; a block that begins here ends in a tag.
    unsafe {
        let state = state(block, class);
        match state.load(Ordering::Relaxed) {
            OUT => {}
            NEW => fault::die_of_foreign_block(block.as_ptr()),
            _ => fault::die_of_bad_free(block.as_ptr(), true),
        }
        let asked = asked(block, class);
        let slack = class.small_size() - TAG - asked;
        if slack > 0 && !is_end_intact(block, asked, slack) {
            fault::die_of_overflow(block.as_ptr());
        }
        (asked, state)
    }
}

/// Makes a block that is out one that is free: dies of any other, of one that was asked for with another `size`, if that
/// is known, and of one that was written over.
///
/// # Safety
/// `block` is an address in a slab of `class`. If it is a block that is out, it is the caller's.
#[inline(always)]
pub(super) unsafe fn take_back(block: NonNull<u8>, class: SizeClass, size: Option<usize>) {
    // SAFETY: passed on to the caller. The block before this one lies in the same slab, which never hands out its
    // first, and ends in a tag if it is out.
    unsafe {
        let (asked, state) = size_and_state(block, class);
        super::expect(block, size, asked);
        let before = block.sub(TAG);
        let tag = canary::load(before);
        if tag != 0 && canary::slack(before.addr().get(), tag).is_none() {
            fault::die_of_underflow(block.as_ptr());
        }
        state.store(FREED, Ordering::Relaxed);
        // Alone and first, so that the block behind never sees half a tag.
        canary::store(tag_of(block, class), 0);
        block.write_bytes(0, class.small_size() - TAG);
    }
}

/// Makes a block that is out, of `old` bytes, one of `new` bytes.
///
/// # Safety
/// `block` is a block of `class` that [`size`] was asked of, and the caller's; `new + TAG` is at most the class's size.
pub(super) unsafe fn resize(block: NonNull<u8>, class: SizeClass, old: usize, new: usize) {
    let room = class.small_size() - TAG;
    // SAFETY: all that is written lies in the block, behind what it keeps.
    unsafe {
        block.add(old.min(new)).write_bytes(0, room - old.min(new));
        let tag = tag_of(block, class);
        canary::store(tag, canary::tag(tag.addr().get(), room - new));
        if new < room {
            mark_end(block, new, room - new);
        }
    }
}
