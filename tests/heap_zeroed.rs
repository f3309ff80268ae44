//! `alloc_zeroed`: zero whatever the memory was before, and nothing cleared that the kernel has just cleared. Each test
//! is a process of its own, whose memory is fresh.

mod support;

use std::process::Command;

use support::process::{alone, in_child, minor_faults, resident, resident_in};
use support::{Block, KIB, MIB, Random, layout};

fn zeroed(size: usize) -> Block {
    Block::alloc_zeroed(layout(size, 8)).unwrap()
}

/// What is touched can be counted.
fn small_pages(command: &mut Command) {
    command.env("ARENITE_HUGE_PAGES", "system");
}

/// Would catch memory that is cleared though nobody has written to it: its pages would be resident.
#[test]
fn fresh_memory_is_not_cleared() {
    in_child("fresh_memory_is_not_cleared", small_pages, || {
        // Nothing is freed: what comes is fresh.
        let mut all = Vec::new();
        for (size, count) in [(64 * MIB, 2), (9 * MIB, 4), (MIB, 40), (100 * KIB, 100), (32 * KIB, 400)] {
            let (resident_before, faults_before) = (resident(), minor_faults());
            let blocks: Vec<Block> = (0..count).map(|_| zeroed(size)).collect();
            for block in &blocks {
                assert_eq!(resident_in(block.addr(), size), 0, "of {size} bytes");
            }
            // For headers, and the kernel's count is rough.
            assert!(resident() < resident_before + MIB + count * 4 * KIB, "{count} of {size} bytes");
            assert!(minor_faults() < faults_before + 200 + count * 4, "{count} of {size} bytes");
            all.extend(blocks);
        }
        assert!(all.iter().all(Block::is_zero));
        all.into_iter().for_each(Block::free);
    })
    .assert_success();
}

/// The classes from a page on that are no multiple of pages share pages with their neighbours: what they clear of fresh
/// memory may be the shared pages, no more.
#[test]
fn fresh_memory_of_odd_sizes_is_cleared_at_the_edges_only() {
    const NAME: &str = "fresh_memory_of_odd_sizes_is_cleared_at_the_edges_only";
    in_child(NAME, small_pages, || {
        let size = 30 * KIB;
        let blocks: Vec<Block> = (0..64).map(|_| zeroed(size)).collect();
        let resident: usize = blocks.iter().map(|block| resident_in(block.addr(), size)).sum();
        // A block has 7.5 pages, of which one or two are shared.
        assert!(resident <= 64 * 3 * 4 * KIB, "{} KiB of {} KiB", resident / KIB, 64 * 30);
    })
    .assert_success();
}

/// Would catch a page that is taken for fresh though it was written to: all routes, and every way by which memory is
/// used again: caches, slabs, shelves, kept huge blocks, purged pages, blocks that shrank and grew.
#[test]
fn recycled_memory_is_zero() {
    let mut random = Random::new(11);
    let mut blocks = Vec::new();
    for round in 0..1200 {
        let size = match random.between(0, 9) {
            0..5 => random.log_between(1, 32 * KIB),
            5..8 => random.log_between(32 * KIB, 2 * MIB),
            _ => random.log_between(4 * MIB, 20 * MIB),
        };
        let block = zeroed(size);
        assert!(block.is_zero(), "{size} bytes in round {round}");
        block.bytes().fill(0xaa);
        let block = if random.one_in(4) {
            let other = (size / random.between(1, 8)).max(1);
            let block = block.realloc(other).unwrap();
            if random.one_in(2) { block.realloc(size).unwrap() } else { block }
        } else {
            block
        };
        block.bytes().fill(0x55);
        blocks.push(block);
        while blocks.len() > 24 || (!blocks.is_empty() && random.one_in(3)) {
            let which = random.between(0, blocks.len() - 1);
            blocks.swap_remove(which).free();
        }
        if random.one_in(100) {
            arenite::trim();
        }
    }
    blocks.into_iter().for_each(Block::free);
}

/// Would catch a heap that takes a purge for done which the kernel refused: pages that a program has locked into memory
/// (and it need not unlock them before it frees) keep their contents.
#[test]
fn locked_memory_is_zero_when_it_comes_back() {
    alone("locked_memory_is_zero_when_it_comes_back", || {
        for size in [4 * KIB, 16 * KIB, 64 * KIB, MIB] {
            // Others keep the slabs and the segment.
            let blocks: Vec<Block> = (0..8).map(|_| Block::alloc(layout(size, 4096)).unwrap()).collect();
            for block in &blocks {
                // SAFETY: locking changes nothing but where the pages may be.
                let result = unsafe { libc::mlock(block.address().as_ptr().cast(), size) };
                if result != 0 {
                    println!("SKIPPED: no right to lock {size} bytes: {}", std::io::Error::last_os_error());
                    return;
                }
                block.bytes().fill(0xee);
            }
            let mut kept = Vec::new();
            for (i, block) in blocks.into_iter().enumerate() {
                if i % 4 == 3 { kept.push(block) } else { block.free() }
            }
            arenite::trim();
            arenite::trim();
            for _ in 0..8 {
                let block = zeroed(size);
                assert!(block.is_zero(), "{size} bytes");
                kept.push(block);
            }
            kept.into_iter().for_each(Block::free);
        }
    });
}

/// Would catch a zeroed buffer that costs its full size the second time, though nobody wrote to it the first.
#[test]
fn untouched_memory_is_not_cleared_when_it_is_used_again() {
    alone("untouched_memory_is_not_cleared_when_it_is_used_again", || {
        for round in 0..4 {
            let block = zeroed(64 * MIB);
            assert_eq!(resident_in(block.addr(), block.size()), 0, "in round {round}");
            block.free();
        }
    });
}
