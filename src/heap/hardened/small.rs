//! Small blocks when hardened:
//!
//! ```text
//!  another block | asked bytes ........ | slack: 0 to 7 bytes, more where aligned | tag |
//!           tag ^| ^ block                 canary in its first eight bytes, then zero  ^ end of the block
//! ```
//!
//! A block is out if its last word is its tag, and free if all of it is zero: nothing else is known about it. So an
//! allocation writes two words and looks at one of them, and a free looks at these two and at the tag before the block.
//! What is wrong, if something is, is found out when the process is about to end. When a block leaves quarantine, it is
//! seen whether anybody wrote to it: then, and not when it is used again, because then it would often have to be fetched
//! from memory.

use core::ptr::NonNull;

use super::canary::{self, TAG};
use super::secret::mix;
use crate::config::SLAB_LEAD;
use crate::heap::segment::{Kind, Segment};
use crate::heap::size_class::SizeClass;
use crate::heap::{fault, slab_class};

/// The bytes of a block of `class` before its tag.
#[inline(always)]
const fn room(class: SizeClass) -> usize {
    class.small_size() - TAG
}

/// The canary behind the asked bytes of a block whose tag lies at `tag`, with `slack` bytes between: a word, and the word
/// that it is part of. Of up to eight bytes of slack it is the last bytes of the word before the tag, whose first ones are
/// asked ones and zero in what is returned; else it is the first word of the slack.
///
/// # Safety
/// `tag` is the place of a small block's tag, and its slack is less than what is before that.
#[inline(always)]
unsafe fn end(tag: NonNull<u8>, slack: usize, secret: u64) -> (NonNull<u64>, u64) {
    // Half of the shift at a time: for no slack it is all of the word.
    let half = 32 - 4 * slack.min(8);
    // SAFETY: passed on to the caller: the word lies in the block.
    (unsafe { tag.sub(slack.max(8)) }.cast(), secret << half << half)
}

/// Makes a block that is free one of `size` bytes that is out.
///
/// # Safety
/// `block` is a block of `class` and the caller's, and `size + TAG` is at most the class's size.
#[inline(always)]
pub(super) unsafe fn hand_out(block: NonNull<u8>, class: SizeClass, size: usize) {
    // SAFETY: passed on to the caller; the bytes that are written lie in the block.
    unsafe {
        let tag = block.add(room(class));
        let secret = mix(tag.addr().get() as u64);
        let (place, canary) = end(tag, room(class) - size, secret);
        // Asked bytes that the word is part of are zero, and stay so. Written before anything is read: of a page that was
        // never touched a read would be a fault of its own.
        place.write_unaligned(canary.to_le());
        // Two threads that free a block at once may both have put it into a cache: the second to take it out sees it here.
        if canary::load(tag) != 0 {
            die_of_use(block, class);
        }
        canary::store(tag, canary::tag(secret, size));
    }
}

/// Dies of a block that was to be handed out and has a tag already.
///
/// # Safety
/// `block` is a block of `class`.
#[cold]
#[inline(never)]
unsafe fn die_of_use(block: NonNull<u8>, class: SizeClass) -> ! {
    // SAFETY: passed on to the caller.
    match unsafe { tagged_size(block, class) } {
        Some(_) => fault::die_of_bad_free(block.as_ptr(), true),
        None => fault::die_of_write_after_free(block.as_ptr()),
    }
}

/// How many bytes were asked for of a block, as its tag says, if it has one.
///
/// # Safety
/// `block` is an address in a slab of `class`, and a multiple of eight.
unsafe fn tagged_size(block: NonNull<u8>, class: SizeClass) -> Option<usize> {
    // SAFETY: passed on to the caller.
    unsafe {
        let tag = block.add(room(class));
        canary::size(mix(tag.addr().get() as u64), canary::load(tag))
    }
}

/// Whether the slack of a block is as [`hand_out`] left it.
///
/// # Safety
/// `tag` is the place of the tag of a block that is out, with `slack` bytes before it.
#[inline(always)]
unsafe fn is_end_intact(tag: NonNull<u8>, slack: usize, secret: u64) -> bool {
    // SAFETY: passed on to the caller; all that is read lies in the block.
    unsafe {
        let (place, canary) = end(tag, slack, secret);
        let half = 32 - 4 * slack.min(8);
        let change = u64::from_le(place.read_unaligned()) ^ canary;
        if change >> half >> half != 0 {
            return false;
        }
        let rest = slack.saturating_sub(8);
        rest == 0 || {
            let rest = core::slice::from_raw_parts(tag.sub(rest).as_ptr(), rest);
            canary::is_zero_throughout(rest)
        }
    }
}

/// Dies unless a block that was freed is as it was left: zero.
///
/// # Safety
/// `block` is a block of `class` that [`clear`] was called with, and the caller's.
#[inline(always)]
pub(super) unsafe fn expect_zero(block: NonNull<u8>, class: SizeClass) {
    // SAFETY: passed on to the caller.
    if !unsafe { canary::is_zero(block, class.small_size()) } {
        fault::die_of_write_after_free(block.as_ptr());
    }
}

/// The block that is out at an address and how many bytes were asked for, if there is one: dies of one whose tag was
/// written over.
///
/// # Safety
/// `inner` is an address in a slab of `class`.
pub(super) unsafe fn find(inner: NonNull<u8>, class: SizeClass) -> Option<(NonNull<u8>, usize)> {
    // SAFETY: passed on to the caller; the offset is less than the address, and a block that begins there ends in a tag.
    unsafe {
        let offset = Segment::offset_in_slab(inner);
        if !(SLAB_LEAD..class.slab_blocks()).contains(&class.block_at(offset)) {
            return None;
        }
        let block = inner.sub(offset % class.small_size());
        if canary::load(block.add(room(class))) == 0 {
            return None;
        }
        match tagged_size(block, class) {
            Some(size) => Some((block, size)),
            None => fault::die_of_overflow(block.as_ptr()),
        }
    }
}

/// How many bytes were asked for of a block that is out: dies of any other, and of one whose end was written over.
///
/// # Safety
/// `block` is an address in a slab of `class`.
#[inline(always)]
pub(super) unsafe fn size(block: NonNull<u8>, class: SizeClass) -> usize {
    if !block.addr().get().is_multiple_of(TAG) {
        die_of_pointer(block, None);
    }
    // SAFETY: a block that begins here ends in a tag. If none does, what is read is memory of the heap's all the same, or
    // there is none and the process ends by that.
    unsafe {
        let tag = block.add(room(class));
        let secret = mix(tag.addr().get() as u64);
        match canary::size(secret, canary::load(tag)) {
            Some(size) if size <= room(class) => {
                if !is_end_intact(tag, room(class) - size, secret) {
                    fault::die_of_overflow(block.as_ptr());
                }
                size
            }
            _ => die_of_pointer(block, None),
        }
    }
}

/// Dies unless `block` is one of `class` that is out and was asked for with `size` bytes, or if its end was written over.
///
/// # Safety
/// The class is that of a layout of this size, and the block, if it is one, has that layout.
#[inline(always)]
pub(super) unsafe fn expect(block: NonNull<u8>, class: SizeClass, size: usize) {
    if !block.addr().get().is_multiple_of(TAG) {
        die_of_pointer(block, Some(size));
    }
    // SAFETY: as in `size`; what is no memory of ours is read at the caller's risk.
    unsafe {
        let tag = block.add(room(class));
        let secret = mix(tag.addr().get() as u64);
        if canary::load(tag) != canary::tag(secret, size) {
            die_of_pointer(block, Some(size));
        }
        if !is_end_intact(tag, room(class) - size, secret) {
            fault::die_of_overflow(block.as_ptr());
        }
    }
}

/// Makes a block that is out one that is free: dies of one whose beginning was written over.
///
/// # Safety
/// `block` is a block of `class`, [`size`] or [`expect`] was asked of it, and it is the caller's.
#[inline(always)]
pub(super) unsafe fn clear(block: NonNull<u8>, class: SizeClass) {
    // SAFETY: passed on to the caller. The block before this one lies in the same slab, which never hands out its
    // first, and ends in a tag if it is out.
    unsafe {
        let before = block.sub(TAG);
        let tag = canary::load(before);
        // Not two branches: whether the neighbour is out cannot be foretold.
        if (tag != 0) & canary::size(mix(before.addr().get() as u64), tag).is_none() {
            fault::die_of_underflow(block.as_ptr());
        }
        // Alone and first, so that the block behind never sees half a tag.
        canary::store(block.add(room(class)), 0);
        canary::clear(block, room(class));
    }
}

/// Makes a block that is out, of `old` bytes, one of `new` bytes.
///
/// # Safety
/// `block` is a block of `class` that [`size`] or [`expect`] was asked of, and the caller's; `new + TAG` is at most the
/// class's size.
pub(super) unsafe fn resize(block: NonNull<u8>, class: SizeClass, old: usize, new: usize) {
    // SAFETY: all that is written lies in the block, behind what it keeps.
    unsafe {
        let tag = block.add(room(class));
        let secret = mix(tag.addr().get() as u64);
        // Behind the old canary it is zero.
        let from = old.min(new);
        block.add(from).write_bytes(0, (old + 8).min(room(class)) - from);
        let (place, canary) = end(tag, room(class) - new, secret);
        place.write_unaligned(place.read_unaligned() | canary.to_le());
        canary::store(tag, canary::tag(secret, new));
    }
}

/// Says what is wrong with a pointer that was given back, with the `size` of its layout if that is known, where no block
/// that is out begins, or one of another size.
#[cold]
#[inline(never)]
fn die_of_pointer(block: NonNull<u8>, size: Option<usize>) -> ! {
    let start = block.as_ptr();
    let class = match Segment::kind_at(block) {
        Kind::Class(class) if class.index() < SizeClass::SMALL => class,
        _ => {
            // SAFETY: whatever it is, it was to be freed, so nobody else frees it.
            let asked = unsafe { super::usable_size(block) };
            fault::die_of_bad_free(start, size == Some(asked))
        }
    };
    // SAFETY: it is an address in a slab; a block that begins there ends in a tag.
    unsafe {
        let offset = Segment::offset_in_slab(block);
        let index = class.block_at(offset);
        if index * class.small_size() != offset || !(SLAB_LEAD..class.slab_blocks()).contains(&index) {
            fault::die_of_inner_pointer(start);
        }
        if tagged_size(block, class).is_some() {
            fault::die_of_bad_free(start, false);
        }
        if canary::load(block.add(room(class))) != 0 {
            fault::die_of_overflow(start);
        }
        if slab_class::is_home(class, start) {
            fault::die_of_foreign_block(start);
        }
        // It may have been written over with zeros, tag and all.
        if canary::is_zero(block, room(class)) {
            fault::die_of_bad_free(start, true)
        } else {
            fault::die_of_overflow(start)
        }
    }
}
