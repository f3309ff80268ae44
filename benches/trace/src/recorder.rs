//! The global allocator that records.
//!
//! Each thread fills a buffer of its own, mapped for it and never unmapped; a full one is appended to the file under a lock,
//! and what is left at the end is by a handler of `atexit`. A counter that all threads share puts the records in order: an
//! allocation takes its number after the allocator has answered, a free before it is asked. So between the two records of a
//! block no other block has its address, and whoever frees a block of another thread has the higher number.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Names the file that is written; without it nothing is recorded.
pub const FILE_VARIABLE: &CStr = c"ARENITE_BENCH_RECORD";

/// The system's allocator, recorded.
#[derive(Clone, Copy, Debug)]
pub struct Recorder;

/// What happened. The numbers stand in the raw file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Alloc = 1,
    AllocZeroed,
    Free,
    /// A block is given to `realloc`: from here on it is not the caller's.
    ReallocFrom,
    /// What `realloc` has returned; null if it failed.
    ReallocTo,
}

impl Kind {
    pub(crate) fn from_number(number: u8) -> Option<Kind> {
        [Kind::Alloc, Kind::AllocZeroed, Kind::Free, Kind::ReallocFrom, Kind::ReallocTo]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// One line of the raw file, in the machine's own byte order: it does not leave it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Raw {
    pub(crate) number: u64,
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) thread: u32,
    pub(crate) kind: u8,
    pub(crate) align_log2: u8,
    pub(crate) unused: u16,
}

/// Records in a buffer: a mebibyte of them.
const CAPACITY: usize = (1 << 20) / size_of::<Raw>() - 1;

#[repr(C)]
struct Buffer {
    /// Set before the buffer is in the list, then constant.
    next: *mut Buffer,
    thread: u32,
    /// Written by the owner, and by nobody else; what lies below it is complete.
    len: AtomicUsize,
    records: [Raw; CAPACITY],
}

thread_local! {
    /// Null: not mapped yet.
    static BUFFER: Cell<*mut Buffer> = const { Cell::new(ptr::null_mut()) };
}

/// All buffers there are.
static BUFFERS: AtomicPtr<Buffer> = AtomicPtr::new(ptr::null_mut());
static THREADS: AtomicU32 = AtomicU32::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);
/// The file's descriptor, or one of the two below.
static FILE: AtomicI32 = AtomicI32::new(UNKNOWN);
const UNKNOWN: i32 = -2;
const OFF: i32 = -1;
/// Held by whoever opens or writes the file.
static LOCK: AtomicBool = AtomicBool::new(false);

fn locked<R>(work: impl FnOnce() -> R) -> R {
    while LOCK.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        // SAFETY: no conditions.
        unsafe { libc::sched_yield() };
    }
    let result = work();
    LOCK.store(false, Ordering::Release);
    result
}

#[cold]
fn open() -> i32 {
    locked(|| {
        let file = FILE.load(Ordering::Relaxed);
        if file != UNKNOWN {
            return file;
        }
        // SAFETY: the name ends in NUL, and what is found is a string of the environment.
        let file = unsafe {
            let path = libc::getenv(FILE_VARIABLE.as_ptr());
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
            if path.is_null() { OFF } else { libc::open(path, flags, 0o644) }
        };
        if file >= 0 {
            // SAFETY: the handler may be called at any time.
            unsafe { libc::atexit(finish) };
        }
        FILE.store(file, Ordering::Relaxed);
        file
    })
}

/// Writes what the threads have left, and ends the recording.
extern "C" fn finish() {
    locked(|| {
        let file = FILE.swap(OFF, Ordering::Relaxed);
        let mut buffer = BUFFERS.load(Ordering::Acquire);
        while !buffer.is_null() {
            // SAFETY: buffers stay; below `len` records are complete, and only its owner lowers it, under the lock.
            unsafe {
                write(file, buffer, (*buffer).len.load(Ordering::Acquire));
                buffer = (*buffer).next;
            }
        }
    });
}

/// # Safety
/// The buffer is mapped, and `len` of its records are complete. Under the lock.
unsafe fn write(file: i32, buffer: *mut Buffer, len: usize) {
    // SAFETY: inside the buffer, by the caller's word.
    unsafe {
        let mut start: *const u8 = (&raw const (*buffer).records).cast();
        let mut left = len * size_of::<Raw>();
        while left > 0 {
            let count = libc::write(file, start.cast(), left);
            if count <= 0 {
                // A trace with a hole is worth nothing.
                libc::abort();
            }
            start = start.add(count as usize);
            left -= count as usize;
        }
    }
}

#[cold]
fn new_buffer() -> *mut Buffer {
    // SAFETY: a new mapping, whose zeros are a buffer without records.
    unsafe {
        let buffer = libc::mmap(
            ptr::null_mut(),
            size_of::<Buffer>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
        .cast::<Buffer>();
        if buffer == libc::MAP_FAILED.cast() {
            libc::abort();
        }
        (*buffer).thread = THREADS.fetch_add(1, Ordering::Relaxed);
        locked(|| {
            (*buffer).next = BUFFERS.load(Ordering::Relaxed);
            BUFFERS.store(buffer, Ordering::Release);
        });
        BUFFER.set(buffer);
        buffer
    }
}

fn record(kind: Kind, address: *mut u8, layout: Layout) {
    let mut file = FILE.load(Ordering::Relaxed);
    if file == UNKNOWN {
        file = open();
    }
    if file < 0 {
        return;
    }
    let mut buffer = BUFFER.get();
    if buffer.is_null() {
        buffer = new_buffer();
    }
    // SAFETY: the thread's own buffer, in which only it writes; `len` is below the capacity.
    unsafe {
        let mut len = (*buffer).len.load(Ordering::Relaxed);
        if len == CAPACITY {
            locked(|| {
                // Nobody wants it any more if `finish` was here.
                if FILE.load(Ordering::Relaxed) >= 0 {
                    write(file, buffer, len);
                    (*buffer).len.store(0, Ordering::Relaxed);
                }
            });
            len = (*buffer).len.load(Ordering::Relaxed);
            if len == CAPACITY {
                return;
            }
        }
        (&raw mut (*buffer).records).cast::<Raw>().add(len).write(Raw {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            address: address as u64,
            size: layout.size() as u64,
            thread: (*buffer).thread,
            kind: kind as u8,
            align_log2: layout.align().ilog2() as u8,
            unused: 0,
        });
        (*buffer).len.store(len + 1, Ordering::Release);
    }
}

// SAFETY: the system's allocator does the work, with the caller's own arguments; recording neither allocates nor unwinds.
unsafe impl GlobalAlloc for Recorder {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            record(Kind::Alloc, block, layout);
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            record(Kind::AllocZeroed, block, layout);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        record(Kind::Free, block, layout);
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        record(Kind::ReallocFrom, block, layout);
        // SAFETY: the caller's; the layout that is recorded was checked by him.
        unsafe {
            let new = System.realloc(block, layout, size);
            record(Kind::ReallocTo, new, Layout::from_size_align_unchecked(size, layout.align()));
            new
        }
    }
}
