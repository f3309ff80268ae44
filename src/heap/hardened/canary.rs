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

/// The bytes of a canary at `addr`.
fn bytes(addr: usize) -> impl Iterator<Item = u8> {
    mix(addr as u64).to_le_bytes().into_iter().cycle()
}

/// Fills `len` bytes with a canary.
///
/// # Safety
/// The bytes are the caller's.
pub(super) unsafe fn fill(start: *mut u8, len: usize) {
    for (i, byte) in bytes(start.addr()).take(len).enumerate() {
        // SAFETY: passed on to the caller.
        unsafe { start.add(i).write(byte) };
    }
}

/// Whether the canary that [`fill`] wrote is as it was.
///
/// # Safety
/// The bytes can be read.
pub(super) unsafe fn is_intact(start: *const u8, len: usize) -> bool {
    // SAFETY: passed on to the caller.
    bytes(start.addr()).take(len).enumerate().all(|(i, byte)| unsafe { start.add(i).read() } == byte)
}

/// Clears `len` bytes, a multiple of eight and not zero.
///
/// # Safety
/// The bytes are the caller's.
#[inline(always)]
pub(super) unsafe fn clear(start: NonNull<u8>, len: usize) {
    // SAFETY: passed on to the caller: each write lies within the bytes.
    unsafe {
        let last = start.add(len);
        let sixteen = |place: NonNull<u8>| place.cast::<u128>().write_unaligned(0);
        match len {
            8 => start.cast::<u64>().write_unaligned(0),
            ..=32 => {
                sixteen(start);
                sixteen(last.sub(16));
            }
            ..=64 => {
                sixteen(start);
                sixteen(start.add(16));
                sixteen(last.sub(32));
                sixteen(last.sub(16));
            }
            ..=LOOKED_AT_BY_WORD => {
                sixteen(start);
                sixteen(start.add(16));
                sixteen(start.add(32));
                sixteen(start.add(48));
                sixteen(last.sub(64));
                sixteen(last.sub(48));
                sixteen(last.sub(32));
                sixteen(last.sub(16));
            }
            _ => start.write_bytes(0, len),
        }
    }
}

/// Whether `len` bytes, a multiple of eight, are zero.
///
/// # Safety
/// The bytes can be read, and begin at a multiple of eight.
#[inline(always)]
pub(super) unsafe fn is_zero(start: NonNull<u8>, len: usize) -> bool {
    if len > LOOKED_AT_BY_WORD {
        // SAFETY: passed on to the caller.
        return is_zero_throughout(unsafe { core::slice::from_raw_parts(start.as_ptr(), len) });
    }
    // SAFETY: as above.
    let words = unsafe { core::slice::from_raw_parts(start.as_ptr().cast::<u64>(), len / 8) };
    words.iter().fold(0, |all, word| all | word) == 0
}

/// Up to here, in bytes, a loop is faster than a call.
const LOOKED_AT_BY_WORD: usize = 128;

/// The same for any bytes: each is compared with the next, by the C library's vectors.
pub(super) fn is_zero_throughout(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|&first| first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

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
