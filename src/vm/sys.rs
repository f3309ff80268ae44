//! The raw calls: each one system call, its arguments as they go in, the result or an [`Errno`]. Nothing here
//! allocates or formats, so the heap may call it from any path; the typed layer for users stands on the same
//! functions.

use core::ffi::CStr;
use core::ptr::{self, NonNull};

use crate::base::align;
use crate::vm::errno::Errno;
use crate::vm::inject;
use crate::vm::page::page_size;
use crate::vm::platform;
use crate::vm::release::release;

/// Every argument of `mmap`, as the kernel takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapCall {
    pub(crate) addr: *mut u8,
    pub(crate) len: usize,
    pub(crate) protection: i32,
    pub(crate) flags: i32,
    pub(crate) fd: i32,
    pub(crate) offset: u64,
}

/// `mmap`.
///
/// # Safety
/// With `MAP_FIXED` among the flags, `addr..addr + len` belongs to the caller and nothing in it is used afterwards.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn map(call: MapCall) -> Result<NonNull<u8>, Errno> {
    let Ok(offset) = libc::off_t::try_from(call.offset) else { return Err(Errno(libc::EOVERFLOW)) };
    if let Err(errno) = inject::point("mmap") {
        if call.flags & libc::MAP_FIXED != 0 {
            // As kernels may: the old pages are gone when it finds that it cannot map the new ones.
            // SAFETY: passed on to the caller.
            let _ = unsafe { libc::munmap(call.addr.cast(), call.len) };
            inject::mapped(0, call.len);
        }
        return Err(errno);
    }
    // SAFETY: without `MAP_FIXED` the kernel only adds a mapping where none was; with it the caller owns the range.
    let base =
        unsafe { libc::mmap(call.addr.cast(), call.len, call.protection, call.flags, call.fd, offset) };
    if base == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let base = inject::on_a_simulated_page(base.cast(), &call)?;
    // What `MAP_FIXED` replaces was mapped before.
    inject::mapped(call.len, if call.flags & libc::MAP_FIXED != 0 { call.len } else { 0 });
    NonNull::new(base.cast()).ok_or(Errno(libc::ENOMEM))
}

/// `munmap`.
///
/// # Safety
/// The range belongs to the caller, and nothing in it is used afterwards.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn unmap(base: *mut u8, len: usize) -> Result<(), Errno> {
    inject::point("munmap")?;
    // SAFETY: passed on to the caller.
    check(unsafe { libc::munmap(base.cast(), len) })?;
    inject::mapped(0, len);
    Ok(())
}

/// `mprotect`.
///
/// # Safety
/// The range belongs to the caller, and no reference into it asks for more than the new protection gives.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn protect(base: *mut u8, len: usize, protection: i32) -> Result<(), Errno> {
    inject::point("mprotect")?;
    // SAFETY: passed on to the caller.
    check(unsafe { libc::mprotect(base.cast(), len, protection) })
}

/// `madvise`.
///
/// # Safety
/// The range belongs to the caller, and the advice does nothing to its contents that the caller does not expect.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn advise(base: *mut u8, len: usize, advice: i32) -> Result<(), Errno> {
    inject::point("madvise")?;
    // SAFETY: passed on to the caller.
    check(unsafe { libc::madvise(base.cast(), len, advice) })
}

/// A call's `-1` as the thread's [`Errno`].
pub(crate) fn check(result: i32) -> Result<(), Errno> {
    if result == -1 { Err(Errno::last()) } else { Ok(()) }
}

const RESERVE: i32 = libc::MAP_PRIVATE
    | libc::MAP_ANONYMOUS
    | match platform::MAP_NORESERVE {
        Some(flag) => flag,
        None => 0,
    };

/// Reserves `len` bytes of address space: inaccessible, nothing charged.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) fn reserve(len: usize) -> Result<NonNull<u8>, Errno> {
    reserve_with(ptr::null_mut(), len, 0)
}

/// Maps `len` bytes that read as zero. Nothing is charged before it is touched, unless the system never overcommits.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) fn map_zeroed(len: usize) -> Result<NonNull<u8>, Errno> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let call = MapCall { addr: ptr::null_mut(), len, protection, flags: RESERVE, fd: -1, offset: 0 };
    // SAFETY: no `MAP_FIXED`.
    unsafe { map(call) }
}

/// Reserves exactly `base..base + len`, or fails and changes nothing.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) fn reserve_at(base: *mut u8, len: usize) -> Result<(), Errno> {
    let got = reserve_with(base, len, platform::MAP_FIXED_NOREPLACE)?;
    if got.as_ptr() == base {
        return Ok(());
    }
    // A kernel before 4.17 takes the flag for nothing and the address for a hint.
    // SAFETY: the mapping was made just now and nobody knows of it.
    unsafe { release(got.as_ptr(), len) };
    Err(Errno(libc::EEXIST))
}

#[cfg_attr(arenite_faults, track_caller)]
fn reserve_with(addr: *mut u8, len: usize, flags: i32) -> Result<NonNull<u8>, Errno> {
    let call = MapCall { addr, len, protection: libc::PROT_NONE, flags: RESERVE | flags, fd: -1, offset: 0 };
    // SAFETY: no `MAP_FIXED`.
    unsafe { map(call) }
}

/// Reserves `len` bytes that begin at a multiple of `align`, both multiples of the page size.
pub(crate) fn reserve_aligned(len: usize, align: usize) -> Result<NonNull<u8>, Errno> {
    debug_assert!(len.is_multiple_of(page_size()) && align.is_power_of_two());
    if align <= page_size() {
        return reserve(len);
    }
    // The kernel packs mappings downwards, so after one aligned reservation the next is often aligned by itself.
    let first = reserve(len)?;
    if first.addr().get().is_multiple_of(align) {
        return Ok(first);
    }
    // SAFETY: the mapping was made just now and nobody knows of it.
    unsafe { release(first.as_ptr(), len) };
    let slack = align - page_size();
    let whole = len.checked_add(slack).ok_or(Errno(libc::ENOMEM))?;
    let start = reserve(whole)?;
    let lead = align::up(start.addr().get(), align) - start.addr().get();
    // SAFETY: `lead <= slack`, so all three parts lie within the reservation, and the two that go are unused.
    unsafe {
        let base = start.add(lead);
        if lead > 0 {
            release(start.as_ptr(), lead);
        }
        if slack > lead {
            release(base.add(len).as_ptr(), slack - lead);
        }
        Ok(base)
    }
}

/// Makes reserved pages readable and writable; the ones never used read as zero.
///
/// # Safety
/// The range belongs to the caller.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn commit(base: *mut u8, len: usize) -> Result<(), Errno> {
    // SAFETY: passed on; the protection only widens.
    unsafe { protect(base, len, libc::PROT_READ | libc::PROT_WRITE) }
}

/// Drops the contents and gives the pages back; the range stays committed and reads as zero.
///
/// # Safety
/// The range is private anonymous memory of the caller's, and nothing in it is needed.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn purge(base: *mut u8, len: usize) -> Result<(), Errno> {
    // Not `MADV_FREE`: resident memory would not fall until the machine runs short, which users read as a leak.
    if let Some(advice) = platform::ZEROING_ADVICE {
        // SAFETY: passed on to the caller.
        return unsafe { advise(base, len, advice) };
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let call = MapCall { addr: base, len, protection, flags: RESERVE | libc::MAP_FIXED, fd: -1, offset: 0 };
    // SAFETY: the range is the caller's, who needs nothing in it.
    unsafe { map(call) }.map(|_| ())
}

/// One line to standard error, without buffering or allocating: for a message that has no other way out.
pub(crate) fn complain(parts: &[&[u8]]) {
    for part in parts {
        platform::write_error(part);
    }
}

/// Ends the process: unwinding out of an allocator is not an option.
pub(crate) fn abort() -> ! {
    // SAFETY: always allowed.
    unsafe { libc::abort() }
}

/// The number of this process, which is above zero.
pub(crate) fn process_id() -> u32 {
    // SAFETY: always allowed.
    unsafe { libc::getpid() }.cast_unsigned()
}

/// An environment variable, without allocating. To be called before the process can have changed its environment much.
pub(crate) fn variable(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: the name is a C string, and so is the value, which is read at once.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes())
    }
}

/// The soft limit on address space, if there is one.
pub(crate) fn address_space_limit() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the struct that it is given.
    limit_of(unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) }, limit)
}

/// The soft limit on private memory that can be written, touched or not, if there is one.
pub(crate) fn data_limit() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: as above.
    limit_of(unsafe { libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit) }, limit)
}

fn limit_of(result: i32, limit: libc::rlimit) -> Option<usize> {
    if result != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    usize::try_from(limit.rlim_cur).ok()
}
