//! Blocks with mappings of their own: they grow in place or by moving pages, are unmapped, and stay far from the
//! system's limit on mappings.

mod support;

use support::process::{alone, eventually, in_child, mappings, minor_faults, resident, resident_in};
use support::{Block, GIB, HARDENED, KIB, MIB, Random, layout};

use std::process::Command;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

/// The mappings of a block: its guard is one.
const MAPPINGS: usize = if HARDENED { 2 } else { 1 };

/// Would catch growth that copies: every page of the block would be touched, and those of the old one twice. Pages are
/// small, so that they can be counted.
#[test]
fn growth_to_gigabytes_copies_nothing() {
    let small_pages = |command: &mut Command| {
        command.env("ARENITE_HUGE_PAGES", "system");
    };
    let grow = || {
        let mut block = Block::alloc(layout(9 * MIB, 8)).unwrap();
        block.fill(1);
        let (resident_before, faults_before) = (resident(), minor_faults());
        let mut moves = 0;
        for size in [10 * MIB, 17 * MIB, 100 * MIB, 101 * MIB, GIB, 4 * GIB] {
            let address = block.addr();
            // Checks the contents of the old size.
            block = block.realloc(size).unwrap();
            moves += usize::from(block.addr() != address);
            // A page in each 64 KiB; the last growth is only looked at.
            if size <= GIB {
                block.fill(size as u64);
            }
        }
        let touched = GIB / (64 * KIB) * 4 * KIB;
        assert!(resident() < resident_before + touched + 8 * MIB, "{} MiB", resident() / MIB);
        assert!(minor_faults() < faults_before + 3 * touched / (4 * KIB));
        let most = if HARDENED { 6 } else { 4 };
        assert!(moves <= most, "{moves} moves");
        block.free();
    };
    in_child("growth_to_gigabytes_copies_nothing", small_pages, grow).assert_success();
}

/// Would catch room behind a block that is not used, and a shrunk block that keeps its pages.
#[test]
#[cfg_attr(feature = "hardened", ignore = "huge blocks end at a guard and move to grow")]
fn grows_and_shrinks_in_place() {
    let mut block = Block::alloc(layout(12 * MIB, 8)).unwrap();
    let address = block.addr();
    for size in [13 * MIB, 20 * MIB, 24 * MIB, 9 * MIB, 20 * MIB] {
        block = block.realloc(size).unwrap();
        assert_eq!(block.addr(), address, "{size}");
        block.bytes().fill(1);
    }
    assert_eq!(resident_in(address, 20 * MIB), 20 * MIB);
    block = block.realloc(9 * MIB).unwrap();
    assert_eq!(resident_in(address + 9 * MIB, 11 * MIB), 0, "a shrunk block keeps its pages");
    block.free();
}

/// Would catch a block that the kernel holds in pieces, and so does not move, taken for a lack of memory: what is parked, and
/// in quarantine, would go home for it.
#[test]
#[cfg(target_os = "linux")]
fn a_block_in_pieces_grows_and_costs_nobody_anything() {
    alone("a_block_in_pieces_grows_and_costs_nobody_anything", || {
        let blocks: Vec<Block> = (0..200).map(|_| Block::alloc(layout(64, 8)).unwrap()).collect();
        blocks.into_iter().for_each(Block::free);
        let mut block = Block::alloc(layout(10 * MIB, 8)).unwrap();
        block.fill(3);
        let parked = || arenite::stats().classes().map(|class| class.in_caches).sum::<usize>();
        let before = parked();
        let middle = block.bytes()[5 * MIB..].as_mut_ptr().map_addr(|addr| addr & !(64 * KIB - 1));
        // SAFETY: the advice is about core dumps.
        assert_eq!(unsafe { libc::madvise(middle.cast(), 64 * KIB, libc::MADV_DONTDUMP) }, 0);
        // Checks the contents.
        block.realloc(100 * MIB).unwrap().free();
        assert!(before > 0 && parked() == before, "{} of {before}", parked());
    });
}

/// Would catch a shrunk block of which the kernel moved some pieces, but not all.
#[test]
#[cfg(target_os = "linux")]
fn a_block_with_a_piece_that_does_not_move_shrinks() {
    alone("a_block_with_a_piece_that_does_not_move_shrinks", || {
        const MSEAL: libc::c_long = 462;
        let mut block = Block::alloc(layout(20 * MIB, 8)).unwrap();
        block.fill(3);
        let middle = block.bytes()[5 * MIB..].as_mut_ptr().map_addr(|addr| addr & !(64 * KIB - 1));
        // SAFETY: the pages stay as they are, until the process ends.
        if unsafe { libc::syscall(MSEAL, middle, 64 * KIB, 0) } != 0 {
            println!("SKIPPED: {}", std::io::Error::last_os_error());
            return;
        }
        // Checks the contents. It is not freed: its pages can never be given back.
        let _ = block.realloc(10 * MIB).unwrap();
    });
}

/// Would catch a large alignment that is lost on a move, and data that are.
#[test]
fn aligned_blocks_keep_their_alignment_when_they_grow() {
    for shift in [12, 16, 17, 21, 24, 25, 26, 30] {
        let mut block = Block::alloc(layout(10 * MIB, 1 << shift)).unwrap();
        for (seed, size) in [11 * MIB, 40 * MIB, 200 * MIB, 900 * MIB, 9 * MIB, MIB].into_iter().enumerate() {
            block.fill(seed as u64);
            // `Block` looks at the alignment.
            block = block.realloc(size).unwrap();
        }
        block.free();
    }
}

/// Would catch a block that is taken for none of the heap's because another, which moved away to grow, lay there before:
/// what says so of the old place must be gone before the place is free.
#[test]
fn a_place_that_a_growing_block_leaves_is_free_for_others() {
    let until = Instant::now() + Duration::from_secs(2);
    let is_over = || Instant::now() > until;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over() {
                let block = Block::alloc(layout(9 * MIB, 8)).unwrap();
                block.realloc(60 * MIB).unwrap().free();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over() {
                    let blocks = [9 * MIB; 3].map(|size| Block::alloc(layout(size, 8)).unwrap());
                    blocks.into_iter().for_each(Block::free);
                    arenite::trim();
                }
            });
        }
    });
}

/// Would catch a segment whose slot is its region's again only after it was unmapped: by then a region of another thread
/// may lie there, and its slot would be marked. The memory is locked, so that unmapping takes its time.
#[test]
fn a_place_that_a_segment_leaves_is_free_for_others() {
    let set_up = |command: &mut Command| {
        command
            .env("ARENITE_RESERVATION", "64m")
            .env("ARENITE_RETAIN", "4g")
            .env("ARENITE_BACKGROUND_PURGER", "0");
    };
    in_child("a_place_that_a_segment_leaves_is_free_for_others", set_up, || {
        let size = 8 * MIB;
        let three = move || [size; 3].map(|size| Block::alloc(layout(size, 16)).unwrap());
        let mut kept = Vec::new();
        for _ in 0..10 {
            let blocks = three();
            // The upper slot stays out.
            kept.extend(three());
            let at = blocks[2].addr() / (32 * MIB) * (32 * MIB);
            for block in &blocks {
                block.bytes().fill(1);
                // SAFETY: the block's memory is mapped. Where the limit forbids it, the test is a weaker one.
                unsafe { libc::mlock(block.bytes().as_ptr().cast(), size) };
            }
            blocks.into_iter().for_each(Block::free);
            let other = thread::spawn(move || {
                let at = ptr::without_provenance_mut(at);
                let mut residency = 0_u8;
                let until = Instant::now() + Duration::from_millis(200);
                let mut is_mapped = true;
                while is_mapped && Instant::now() < until {
                    // SAFETY: the kernel checks the address.
                    is_mapped = unsafe { libc::mincore(at, 1, &raw mut residency) } == 0;
                }
                three()
            });
            arenite::trim();
            kept.extend(other.join().unwrap());
        }
        kept.into_iter().for_each(Block::free);
        arenite::trim();
        assert_eq!(arenite::stats().segments, 0, "{}", arenite::stats());
    })
    .assert_success();
}

/// Would catch address space or mappings that are lost with each block, or kept without bound: of thousands of huge
/// blocks each has a mapping at the most, whichever are freed first.
#[test]
fn thousands_of_huge_blocks_come_and_go() {
    alone("thousands_of_huge_blocks_come_and_go", || {
        const BLOCKS: usize = 3000;
        let before = mappings();
        let reserved_before = arenite::stats().reserved;
        let mut random = Random::new(3);
        for round in 0..2 {
            let mut blocks: Vec<Block> = (0..BLOCKS)
                .map(|_| Block::alloc(layout(9 * MIB + random.between(0, MIB), 8)).unwrap())
                .collect();
            assert!(mappings() < before + BLOCKS * MAPPINGS + 100, "{} in round {round}", mappings());
            random.shuffle(&mut blocks);
            let half = blocks.split_off(BLOCKS / 2);
            half.into_iter().for_each(Block::free);
            assert!(mappings() < before + BLOCKS * MAPPINGS + 100, "{} in round {round}", mappings());
            blocks.into_iter().for_each(Block::free);
            arenite::trim();
            assert!(mappings() < before + 100, "{} in round {round}", mappings());
            assert!(arenite::stats().reserved < reserved_before + 2 * GIB, "{}", arenite::stats());
        }
    });
}

/// Would catch a purge by holes in mappings: middle blocks that are freed in random order.
#[test]
fn scattered_middle_blocks_take_few_mappings() {
    alone("scattered_middle_blocks_take_few_mappings", || {
        let before = mappings();
        let mut random = Random::new(4);
        let mut blocks: Vec<Block> = (0..4000)
            .map(|_| Block::alloc(layout(random.log_between(33 * KIB, 256 * KIB), 8)).unwrap())
            .collect();
        for block in &blocks {
            block.bytes()[0] = 1;
        }
        random.shuffle(&mut blocks);
        blocks.drain(400..).for_each(Block::free);
        arenite::trim();
        assert!(mappings() < before + 300, "{} after {before}", mappings());
        blocks.into_iter().for_each(Block::free);
    });
}

/// Would catch freed huge blocks that stay mapped.
#[test]
fn huge_blocks_are_unmapped() {
    alone("huge_blocks_are_unmapped", || {
        let blocks: Vec<Block> = (0..5).map(|_| Block::alloc(layout(20 * MIB, 8)).unwrap()).collect();
        blocks.iter().for_each(|block| block.bytes().fill(1));
        let (at, peak) = (blocks[0].addr(), resident());
        blocks.into_iter().for_each(Block::free);
        // After the delay, without a call.
        assert!(eventually(Duration::from_secs(10), || resident() + 95 * MIB < peak), "{}", arenite::stats());
        let is_mapped = || {
            let mut residency = 0_u8;
            // SAFETY: the kernel checks the address.
            unsafe { libc::mincore(ptr::without_provenance_mut(at & !4095), 1, &raw mut residency) == 0 }
        };
        assert!(eventually(Duration::from_secs(10), || !is_mapped()), "the block is still mapped");
        let stats = arenite::stats();
        assert_eq!((stats.huge_blocks, stats.huge_bytes, stats.in_depot), (0, 0, 0), "{stats}");
    });
}

/// Would catch kept blocks of sizes that nobody asks for any more, which keep out those that come and go.
#[test]
#[cfg_attr(feature = "hardened", ignore = "a hardened heap gives a freed huge block's pages back at once")]
fn a_block_that_comes_and_goes_is_kept_whatever_was_freed_before() {
    let never_purged = |command: &mut Command| {
        command.env("ARENITE_PURGE_DELAY_MS", "600000");
    };
    let work = || {
        let others: Vec<Block> = (0..8).map(|_| Block::alloc(layout(9 * MIB, 8)).unwrap()).collect();
        others.into_iter().for_each(Block::free);
        let come_and_go = || {
            let mut block = Block::alloc(layout(40 * MIB, 8)).unwrap();
            block.fill(1);
            block.free();
        };
        come_and_go();
        let before = minor_faults();
        (0..4).for_each(|_| come_and_go());
        // One would take ten thousand of small pages, twenty of huge ones.
        assert!(minor_faults() < before + 16, "{} page faults", minor_faults() - before);
    };
    in_child("a_block_that_comes_and_goes_is_kept_whatever_was_freed_before", never_purged, work)
        .assert_success();
}

/// Would catch a heap that breaks where the process has no mapping left: requests may be refused, blocks may not.
#[test]
fn lives_with_no_mapping_left() {
    alone("lives_with_no_mapping_left", || {
        let limit: usize =
            std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
        if limit > 200_000 {
            println!("SKIPPED: {limit} mappings are too many to fill");
            return;
        }
        let mut blocks = Vec::new();
        let alloc = |blocks: &mut Vec<Block>, size| {
            let refused = Block::alloc(layout(size, 8)).map(|mut block| {
                block.fill(size as u64);
                blocks.push(block);
            });
            refused.is_some()
        };
        for i in 0..40 {
            assert!(alloc(&mut blocks, if i % 2 == 0 { 9 * MIB } else { 200 * KIB }));
        }
        let page = arenite::vm::page_size();
        let len = 2 * limit * page;
        // SAFETY: a new mapping; its odd pages get another protection, so that each page is a mapping.
        let filler = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let filler = libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(filler, libc::MAP_FAILED);
            let mut at = filler.cast::<u8>();
            while libc::mprotect(at.cast(), page, libc::PROT_READ) == 0 {
                at = at.add(2 * page);
            }
            filler
        };
        let mut random = Random::new(5);
        let mut refused = 0;
        for _ in 0..500 {
            let size = random.log_between(16, 20 * MIB);
            refused += usize::from(!alloc(&mut blocks, size));
            let which = random.between(0, blocks.len() - 1);
            blocks.swap_remove(which).free();
        }
        arenite::trim();
        blocks.drain(..blocks.len() / 2).for_each(Block::free);
        arenite::trim();
        // SAFETY: the mapping is this test's.
        unsafe { libc::munmap(filler, len) };
        // A hardened block that is freed makes room for two.
        assert!(refused > 0 || HARDENED, "the process was not out of mappings");
        for _ in 0..100 {
            assert!(alloc(&mut blocks, random.log_between(16, 20 * MIB)));
        }
        blocks.into_iter().for_each(Block::free);
        arenite::trim();
    });
}
