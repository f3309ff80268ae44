//! The heap as the C library's allocator, for programs in any language:
//!
//! ```text
//! cargo build --release --example preload
//! LD_PRELOAD=target/release/examples/libpreload.so program
//! ```
//!
//! With `--features hardened` misuse ends the program with one line; then `copies.rs` looks at what is copied, and
//! `sized_delete.rs` at the sizes that C++ names.
//!
//! Every name under which glibc hands out or takes back a block is here, or a block of one allocator would reach the
//! other's `free`: `tests/programs/capi.c` holds the list. C++ needs no more: `operator new` and `delete` of libstdc++
//! and libc++ call `malloc` and `free`, and keep their own way with exceptions and new-handlers.
//!
//! Where C and POSIX leave something open, glibc's answer is given: every block is aligned to 16 bytes, `malloc(0)` is
//! a block, `realloc(p, 0)` frees, `free` leaves `errno` alone.
#![cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]

#[cfg(feature = "hardened")]
mod copies;
#[cfg(arenite_lock_counts)]
mod lock_counts;
#[cfg(feature = "hardened")]
mod sized_delete;

use core::arch::{asm, global_asm};
use core::ffi::{c_int, c_void};
use core::fmt::{self, Write};
use core::ptr::{self, NonNull};

use arenite::Options;
use arenite::heap::{self, Cache, EMPTY_MAGAZINE, EmptyMagazine, Tops};

/// No thread of our own: it would keep a process alive whose last thread ends without `exit`, and `unshare` refuses
/// processes with threads. Memory returns while the program frees. `ARENITE_BACKGROUND_PURGER=1` starts one all the same.
static OPTIONS: Options = Options::new().background_purger(false);

/// What `malloc` promises: enough for `max_align_t`, whatever the size.
const MIN_ALIGN: usize = 16;

// ---------------------------------------------------------------------------------------------------------------------
// The calling thread's cache
//
// `std::thread_local!` in a shared library asks `__tls_get_addr`, a call that may itself allocate. A library that is
// there from the start can have its variables at a fixed distance from the thread pointer (initial-exec), which stable
// Rust reaches through assembly only: the linker puts the image of a new cache into the TLS template that every thread
// starts as a copy of, and the distance into a slot beside the code.

global_asm!(
    ".pushsection .tdata.arenite_preload_cache, \"awT\", @progbits",
    ".balign {align}",
    ".globl arenite_preload_cache",
    ".hidden arenite_preload_cache",
    ".type arenite_preload_cache, @tls_object",
    ".size arenite_preload_cache, {size}",
    "arenite_preload_cache:",
    ".rept {tops}",
    ".quad {empty} + {empty_size}",
    ".endr",
    ".zero {size} - {tops} * 8",
    ".popsection",
    align = const align_of::<Cache>(),
    size = const size_of::<Cache>(),
    tops = const Cache::TOPS,
    empty = sym EMPTY_MAGAZINE,
    empty_size = const size_of::<EmptyMagazine>(),
);

/// The calling thread's cache, which lives as long as the thread. Two or three instructions, none of which can fail.
#[inline(always)]
fn cache() -> *const Cache {
    let cache;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the thread pointer and a slot that the dynamic linker has filled for good; no effect but the
    // result, which is the same whenever this thread asks.
    unsafe {
        asm!(
            "mov {cache}, qword ptr [rip + arenite_preload_cache@GOTTPOFF]",
            "add {cache}, qword ptr fs:[0]",
            cache = out(reg) cache,
            options(pure, nomem, nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!(
            "mrs {cache}, tpidr_el0",
            "adrp {distance}, :gottprel:arenite_preload_cache",
            "ldr {distance}, [{distance}, :gottprel_lo12:arenite_preload_cache]",
            "add {cache}, {cache}, {distance}",
            cache = out(reg) cache,
            distance = out(reg) _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    cache
}

/// The tops of the calling thread's cache.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn tops() -> impl Tops {
    let distance;
    // SAFETY: reads a slot that the dynamic linker has filled for good.
    unsafe {
        asm!(
            "mov {distance}, qword ptr [rip + arenite_preload_cache@GOTTPOFF]",
            distance = out(reg) distance,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    FromThreadPointer(distance)
}

/// Where the tops lie, in bytes from the thread pointer: no instruction is spent on adding the two.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct FromThreadPointer(usize);

// SAFETY: a cache begins with its tops, and the calling thread's lies there.
#[cfg(target_arch = "x86_64")]
unsafe impl Tops for FromThreadPointer {
    #[inline(always)]
    unsafe fn load<const STEP: usize, const FIRST: usize>(self, steps: usize) -> *mut *mut u8 {
        let top;
        // SAFETY: reads the word, which the caller knows to be one.
        unsafe {
            asm!(
                "mov {top}, qword ptr fs:[{distance} + {steps} * {step} + {first}]",
                top = lateout(reg) top,
                distance = in(reg) self.0,
                steps = in(reg) steps,
                step = const STEP,
                first = const FIRST,
                options(readonly, nostack, preserves_flags),
            );
        }
        top
    }

    #[inline(always)]
    unsafe fn advance<const STEP: usize, const FIRST: usize, const BY: isize>(
        self,
        steps: usize,
        _: *mut *mut u8,
    ) {
        // SAFETY: writes the word, which the caller knows to be one.
        unsafe {
            asm!(
                "add qword ptr fs:[{distance} + {steps} * {step} + {first}], {by}",
                distance = in(reg) self.0,
                steps = in(reg) steps,
                step = const STEP,
                first = const FIRST,
                by = const BY,
                options(nostack),
            );
        }
    }
}

/// The tops of the calling thread's cache.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn tops() -> impl Tops {
    // SAFETY: the cache lives as long as the thread, which does not take the tops to another.
    unsafe { &*cache() }
}

// ---------------------------------------------------------------------------------------------------------------------
// What the functions below share

/// Null, with the reason in `errno`.
#[cold]
fn refuse(reason: c_int) -> *mut c_void {
    // SAFETY: the calling thread's own `errno`.
    unsafe { *libc::__errno_location() = reason };
    ptr::null_mut()
}

/// Whether a block of this size and alignment has its end within what a pointer difference can say.
#[inline(always)]
fn is_possible(size: usize, align: usize) -> bool {
    size <= isize::MAX as usize - (align - 1)
}

#[inline(always)]
fn or_out_of_memory(block: *mut u8) -> *mut c_void {
    if block.is_null() { refuse(libc::ENOMEM) } else { block.cast() }
}

/// A block, of one byte at least where the heap knows none of no bytes; `align` is a power of two.
#[inline(always)]
fn allocate(size: usize, align: usize) -> *mut c_void {
    if !is_possible(size, align) {
        return refuse(libc::ENOMEM);
    }
    // SAFETY: the cache is this thread's; the size is not too small, and not too large for its alignment.
    or_out_of_memory(unsafe { (*cache()).alloc(&OPTIONS, heap::askable_size(size), align) })
}

// ---------------------------------------------------------------------------------------------------------------------
// The standard functions

/// `size` bytes, aligned for any type.
#[unsafe(no_mangle)]
pub extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: the tops are this thread's.
    let block = unsafe { heap::alloc_if_cached(tops(), size) };
    if block.is_null() {
        return malloc_slowly(size);
    }
    block.cast()
}

/// A jump at the end of [`malloc`], which so needs no frame.
#[cold]
#[inline(never)]
extern "C" fn malloc_slowly(size: usize) -> *mut c_void {
    allocate(size, MIN_ALIGN)
}

/// `count` times `size` bytes, all zero.
#[unsafe(no_mangle)]
pub extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let Some(size) = count.checked_mul(size) else { return refuse(libc::ENOMEM) };
    // SAFETY: the tops are this thread's; the block is this function's, of `size` bytes at least.
    unsafe {
        let block = heap::alloc_if_cached(tops(), size);
        if block.is_null() {
            return calloc_slowly(size);
        }
        block.write_bytes(0, size);
        block.cast()
    }
}

/// A jump at the end of [`calloc`], which so needs no frame.
#[cold]
#[inline(never)]
extern "C" fn calloc_slowly(size: usize) -> *mut c_void {
    if !is_possible(size, MIN_ALIGN) {
        return refuse(libc::ENOMEM);
    }
    // SAFETY: the cache is this thread's; the size is not too small, and not too large for its alignment.
    or_out_of_memory(unsafe { (*cache()).alloc_zeroed(&OPTIONS, heap::askable_size(size), MIN_ALIGN) })
}

/// The block with `size` bytes, moved if need be; on failure it is as it was. A size of zero frees it.
///
/// # Safety
/// As for [`free`], unless null is returned for a size above zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if heap::fits_as_it_is(block.cast(), size) {
        return block;
    }
    // SAFETY: passed on to the caller.
    unsafe { realloc_slowly(block, size) }
}

/// A jump at the end of [`realloc`], which so needs no frame.
///
/// # Safety
/// As for [`realloc`].
#[inline(never)]
unsafe extern "C" fn realloc_slowly(block: *mut c_void, size: usize) -> *mut c_void {
    let Some(old) = NonNull::new(block) else { return malloc(size) };
    if size == 0 {
        // SAFETY: passed on to the caller.
        unsafe { free(block) };
        return ptr::null_mut();
    }
    if !is_possible(size, MIN_ALIGN) {
        return refuse(libc::ENOMEM);
    }
    // SAFETY: the cache is this thread's; the block is the caller's; the size is neither zero nor too large.
    or_out_of_memory(unsafe { (*cache()).realloc_unsized(&OPTIONS, old.cast(), size, MIN_ALIGN) })
}

/// `realloc` to `count` times `size` bytes.
///
/// # Safety
/// As for [`realloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: passed on to the caller.
        Some(size) => unsafe { realloc(block, size) },
        None => refuse(libc::ENOMEM),
    }
}

/// Takes a block back.
///
/// # Safety
/// `block` is null, or came from a function of this file, has not been freed, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the tops are this thread's; the block is the caller's.
    unsafe {
        if !heap::free_if_cached(tops(), block.cast()) {
            free_slowly(block);
        }
    }
}

/// A jump at the end of [`free`], which so needs no frame.
///
/// # Safety
/// As for [`free`].
#[cold]
#[inline(never)]
unsafe extern "C" fn free_slowly(block: *mut c_void) {
    let Some(block) = NonNull::new(block.cast()) else { return };
    // SAFETY: passed on to the caller.
    unsafe { free_block_slowly(block) };
}

/// A jump at the end of [`free_slowly`]: programs free null often.
///
/// # Safety
/// As for [`free`].
#[cold]
#[inline(never)]
unsafe extern "C" fn free_block_slowly(block: NonNull<u8>) {
    // SAFETY: passed on to the caller; the cache is this thread's.
    unsafe { (*cache()).free_unsized(&OPTIONS, block) };
}

/// C23: `free` of a block of `malloc`, `calloc` or `realloc` whose size the caller knows.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(block: *mut c_void, size: usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        if let Some(block) = NonNull::new(block) {
            heap::check_size(block.cast(), size);
        }
        free(block);
    }
}

/// C23: `free` of a block of `aligned_alloc` whose alignment and size the caller knows.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, _align: usize, size: usize) {
    // SAFETY: passed on to the caller.
    unsafe { free_sized(block, size) };
}

// ---------------------------------------------------------------------------------------------------------------------
// Alignment

/// Writes a block's address to `out` and returns zero, or returns the reason and leaves `out` as it was. `errno` says
/// nothing.
///
/// # Safety
/// `out` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<*mut c_void>() {
        return libc::EINVAL;
    }
    let block = allocate(size, align.max(MIN_ALIGN));
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: passed on to the caller.
    unsafe { *out = block };
    0
}

/// `size` bytes, aligned to `align`, a power of two.
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        return refuse(libc::EINVAL);
    }
    allocate(size, align.max(MIN_ALIGN))
}

/// `size` bytes, aligned to `align` or, as glibc has it, to the next power of two.
#[unsafe(no_mangle)]
pub extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    match align.checked_next_power_of_two() {
        Some(align) => allocate(size, align.max(MIN_ALIGN)),
        None => refuse(libc::EINVAL),
    }
}

/// `size` bytes that begin at a page.
#[unsafe(no_mangle)]
pub extern "C" fn valloc(size: usize) -> *mut c_void {
    allocate(size, arenite::vm::page_size())
}

/// As many whole pages as hold `size` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn pvalloc(size: usize) -> *mut c_void {
    let page = arenite::vm::page_size();
    match size.max(1).checked_next_multiple_of(page) {
        Some(size) => allocate(size, page),
        None => refuse(libc::ENOMEM),
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Questions and reports

/// How many bytes the block really has; none for null.
///
/// # Safety
/// As for [`free`], but the block stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: passed on to the caller.
    NonNull::new(block).map_or(0, |block| unsafe { heap::usable_size(block.cast()) })
}

/// Gives free memory back to the system; 1 if there was any.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    // SAFETY: the cache is this thread's and lives as long as it.
    c_int::from(unsafe { (*cache()).trim() } > 0)
}

/// Takes glibc's parameters for known and does nothing, as glibc does with those that it does not know.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(_parameter: c_int, _value: c_int) -> c_int {
    1
}

/// What the heap holds, in glibc's terms: `arena` is what may be touched of the part that blocks share, `hblkhd` are
/// the blocks with a mapping of their own.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> libc::mallinfo2 {
    let stats = arenite::stats();
    let arena = stats.committed.saturating_sub(stats.huge_bytes);
    let used = stats.in_use.saturating_sub(stats.huge_bytes);
    libc::mallinfo2 {
        arena,
        ordblks: 0,
        smblks: 0,
        hblks: stats.huge_blocks,
        hblkhd: stats.huge_bytes,
        usmblks: 0,
        fsmblks: 0,
        uordblks: used,
        fordblks: arena.saturating_sub(used),
        keepcost: stats.retained,
    }
}

/// The same in numbers that end at 2 GiB.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> libc::mallinfo {
    let info = mallinfo2();
    let cut = |bytes: usize| c_int::try_from(bytes).unwrap_or(c_int::MAX);
    libc::mallinfo {
        arena: cut(info.arena),
        ordblks: cut(info.ordblks),
        smblks: cut(info.smblks),
        hblks: cut(info.hblks),
        hblkhd: cut(info.hblkhd),
        usmblks: cut(info.usmblks),
        fsmblks: cut(info.fsmblks),
        uordblks: cut(info.uordblks),
        fordblks: cut(info.fordblks),
        keepcost: cut(info.keepcost),
    }
}

/// Prints what the heap holds on standard error.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    unsafe extern "C" {
        static stderr: *mut libc::FILE;
    }
    // SAFETY: the C library's own stream, set before any program runs.
    let mut out = Stream(unsafe { stderr });
    // A stream that cannot be written has nobody to be told.
    let _ = writeln!(out, "{}", arenite::stats());
}

/// Writes what the heap holds to `out`, in the elements of glibc's XML that have a meaning here.
///
/// # Safety
/// `out` is a stream of the C library's that can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, out: *mut libc::FILE) -> c_int {
    if options != 0 {
        return libc::EINVAL;
    }
    let info = mallinfo2();
    let stats = arenite::stats();
    let written = write!(
        Stream(out),
        "<malloc version=\"1\">\n\
         <total type=\"rest\" count=\"0\" size=\"{}\"/>\n\
         <total type=\"mmap\" count=\"{}\" size=\"{}\"/>\n\
         <system type=\"current\" size=\"{}\"/>\n\
         <aspace type=\"total\" size=\"{}\"/>\n\
         <aspace type=\"mprotect\" size=\"{}\"/>\n\
         </malloc>\n",
        info.fordblks,
        info.hblks,
        info.hblkhd,
        stats.committed,
        stats.reserved,
        stats.committed
    );
    if written.is_ok() { 0 } else { -1 }
}

/// A stream of the C library's, which formatting can write to.
struct Stream(*mut libc::FILE);

impl Write for Stream {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the stream can be written, as whoever made this value knows; pointer and length are of one string.
        let written = unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), self.0) };
        if written == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// glibc's second names: a program that wraps `malloc` calls these for the real thing, and may free what it got by the
// first. mimalloc and tcmalloc export them for the same reason.

macro_rules! second_names {
    ($($second:ident is $first:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            /// A second name.
            ///
            /// # Safety
            /// As for the first.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $second($($argument: $type),*) $(-> $result)? {
                #[allow(unused_unsafe, reason = "some of the first functions are safe")]
                // SAFETY: passed on to the caller.
                unsafe { $first($($argument),*) }
            }
        )*
    };
}

second_names! {
    cfree is free(block: *mut c_void);
    __libc_free is free(block: *mut c_void);
    __libc_malloc is malloc(size: usize) -> *mut c_void;
    __libc_calloc is calloc(count: usize, size: usize) -> *mut c_void;
    __libc_realloc is realloc(block: *mut c_void, size: usize) -> *mut c_void;
    __libc_memalign is memalign(align: usize, size: usize) -> *mut c_void;
    __libc_valloc is valloc(size: usize) -> *mut c_void;
    __libc_pvalloc is pvalloc(size: usize) -> *mut c_void;
}
