//! Sizes from 8 bytes to a gigabyte: where the cliffs are, growing, cleared memory.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::hint::black_box;

use measure::{Meter, Unit, Workload, geomean};

use crate::micro::sizes;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "size-sweep",
        group: "micro",
        stresses: "blocks from 8 B to 64 MiB, four of a size live, first and last byte written: the whole curve",
        unit: Unit::CpuNs,
        quick: 5_000,
        full: 15_000,
        run: size_sweep,
    },
    Workload {
        name: "buffers",
        group: "micro",
        stresses: "buffers of 16 KiB to 8 MiB as for input and output: eight live, every page of each written",
        unit: Unit::CpuNs,
        quick: 2_000,
        full: 4_000,
        run: buffers,
    },
    Workload {
        name: "vec-growth",
        group: "micro",
        stresses: "one Vec grown by 64 KiB at a time (to 256 MiB in a quick run, else to 1 GiB)",
        unit: Unit::CpuNs,
        quick: 4_096,
        full: 16_384,
        run: vec_growth,
    },
    Workload {
        name: "vec-many",
        group: "micro",
        stresses: "1,000 vectors that grow side by side from nothing to 16 KiB: realloc at every step",
        unit: Unit::CpuNs,
        quick: 16_000_000,
        full: 40_000_000,
        run: vec_many,
    },
    Workload {
        name: "zeroed-small",
        group: "micro",
        stresses: "cleared blocks of 64 B to 32 KiB, 64 live",
        unit: Unit::CpuNs,
        quick: 300_000,
        full: 1_000_000,
        run: |meter, ops| zeroed(meter, ops, 64, 32 << 10, 64),
    },
    Workload {
        name: "zeroed-large",
        group: "micro",
        stresses: "cleared blocks of 64 KiB to 16 MiB, four live, one byte of each page read",
        unit: Unit::CpuNs,
        quick: 150,
        full: 500,
        run: |meter, ops| zeroed(meter, ops, 64 << 10, 16 << 20, 4),
    },
];

fn size_sweep(meter: &mut Meter, ops: u64) -> u64 {
    const LIVE: usize = 4;
    let mut sum = 0;
    let mut scores = Vec::new();
    // Four steps a doubling.
    let sweep = (0..=4 * 23).map(|step: u32| (8 << (step / 4)) / 4 * (4 + step as usize % 4));
    for size in sweep.filter(|&size| size <= 64 << 20) {
        // Where a pair costs a system call, fewer do.
        let pairs = if size < 32 << 10 { ops * 4 } else { ops / 10 };
        let layout = Layout::from_size_align(size, 8).expect("below 64 MiB");
        let mut live = [std::ptr::null_mut::<u8>(); LIVE];
        let mut work = |pairs: u64| {
            for n in 0..pairs {
                let slot = &mut live[n as usize % LIVE];
                // SAFETY: the layout has bytes; what is freed was made with it.
                unsafe {
                    if !slot.is_null() {
                        sum += u64::from(slot.read());
                        dealloc(*slot, layout);
                    }
                    *slot = black_box(alloc(layout));
                    assert!(!slot.is_null());
                    slot.write(n as u8);
                    slot.add(size - 1).write(n as u8);
                }
            }
        };
        work((pairs / 10).max(8));
        let ((), ns) = meter.time(pairs, || work(pairs));
        for block in live {
            // SAFETY: as above; the warm-up has filled every slot.
            unsafe { dealloc(block, layout) };
        }
        meter.point("ns for a pair, by bytes", size as f64, ns);
        scores.push(ns);
    }
    meter.score(geomean(scores));
    sum
}

fn buffers(meter: &mut Meter, ops: u64) -> u64 {
    const LIVE: usize = 8;
    let sizes = sizes(512, 16 << 10, 8 << 20, 11);
    let mut live: Vec<Vec<u8>> = vec![Vec::new(); LIVE];
    meter.warmed(ops, |ops| {
        let mut sum = 0;
        for n in 0..ops as usize {
            let mut buffer: Vec<u8> = Vec::with_capacity(sizes[n % sizes.len()]);
            let spare = buffer.spare_capacity_mut();
            let mut pages = 0;
            for page in spare.iter_mut().step_by(4096) {
                page.write(n as u8);
                pages += 1;
            }
            // SAFETY: the first byte of it was written, as that of every page.
            unsafe { buffer.set_len(1) };
            let old = std::mem::replace(&mut live[n % LIVE], buffer);
            sum += pages + u64::from(old.first().copied().unwrap_or(0));
        }
        sum
    })
}

fn vec_growth(meter: &mut Meter, ops: u64) -> u64 {
    let piece = [7_u64; 8192];
    let (sum, _) = meter.time(ops, || {
        let mut vec: Vec<u64> = Vec::new();
        for n in 0..ops {
            vec.extend_from_slice(black_box(&piece));
            *vec.last_mut().expect("just filled") = n;
        }
        vec.chunks(8192).map(|piece| piece[8191] + piece[0]).sum::<u64>()
    });
    sum
}

fn vec_many(meter: &mut Meter, ops: u64) -> u64 {
    const COUNT: usize = 1000;
    const LEN: u64 = 4096;
    meter.warmed(ops.max(10 * LEN * COUNT as u64 / 4), |ops| {
        let mut sum = 0;
        for _ in 0..(ops / (LEN * COUNT as u64)).max(1) {
            let mut vecs: Vec<Vec<u32>> = vec![Vec::new(); COUNT];
            // Sixteen at a time, so that the vectors' blocks lie mixed, and pushing is not all that is measured.
            for n in 0..LEN as u32 / 16 {
                for vec in &mut vecs {
                    vec.extend_from_slice(black_box(&[n; 16]));
                }
            }
            sum += vecs.iter().map(|vec| vec.len() as u64 + u64::from(vec[vec.len() - 1])).sum::<u64>();
        }
        sum
    })
}

fn zeroed(meter: &mut Meter, ops: u64, least: usize, most: usize, live: usize) -> u64 {
    let sizes = sizes(512, least, most, 12);
    let mut blocks = vec![(std::ptr::null_mut::<u8>(), Layout::new::<u8>()); live];
    let sum = meter.warmed(ops, |ops| {
        let mut sum = 0;
        for n in 0..ops as usize {
            let slot = &mut blocks[n % live];
            let layout = Layout::from_size_align(sizes[n % sizes.len()], 8).expect("below 16 MiB");
            // SAFETY: the layout has bytes; what is freed was made with the layout beside it.
            unsafe {
                if !slot.0.is_null() {
                    dealloc(slot.0, slot.1);
                }
                let block = black_box(alloc_zeroed(layout));
                assert!(!block.is_null());
                for at in (0..layout.size()).step_by(4096).chain([layout.size() - 1]) {
                    let byte = block.add(at).read();
                    assert_eq!(byte, 0, "a cleared block of {} bytes holds {byte} at {at}", layout.size());
                    sum += 1;
                }
                // For the next one not to be clear by chance.
                block.write(1);
                block.add(layout.size() / 2).write(2);
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
