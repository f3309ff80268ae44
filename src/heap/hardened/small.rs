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

use core::hint::select_unpredictable;
use core::ptr::NonNull;

use super::canary::{self, TAG};
use super::secret::mix;
use crate::base::align;
use crate::config::SLAB_LEAD;
use crate::heap::segment::{Kind, Segment};
use crate::heap::size_class::{INLINE_MAX, LINEAR_MAX, SizeClass};
use crate::heap::{fault, slab_class};

/// A class, and what a block of it has when `size` bytes were asked for: the *room* before its tag, and the slack there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fit {
    pub(super) class: SizeClass,
    pub(super) room: usize,
    pub(super) size: usize,
    slack: usize,
}

impl Fit {
    /// For `size` bytes of at most the class's room.
    #[inline(always)]
    pub(super) fn new(class: SizeClass, size: usize) -> Fit {
        let room = class.small_size() - TAG;
        Fit { class, room, size, slack: room - size }
    }

    /// For a layout whose class is the next multiple of eight, without a table; none for others.
    #[inline(always)]
    pub(super) fn narrow(size: usize, align: usize) -> Option<Fit> {
        // Zero becomes the largest number.
        if size.wrapping_sub(1) >= NARROW_MAX || align > TAG {
            return None;
        }
        let room = align::up(size, TAG);
        let class = SizeClass::from_index(room / TAG);
        debug_assert!(class == SizeClass::of(room + TAG));
        Some(Fit { class, room, size, slack: size.wrapping_neg() % TAG })
    }

    /// For a layout whose class the table has; none for others.
    #[inline(always)]
    pub(super) fn inline(size: usize, align: usize) -> Option<Fit> {
        let padded = align::up(size + TAG, align);
        (size != 0 && padded <= INLINE_MAX).then(|| Fit::new(SizeClass::of_inline(padded), size))
    }
}

/// How many bytes may be asked for in classes that are eight bytes apart.
pub(super) const NARROW_MAX: usize = LINEAR_MAX - TAG;

/// By how many bytes of slack a word has at its end, up to all eight: these.
static SLACK: [u64; 9] = {
    let mut masks = [0; 9];
    let mut slack = 1;
    while slack <= 8 {
        masks[slack] = !0 << (64 - 8 * slack);
        slack += 1;
    }
    masks
};

/// The word with the canary behind the asked bytes of a block whose tag lies at `tag`, with `slack` bytes between; and
/// which of its bits that is. Of up to eight bytes of slack it is the last bytes of the word before the tag, whose first
/// ones are asked ones; else it is the first word of the slack.
///
/// # Safety
/// `tag` is the place of a small block's tag, and its slack is less than what is before that.
#[inline(always)]
unsafe fn end(tag: NonNull<u8>, slack: usize) -> (NonNull<u64>, u64) {
    // SAFETY: passed on to the caller: the word lies in the block.
    (unsafe { tag.sub(slack.max(8)) }.cast(), SLACK[slack.min(8)])
}

/// Makes a block that is free one that is out. It is not read: it may have left the processor's cache long ago.
///
/// # Safety
/// `block` is a block of the class and the caller's.
#[inline(always)]
pub(super) unsafe fn hand_out(block: NonNull<u8>, fit: Fit) {
    // SAFETY: passed on to the caller; the bytes that are written lie in the block.
    unsafe {
        let tag = block.add(fit.room);
        let secret = mix(tag.addr().get() as u64);
        let (place, mask) = end(tag, fit.slack);
        // Asked bytes that the word is part of are zero, and stay so.
        place.write_unaligned((secret & mask).to_le());
        canary::store(tag, canary::tag(secret, fit.size));
    }
}

/// How many bytes were asked for of a block, as its tag says, if it has one.
///
/// # Safety
/// `block` is an address in a slab of `class`, and a multiple of eight.
unsafe fn tagged_size(block: NonNull<u8>, class: SizeClass) -> Option<usize> {
    // SAFETY: passed on to the caller.
    unsafe {
        let tag = block.add(class.small_size() - TAG);
        let size = canary::size(mix(tag.addr().get() as u64), canary::load(tag));
        size.filter(|&size| size <= class.small_size() - TAG)
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
        let (place, mask) = end(tag, slack);
        if (u64::from_le(place.read_unaligned()) ^ secret) & mask != 0 {
            return false;
        }
        let rest = slack.saturating_sub(8);
        rest == 0 || {
            let rest = core::slice::from_raw_parts(tag.sub(rest).as_ptr(), rest);
            canary::is_zero_throughout(rest)
        }
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
        if canary::load(block.add(class.small_size() - TAG)) == 0 {
            return None;
        }
        match tagged_size(block, class) {
            Some(size) => Some((block, size)),
            None => fault::die_of_overflow(block.as_ptr()),
        }
    }
}

/// What fits a block that is out: dies of any other, and of one whose end was written over.
///
/// # Safety
/// `block` is an address in a slab of `class`.
#[inline(always)]
pub(super) unsafe fn look_at(block: NonNull<u8>, class: SizeClass) -> Fit {
    if !block.addr().get().is_multiple_of(TAG) {
        die_of_pointer(block, None);
    }
    // SAFETY: a block that begins here ends in a tag. If none does, what is read is memory of the heap's all the same, or
    // there is none and the process ends by that.
    unsafe {
        let Some(size) = tagged_size(block, class) else { die_of_pointer(block, None) };
        let fit = Fit::new(class, size);
        let tag = block.add(fit.room);
        if !is_end_intact(tag, fit.slack, mix(tag.addr().get() as u64)) {
            fault::die_of_overflow(block.as_ptr());
        }
        fit
    }
}

/// Dies unless `block` is one that is out and was handed out with the same `fit`, or if its end was written over.
///
/// # Safety
/// If the block is one that is out, it is the caller's.
#[inline(always)]
pub(super) unsafe fn expect(block: NonNull<u8>, fit: Fit) {
    // SAFETY: a block that is the caller's is read. What is not a block is read at the caller's risk: there may be no memory,
    // and then the process ends by that.
    unsafe {
        let tag = block.add(fit.room);
        let secret = mix(tag.addr().get() as u64);
        // A pointer need not be aligned before it is known to be a block's.
        if u64::from_le(tag.cast::<u64>().read_unaligned()) != canary::tag(secret, fit.size) {
            die_of_pointer(block, Some(fit.size));
        }
        if !is_end_intact(tag, fit.slack, secret) {
            fault::die_of_overflow(block.as_ptr());
        }
    }
}

/// Says that a block is not out any more: dies of one whose beginning was written over. What it holds is still there.
///
/// # Safety
/// `block` is a block of a class with this `room`, [`look_at`] or [`expect`] was asked of it, and it is the caller's.
#[inline(always)]
pub(super) unsafe fn take_tag(block: NonNull<u8>, room: usize) {
    // SAFETY: passed on to the caller. The block before this one lies in the same slab, which never hands out its
    // first, and ends in a tag if it is out.
    unsafe {
        let before = block.sub(TAG);
        let (tag, secret) = (canary::load(before), mix(before.addr().get() as u64));
        // No branch for a neighbour that is free: that cannot be foretold. It counts as a tag that says nothing.
        let tag = select_unpredictable(tag == 0, secret, tag);
        if canary::size(secret, tag).is_none() {
            fault::die_of_underflow(block.as_ptr());
        }
        // Alone, so that the block behind never sees half a tag.
        canary::store(block.add(room), 0);
    }
}

/// Clears what was asked of `block`, which has no tag any more, and dies unless `other`, which was freed before, is as it was
/// left: zero. Both are done at once because the sizes are the same.
///
/// # Safety
/// Both are blocks of a class with this `room`, without a tag, and the caller's. They may be the same.
#[inline(always)]
pub(super) unsafe fn clear_and_look(block: NonNull<u8>, other: NonNull<u8>, room: usize) {
    // SAFETY: passed on to the caller.
    let is_zero = unsafe {
        let rest = match room {
            ..=16 => canary::clear_and_or::<1>(block, other, room),
            17..=32 => canary::clear_and_or::<2>(block, other, room),
            33..=64 => canary::clear_and_or::<4>(block, other, room),
            65..=NARROW_MAX => canary::clear_and_or::<8>(block, other, room),
            _ => {
                block.write_bytes(0, room);
                u64::from(!canary::is_zero_throughout(core::slice::from_raw_parts(other.as_ptr(), room)))
            }
        };
        rest | canary::load(other.add(room)) == 0
    };
    if !is_zero {
        fault::die_of_write_after_free(other.as_ptr());
    }
}

/// Dies unless a block that was freed is as it was left: zero.
///
/// # Safety
/// `block` is a block of `class` that was freed, and the caller's.
pub(super) unsafe fn expect_zero(block: NonNull<u8>, class: SizeClass) {
    // SAFETY: passed on to the caller.
    let bytes = unsafe { core::slice::from_raw_parts(block.as_ptr(), class.small_size()) };
    if !canary::is_zero_throughout(bytes) {
        fault::die_of_write_after_free(block.as_ptr());
    }
}

/// Makes a block that is out, with the fit `old`, one with the fit `new` of the same class.
///
/// # Safety
/// `block` is a block that [`look_at`] or [`expect`] was asked of, and the caller's.
pub(super) unsafe fn resize(block: NonNull<u8>, old: Fit, new: Fit) {
    // SAFETY: all that is written lies in the block, behind what it keeps.
    unsafe {
        let tag = block.add(new.room);
        let secret = mix(tag.addr().get() as u64);
        // Behind the old canary it is zero.
        let from = old.size.min(new.size);
        block.add(from).write_bytes(0, (old.size + TAG).min(new.room) - from);
        let (place, mask) = end(tag, new.slack);
        place.write_unaligned(place.read_unaligned() | (secret & mask).to_le());
        canary::store(tag, canary::tag(secret, new.size));
    }
}

/// Says what is wrong with a pointer that was given back, with the `size` of its layout if that is known, where no block
/// that is out begins, or one of another layout.
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
        let room = class.small_size() - TAG;
        if canary::load(block.add(room)) != 0 {
            fault::die_of_overflow(start);
        }
        if slab_class::is_home(class, start) {
            fault::die_of_foreign_block(start);
        }
        // It may have been written over with zeros, tag and all.
        match canary::is_zero_throughout(core::slice::from_raw_parts(start, room)) {
            true => fault::die_of_bad_free(start, true),
            false => fault::die_of_overflow(start),
        }
    }
}
