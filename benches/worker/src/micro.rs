//! One thread, one pattern each.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

use measure::{Meter, Unit, Workload};

use crate::block::Block;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "pair-constant",
        group: "micro",
        stresses: "a box of 40 bytes made and dropped: the shortest path, at a size that the compiler knows",
        unit: Unit::CpuNs,
        quick: 10_000_000,
        full: 40_000_000,
        run: pair_constant,
    },
    Workload {
        name: "pair-runtime",
        group: "micro",
        stresses: "a block of 16 to 1024 bytes made and dropped, the size known at run time only",
        unit: Unit::CpuNs,
        quick: 5_000_000,
        full: 20_000_000,
        run: pair_runtime,
    },
    Workload {
        name: "batch-lifo",
        group: "micro",
        stresses: "1,000 blocks of 16 to 512 bytes, freed newest first",
        unit: Unit::CpuNs,
        quick: 2_000_000,
        full: 8_000_000,
        run: |meter, ops| batch(meter, ops, Order::Lifo),
    },
    Workload {
        name: "batch-fifo",
        group: "micro",
        stresses: "1,000 blocks of 16 to 512 bytes, freed oldest first",
        unit: Unit::CpuNs,
        quick: 2_000_000,
        full: 8_000_000,
        run: |meter, ops| batch(meter, ops, Order::Fifo),
    },
    Workload {
        name: "batch-random",
        group: "micro",
        stresses: "1,000 blocks of 16 to 512 bytes, freed in random order",
        unit: Unit::CpuNs,
        quick: 2_000_000,
        full: 8_000_000,
        run: |meter, ops| batch(meter, ops, Order::Random),
    },
    Workload {
        name: "batch-large",
        group: "micro",
        stresses: "200,000 blocks of 64 bytes, then all freed: beyond what any cache of a thread holds",
        unit: Unit::CpuNs,
        quick: 2_000_000,
        full: 8_000_000,
        run: batch_large,
    },
    Workload {
        name: "replace-random",
        group: "micro",
        stresses: "100,000 live blocks of 16 to 1024 bytes, a random one replaced by one of another size",
        unit: Unit::CpuNs,
        quick: 1_000_000,
        full: 2_500_000,
        run: replace_random,
    },
    Workload {
        name: "binary-trees",
        group: "micro",
        stresses: "trees of boxes built, walked, and dropped: small blocks in the order of a recursion",
        unit: Unit::CpuNs,
        quick: 4_000_000,
        full: 12_000_000,
        run: binary_trees,
    },
    Workload {
        name: "aligned",
        group: "micro",
        stresses: "16 to 4096 bytes at alignments of 16 to 4096",
        unit: Unit::CpuNs,
        quick: 1_000_000,
        full: 2_500_000,
        run: aligned,
    },
];

#[derive(Clone, Copy)]
enum Order {
    Lifo,
    Fifo,
    Random,
}

fn pair_constant(meter: &mut Meter, ops: u64) -> u64 {
    meter.warmed(ops, |ops| {
        let mut sum = 0_u64;
        for n in 0..ops {
            let boxed = black_box(Box::new([n; 5]));
            sum = sum.wrapping_add(boxed[4]);
        }
        sum
    })
}

fn pair_runtime(meter: &mut Meter, ops: u64) -> u64 {
    let sizes = sizes(1024, 16, 1024, 1);
    meter.warmed(ops, |ops| {
        let mut sum = 0;
        for n in 0..ops {
            sum += Block::new(sizes[n as usize % 1024], n).take() & 0xff;
        }
        sum
    })
}

/// Equally often each power of two, and any number below it alike.
pub(crate) fn sizes(count: usize, least: usize, most: usize, seed: u64) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    let doublings = (most / least).ilog2();
    (0..count)
        .map(|_| {
            let low = least << random.u32(0..doublings.max(1));
            random.usize(low..(2 * low).min(most + 1))
        })
        .collect()
}

fn batch(meter: &mut Meter, ops: u64, order: Order) -> u64 {
    const LEN: usize = 1000;
    let sizes = sizes(LEN, 16, 512, 2);
    let mut shuffled: Vec<usize> = (0..LEN).collect();
    fastrand::Rng::with_seed(3).shuffle(&mut shuffled);
    let mut blocks: Vec<Option<Block>> = (0..LEN).map(|_| None).collect();
    meter.warmed(ops, |ops| {
        let mut sum = 0;
        for round in 0..ops / LEN as u64 {
            for (slot, &size) in blocks.iter_mut().zip(&sizes) {
                *slot = Some(Block::new(size, round));
            }
            let mut free = |at: usize| sum += blocks[at].take().expect("made above").take() & 0xff;
            match order {
                Order::Lifo => (0..LEN).rev().for_each(&mut free),
                Order::Fifo => (0..LEN).for_each(&mut free),
                Order::Random => shuffled.iter().copied().for_each(&mut free),
            }
        }
        sum
    })
}

fn batch_large(meter: &mut Meter, ops: u64) -> u64 {
    const LEN: usize = 200_000;
    let mut blocks = Vec::with_capacity(LEN);
    meter.warmed(ops.max(10 * LEN as u64), |ops| {
        let mut sum = 0;
        for round in 0..ops / LEN as u64 {
            blocks.extend((0..LEN as u64).map(|n| Block::new(64, round + n)));
            sum += blocks.drain(..).map(|block| block.take() & 0xff).sum::<u64>();
        }
        sum
    })
}

fn replace_random(meter: &mut Meter, ops: u64) -> u64 {
    const LIVE: usize = 100_000;
    let sizes = sizes(4096, 16, 1024, 4);
    let mut random = fastrand::Rng::with_seed(5);
    let mut blocks: Vec<Block> = (0..LIVE).map(|n| Block::new(sizes[n % 4096], n as u64)).collect();
    let sum = meter.warmed(ops, |ops| {
        let mut sum = 0;
        for n in 0..ops {
            let slot = &mut blocks[random.usize(0..LIVE)];
            let old = std::mem::replace(slot, Block::new(sizes[n as usize % 4096], n));
            sum += old.take() & 0xff;
        }
        sum
    });
    sum + blocks.into_iter().map(Block::take).sum::<u64>()
}

struct Tree {
    left: Option<Box<Tree>>,
    right: Option<Box<Tree>>,
    depth: u32,
}

fn tree(depth: u32) -> Box<Tree> {
    let child = || (depth > 0).then(|| tree(depth - 1));
    Box::new(Tree { left: child(), right: child(), depth })
}

fn walk(tree: &Tree) -> u64 {
    let child = |child: &Option<Box<Tree>>| child.as_deref().map_or(0, walk);
    u64::from(tree.depth) + 1 + child(&tree.left) + child(&tree.right)
}

fn binary_trees(meter: &mut Meter, ops: u64) -> u64 {
    const DEPTH: u32 = 14;
    const NODES: u64 = (2 << DEPTH) - 1;
    // One that lives on, for the others to be made around it.
    let old = tree(DEPTH + 2);
    let sum = meter.warmed(ops.max(NODES), |ops| {
        (0..(ops / NODES).max(1)).map(|_| walk(black_box(&tree(DEPTH)))).sum::<u64>()
    });
    sum + walk(&old)
}

fn aligned(meter: &mut Meter, ops: u64) -> u64 {
    const LIVE: usize = 1000;
    let sizes = sizes(4096, 16, 4096, 6);
    let mut random = fastrand::Rng::with_seed(7);
    let layouts: Vec<Layout> = sizes
        .iter()
        .map(|&size| Layout::from_size_align(size, 16 << random.u32(0..9)).expect("small"))
        .collect();
    let mut blocks = vec![(std::ptr::null_mut::<u8>(), layouts[0]); LIVE];
    let sum = meter.warmed(ops, |ops| {
        let mut sum = 0;
        for n in 0..ops {
            let slot = &mut blocks[random.usize(0..LIVE)];
            let layout = layouts[n as usize % layouts.len()];
            // SAFETY: layouts of more than no bytes; what is freed was made with the layout beside it.
            unsafe {
                if !slot.0.is_null() {
                    sum += u64::from(slot.0.read());
                    dealloc(slot.0, slot.1);
                }
                let block = black_box(alloc(layout));
                assert!(!block.is_null() && block.addr() & (layout.align() - 1) == 0);
                block.write(n as u8);
                *slot = (block, layout);
            }
        }
        sum
    });
    for (block, layout) in blocks.into_iter().filter(|(block, _)| !block.is_null()) {
        // SAFETY: as above.
        unsafe { dealloc(block, layout) };
    }
    sum
}
