//! The hard case of memory that should go back: small survivors scattered over it. In a file of its own, as it sleeps.

mod support;

use std::thread;
use std::time::Duration;

use support::process::{alone, mappings, resident};
use support::{Block, MIB, Random, layout};

/// Would catch a heap that pins pages with what its caches and depots park, that purges by splitting mappings, or that
/// does not give back while it is idle.
#[test]
fn scattered_survivors_of_half_a_gigabyte() {
    alone("scattered_survivors_of_half_a_gigabyte", || {
        let mut random = Random::new(99);
        let mut blocks = Vec::new();
        let mut sum = 0;
        while sum < 512 * MIB {
            let mut block = Block::alloc(layout(random.log_between(16, 1024), 8)).unwrap();
            block.bytes().fill(7);
            sum += block.size();
            block.fill(sum as u64);
            blocks.push(block);
        }
        let peak = resident();
        random.shuffle(&mut blocks);
        let survivors = blocks.split_off(blocks.len() - blocks.len() / 1000);
        // The list of blocks is the test's: its memory, which is the system allocator's, is not the heap's.
        let list = blocks.capacity() * size_of_val(&blocks[0]);
        blocks.into_iter().for_each(Block::free);
        thread::sleep(Duration::from_secs(10));
        let (left, count) = (resident(), mappings());
        println!("{} of {} MiB, {count} mappings\n{}", left / MIB, (peak - list) / MIB, arenite::stats());
        assert!(left * 100 <= (peak - list) * 15, "{} of {} MiB", left / MIB, (peak - list) / MIB);
        assert!(count < 2000, "{count} mappings");
        survivors.into_iter().for_each(Block::free);
        arenite::trim();
        assert!(resident() < 30 * MIB, "{}", arenite::stats());
    });
}
