//! Mixed load for as long as `ARENITE_SOAK_SECONDS` says (4 by default, an hour for the long form): threads that come and
//! go and run the op program, arenas, trims, statistics. Between two rounds nothing is allocated: then the counts must
//! balance to the byte, and what is resident must not have grown.
//!
//! Would catch what is lost once in a million operations.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use arenite::arena::{Arena, release_warm};
use support::process::{eventually, resident};
use support::program::{Program, World, random_op};
use support::{Block, KIB, MIB, Random, layout};

const ROUND: Duration = Duration::from_secs(1);

fn run_arenas(seed: u64) {
    let mut random = Random::new(seed);
    let mut arena = Arena::new();
    for _ in 0..20 {
        let value = random.next();
        arena.scope(|scope| {
            let values: Vec<&mut [u64]> = (0..random.between(1, 200))
                .map(|_| scope.alloc_slice_fill(random.between(1, 300), value))
                .collect();
            assert!(values.iter().all(|words| words.iter().all(|&word| word == value)));
        });
    }
    arena.reset();
}

/// Threads that each do a part of the mixed load and end, until the time is over. Returns how many ops that were.
fn run_round(seeds: &AtomicU64) -> u64 {
    let world = World::default();
    let stop = AtomicBool::new(false);
    let end = Instant::now() + ROUND;
    let ops = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let _ = arenite::stats();
                arenite::trim();
                thread::sleep(Duration::from_millis(20));
            }
        });
        thread::scope(|workers| {
            for _ in 0..3 {
                workers.spawn(|| {
                    while Instant::now() < end {
                        let worker = thread::scope(|life| {
                            life.spawn(|| {
                                let seed = seeds.fetch_add(1, Relaxed);
                                let mut random = Random::new(seed);
                                let mut program = Program::new(&world, seed);
                                let count = random.between(10, 800);
                                (0..count).for_each(|_| program.run(random_op(&mut random)));
                                program.check();
                                if random.one_in(2) {
                                    program.finish();
                                } else {
                                    program.hand_over_all();
                                }
                                run_arenas(seed);
                                ops.fetch_add(count as u64, Relaxed);
                            })
                            .join()
                        });
                        worker.unwrap();
                    }
                });
            }
        });
        stop.store(true, Relaxed);
    });
    world.finish();
    ops.into_inner()
}

/// Nothing is out and nothing is kept: each count must be zero, to the byte.
fn balance() -> usize {
    // A scope ends a little before its threads do.
    assert!(eventually(Duration::from_secs(5), || arenite::stats().threads <= 2), "{}", arenite::stats());
    release_warm();
    let is_empty = || {
        arenite::trim();
        let stats = arenite::stats();
        let left = (stats.in_use, stats.in_caches, stats.in_depot, stats.retained, stats.huge_blocks);
        left == (0, 0, 0, 0, 0)
    };
    // A last thread may be in its exit hook.
    assert!(eventually(Duration::from_secs(5), is_empty), "something is left:\n{}", arenite::stats());
    resident()
}

#[test]
fn what_was_taken_comes_back() {
    let seconds = std::env::var("ARENITE_SOAK_SECONDS").ok().map_or(4, |seconds| seconds.parse().unwrap());
    let seeds = AtomicU64::new(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("seeds from {}", seeds.load(Relaxed));
    let end = Instant::now() + Duration::from_secs(seconds);
    // This thread's cache too.
    Block::alloc(layout(100, 8)).unwrap().free();
    let mut ops = run_round(&seeds);
    let first = (balance(), arenite::stats());
    let mut most = first.0;
    let mut rounds = 1;
    while Instant::now() < end {
        ops += run_round(&seeds);
        rounds += 1;
        most = balance();
        // The C library's own heap, which the test uses, and metadata that follows its highest need.
        assert!(most <= first.0 + 24 * MIB, "{} KiB grew to {} KiB", first.0 / KIB, most / KIB);
    }
    let last = arenite::stats();
    assert!(last.metadata <= first.1.metadata + 2 * MIB, "{}\n{last}", first.1);
    println!(
        "{ops} ops in {rounds} rounds; {} KiB resident after the first, {} KiB after the last; {} MiB given back",
        first.0 / KIB,
        most / KIB,
        last.purged >> 20
    );
}
