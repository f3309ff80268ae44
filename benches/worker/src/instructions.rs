//! Operations to be counted under callgrind: run with two counts, the difference is what they cost.

use std::hint::black_box;

use measure::{Meter, Unit, Workload};

use crate::block::Block;
use crate::micro::sizes;

macro_rules! workload {
    ($name:literal, $stresses:literal, $body:expr) => {
        Workload {
            name: $name,
            group: "instructions",
            stresses: $stresses,
            unit: Unit::Instructions,
            quick: 20_000,
            full: 100_000,
            run: |_: &mut Meter, ops: u64| {
                let body: fn(u64) -> u64 = $body;
                body(black_box(ops))
            },
        }
    };
}

pub(crate) const WORKLOADS: &[Workload] = &[
    workload!("i-box", "a box of 40 bytes made and dropped", |ops| {
        (0..ops).map(|n| black_box(Box::new([n; 5]))[4]).fold(0, u64::wrapping_add)
    }),
    workload!(
        "i-runtime",
        "a block of 16 to 1024 bytes, the size known at run time only, with its marks",
        |ops| {
            let sizes = sizes(1024, 16, 1024, 1);
            (0..ops).map(|n| Block::new(sizes[n as usize % 1024], n).take() & 0xff).sum()
        }
    ),
    workload!("i-batch", "100 boxes of 40 bytes made, then dropped: one of them", |ops| {
        let mut boxes = Vec::with_capacity(100);
        let mut sum = 0;
        for round in 0..ops / 100 {
            boxes.extend((0..100).map(|n| black_box(Box::new([round + n; 5]))));
            sum += boxes.drain(..).map(|one| one[0]).sum::<u64>();
        }
        sum
    }),
    workload!("i-realloc", "one push of 16 bytes to a vector that grows to 4 KiB and starts anew", |ops| {
        let mut sum = 0;
        for round in 0..ops / 256 {
            let mut vec: Vec<[u64; 2]> = Vec::new();
            for n in 0..256 {
                black_box(&mut vec).push([n, round]);
            }
            sum += vec[255][0];
        }
        sum
    }),
    workload!("i-zeroed", "a cleared block of 256 bytes made and dropped", |ops| {
        (0..ops).map(|n| u64::from(black_box(vec![0_u8; 256])[n as usize % 256])).sum()
    }),
    workload!("i-aligned", "a block of 64 bytes aligned to 64 made and dropped", |ops| {
        #[repr(align(64))]
        struct Line([u64; 8]);
        (0..ops).map(|n| black_box(Box::new(Line([n; 8]))).0[3]).fold(0, u64::wrapping_add)
    }),
    workload!("i-replace", "10,000 live blocks of 16 to 1024 bytes, one of them replaced", |ops| {
        let sizes = sizes(4096, 16, 1024, 4);
        let mut random = fastrand::Rng::with_seed(5);
        let mut blocks: Vec<Block> = (0..10_000).map(|n| Block::new(sizes[n % 4096], n as u64)).collect();
        let mut sum = 0;
        for n in 0..ops {
            let slot = &mut blocks[random.usize(0..10_000)];
            sum += std::mem::replace(slot, Block::new(sizes[n as usize % 4096], n)).take() & 0xff;
        }
        sum
    }),
];
