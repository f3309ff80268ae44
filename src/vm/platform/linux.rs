//! Linux: futexes, `mremap`, named mappings.

use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::base::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::vm::advice::{Advice, Discard, ForkAdvice};
use crate::vm::errno::Errno;
use crate::vm::inject;
use crate::vm::release::release;
use crate::vm::{Processors, first_processors};

pub(crate) const MAP_FIXED_NOREPLACE: i32 = libc::MAP_FIXED_NOREPLACE;

/// Sleeps while `*word == expected`, until woken or, if given, `timeout_ms` have passed. May return early.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout_ms: Option<u32>) {
    let timeout = timeout_ms
        .map(|ms| libc::timespec { tv_sec: (ms / 1000).into(), tv_nsec: ((ms % 1000) * 1_000_000).into() });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            timeout,
        )
    };
}

/// Wakes one thread that sleeps on `word`.
pub(crate) fn wake_one(word: &AtomicU32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

/// Processors that the calling thread may run on; one, if the kernel does not say.
pub(crate) fn processors() -> Processors {
    let mut mask: Processors = [0; _];
    let written = inject::point("sched_getaffinity").map_or(-1, |()| {
        // SAFETY: the kernel writes to the mask, no more than its size.
        unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) }
    });
    if written > 0 { mask } else { first_processors(1) }
}

/// The number of the processor that the caller runs on, or did a moment ago. A call and a load where the C library has
/// registered an area that the kernel keeps it in (`rseq`: glibc 2.35, Linux 4.18); elsewhere some twenty nanoseconds where
/// the vDSO has it (x86), and a system call where it has not (aarch64).
pub(crate) fn processor() -> usize {
    // SAFETY: takes nothing and fails on kernels without it only.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Milliseconds of a clock that only goes forward, a few milliseconds coarse; no system call where the vDSO has
/// it.
pub(crate) fn now_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Moves the pages of `from..from + len` onto the reservation at `to`, `to_len` bytes long, replacing it. The reservation
/// is gone in any case.
///
/// # Safety
/// Both ranges belong to the caller and do not overlap; nothing uses the old one afterwards unless this fails.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn move_pages(
    from: *mut u8,
    len: usize,
    to: NonNull<u8>,
    to_len: usize,
) -> Result<(), Errno> {
    /// A move was refused, and so was the question what became of its target: no other is tried.
    static IS_UNKNOWN: AtomicBool = AtomicBool::new(false);
    // SAFETY: passed on to the caller.
    unsafe {
        if IS_UNKNOWN.load(Ordering::Relaxed) {
            release(to.as_ptr(), to_len);
            return Err(Errno(libc::ENOSYS));
        }
        let mark = Mark::new(to);
        // Its first page only: everything else stays as the caller made it.
        let marked = super::super::sys::commit(to.as_ptr(), crate::vm::page_size());
        let moved = marked.and_then(|()| {
            to.cast::<Mark>().write(mark);
            inject::point("mremap")?;
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            let moved = libc::mremap(from.cast(), len, to_len, flags, to.as_ptr());
            if moved == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
        });
        match moved {
            Ok(()) => inject::mapped(0, len),
            Err(_) if marked.is_err() => release(to.as_ptr(), to_len),
            Err(_) => match mark.is_at(to) {
                Some(true) => release(to.as_ptr(), to_len),
                Some(false) => {}
                None => IS_UNKNOWN.store(true, Ordering::Relaxed),
            },
        }
        moved
    }
}

/// What says that a reservation is still there after the kernel refused to move pages onto it: it may have unmapped it
/// before it refused, and then another thread may have mapped something else there. No two marks are alike.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Mark([usize; 2]);

impl Mark {
    fn new(place: NonNull<u8>) -> Mark {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: the numbers differ, that is all.
        Mark([!place.addr().get(), !COUNT.fetch_add(1, Ordering::Relaxed)])
    }

    /// Asks the kernel, which finds a load that would fault. None if it does not say.
    fn is_at(self, place: NonNull<u8>) -> Option<bool> {
        let mut found = Mark([0; 2]);
        let len = size_of::<Mark>();
        let to = libc::iovec { iov_base: (&raw mut found).cast(), iov_len: len };
        let from = libc::iovec { iov_base: place.as_ptr().cast(), iov_len: len };
        // SAFETY: the kernel writes to `found` alone, whose bytes may be any.
        let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) };
        let is_known = read != -1 || Errno::last() == Errno(libc::EFAULT);
        is_known.then_some(read.cast_unsigned() == len && found == self)
    }
}

/// Asks for huge pages in the range. A kernel without them refuses, which harms nothing.
///
/// # Safety
/// The range belongs to the caller.
pub(crate) unsafe fn advise_huge_pages(base: *mut u8, len: usize) {
    // SAFETY: passed on; the advice does not change contents.
    let _ = unsafe { super::super::sys::advise(base, len, libc::MADV_HUGEPAGE) };
}

/// Asks for no huge pages in the range any more.
///
/// # Safety
/// The range belongs to the caller.
pub(crate) unsafe fn advise_small_pages(base: *mut u8, len: usize) {
    // SAFETY: passed on; the advice does not change contents.
    let _ = unsafe { super::super::sys::advise(base, len, libc::MADV_NOHUGEPAGE) };
}

/// Names an anonymous range in `/proc/self/maps` (Linux 5.17 and later).
///
/// # Safety
/// The range belongs to the caller.
pub(crate) unsafe fn name_range(base: *mut u8, len: usize, name: &CStr) -> Result<(), Errno> {
    const PR_SET_VMA: i32 = 0x5356_4d41;
    const PR_SET_VMA_ANON_NAME: usize = 0;
    // SAFETY: the kernel copies the name; the range is the caller's.
    super::super::sys::check(unsafe {
        libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, base.addr(), len, name.as_ptr())
    })
}

/// `mmap` flags that not every system has.
pub(crate) const MAP_NORESERVE: Option<i32> = Some(libc::MAP_NORESERVE);
pub(crate) const MAP_POPULATE: Option<i32> = Some(libc::MAP_POPULATE);
pub(crate) const MAP_LOCKED: Option<i32> = Some(libc::MAP_LOCKED);
pub(crate) const MAP_STACK: Option<i32> = Some(libc::MAP_STACK);

/// The `mmap` flags for huge pages of `size` bytes, a power of two.
pub(crate) fn huge_page_flags(size: usize) -> Option<i32> {
    Some(libc::MAP_HUGETLB | (size.trailing_zeros() << libc::MAP_HUGE_SHIFT).cast_signed())
}

/// Bytes in a huge page of the kernel's default size. Asked of a memfd, so that it works without `/proc`.
pub(crate) fn default_huge_page_size() -> Result<usize, Errno> {
    let fd = memfd(c"huge page size", libc::MFD_CLOEXEC | libc::MFD_HUGETLB)?;
    huge_page_size_of(fd.as_fd()).ok_or(Errno(libc::ENOSYS))
}

/// Bytes in the huge pages that a file is made of, if it lies in `hugetlbfs`.
pub(crate) fn huge_page_size_of(fd: BorrowedFd<'_>) -> Option<usize> {
    /// As the kernel's `linux/magic.h` has it; the C libraries disagree on its type.
    const HUGETLBFS_MAGIC: u32 = 0x9584_58f6;
    let mut status = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the kernel fills the struct that it is given; it is read only if that went well.
    let status = unsafe {
        if libc::fstatfs(fd.as_raw_fd(), status.as_mut_ptr()) != 0 {
            return None;
        }
        status.assume_init()
    };
    // Some C libraries sign-extend the magic: its low half is what counts.
    let is_huge = status.f_type as u32 == HUGETLBFS_MAGIC;
    usize::try_from(status.f_bsize).ok().filter(|size| is_huge && size.is_power_of_two())
}

/// A memfd that may be sealed, closed on `exec`, made of huge pages of the given size if one is given.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) fn memfd_create(name: &CStr, huge_page_size: Option<usize>) -> Result<OwnedFd, Errno> {
    inject::point("memfd_create")?;
    let huge =
        huge_page_size.map_or(0, |size| libc::MFD_HUGETLB | size.trailing_zeros() << libc::MFD_HUGE_SHIFT);
    memfd(name, libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | huge)
}

fn memfd(name: &CStr, flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel copies the name.
    match unsafe { libc::memfd_create(name.as_ptr(), flags) } {
        -1 => Err(Errno::last()),
        // SAFETY: the call made the descriptor, and nobody else knows of it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Adds the seals of `bits`, numbered as the kernel does.
pub(crate) fn add_seals(fd: BorrowedFd<'_>, bits: i32) -> Result<(), Errno> {
    // SAFETY: the call takes plain numbers.
    super::super::sys::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, bits) })
}

/// The seals that are set.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: the call takes plain numbers.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) } {
        -1 => Err(Errno::last()),
        bits => Ok(bits),
    }
}

/// `mremap`: the pages of `base..base + len` in a range `new_len` bytes long, at another address if they may move.
///
/// # Safety
/// The old range belongs to the caller; if the result is another address, nothing uses the old one afterwards.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn resize_range(
    base: *mut u8,
    len: usize,
    new_len: usize,
    may_move: bool,
) -> Result<NonNull<u8>, Errno> {
    inject::point("mremap")?;
    let flags = if may_move { libc::MREMAP_MAYMOVE } else { 0 };
    // SAFETY: passed on to the caller.
    let moved = unsafe { libc::mremap(base.cast(), len, new_len, flags) };
    if moved == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    inject::mapped(new_len, len);
    NonNull::new(moved.cast()).ok_or(Errno(libc::ENOMEM))
}

/// `mincore`: one byte a page, whose lowest bit says whether the page is in memory.
///
/// # Safety
/// The range belongs to the caller and has no more pages than `pages` has bytes.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) unsafe fn residency(base: *mut u8, len: usize, pages: &mut [u8]) -> Result<(), Errno> {
    inject::point("mincore")?;
    debug_assert!(len.div_ceil(crate::vm::page_size()) <= pages.len());
    // SAFETY: the kernel writes one byte for each page of the range, and the caller has made room.
    super::super::sys::check(unsafe { libc::mincore(base.cast(), len, pages.as_mut_ptr()) })
}

/// The number of each advice; `None` where a system lacks it.
pub(crate) fn advice_number(advice: Advice) -> Option<i32> {
    // Not in every C library yet.
    const MADV_COLLAPSE: i32 = 25;
    Some(match advice {
        Advice::Normal => libc::MADV_NORMAL,
        Advice::Random => libc::MADV_RANDOM,
        Advice::Sequential => libc::MADV_SEQUENTIAL,
        Advice::WillNeed => libc::MADV_WILLNEED,
        Advice::HugePage => libc::MADV_HUGEPAGE,
        Advice::NoHugePage => libc::MADV_NOHUGEPAGE,
        Advice::Collapse => MADV_COLLAPSE,
        Advice::PopulateRead => libc::MADV_POPULATE_READ,
        Advice::PopulateWrite => libc::MADV_POPULATE_WRITE,
        Advice::Cold => libc::MADV_COLD,
        Advice::PageOut => libc::MADV_PAGEOUT,
        Advice::DontDump => libc::MADV_DONTDUMP,
        Advice::DoDump => libc::MADV_DODUMP,
        Advice::Mergeable => libc::MADV_MERGEABLE,
        Advice::Unmergeable => libc::MADV_UNMERGEABLE,
    })
}

/// The number of each way to drop contents.
pub(crate) fn discard_number(discard: Discard) -> Option<i32> {
    Some(match discard {
        Discard::DontNeed => libc::MADV_DONTNEED,
        Discard::DontNeedLocked => libc::MADV_DONTNEED_LOCKED,
        Discard::Free => libc::MADV_FREE,
        Discard::Remove => libc::MADV_REMOVE,
    })
}

/// The advice after which private anonymous pages read as zero.
pub(crate) const ZEROING_ADVICE: Option<i32> = Some(libc::MADV_DONTNEED);

/// The number of each advice about forks.
pub(crate) fn fork_advice_number(advice: ForkAdvice) -> Option<i32> {
    Some(match advice {
        ForkAdvice::DontFork => libc::MADV_DONTFORK,
        ForkAdvice::DoFork => libc::MADV_DOFORK,
        ForkAdvice::WipeOnFork => libc::MADV_WIPEONFORK,
        ForkAdvice::KeepOnFork => libc::MADV_KEEPONFORK,
    })
}

/// Guard pages by advice (Linux 6.13), not in the C libraries yet.
pub(crate) const GUARD_ADVICE: Option<i32> = Some(102);
pub(crate) const UNGUARD_ADVICE: Option<i32> = Some(103);

/// Whether the process runs with more rights than its caller, whose environment must then not steer it.
pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: any key may be asked for.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Whether the kernel charges memory when it is mapped, touched or not.
pub(crate) fn is_commit_strict() -> bool {
    let mut mode = 0_u8;
    let path = c"/proc/sys/vm/overcommit_memory".as_ptr();
    // By number: the C library's own functions end the thread here if it is being cancelled, and the heap would stay half
    // started.
    // SAFETY: the path is a C string, and the one byte read goes into `mode`.
    unsafe {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let file = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags);
        if file == -1 {
            return false;
        }
        let read = libc::syscall(libc::SYS_read, file, &raw mut mode, 1_usize);
        libc::syscall(libc::SYS_close, file);
        read == 1 && mode == b'2'
    }
}

pub(crate) fn set_errno(errno: Errno) {
    #[cfg(target_os = "android")]
    use libc::__errno as place;
    #[cfg(not(target_os = "android"))]
    use libc::__errno_location as place;
    // SAFETY: the C library gives the place of the calling thread's errno, which is always there.
    unsafe { *place() = errno.0 };
}

/// Writes to standard error; a failure has nobody to be told. By number: see [`is_commit_strict`].
pub(crate) fn write_error(text: &[u8]) {
    // SAFETY: the pointer and the length are of one slice.
    let _ = unsafe { libc::syscall(libc::SYS_write, 2, text.as_ptr(), text.len()) };
}

/// Names the calling thread.
pub(crate) fn name_this_thread(name: &CStr) {
    // SAFETY: the kernel copies at most 16 bytes up to the NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr().cast::<c_char>()) };
}

/// Sixteen bytes that nobody can guess.
pub(crate) fn random() -> [u64; 2] {
    let mut words = [0_u64; 2];
    let len = size_of_val(&words);
    // SAFETY: the buffer is this long; the auxiliary vector's value leads to sixteen bytes that stay.
    unsafe {
        let got = libc::getrandom(words.as_mut_ptr().cast(), len, libc::GRND_NONBLOCK);
        let given = libc::getauxval(libc::AT_RANDOM) as *const [u64; 2];
        // Early at boot, or under a seccomp filter: what the kernel gave the process when it began.
        if got != len as isize && !given.is_null() {
            words = given.read_unaligned();
        }
    }
    words
}
