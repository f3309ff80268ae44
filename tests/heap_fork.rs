//! `fork` in a program with threads: the child allocates and frees at once, starts threads, and exits cleanly.

mod support;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use support::process::{self, fork, in_time};
use support::program::{Program, SLOTS, World, random_op};
use support::{Block, HEAP, KIB, MIB, Random, layout};

#[global_allocator]
static GLOBAL: arenite::Arenite = arenite::Arenite::new();

/// Allocates and frees on all routes, in this thread and in another.
fn use_the_heap(seed: u64) {
    let world = World::default();
    let mut program = Program::new(&world, seed);
    let mut random = Random::new(seed);
    for _ in 0..60 {
        program.run(random_op(&mut random));
    }
    program.check();
    program.finish();
    world.finish();
}

/// Forks again and again while `others` run in other threads; each child must use the heap and exit.
fn fork_while(others: &[&(dyn Fn(u64) + Sync)], forks: u64) {
    let stop = AtomicBool::new(false);
    // A block that is there before the fork belongs to the child too.
    let mut inherited = Block::alloc(layout(5000, 16)).unwrap();
    inherited.fill(77);
    thread::scope(|scope| {
        for (i, other) in others.iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || {
                for round in 0.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    other(round * 10 + i as u64);
                }
            });
        }
        for i in 0..forks {
            let child = fork(|| {
                inherited.check();
                use_the_heap(i);
                process::in_bare_thread(|| use_the_heap(i + 1));
                0
            });
            assert_eq!(child.wait(), 0);
        }
        stop.store(true, Relaxed);
    });
    inherited.free();
}

/// Would catch a lock that is not held across the fork (the child hangs, or finds a list half changed), or not given
/// back on either side.
#[test]
fn children_of_a_busy_program_live() {
    in_time(80, "forks", || fork_while(&[&use_the_heap, &use_the_heap, &|_| _ = arenite::trim()], 30));
}

/// Would catch locks that `stats` takes in another order than `fork`.
#[test]
fn forks_beside_statistics() {
    let stats = |_| {
        let _ = arenite::stats();
    };
    in_time(80, "forks", || fork_while(&[&stats, &stats, &use_the_heap], 60));
}

/// Would catch a list of threads that is changed during a fork, and thread-exit hooks that forget a lock.
#[test]
fn forks_while_threads_come_and_go() {
    let spawn = |seed| {
        let block = thread::spawn(move || Block::alloc(layout(64 + seed as usize % 1000, 8)).unwrap());
        block.join().unwrap().free();
    };
    in_time(80, "forks", || fork_while(&[&spawn, &spawn], 40));
}

/// Would catch a child whose purger sleeps on what the parent had freed before the fork.
#[test]
fn a_child_gives_back_what_its_parent_freed() {
    process::alone("a_child_gives_back_what_its_parent_freed", || {
        let touched = |size: usize| {
            let block = Block::alloc(layout(size, 8)).unwrap();
            block.bytes().fill(1);
            block
        };
        (0..100).map(|_| touched(MIB)).collect::<Vec<_>>().into_iter().for_each(Block::free);
        let child = fork(|| {
            // Growth starts the child's purger; nothing is freed after it.
            let _kept: Vec<Block> = (0..40).map(|_| touched(300 * KIB)).collect();
            let is_given_back = || process::resident() < 40 * MIB;
            if process::eventually(Duration::from_secs(10), is_given_back) { 0 } else { 4 }
        });
        assert_eq!(child.wait(), 0);
    });
}

/// Would catch a child that counts on the parent's purger thread.
#[test]
fn a_child_has_a_purger_of_its_own() {
    process::alone("a_child_has_a_purger_of_its_own", || {
        let burst = || {
            let blocks: Vec<Block> = (0..64)
                .map(|seed| {
                    let block = Block::alloc(layout(MIB, 8)).unwrap();
                    block.bytes().fill(seed);
                    block
                })
                .collect();
            blocks.into_iter().for_each(Block::free);
        };
        burst();
        assert!(process::eventually(Duration::from_secs(5), || process::purger().is_some()));
        let child = fork(|| {
            burst();
            if !process::eventually(Duration::from_secs(5), || process::purger().is_some()) {
                return 3;
            }
            let is_given_back = || process::resident() < 20 * MIB;
            if process::eventually(Duration::from_secs(10), is_given_back) { 0 } else { 4 }
        });
        assert_eq!(child.wait(), 0);
    });
}

/// Would catch a child of a child, and a thread that forks which is not the main one and has never allocated.
#[test]
fn generations_of_forks() {
    let generation = |seed| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let child = fork(|| {
                    use_the_heap(seed);
                    let grandchild = fork(|| {
                        use_the_heap(seed + 1);
                        0
                    });
                    grandchild.wait()
                });
                assert_eq!(child.wait(), 0);
            });
        });
    };
    in_time(80, "forks", || (0..10).for_each(generation));
}

/// Memory of the parent's that the child frees, and a heap that the child trims, stay with the parent.
#[test]
fn the_child_changes_nothing_in_the_parent() {
    let mut random = Random::new(5);
    let mut blocks: Vec<Block> =
        (0..SLOTS).map(|_| Block::alloc(layout(random.log_between(1, 9 * MIB), 8)).unwrap()).collect();
    for (seed, block) in blocks.iter_mut().enumerate() {
        block.fill(seed as u64);
    }
    let child = fork(|| {
        for block in blocks.iter().map(|block| (block.address(), block.layout())) {
            // SAFETY: in this process nothing else frees it; the parent has its own copy.
            unsafe { std::alloc::GlobalAlloc::dealloc(&HEAP, block.0.as_ptr(), block.1) };
        }
        arenite::trim();
        use_the_heap(3);
        0
    });
    assert_eq!(child.wait(), 0);
    use_the_heap(4);
    blocks.into_iter().for_each(Block::free);
}

/// Would catch a fork that waits for the purger for longer than a round can take.
#[test]
fn fork_is_quick_beside_a_trim() {
    let blocks: Vec<Block> = (0..2000).map(|_| Block::alloc(layout(64 * KIB, 8)).unwrap()).collect();
    blocks.iter().for_each(|block| block.bytes().fill(1));
    blocks.into_iter().for_each(Block::free);
    thread::scope(|scope| {
        scope.spawn(arenite::trim);
        let start = Instant::now();
        assert_eq!(fork(|| 0).wait(), 0);
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}
