//! What a shim for C does with the heap: blocks come and go by pointer only, through the functions that give up where
//! more than the thread's cache is needed.

mod support;

use std::collections::BTreeMap;
use std::ptr::{self, NonNull};

use arenite::Options;
use arenite::heap::{self, Cache};

use support::process::alone;
use support::{GIB, HARDENED, KIB, MIB, Random};

const OPTIONS: Options = Options::new().background_purger(false).reservation(32 * MIB);

std::thread_local!(static CACHE: Cache = const { Cache::new() });

/// As the example `preload` does it.
fn malloc(size: usize) -> *mut u8 {
    // SAFETY: the cache is this thread's; the size is a small one.
    CACHE.with(|cache| unsafe {
        let block = heap::alloc_if_cached(cache, size);
        if block.is_null() { cache.alloc(&OPTIONS, heap::askable_size(size), 16) } else { block }
    })
}

/// The same; says whether the cache was enough.
fn free(block: *mut u8) -> bool {
    // SAFETY: the cache is this thread's; callers pass blocks that are out, and forget them.
    CACHE.with(|cache| unsafe {
        let is_done = heap::free_if_cached(cache, block);
        if !is_done && let Some(block) = NonNull::new(block) {
            cache.free_unsized(&OPTIONS, block);
        }
        is_done
    })
}

/// Would catch a block that goes into the magazine of another class, or of none; one that is handed out twice; an answer
/// about a block's size that is another's.
#[test]
fn blocks_come_and_go_by_pointer() {
    alone("blocks_come_and_go_by_pointer", || {
        let mut random = Random::new(7);
        let (mut order, mut sizes) = (Vec::new(), BTreeMap::new());
        let (mut quick, mut frees) = (0, 0);
        for _ in 0..200_000 {
            if order.is_empty() || order.len() < 5_000 && random.between(0, 99) < 52 {
                let size = random.log_between(1, 200 * KIB) - usize::from(random.one_in(20));
                let block = malloc(size);
                assert!(!block.is_null() && block.addr().is_multiple_of(16));
                // When hardened, all blocks of no bytes may be one.
                if size == 0 {
                    free(block);
                    continue;
                }
                let above = sizes.range(block.addr()..).next();
                assert!(above.is_none_or(|(next, _)| block.addr() + size <= *next));
                let below = sizes.range(..block.addr()).next_back();
                assert!(below.is_none_or(|(last, len)| last + len <= block.addr()));
                // SAFETY: the block is this test's.
                unsafe { block.write_bytes(size as u8, size) };
                sizes.insert(block.addr(), size);
                order.push(block);
            } else {
                let block: *mut u8 = order.swap_remove(random.between(0, order.len() - 1));
                let size = sizes.remove(&block.addr()).unwrap();
                // SAFETY: the block is out, and all of its bytes were written.
                unsafe {
                    assert!(heap::usable_size(NonNull::new(block).unwrap()) >= size);
                    assert!(*block == size as u8 && *block.add(size - 1) == size as u8);
                }
                assert!(!heap::fits_as_it_is(block, 0) && !heap::fits_as_it_is(block, 2 * size + 16));
                if size <= 3 * KIB {
                    assert_eq!(heap::fits_as_it_is(block, size), !HARDENED, "{size}");
                }
                quick += usize::from(free(block));
                frees += 1;
            }
        }
        order.into_iter().for_each(|block| _ = free(block));
        assert!(!free(ptr::null_mut()) && !heap::fits_as_it_is(ptr::null_mut(), 16));
        assert!(if HARDENED { quick == 0 } else { quick * 2 > frees }, "{quick} of {frees} frees were quick");
    });
}

/// Would catch blocks that only the notes on the neighbourhood of the first segment lead to.
#[test]
#[cfg(target_os = "linux")]
fn blocks_far_from_the_first_segment() {
    alone("blocks_far_from_the_first_segment", || {
        let first = malloc(100);
        let between = arenite::vm::Reservation::new(200 * GIB).expect("address space");
        let in_use = arenite::stats().in_use;
        for _ in 0..3 {
            let blocks: Vec<*mut u8> = (0..100 * MIB / (16 * KIB)).map(|_| malloc(16 * KIB)).collect();
            let far = |block: &&*mut u8| block.addr().abs_diff(first.addr()) > 150 * GIB;
            assert!(
                blocks.iter().filter(far).count() * 2 > blocks.len(),
                "{first:?} and {:?}",
                blocks.last()
            );
            for block in blocks {
                // SAFETY: the block is this test's.
                unsafe { block.write(1) };
                free(block);
            }
        }
        CACHE.with(Cache::trim);
        assert!(arenite::stats().in_use <= in_use + MIB);
        free(first);
        drop(between);
    });
}
