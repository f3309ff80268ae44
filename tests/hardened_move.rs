//! What happens beside a hardened huge block that moves its pages, in the instant in which its old addresses are nobody's:
//! this program's own `mmap` stops the heap there.
#![cfg(all(target_os = "linux", target_env = "gnu", not(arenite_portable)))]

mod support;

use std::alloc::GlobalAlloc;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{hint, thread};

use arenite::heap::{self, Cache, askable_size};
use support::process::alone;
use support::{HEAP, KIB, MIB, layout};

/// What the next reservation at an address waits for: [`OPEN`], [`ARMED`], or the address, once it waits.
static INSTANT: AtomicUsize = AtomicUsize::new(OPEN);
const OPEN: usize = 0;
const ARMED: usize = 1;

fn map(addr: usize, len: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut c_void {
    // SAFETY: passed on to the caller of `mmap`.
    unsafe { libc::syscall(libc::SYS_mmap, addr, len, protection, flags, fd, offset) as *mut c_void }
}

/// # Safety
/// As the C library's, in whose place it stands.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: usize,
    protection: i32,
    flags: i32,
    fd: i32,
    offset: i64,
) -> *mut c_void {
    let is_left = flags & libc::MAP_FIXED_NOREPLACE != 0
        && INSTANT.compare_exchange(ARMED, addr.addr(), Ordering::SeqCst, Ordering::SeqCst).is_ok();
    while is_left && INSTANT.load(Ordering::SeqCst) != OPEN {
        hint::spin_loop();
    }
    map(addr.addr(), len, protection, flags, fd, offset)
}

/// Grows a block, and runs `other` in another thread in the instant, with the address that the block left.
fn in_the_instant(other: impl FnOnce(usize) + Send) {
    let (small, large) = (layout(10 * MIB, 8), layout(20 * MIB, 8));
    thread::scope(|scope| {
        // SAFETY: the layouts are the blocks'.
        unsafe {
            let block = HEAP.alloc(small);
            block.write(7);
            INSTANT.store(ARMED, Ordering::SeqCst);
            scope.spawn(|| {
                while INSTANT.load(Ordering::SeqCst) == ARMED {
                    hint::spin_loop();
                }
                other(INSTANT.load(Ordering::SeqCst));
                INSTANT.store(OPEN, Ordering::SeqCst);
            });
            let moved = HEAP.realloc(block, small, large.size());
            assert_eq!(moved.read(), 7);
            HEAP.dealloc(moved, large);
        }
    });
}

/// Maps memory of the program's own there, and writes to it as the preloaded library's `memcpy` does.
fn map_and_write(place: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let own = map(place, 64 * KIB, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0).cast::<u8>();
    assert_eq!(own.addr(), place, "the place was not free");
    heap::check_write(NonNull::new(own).unwrap(), 8);
    // SAFETY: it was mapped just now.
    unsafe { own.write(1) };
}

/// Would catch a header that claims what lies in the place for its block: the process would end.
#[test]
fn another_thread_maps_there() {
    alone("another_thread_maps_there", || in_the_instant(map_and_write));
}

/// The same where nobody ever reserves the place again.
#[test]
fn another_thread_forks() {
    alone("another_thread_forks", || {
        in_the_instant(|place| {
            // SAFETY: the child calls the system only.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    map_and_write(place);
                    libc::_exit(0);
                }
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                assert_eq!(status, 0);
            }
        });
    });
}

/// Would catch a huge block of no bytes: an alignment above a granule's makes all sizes huge, but not that one.
#[test]
fn a_block_that_shrinks_to_no_bytes() {
    let cache: &Cache = Box::leak(Box::new(Cache::new()));
    let (options, align) = (arenite::Options::new(), 128 * KIB);
    // SAFETY: this thread alone has the cache; each block is the one that came before, and as long as it says.
    unsafe {
        let block = NonNull::new(cache.alloc(&options, 100, align)).unwrap();
        let block = NonNull::new(cache.realloc(&options, block, 100, align, askable_size(0))).unwrap();
        assert!(heap::usable_size(block) <= 1);
        cache.free_unsized(&options, block);
    }
}
