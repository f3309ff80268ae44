//! What a checker of memory is told that does not see the allocator by itself: AddressSanitizer, or valgrind's memcheck
//! with the feature `valgrind`. In other builds these functions are empty.
//!
//! AddressSanitizer is known at compile time only with the feature `nightly`; it needs a nightly compiler anyhow.

#[cfg(feature = "nightly")]
#[cfg_attr(feature = "nightly", cfg(sanitize = "address"))]
mod chosen {
    use core::ffi::c_void;

    unsafe extern "C" {
        fn __asan_poison_memory_region(addr: *const c_void, size: usize);
        fn __asan_unpoison_memory_region(addr: *const c_void, size: usize);
    }

    /// Memory is watched.
    pub(crate) const IS_ON: bool = true;

    /// Nobody may touch the range from now on.
    pub(crate) fn poison(block: *mut u8, len: usize) {
        // SAFETY: the call writes to the sanitizer's own memory.
        unsafe { __asan_poison_memory_region(block.cast(), len) };
    }

    /// Somebody may.
    pub(crate) fn unpoison(block: *mut u8, len: usize) {
        // SAFETY: as above.
        unsafe { __asan_unpoison_memory_region(block.cast(), len) };
    }

    /// A block of the heap is out: of its `usable` bytes, only the first `size` may be touched.
    pub(crate) fn give_out(block: *mut u8, size: usize, usable: usize) {
        poison(block, usable);
        unpoison(block, size);
    }

    /// It is free.
    pub(crate) fn take_back(block: *mut u8, usable: usize) {
        poison(block, usable);
    }

    /// The word is no pointer any more, whatever it holds.
    pub(crate) const fn forget(_: *mut *mut u8) {}
}

/// Requests to memcheck: a sequence of instructions that does nothing, and that valgrind knows. The sequence and the
/// numbers are those of its public headers `valgrind.h` and `memcheck.h`.
#[cfg_attr(feature = "nightly", cfg(not(sanitize = "address")))]
#[cfg(all(feature = "valgrind", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod chosen {
    use core::arch::asm;

    pub(crate) const IS_ON: bool = true;

    const MALLOCLIKE_BLOCK: usize = 0x1301;
    const FREELIKE_BLOCK: usize = 0x1302;
    /// Memcheck's own begin with its initials.
    const MEMCHECK: usize = (b'M' as usize) << 24 | (b'C' as usize) << 16;
    const MAKE_MEM_NOACCESS: usize = MEMCHECK;
    const MAKE_MEM_UNDEFINED: usize = MEMCHECK + 1;
    const MAKE_MEM_DEFINED: usize = MEMCHECK + 2;

    pub(crate) fn poison(block: *mut u8, len: usize) {
        request(MAKE_MEM_NOACCESS, block, len);
    }

    /// All of it counts as written: arenas hand out memory that they know to be zero.
    pub(crate) fn unpoison(block: *mut u8, len: usize) {
        request(MAKE_MEM_DEFINED, block, len);
    }

    pub(crate) fn give_out(block: *mut u8, size: usize, usable: usize) {
        poison(block, usable);
        // No redzone is named: memcheck would take it for one on both sides.
        request(MALLOCLIKE_BLOCK, block, size);
    }

    /// What lies behind the block is closed since it was given out.
    pub(crate) fn take_back(block: *mut u8, _usable: usize) {
        request(FREELIKE_BLOCK, block, 0);
    }

    /// So that a magazine's old slots do not make a leaked block look reachable.
    pub(crate) fn forget(slot: *mut *mut u8) {
        request(MAKE_MEM_UNDEFINED, slot.cast(), size_of::<*mut u8>());
    }

    #[inline(always)]
    fn request(number: usize, block: *mut u8, second: usize) {
        let arguments = [number, block.addr(), second, 0, 0, 0];
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the rotations by 128 bits in all and the exchange of a register with itself change nothing; valgrind
        // reads the arguments, writes its own memory, and gives its answer in `rdx`.
        unsafe {
            asm!(
                "rol rdi, 3",
                "rol rdi, 13",
                "rol rdi, 61",
                "rol rdi, 51",
                "xchg rbx, rbx",
                in("rax") &raw const arguments,
                inout("rdx") 0_usize => _,
                options(nostack),
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above; the answer is in `x3`.
        unsafe {
            asm!(
                "ror x12, x12, #3",
                "ror x12, x12, #13",
                "ror x12, x12, #51",
                "ror x12, x12, #61",
                "orr x10, x10, x10",
                inout("x3") 0_usize => _,
                in("x4") &raw const arguments,
                options(nostack),
            );
        }
    }
}

#[cfg_attr(feature = "nightly", cfg(not(sanitize = "address")))]
#[cfg(not(all(
    feature = "valgrind",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod chosen {
    pub(crate) const IS_ON: bool = false;

    #[inline(always)]
    pub(crate) const fn poison(_: *mut u8, _: usize) {}

    #[inline(always)]
    pub(crate) const fn unpoison(_: *mut u8, _: usize) {}

    #[inline(always)]
    pub(crate) const fn give_out(_: *mut u8, _: usize, _: usize) {}

    #[inline(always)]
    pub(crate) const fn take_back(_: *mut u8, _: usize) {}

    #[inline(always)]
    pub(crate) const fn forget(_: *mut *mut u8) {}
}

pub(crate) use chosen::{IS_ON, forget, give_out, poison, take_back, unpoison};
