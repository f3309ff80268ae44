//! What stays resident: against what is live, after a burst, over a long run.

use std::time::{Duration, Instant};

use measure::{Meter, Unit, Workload, rss};

use crate::block::Block;
use crate::micro::sizes;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "overhead",
        group: "memory",
        stresses: "256 MiB (64 in a quick run) of live blocks, any size from 8 B to 64 KiB alike on a log scale: rounding and headers",
        unit: Unit::RssPerLive,
        quick: 64 << 20,
        full: 256 << 20,
        run: overhead,
    },
    Workload {
        name: "fragmentation",
        group: "memory",
        stresses: "128 MiB live (64 in a quick run), sizes that shift from phase to phase, a random nine tenths replaced in each",
        unit: Unit::RssPerLive,
        quick: 64 << 20,
        full: 128 << 20,
        run: fragmentation,
    },
    Workload {
        name: "long-run",
        group: "memory",
        stresses: "lifetimes from a few operations to the whole run, sizes from 16 B to 1 MiB: peak RSS per peak live byte",
        unit: Unit::RssPerLive,
        quick: 1_500_000,
        full: 4_000_000,
        run: long_run,
    },
    Workload {
        name: "burst-small",
        group: "memory",
        stresses: "256 MiB of blocks of 16 to 2048 bytes freed in random order, one in a thousand kept: what stays",
        unit: Unit::Bytes,
        quick: 256 << 20,
        full: 256 << 20,
        run: |meter, bytes| burst(meter, bytes, 16, 2048, 1),
    },
    Workload {
        name: "burst-large",
        group: "memory",
        stresses: "256 MiB of buffers of 4 KiB to 4 MiB freed in random order: what stays",
        unit: Unit::Bytes,
        quick: 256 << 20,
        full: 256 << 20,
        run: |meter, bytes| burst(meter, bytes, 4 << 10, 4 << 20, 1),
    },
    Workload {
        name: "burst-threads",
        group: "memory",
        stresses: "eight threads with 32 MiB each, freed by each other, that then stay idle: what stays",
        unit: Unit::Bytes,
        quick: 256 << 20,
        full: 256 << 20,
        run: |meter, bytes| burst(meter, bytes, 16, 2048, 8),
    },
];

/// Writes every page of it, as its user would.
fn touched(block: Block) -> Block {
    for at in (8..block.size().saturating_sub(1)).step_by(4096) {
        // SAFETY: between the mark and the last byte.
        unsafe { block.address().add(at).write(at as u8) };
    }
    block
}

fn overhead(meter: &mut Meter, bytes: u64) -> u64 {
    let per_doubling = bytes as usize / 13;
    let mut random = fastrand::Rng::with_seed(51);
    let mut parts = Vec::new();
    let start = rss();
    let (mut total_live, mut table) = (0, 0);
    for doubling in 3..16 {
        let low = 1_usize << doubling;
        let count = per_doubling / (low + low / 2);
        // Its own memory is there before anything is counted.
        let mut part: Vec<Option<Block>> = Vec::new();
        part.resize_with(count, || None);
        let before = rss();
        let mut live = 0;
        for (n, slot) in part.iter_mut().enumerate() {
            let size = random.usize(low..2 * low);
            live += size;
            *slot = Some(touched(Block::new(size, n as u64)));
        }
        let held = rss().saturating_sub(before) as f64 / live as f64;
        meter.point("resident per live byte, by bytes", (low + low / 2) as f64, held);
        total_live += live;
        table += count * size_of::<Option<Block>>();
        parts.push(part);
    }
    meter.see_mappings();
    meter.score((rss() - start) as f64 / (total_live + table) as f64);
    parts.into_iter().flatten().flatten().map(Block::take).sum()
}

/// The ends of the sizes of each phase.
const PHASES: [(usize, usize); 8] =
    [(16, 128), (512, 1024), (24, 64), (2048, 16384), (128, 512), (65536, 262_144), (32, 256), (1024, 4096)];

fn fragmentation(meter: &mut Meter, bytes: u64) -> u64 {
    let target = bytes as usize;
    let mut random = fastrand::Rng::with_seed(52);
    let start = rss();
    let mut blocks: Vec<Block> = Vec::with_capacity(target / 40);
    let (mut live, mut sum, mut ops) = (0, 0, 0);
    let mut worst: f64 = 0.0;
    for (phase, (least, most)) in PHASES.into_iter().enumerate() {
        let sizes = sizes(4096, least, most, 53 + phase as u64);
        let ((), _) = meter.time(1, || {
            random.shuffle(&mut blocks);
            for block in blocks.split_off(blocks.len() / 10) {
                live -= block.size();
                sum += block.take();
            }
            while live < target {
                let block = touched(Block::new(sizes[ops % sizes.len()], ops as u64));
                live += block.size();
                ops += 1;
                blocks.push(block);
            }
        });
        let held = (rss() - start) as f64 / (live + blocks.len() * size_of::<Block>()) as f64;
        meter.point("resident per live byte, by phase", (phase + 1) as f64, held);
        worst = worst.max(held);
        meter.see_mappings();
    }
    meter.score(worst);
    sum + blocks.into_iter().map(Block::take).sum::<u64>()
}

fn long_run(meter: &mut Meter, ops: u64) -> u64 {
    let start = rss();
    let small = sizes(4096, 16, 2048, 61);
    let large = sizes(4096, 4096, 1 << 20, 62);
    let mut random = fastrand::Rng::with_seed(63);
    // A block of life `2^k` sits in ring `k` and is replaced after that many of the ring's turns.
    let mut rings: Vec<Vec<Option<Block>>> =
        (0..17).map(|k| (0..1_usize << k).map(|_| None).collect()).collect();
    let (mut live, mut peak_live, mut sum) = (0_usize, 0, 0);
    let table: usize = rings.iter().map(|ring| ring.len() * size_of::<Option<Block>>()).sum();
    meter.time(ops, || {
        for n in 0..ops {
            let ring = random.usize(0..rings.len());
            // Large ones live short.
            let is_large = ring < 9 && random.u32(0..4) == 0;
            let sizes = if is_large { &large } else { &small };
            let ring = &mut rings[ring];
            let at = random.usize(0..ring.len());
            if let Some(old) = ring[at].take() {
                live -= old.size();
                sum += old.take() & 0xff;
            }
            let block = touched(Block::new(sizes[n as usize % 4096], n));
            live += block.size();
            peak_live = peak_live.max(live);
            ring[at] = Some(block);
        }
    });
    meter.see_mappings();
    meter.point("resident at the end per live byte", 1.0, (rss() - start) as f64 / (live + table) as f64);
    meter.score((measure::peak_rss() - start) as f64 / (peak_live + table) as f64);
    sum + rings.into_iter().flatten().flatten().map(|block| block.take() & 0xff).sum::<u64>()
}

/// Allocates so many bytes, frees all but one block of a thousand in random order, and looks at what stays resident: at
/// once, after 1, 2 and 10 s, and after a trim.
fn burst(meter: &mut Meter, bytes: u64, least: usize, most: usize, threads: usize) -> u64 {
    let start = rss();
    let sizes = sizes(4096, least, most, 71);
    let fill = |number: usize| {
        let mut blocks = Vec::new();
        let mut live = 0;
        while live < bytes as usize / threads {
            let n = blocks.len();
            blocks.push(touched(Block::new(sizes[(n + 97 * number) % 4096], n as u64)));
            live += blocks[n].size();
        }
        fastrand::Rng::with_seed(72 + number as u64).shuffle(&mut blocks);
        blocks
    };
    let free = |mut blocks: Vec<Block>| -> (Vec<Block>, u64) {
        let kept = blocks.split_off(blocks.len() - blocks.len() / 1000);
        (kept, blocks.into_iter().map(Block::take).sum())
    };
    let look = |meter: &mut Meter, freed: Instant, kept: Vec<Block>| -> u64 {
        let mut held = Vec::new();
        for seconds in [0, 1, 2, 10] {
            std::thread::sleep(
                (freed + Duration::from_secs(seconds)).saturating_duration_since(Instant::now()),
            );
            let now = rss().saturating_sub(start) as f64;
            meter.point("resident after so many seconds", seconds as f64, now);
            held.push(now);
        }
        allocators::trim();
        meter.point("resident after trim", 10.0, rss().saturating_sub(start) as f64);
        meter.see_mappings();
        // After ten idle seconds.
        meter.score(held[3]);
        kept.into_iter().map(Block::take).sum()
    };
    if threads == 1 {
        let (blocks, _) = meter.time(1, || fill(0));
        meter.point("resident at the peak", 0.0, (rss() - start) as f64);
        let ((kept, sum), _) = meter.time(1, || free(blocks));
        return sum + look(meter, Instant::now(), kept);
    }
    // Each fills, passes its blocks to its neighbour, frees what it got, and stays.
    let barrier = std::sync::Barrier::new(threads + 1);
    let lists: Vec<std::sync::Mutex<Vec<Block>>> = (0..threads).map(|_| Default::default()).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let (lists, barrier, fill, free) = (&lists, &barrier, &fill, &free);
                scope.spawn(move || {
                    *lists[(number + 1) % threads].lock().expect("panics abort") = fill(number);
                    barrier.wait();
                    barrier.wait();
                    let blocks = std::mem::take(&mut *lists[number].lock().expect("panics abort"));
                    let freed = free(blocks);
                    barrier.wait();
                    barrier.wait();
                    freed
                })
            })
            .collect();
        meter.time(1, || barrier.wait());
        meter.point("resident at the peak", 0.0, (rss() - start) as f64);
        meter.time(1, || {
            barrier.wait();
            barrier.wait();
        });
        let sum = look(meter, Instant::now(), Vec::new());
        barrier.wait();
        let of_threads = workers.into_iter().map(|worker| worker.join().expect("panics abort"));
        sum + of_threads.map(|(kept, sum)| sum + kept.into_iter().map(Block::take).sum::<u64>()).sum::<u64>()
    })
}
