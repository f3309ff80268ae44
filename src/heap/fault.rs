//! What ends the process: frees that would corrupt the heap. One line, and no way back.

use crate::vm::sys;

/// Ends the process with one line about a block that came home twice or as one of another size.
#[cold]
pub(crate) fn die_of_bad_free(block: *mut u8, is_of_class: bool) -> ! {
    die(
        block,
        if is_of_class { b" was freed twice\n" } else { b" was freed with the layout of another size\n" },
    )
}

/// Ends the process with one line about a pointer that leads to no block.
#[cold]
pub(crate) fn die_of_foreign_block(block: *mut u8) -> ! {
    die(block, b" is not a block of this heap, or was freed\n")
}

/// Ends the process with one line about a pointer into a block, or behind the last of a slab.
#[cold]
pub(crate) fn die_of_inner_pointer(block: *mut u8) -> ! {
    die(block, b" is not the start of a block\n")
}

/// Ends the process with one line about a block whose canary behind it was changed.
#[cold]
pub(crate) fn die_of_overflow(block: *mut u8) -> ! {
    die(block, b" was written to behind its end\n")
}

/// Ends the process with one line about a block whose canary before it was changed.
#[cold]
pub(crate) fn die_of_underflow(block: *mut u8) -> ! {
    die(block, b" was written to before its start\n")
}

/// Ends the process with one line about a free block that is not as it was left.
#[cold]
pub(crate) fn die_of_write_after_free(block: *mut u8) -> ! {
    die(block, b" was written to after it was freed\n")
}

/// Ends the process with one line about a copy that is longer than what is left of the block.
#[cold]
pub(crate) fn die_of_long_write(block: *mut u8) -> ! {
    die(block, b" would be written to behind its end\n")
}

/// Ends the process with one line about a copy to what is no block.
#[cold]
pub(crate) fn die_of_stray_write(address: *mut u8) -> ! {
    die(address, b" would be written to, and is none that is out\n")
}

fn die(block: *mut u8, why: &[u8]) -> ! {
    let mut hex = [b'0'; 16];
    for (i, digit) in hex.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[block.addr() >> (60 - 4 * i) & 15];
    }
    sys::complain(&[b"arenite: the block at 0x", &hex, why]);
    sys::abort()
}
