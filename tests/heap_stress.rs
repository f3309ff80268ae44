//! Threads that run the op program on one world and hand blocks to each other, with everything else going on that may:
//! trims, statistics, threads that end and begin, forks. The shadow sees an overlap, a lost alignment, lost contents;
//! debug builds run the heap's own checks besides.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use support::process::{alone, fork, in_bare_thread, in_time};
use support::program::{Program, World, random_op};
use support::{Block, KIB, MIB, Random, layout};

#[global_allocator]
static GLOBAL: arenite::Arenite = arenite::Arenite::new();

const THREADS: u64 = 4;

/// Programs in threads that end after some ops, with new ones in their place, for `time`.
fn run_programs(world: &World, time: Duration, seed: u64) {
    let seeds = AtomicU64::new(seed);
    let end = Instant::now() + time;
    let mut ops = 0;
    while Instant::now() < end {
        ops += thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let seeds = &seeds;
                    scope.spawn(move || {
                        let seed = seeds.fetch_add(1, Relaxed);
                        let mut random = Random::new(seed);
                        let mut program = Program::new(world, seed);
                        let ops = random.between(10, 1500);
                        for _ in 0..ops {
                            program.run(random_op(&mut random));
                        }
                        program.check();
                        // Half of them leave their blocks to the others.
                        if random.one_in(2) {
                            program.finish();
                        } else {
                            program.hand_over_all();
                        }
                        ops
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
    }
    println!("{ops} ops from seed {seed}");
}

/// Forks now and then; the child uses all routes and starts a thread.
fn fork_now_and_then(stop: &AtomicBool) {
    let use_the_heap = || {
        for size in [10, 1000, 10 * KIB, 100 * KIB, MIB, 10 * MIB] {
            let mut block = Block::alloc_zeroed(layout(size, 8)).unwrap();
            block.fill(1);
            block.realloc(size * 2).unwrap().free();
        }
        arenite::trim();
    };
    while !stop.load(Relaxed) {
        let child = fork(|| {
            use_the_heap();
            in_bare_thread(use_the_heap);
            0
        });
        assert_eq!(child.wait(), 0);
        thread::sleep(Duration::from_millis(20));
    }
}

fn stress(variant: &str, time: Duration) {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    in_time(80, variant, || {
        let world = World::default();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| fork_now_and_then(&stop));
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let _ = arenite::stats();
                    arenite::trim();
                    thread::sleep(Duration::from_millis(3));
                }
            });
            run_programs(&world, time, seed);
            stop.store(true, Relaxed);
        });
        world.finish();
    });
}

#[test]
fn programs_in_threads() {
    alone("programs_in_threads", || stress("programs", Duration::from_secs(6)));
}

/// Rounds of the purger all the time.
#[test]
fn programs_beside_an_eager_purger() {
    const NAME: &str = "programs_beside_an_eager_purger";
    let set_up = |command: &mut std::process::Command| _ = command.env("ARENITE_PURGE_DELAY_MS", "2");
    let run = || stress(NAME, Duration::from_secs(6));
    support::process::in_child(NAME, set_up, run).assert_success();
}

/// Every free may run a round.
#[test]
fn programs_that_purge_while_they_free() {
    const NAME: &str = "programs_that_purge_while_they_free";
    let set_up = |command: &mut std::process::Command| {
        let variables =
            [("ARENITE_BACKGROUND_PURGER", "0"), ("ARENITE_PURGE_DELAY_MS", "1"), ("ARENITE_RETAIN", "0")];
        command.envs(variables);
    };
    let run = || stress(NAME, Duration::from_secs(5));
    support::process::in_child(NAME, set_up, run).assert_success();
}

/// One size, and nothing but exchanges: the depot, and the slab that purges beside the frees. Would catch a block that
/// two threads get.
#[test]
fn one_size_between_threads() {
    alone("one_size_between_threads", || {
        in_time(80, "exchanges", || {
            for size in [16, 256, 4096, 30 * KIB, 64 * KIB] {
                let pool = std::sync::Mutex::new(Vec::new());
                thread::scope(|scope| {
                    for seed in 0..4 {
                        let pool = &pool;
                        scope.spawn(move || {
                            let mut random = Random::new(seed);
                            for round in 0..200 {
                                let count = random.between(1, 100.min(4 * MIB / size));
                                let mut blocks: Vec<Block> = (0..count)
                                    .map(|_| {
                                        let mut block = Block::alloc(layout(size, 8)).unwrap();
                                        block.fill(seed * 1000 + round);
                                        block
                                    })
                                    .collect();
                                let others = {
                                    let mut pool = pool.lock().unwrap();
                                    std::mem::replace(&mut *pool, blocks.split_off(count / 2))
                                };
                                others.into_iter().for_each(Block::free);
                                blocks.into_iter().for_each(Block::free);
                                if random.one_in(50) {
                                    arenite::trim();
                                }
                            }
                        });
                    }
                });
                pool.into_inner().unwrap().into_iter().for_each(Block::free);
            }
        });
    });
}
