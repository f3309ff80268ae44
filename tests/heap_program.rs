//! The heap's interface against a model: the op program under proptest, and what sizes and alignments promise.

mod support;

use std::alloc::{GlobalAlloc, Layout};

use proptest::prelude::*;

use support::process::alone;
use support::program::{Op, Program, SLOTS, World, any_op};
use support::{Block, GIB, HEAP, KIB, MIB, Random, layout};

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Would catch any fault that one thread alone can show, with the fewest ops that show it: see the shadow.
    #[test]
    fn any_program_keeps_its_blocks(ops in prop::collection::vec(any_op(), 1..120)) {
        let world = World::default();
        let mut program = Program::new(&world, 1);
        for op in ops {
            program.run(op);
        }
        program.check();
        program.finish();
        world.finish();
    }
}

/// Would catch a middle block that grows over a live one, or leaves a tail that is handed out with its old contents
/// counted as zero: many neighbours that all grow and shrink.
#[test]
fn middle_blocks_grow_around_each_other() {
    let world = World::default();
    let mut program = Program::new(&world, 2);
    let mut random = Random::new(31);
    for _ in 0..4000 {
        let slot = random.between(0, SLOTS - 1);
        let size = random.log_between(33 * KIB, 600 * KIB);
        program.run(match random.between(0, 3) {
            0 => Op::Alloc { slot, size, align: 8, zeroed: random.one_in(2) },
            1 => Op::Free { slot },
            2 => Op::Realloc { slot, size },
            _ => Op::Resize { slot, size, align: 8, zeroed: true },
        });
    }
    program.check();
    program.finish();
    world.finish();
}

/// Would catch a class table with a gap of more than an eighth, and a usable size that is not the class's.
#[test]
fn no_size_wastes_more_than_an_eighth() {
    let mut random = Random::new(7);
    let all_small = 1..=33 * KIB;
    let borders = (5..=23).flat_map(|shift| [(1 << shift) - 1, 1 << shift, (1 << shift) + 1]);
    let others = (0..2000).map(|_| random.log_between(32 * KIB, 64 * MIB));
    for size in all_small.chain(borders).chain(others.collect::<Vec<_>>()) {
        let block = Block::allocate(layout(size, 1), false).unwrap();
        let waste = block.size() - size;
        // Below 64 bytes a step is 8 bytes.
        assert!(waste < 8 || waste * 8 <= size, "{size} bytes got {}", block.size());
        // SAFETY: the block is out.
        let usable = unsafe { arenite::heap::usable_size(block.address()) };
        // A huge block may be a kept one that is a little longer.
        let is_huge = size > 8 * MIB;
        let is_right = if is_huge {
            usable >= block.size() && (usable - size) * 8 <= size
        } else {
            usable == block.size()
        };
        assert!(is_right, "{usable} of {size} bytes are usable, where {} were promised", block.size());
        block.free();
    }
}

/// Would catch a block that ends before its usable size: the next one would lie in it.
#[test]
fn the_usable_size_is_usable() {
    let mut random = Random::new(8);
    let mut blocks: Vec<Block> = (0..400)
        .map(|i| {
            let size = random.log_between(1, if i % 20 == 0 { 10 * MIB } else { 100 * KIB });
            Block::allocate(layout(size, 1 << random.between(0, 12)), false).unwrap()
        })
        .collect();
    for (i, block) in blocks.iter_mut().enumerate() {
        let byte = i as u8;
        block.bytes().fill(byte);
    }
    for (i, block) in blocks.into_iter().enumerate() {
        let byte = i as u8;
        let bytes = block.bytes();
        assert!(bytes[0] == byte && bytes[bytes.len() - 1] == byte && bytes[..bytes.len() - 1] == bytes[1..]);
        block.free();
    }
}

/// Would catch an alignment that only happens to be kept, and a route that forgets it: several blocks of each are out
/// at once. Up to what leaves room for some multiples of the alignment in 47 bits of address space.
#[test]
fn every_alignment_is_kept() {
    for shift in 0..=44 {
        let align = 1_usize << shift;
        let count = if shift <= 26 { 5 } else { 2 };
        for size in [1, 24, align / 2 + 1, align.min(GIB), 40 * KIB, MIB + 1, 9 * MIB] {
            if size > 64 * MIB {
                continue;
            }
            let mut blocks = Vec::new();
            for seed in 0..count {
                let mut block = Block::alloc(layout(size, align))
                    .unwrap_or_else(|| panic!("{size} bytes aligned to 2^{shift} were refused"));
                block.fill(seed);
                blocks.push(block);
            }
            blocks.into_iter().for_each(Block::free);
        }
    }
}

/// As large as it can get: the program's own mappings leave no two multiples, and maybe none.
#[test]
fn the_largest_alignments_are_refused_or_kept() {
    for shift in 45..63 {
        if let Some(block) = Block::alloc(layout(1, 1 << shift)) {
            block.free();
        } else {
            assert!(shift > 45, "2^{shift}");
        }
        Block::alloc_zeroed(layout(100 * MIB, 1 << shift)).into_iter().for_each(Block::free);
    }
    Block::alloc(layout(8, 8)).unwrap().free();
}

/// Would catch an overflow that makes a huge request a small one, and a request that ends the process.
#[test]
fn terabytes_work_or_are_refused() {
    let mut kept = Block::alloc(layout(1000, 8)).unwrap();
    kept.fill(1);
    // Address space only: a few touched pages.
    let mut terabyte = Block::alloc(layout(1 << 40, 8)).unwrap();
    terabyte.bytes()[1 << 39] = 1;
    terabyte = terabyte.realloc(2 << 40).unwrap();
    assert_eq!(terabyte.bytes()[1 << 39], 1);
    for shift in 47..63 {
        for align in [1, 4 * KIB, 64 * KIB, 64 * MIB] {
            let huge = 1_usize << shift;
            for size in [huge - align, huge, huge + 4097] {
                let Ok(layout) = Layout::from_size_align(size, align) else { continue };
                assert!(Block::alloc(layout).is_none(), "{layout:?}");
                assert!(Block::alloc_zeroed(layout).is_none(), "{layout:?}");
                assert!(Block::allocate(layout, true).is_none(), "{layout:?}");
            }
        }
    }
    let most = isize::MAX as usize;
    assert!(Block::alloc(layout(most, 1)).is_none());
    for size in [most - 7, most - 4095, 1 << 47] {
        kept = kept.realloc(size).expect_err("more than the address space");
        terabyte = terabyte.realloc(size).expect_err("more than the address space");
    }
    assert_eq!(terabyte.bytes()[1 << 39], 1);
    kept.free();
    terabyte.free();
}

/// Would catch a block of no bytes that takes one, is not aligned, or is lost on its way to some bytes and back.
#[test]
fn blocks_of_no_bytes() {
    for shift in 0..=62 {
        let block = Block::allocate(layout(0, 1 << shift), true).unwrap();
        assert_eq!(block.size(), 0);
        block.free();
    }
    let empty = Block::allocate(layout(0, 32), false).unwrap();
    let mut some = empty.resize(layout(77, 32), true).unwrap();
    assert!(some.size() >= 77 && some.is_zero());
    some.fill(3);
    let empty = some.resize(layout(0, 8), false).unwrap();
    assert_eq!(empty.size(), 0);
    empty.resize(layout(0, 4096), true).unwrap().free();
}

/// Would catch growth that moves though the class has the room, and middle blocks that do not use the free room
/// behind them.
#[test]
#[cfg_attr(feature = "hardened", ignore = "the usable size is what was asked for")]
fn grows_in_place_where_it_can() {
    for (size, usable) in [(33, 40), (1025, 1152), (33 * KIB, 36 * KIB)] {
        let mut block = Block::alloc(layout(size, 8)).unwrap();
        block.fill(1);
        let address = block.addr();
        let block = block.resize(layout(usable, 8), false).unwrap();
        assert_eq!((block.addr(), block.size()), (address, usable));
        block.free();
    }
}

/// The same where nobody else takes the room.
#[test]
#[cfg_attr(feature = "hardened", ignore = "middle blocks end at a guard and move to grow")]
fn middle_blocks_grow_and_shrink_in_place() {
    alone("middle_blocks_grow_and_shrink_in_place", || {
        let mut block = Block::alloc(layout(256 * KIB, 8)).unwrap();
        let address = block.addr();
        for size in [512 * KIB, 8 * MIB, 128 * KIB, MIB, 33 * KIB] {
            block = block.resize(layout(size, 8), true).unwrap();
            assert_eq!(block.addr(), address, "it moved to become {size} bytes");
            block.fill(size as u64);
        }
        block.free();
    });
}

/// Would catch a free that takes another route than the allocation, for any layout that fits the block.
#[test]
fn any_layout_that_fits_frees() {
    let mut random = Random::new(9);
    let mut blocks = Vec::new();
    for _ in 0..3000 {
        let asked = layout(random.log_between(1, 9 * MIB), 1 << random.between(0, 17));
        let block = Block::allocate(asked, false).unwrap();
        let between = random.between(asked.size(), block.size());
        blocks.push((block.address(), layout(between, asked.align())));
        if blocks.len() == 16 {
            for (address, layout) in blocks.drain(..) {
                // SAFETY: the block is out, and the layout fits it.
                unsafe { HEAP.dealloc(address.as_ptr(), layout) };
            }
        }
    }
    for (address, layout) in blocks {
        // SAFETY: as above.
        unsafe { HEAP.dealloc(address.as_ptr(), layout) };
    }
}
