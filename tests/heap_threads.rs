//! Threads: any frees any block; thousands come and go; blocks outlive their thread; the ends of threads.

mod support;

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use support::process::{alone, eventually, in_time, resident};
use support::{Block, KIB, MIB, Random, groups, layout};

#[global_allocator]
static GLOBAL: arenite::Arenite = arenite::Arenite::new();

fn some_blocks(random: &mut Random, count: usize) -> Vec<Block> {
    (0..count)
        .map(|_| {
            let size =
                if random.one_in(50) { random.log_between(32 * KIB, MIB) } else { random.between(1, 2000) };
            let mut block = Block::alloc(layout(size, 8)).unwrap();
            block.fill(random.next());
            block
        })
        .collect()
}

/// Would catch memory that is lost with a thread: its cache, or what it left in the depot.
#[test]
fn thousands_of_threads_leave_nothing() {
    alone("thousands_of_threads_leave_nothing", || {
        let batch = |seed: u64| {
            thread::scope(|scope| {
                for i in 0..8 {
                    scope.spawn(move || {
                        let mut random = Random::new(seed * 8 + i);
                        some_blocks(&mut random, 100).into_iter().for_each(Block::free);
                    });
                }
            });
        };
        (0..50).for_each(batch);
        // A scope ends a little before its threads do.
        let all_ended = || arenite::stats().threads <= 2;
        assert!(eventually(Duration::from_secs(5), all_ended));
        let (before, resident_before) = (arenite::stats(), resident());
        (50..450).for_each(batch);
        assert!(eventually(Duration::from_secs(5), all_ended));
        let after = arenite::stats();
        // The depots of each eight processors fill by themselves.
        assert!(after.metadata <= before.metadata + groups() * 256 * KIB, "{before}\n{after}");
        assert!(after.in_use <= before.in_use + 64 * KIB, "{before}\n{after}");
        // Shelves fill by and by: of each class up to 1 MiB, four blocks or one MiB.
        assert!(after.in_depot <= 32 * MIB, "{before}\n{after}");
        assert!(resident() < resident_before + 32 * MIB, "{before}\n{after}");
    });
}

/// Would catch blocks that die with their thread, and a free that depends on who allocated.
#[test]
fn blocks_outlive_their_threads() {
    in_time(80, "blocks", || {
        let blocks: Vec<Block> = (0..200)
            .flat_map(|seed| thread::spawn(move || some_blocks(&mut Random::new(seed), 60)).join().unwrap())
            .collect();
        blocks.iter().for_each(Block::check);
        // Freed by yet others.
        let (left, right) = {
            let mut left = blocks;
            let right = left.split_off(left.len() / 2);
            (left, right)
        };
        for part in [left, right] {
            thread::spawn(|| part.into_iter().for_each(Block::free)).join().unwrap();
        }
    });
}

/// Would catch a thread that keeps a block, and room for more, of each class that it has used once or twice.
#[test]
#[cfg_attr(feature = "hardened", ignore = "a hardened heap keeps freed blocks in quarantine")]
fn an_idle_thread_holds_little() {
    const THREADS: usize = 200;
    alone("an_idle_thread_holds_little", || {
        let (idle, over) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        thread::scope(|scope| {
            for seed in 0..THREADS {
                let (idle, over) = (&idle, &over);
                scope.spawn(move || {
                    let mut random = Random::new(seed as u64);
                    let blocks: [Block; 100] =
                        std::array::from_fn(|_| Block::alloc(layout(random.between(1, 500), 8)).unwrap());
                    blocks.into_iter().for_each(Block::free);
                    idle.wait();
                    over.wait();
                });
            }
            idle.wait();
            let stats = arenite::stats();
            over.wait();
            let held = (stats.in_caches + stats.metadata) / THREADS;
            assert!(held < 32 * KIB, "{held} bytes a thread\n{stats}");
        });
    });
}

/// Would catch a producer whose memory is never used again because others free it.
#[test]
fn a_producer_and_a_consumer_stay_small() {
    alone("a_producer_and_a_consumer_stay_small", || {
        let (send, receive) = mpsc::sync_channel::<Vec<Block>>(4);
        let consumer = thread::spawn(move || receive.into_iter().flatten().for_each(Block::free));
        let mut random = Random::new(2);
        let mut in_the_middle = 0;
        for round in 0..1500 {
            send.send(some_blocks(&mut random, 100)).unwrap();
            if round == 300 {
                in_the_middle = resident();
            }
        }
        drop(send);
        consumer.join().unwrap();
        // A thread that wanders leaves slabs that are only begun in each group.
        let most = in_the_middle + (12 + 4 * groups()) * MIB;
        assert!(resident() < most, "{} of {} KiB", resident() / KIB, most / KIB);
    });
}

/// Allocates when it drops, frees what it held, and looks at the contents.
struct Late(Vec<Block>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Block::free);
        let mut random = Random::new(1);
        some_blocks(&mut random, 300).into_iter().for_each(Block::free);
        DROPPED.fetch_add(1, Relaxed);
    }
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static FIRST: RefCell<Option<Late>> = const { RefCell::new(None) };
    static SECOND: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Would catch a cache that is gone before the thread's own destructors have run.
#[test]
fn thread_local_destructors_use_the_heap() {
    in_time(80, "threads", || {
        for seed in 0..100 {
            thread::spawn(move || {
                let mut random = Random::new(seed);
                // Before the thread's first use of the heap, or after it.
                if seed % 2 == 0 {
                    FIRST.set(Some(Late(Vec::new())));
                }
                let blocks = some_blocks(&mut random, 100);
                SECOND.set(Some(Late(blocks)));
            })
            .join()
            .unwrap();
        }
        assert_eq!(DROPPED.load(Relaxed), 150);
    });
}

static ROUNDS: AtomicUsize = AtomicUsize::new(0);

/// A destructor of a thread's pthread key, which the C library runs again as long as it sets the key again (four times
/// at the most): surely after the heap's own hook.
unsafe extern "C" fn at_exit(key: *mut c_void) {
    let mut random = Random::new(4);
    let mut blocks = some_blocks(&mut random, 200);
    blocks = blocks.into_iter().map(|block| block.realloc(5000).unwrap()).collect();
    let zeroed = Block::alloc_zeroed(layout(20 * KIB, 8)).unwrap();
    assert!(zeroed.is_zero());
    zeroed.free();
    blocks.into_iter().for_each(Block::free);
    Block::alloc(layout(9 * MIB, 8)).unwrap().free();
    let _ = arenite::stats();
    arenite::trim();
    ROUNDS.fetch_add(1, Relaxed);
    // SAFETY: the value is the key.
    unsafe { libc::pthread_setspecific(key.addr() as libc::pthread_key_t, key) };
}

/// Would catch a cache that is used after its thread's exit hook ran: what it holds then is lost, or it is enlisted
/// after the thread is gone.
#[test]
fn the_heap_works_after_the_exit_hook() {
    alone("the_heap_works_after_the_exit_hook", || {
        let mut key = 0;
        // SAFETY: the key is written by the call.
        assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(at_exit)) }, 0);
        let before = arenite::stats();
        for uses_heap_first in [true, false] {
            for _ in 0..20 {
                thread::spawn(move || {
                    if uses_heap_first {
                        Block::alloc(layout(100, 8)).unwrap().free();
                    }
                    let value = ptr::without_provenance_mut(key as usize);
                    // SAFETY: the key is valid.
                    assert_eq!(unsafe { libc::pthread_setspecific(key, value) }, 0);
                })
                .join()
                .unwrap();
            }
        }
        assert!(ROUNDS.load(Relaxed) >= 80, "{}", ROUNDS.load(Relaxed));
        arenite::trim();
        let after = arenite::stats();
        assert_eq!(after.threads, before.threads);
        assert!(after.in_use <= before.in_use + 16 * KIB, "{before}\n{after}");
        assert!(after.in_depot <= before.in_depot + 16 * KIB, "{before}\n{after}");
    });
}

/// Would catch a hook that counts on threads that end well: `exit` while others run.
#[test]
fn the_process_ends_while_threads_allocate() {
    for _ in 0..5 {
        alone("the_process_ends_while_threads_allocate", || {
            for seed in 0..4 {
                thread::spawn(move || {
                    let mut random = Random::new(seed);
                    loop {
                        some_blocks(&mut random, 100).into_iter().for_each(Block::free);
                    }
                });
            }
            thread::sleep(Duration::from_millis(20));
        });
    }
}
