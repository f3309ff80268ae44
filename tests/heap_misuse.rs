//! Misuse that the plain build sees: one line on standard error, and the end of the process. Each in a child.

mod support;

use std::alloc::GlobalAlloc;
use std::ptr::NonNull;

use arenite::Options;
use arenite::heap::{self, Cache};

use support::process::in_child;
use support::{Block, HEAP, KIB, MIB, layout};

/// Frees the block with another layout, or again: what no correct program does.
fn free_wrongly(block: &Block, size: usize) {
    // SAFETY: not safe at all; the process ends by it.
    unsafe { HEAP.dealloc(block.address().as_ptr(), layout(size, block.layout().align())) };
}

fn block(size: usize) -> Block {
    Block::alloc(layout(size, 8)).unwrap()
}

/// Would catch a slab that takes a block home twice.
#[test]
fn a_small_block_freed_twice() {
    // Hardened, a block that went home looks like one that was never handed out.
    let words = if cfg!(feature = "hardened") { "or was freed" } else { "was freed twice" };
    for_each_size("a_small_block_freed_twice", &[8, 100, 4096, 20_000], words, |size| {
        let (first, _others) = (block(size), [block(size), block(size)]);
        free_wrongly(&first, size);
        arenite::trim();
        free_wrongly(&first, size);
        arenite::trim();
    });
}

/// The same when the slab that it came from is gone.
#[test]
fn a_small_block_freed_after_its_slab() {
    for_each_size("a_small_block_freed_after_its_slab", &[16, 3000], "0x", |size| {
        // It keeps the segment.
        let _kept = block(MIB);
        let first = block(size);
        free_wrongly(&first, size);
        arenite::trim();
        arenite::trim();
        free_wrongly(&first, size);
        arenite::trim();
    });
}

/// Would catch a slab that takes home a block of another class.
#[test]
fn a_small_block_freed_as_one_of_another_small_size() {
    let name = "a_small_block_freed_as_one_of_another_small_size";
    for_each_size(name, &[16, 500, 9000], "another size", |size| {
        let first = block(size);
        free_wrongly(&first, size * 2);
        arenite::trim();
    });
}

#[test]
fn a_middle_block_freed_as_a_small_one() {
    for_each_size("a_middle_block_freed_as_a_small_one", &[MIB], "0x", |size| {
        free_wrongly(&block(size), 64);
        arenite::trim();
    });
}

/// Would catch a shelf that hands the slab of a small block out as a middle one.
#[test]
fn a_small_block_freed_as_a_middle_one() {
    for_each_size("a_small_block_freed_as_a_middle_one", &[64], "another size", |size| {
        let blocks: Vec<Block> = (0..10).map(|_| block(size)).collect();
        free_wrongly(&blocks[0], 64 * KIB);
        arenite::trim();
    });
}

#[test]
fn a_middle_block_freed_as_one_of_another_middle_size() {
    let name = "a_middle_block_freed_as_one_of_another_middle_size";
    for_each_size(name, &[MIB], "another size", |size| {
        let (first, _behind) = (block(size), block(size));
        free_wrongly(&first, size * 2);
        arenite::trim();
    });
}

/// Would catch a middle block that is handed out twice because its shelf has it twice.
#[test]
fn a_middle_block_freed_twice() {
    for_each_size("a_middle_block_freed_twice", &[64 * KIB, 4 * MIB], "0x", |size| {
        let first = block(size);
        free_wrongly(&first, size);
        free_wrongly(&first, size);
        arenite::trim();
    });
}

#[test]
fn a_middle_block_freed_after_it_went_home() {
    for_each_size("a_middle_block_freed_after_it_went_home", &[MIB], "0x", |size| {
        let (first, _behind) = (block(size), block(size));
        free_wrongly(&first, size);
        arenite::trim();
        free_wrongly(&first, size);
        arenite::trim();
    });
}

/// Would catch a huge block that is kept twice, and then handed out twice.
#[test]
fn a_huge_block_freed_twice() {
    for_each_size("a_huge_block_freed_twice", &[10 * MIB], "was freed", |size| {
        let first = block(size);
        free_wrongly(&first, size);
        free_wrongly(&first, size);
    });
}

/// What a C program's `free` may be given: a pointer into the heap's segment that no block has.
#[test]
fn a_pointer_to_no_block_freed_unsized() {
    const NAME: &str = "a_pointer_to_no_block_freed_unsized";
    let output = in_child(
        NAME,
        |_| {},
        || {
            let (first, _kept) = (block(MIB), block(64));
            let address = first.address();
            free_wrongly(&first, MIB);
            arenite::trim();
            free_unsized(address);
        },
    );
    output.assert_aborted("is not a block of this heap");
}

/// Would catch a header that is read before anybody knows that there is one: it faults instead of one line.
#[test]
fn a_foreign_pointer_freed_unsized() {
    const NAME: &str = "a_foreign_pointer_freed_unsized";
    static STATIC: u64 = 0;
    for case in ["stack", "static", "unmapped", "near", "wild", "one", "segment"] {
        let output = in_child(
            NAME,
            |command| _ = command.env("CASE", case),
            || {
                let (on_stack, kept) = (0_u64, block(64));
                free_unsized(match &*std::env::var("CASE").unwrap() {
                    "stack" => NonNull::from(&on_stack).cast(),
                    "static" => NonNull::from(&STATIC).cast(),
                    "unmapped" => at(kept.addr() + (1 << 40)),
                    // Not so far that the heap keeps no notes on it.
                    "near" => at(kept.addr() - (8 << 30)),
                    "wild" => at(0xdead_beef_dead_beef),
                    "one" => at(1),
                    // The heap's own state, at the segment's beginning.
                    _ => at(kept.addr() / SEGMENT * SEGMENT + 64),
                });
            },
        );
        output.assert_aborted("is not a block of this heap");
    }
}

/// Would catch a block that is handed out again from its middle.
#[test]
fn an_inner_pointer_freed_unsized() {
    for_each_size("an_inner_pointer_freed_unsized", &[100, 3000, 40 * KIB, MIB, 20 * MIB], "start", |size| {
        let (first, _second) = (block(size), block(size));
        free_unsized(at(first.addr() + size / 4 * 2 + 2));
    });
}

const SEGMENT: usize = 32 * MIB;

fn at(address: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap()
}

fn free_unsized(address: NonNull<u8>) {
    std::thread_local!(static CACHE: Cache = const { Cache::new() });
    const OPTIONS: Options = Options::new();
    // SAFETY: not safe at all, but the cache is this thread's.
    CACHE.with(|cache| unsafe {
        // As C's `free` does, by a cache that has room.
        let small = cache.alloc(&OPTIONS, 64, 16);
        cache.free(&OPTIONS, NonNull::new(small).unwrap(), 64, 16);
        if !heap::free_if_cached(cache, address.as_ptr()) {
            cache.free_unsized(&OPTIONS, address);
        }
        cache.trim();
    });
}

/// Runs `misuse` in a child for each size.
fn for_each_size(name: &str, sizes: &[usize], words: &str, misuse: impl Fn(usize)) {
    for size in sizes {
        let output = in_child(
            name,
            |command| _ = command.env("SIZE", size.to_string()),
            || misuse(std::env::var("SIZE").unwrap().parse().unwrap()),
        );
        output.assert_aborted(words);
    }
}
