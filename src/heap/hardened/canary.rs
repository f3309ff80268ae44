//! Canaries: bytes around a block that no correct program writes, different for each address and process.
//!
//! The last word of a small block, its *tag*, says that the block is out and how many bytes were asked for. So one load
//! tells a free whether a block begins where its pointer leads, is out, and ends where it should:
//!
//! ```text
//!  byte   0   1   2   3 | 4   5 | 6   7
//!        [    secret    | size  | size  ]   xor  mix(address of the tag)
//! ```
//!
//! The size stands there twice, so a change of any run of up to two bytes makes no other valid tag, and a random word
//! is one with a chance of 2⁻⁴⁸. The bytes that an overflow meets first carry nothing but the secret. Zero stands for
//! no tag: a block that is free is zero throughout.

use core::ptr::NonNull;

use static_assertions::const_assert;

use super::secret::mix;
use crate::base::sync::{AtomicU64, Ordering};
use crate::config::SMALL_MAX;

/// Bytes of a tag.
pub(super) const TAG: usize = size_of::<u64>();

const LANES: u64 = 1 << 32 | 1 << 48;

const_assert!(SMALL_MAX <= 1 << 16);

/// The tag of a block of which `size` bytes were asked for, where `secret` is [`mix`] of the tag's address.
#[inline(always)]
pub(super) fn tag(secret: u64, size: usize) -> u64 {
    secret ^ (size as u64).wrapping_mul(LANES)
}

/// The size that a tag says, if it is one.
#[inline(always)]
pub(super) fn size(secret: u64, tag: u64) -> Option<usize> {
    let lanes = tag ^ secret;
    let size = lanes >> 48;
    (lanes == size.wrapping_mul(LANES)).then_some(size as usize)
}

/// Reads the tag at `place`.
///
/// # Safety
/// `place` is the last word of a small block.
#[inline(always)]
pub(super) unsafe fn load(place: NonNull<u8>) -> u64 {
    // SAFETY: blocks end at multiples of eight. Atomic: the block behind looks at it when it is freed, in any thread.
    u64::from_le(unsafe { AtomicU64::from_ptr(place.as_ptr().cast()) }.load(Ordering::Relaxed))
}

/// Writes the tag at `place`.
///
/// # Safety
/// As for [`load`], and the block is the caller's.
#[inline(always)]
pub(super) unsafe fn store(place: NonNull<u8>, tag: u64) {
    // SAFETY: as in `load`.
    unsafe { AtomicU64::from_ptr(place.as_ptr().cast()) }.store(tag.to_le(), Ordering::Relaxed);
}

/// Fills `len` bytes with a canary.
///
/// # Safety
/// The bytes are the caller's.
pub(super) unsafe fn fill(start: *mut u8, len: usize) {
    let word = mix(start.addr() as u64).to_le_bytes();
    // SAFETY: passed on to the caller.
    let (words, rest) = unsafe { core::slice::from_raw_parts_mut(start, len) }.as_chunks_mut();
    words.fill(word);
    rest.copy_from_slice(&word[..rest.len()]);
}

/// Whether the canary that [`fill`] wrote is as it was.
///
/// # Safety
/// The bytes can be read.
pub(super) unsafe fn is_intact(start: *const u8, len: usize) -> bool {
    let word = mix(start.addr() as u64).to_le_bytes();
    // SAFETY: passed on to the caller.
    let (words, rest) = unsafe { core::slice::from_raw_parts(start, len) }.as_chunks();
    words.iter().all(|found| *found == word) && *rest == word[..rest.len()]
}

/// Clears `room` bytes at `start`, and gives the bits of as many at `other`, all words in one. `room` is a multiple of
/// eight, from `WORDS` words to twice as many: so many from the beginning are taken, and so many up to the end.
///
/// # Safety
/// Both are the caller's and begin at a multiple of eight.
#[inline(always)]
pub(super) unsafe fn clear_and_or<const WORDS: usize>(
    start: NonNull<u8>,
    other: NonNull<u8>,
    room: usize,
) -> u64 {
    debug_assert!(room.is_multiple_of(8) && (WORDS * 8..=WORDS * 16).contains(&room));
    // SAFETY: passed on to the caller: each range lies within the bytes.
    unsafe {
        let end = room - WORDS * 8;
        start.cast::<[u64; WORDS]>().write([0; WORDS]);
        start.add(end).cast::<[u64; WORDS]>().write([0; WORDS]);
        let words = [other, other.add(end)].map(|words| words.cast::<[u64; WORDS]>().read());
        words.as_flattened().iter().fold(0, |all, word| all | word)
    }
}

/// Whether all bytes are zero: a line of them is looked at, and each other is compared with the one that is a line before
/// it, by the C library's vectors. (A byte's distance would have nearly all of its loads span two lines.)
pub(super) fn is_zero_throughout(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk::<LINE>() {
        Some((first, others)) => *first == [0; LINE] && *others == bytes[..others.len()],
        None => bytes.iter().fold(0, |all, byte| all | byte) == 0,
    }
}

/// Bytes of a line of the processor's cache.
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::hardened::secret;

    /// Would catch a tag that a small overflow turns into another valid one, and a size that is lost.
    #[test]
    fn a_changed_tag_is_none() {
        secret::set();
        let addr = 0x7f12_3456_7898;
        for len in [1, 7, 255, 4096, SMALL_MAX - 1] {
            let tag = tag(mix(addr), len);
            assert_eq!(size(mix(addr), tag), Some(len));
            assert_eq!(size(mix(addr + 16), tag), None);
            for byte in 0..8 {
                for change in 1..=255_u64 {
                    assert_eq!(
                        size(mix(addr), tag ^ change << (8 * byte)),
                        None,
                        "byte {byte} changed by {change}"
                    );
                }
            }
        }
    }

    /// Would catch ends that are not looked at.
    #[test]
    fn a_byte_that_is_not_zero_is_seen() {
        let mut room = [0_u8; 200];
        for (start, end) in [(0, 200), (3, 190), (8, 16), (9, 15), (1, 2)] {
            assert!(is_zero_throughout(&room[start..end]));
            for i in start..end {
                room[i] = 0x41;
                assert!(!is_zero_throughout(&room[start..end]), "byte {i} of {start} to {end}");
                room[i] = 0;
            }
        }
        assert!(is_zero_throughout(&[]));
    }

    #[test]
    fn a_changed_byte_is_seen() {
        secret::set();
        let mut room = [0_u8; 40];
        // SAFETY: the ranges lie in the array.
        unsafe {
            fill(room.as_mut_ptr().add(3), 33);
            assert!(is_intact(room.as_ptr().add(3), 33));
            for i in 3..36 {
                room[i] ^= 0x41;
                assert!(!is_intact(room.as_ptr().add(3), 33), "byte {i}");
                room[i] ^= 0x41;
            }
        }
        assert_eq!((room[2], room[36]), (0, 0));
    }
}
