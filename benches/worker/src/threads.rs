//! Several threads: blocks that stay, blocks that wander, threads that come and go.

use std::hint::{black_box, spin_loop};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Barrier, Mutex};
use std::thread;

use measure::{Meter, Unit, Workload};

use crate::block::Block;
use crate::micro::sizes;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "private-churn",
        group: "threads",
        stresses: "each thread replaces random blocks of its own: does anything shared get in the way?",
        unit: Unit::WallNs,
        quick: 4_000_000,
        full: 8_000_000,
        run: private_churn,
    },
    Workload {
        name: "producer-consumer",
        group: "threads",
        stresses: "one thread makes boxes of 64 bytes, the other drops them, through a ring of 1,024",
        unit: Unit::WallNs,
        quick: 1_000_000,
        full: 3_000_000,
        run: producer_consumer,
    },
    Workload {
        name: "one-allocates",
        group: "threads",
        stresses: "one thread makes lists of 100 blocks for ever, two others free them",
        unit: Unit::WallNs,
        quick: 500_000,
        full: 1_000_000,
        run: one_allocates,
    },
    Workload {
        name: "one-frees",
        group: "threads",
        stresses: "three threads make lists of 100 blocks, one frees them, and has never allocated",
        unit: Unit::WallNs,
        quick: 1_000_000,
        full: 3_000_000,
        run: one_frees,
    },
    Workload {
        name: "server",
        group: "threads",
        stresses: "eight threads, 20,000 shared slots, blocks of 16 to 2048 bytes: each is freed by whoever replaces it",
        unit: Unit::WallNs,
        quick: 1_000_000,
        full: 3_000_000,
        run: server,
    },
    Workload {
        name: "generations",
        group: "threads",
        stresses: "a thread inherits 1,000 blocks, replaces each five times, hands them to its successor and ends",
        unit: Unit::WallNs,
        quick: 1_000_000,
        full: 4_000_000,
        run: generations,
    },
    Workload {
        name: "false-sharing-active",
        group: "threads",
        stresses: "each thread writes 500 times to a small block that it has just made: do two share a cache line?",
        unit: Unit::WallNs,
        quick: 200_000,
        full: 500_000,
        run: |meter, ops| false_sharing(meter, ops, false),
    },
    Workload {
        name: "false-sharing-passive",
        group: "threads",
        stresses: "the same after each thread has freed a block that the first thread made beside the others'",
        unit: Unit::WallNs,
        quick: 200_000,
        full: 500_000,
        run: |meter, ops| false_sharing(meter, ops, true),
    },
    Workload {
        name: "thread-start-exit",
        group: "threads",
        stresses: "threads that start, make and free 100 blocks, and end",
        unit: Unit::WallNs,
        quick: 1_000,
        full: 3_000,
        run: thread_start_exit,
    },
    Workload {
        name: "thousand-threads",
        group: "threads",
        stresses: "1,000 threads at once, each with 100 blocks, replaced 100 times: time, and memory per thread",
        unit: Unit::WallNs,
        quick: 2_500_000,
        full: 5_000_000,
        run: thousand_threads,
    },
];

/// Runs `work` on so many threads, each with its number, and adds up what they return.
fn on_threads(count: usize, work: impl Fn(usize) -> u64 + Sync) -> u64 {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn({
                    let work = &work;
                    move || work(number)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("panics abort")).fold(0, u64::wrapping_add)
    })
}

fn private_churn(meter: &mut Meter, ops: u64) -> u64 {
    const LIVE: usize = 5_000;
    let sizes = sizes(4096, 16, 1024, 31);
    let threads = meter.threads();
    meter.warmed(ops, |ops| {
        on_threads(threads, |number| {
            let mut random = fastrand::Rng::with_seed(32 + number as u64);
            let mut blocks: Vec<Block> = (0..LIVE).map(|n| Block::new(sizes[n % 4096], n as u64)).collect();
            let mut sum = 0;
            for n in 0..ops / threads as u64 {
                let slot = &mut blocks[random.usize(0..LIVE)];
                sum += std::mem::replace(slot, Block::new(sizes[n as usize % 4096], n)).take() & 0xff;
            }
            sum
        })
    })
}

fn producer_consumer(meter: &mut Meter, ops: u64) -> u64 {
    type Message = [u64; 8];
    let ring: Vec<AtomicPtr<Message>> = (0..1024).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
    meter.warmed(ops, |ops| {
        on_threads(2, |number| {
            let mut sum = 0_u64;
            for n in 0..ops {
                let slot = &ring[n as usize % ring.len()];
                let mut patience = Patience::default();
                if number == 0 {
                    let message = Box::into_raw(Box::new([n; 8]));
                    while !slot.load(Ordering::Acquire).is_null() {
                        patience.wait();
                    }
                    slot.store(message, Ordering::Release);
                } else {
                    let message = loop {
                        let message = slot.load(Ordering::Acquire);
                        if !message.is_null() {
                            break message;
                        }
                        patience.wait();
                    };
                    slot.store(ptr::null_mut(), Ordering::Release);
                    // SAFETY: the producer's box, which it gave away.
                    let message = unsafe { Box::from_raw(message) };
                    assert!(message[0] == n && message[7] == n, "a message was overwritten");
                    sum += message[3];
                }
            }
            sum
        })
    })
}

/// Spins for a moment, then lets others run.
#[derive(Default)]
pub(crate) struct Patience(u32);

impl Patience {
    pub(crate) fn wait(&mut self) {
        self.0 += 1;
        if self.0 < 200 {
            spin_loop();
        } else {
            thread::yield_now();
        }
    }
}

const LIST: u64 = 100;

fn list(sizes: &[usize], at: u64) -> Vec<Block> {
    (at..at + LIST).map(|n| Block::new(sizes[n as usize % sizes.len()], n)).collect()
}

fn free_all(lists: &Mutex<Receiver<Vec<Block>>>) -> u64 {
    let mut sum = 0;
    loop {
        // The lock is let go before the blocks are freed.
        let next = lists.lock().expect("panics abort").recv();
        let Ok(list) = next else { return sum };
        sum += list.into_iter().map(|block| block.take() & 0xff).sum::<u64>();
    }
}

fn one_allocates(meter: &mut Meter, ops: u64) -> u64 {
    let sizes = sizes(4096, 16, 1024, 33);
    meter.warmed(ops, |ops| {
        let (sender, receiver) = sync_channel(64);
        let receiver = Mutex::new(receiver);
        thread::scope(|scope| {
            let freeing: Vec<_> = (0..2).map(|_| scope.spawn(|| free_all(&receiver))).collect();
            for n in 0..ops / LIST {
                sender.send(list(&sizes, n * LIST)).expect("somebody receives");
            }
            drop(sender);
            freeing.into_iter().map(|thread| thread.join().expect("panics abort")).sum()
        })
    })
}

fn one_frees(meter: &mut Meter, ops: u64) -> u64 {
    let sizes = sizes(4096, 16, 1024, 34);
    meter.warmed(ops, |ops| {
        let (sender, receiver) = sync_channel(64);
        let receiver = Mutex::new(receiver);
        thread::scope(|scope| {
            let freeing = scope.spawn(|| free_all(&receiver));
            for number in 0..3 {
                let (sender, sizes) = (sender.clone(), &sizes);
                scope.spawn(move || {
                    for n in 0..ops / LIST / 3 {
                        sender.send(list(sizes, (3 * n + number) * LIST)).expect("somebody receives");
                    }
                });
            }
            drop(sender);
            freeing.join().expect("panics abort")
        })
    })
}

fn server(meter: &mut Meter, ops: u64) -> u64 {
    const THREADS: usize = 8;
    const SLOTS: usize = 20_000;
    let sizes = sizes(4096, 16, 2048, 35);
    let slots: Vec<AtomicPtr<u8>> = (0..SLOTS).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
    let freed = |block: *mut u8| {
        // SAFETY: whoever takes a block out of a slot is the only one who has it.
        if block.is_null() { 0 } else { unsafe { Block::from_raw(block) }.take() & 0xff }
    };
    // Which block meets which thread is chance, but all are freed in the end: the sum is not.
    let total = AtomicU64::new(0);
    meter.warmed(ops, |ops| {
        let sum = on_threads(THREADS, |number| {
            let mut random = fastrand::Rng::with_seed(36 + number as u64);
            let mut sum = 0;
            for n in 0..ops / THREADS as u64 {
                let block = Block::new(sizes[n as usize % sizes.len()], n).into_raw();
                let slot = &slots[random.usize(0..SLOTS)];
                sum += freed(slot.swap(block, Ordering::AcqRel));
            }
            sum
        });
        total.fetch_add(sum, Ordering::Relaxed);
        0
    });
    let rest: u64 = slots.iter().map(|slot| freed(slot.swap(ptr::null_mut(), Ordering::AcqRel))).sum();
    total.into_inner() + rest
}

fn generations(meter: &mut Meter, ops: u64) -> u64 {
    const LIVE: usize = 1000;
    let sizes = sizes(4096, 16, 1024, 37);
    let threads = meter.threads();
    let generations = |ops: u64| (ops / (5 * LIVE * threads) as u64).max(1);
    meter.warmed(ops, |ops| {
        on_threads(threads, |number| {
            let mut sum = 0;
            let mut blocks: Vec<Block> = (0..LIVE).map(|n| Block::new(sizes[n], n as u64)).collect();
            for generation in 0..generations(ops) {
                let mut inherited = std::mem::take(&mut blocks);
                let sizes = &sizes;
                let work = move || {
                    let mut random = fastrand::Rng::with_seed(38 + number as u64 + generation);
                    let mut sum = 0;
                    for n in 0..5 * LIVE {
                        let slot = &mut inherited[random.usize(0..LIVE)];
                        let new = Block::new(sizes[(n + generation as usize) % sizes.len()], n as u64);
                        sum += std::mem::replace(slot, new).take() & 0xff;
                    }
                    (inherited, sum)
                };
                let (left, part) = thread::scope(|scope| scope.spawn(work).join().expect("panics abort"));
                blocks = left;
                sum += part;
            }
            sum
        })
    })
}

fn false_sharing(meter: &mut Meter, ops: u64, passive: bool) -> u64 {
    const WRITES: u64 = 500;
    let threads = meter.threads();
    meter.warmed(ops, |ops| {
        let given: Vec<AtomicPtr<u64>> =
            (0..threads).map(|n| AtomicPtr::new(Box::into_raw(Box::new(n as u64)))).collect();
        let ready = Barrier::new(threads);
        on_threads(threads, |number| {
            let first = given[number].swap(ptr::null_mut(), Ordering::AcqRel);
            // SAFETY: the box that was made for this thread.
            let first = unsafe { Box::from_raw(first) };
            let keep = if passive {
                assert_eq!(*first, number as u64);
                None
            } else {
                Some(first)
            };
            ready.wait();
            let mut sum = 0;
            for n in 0..ops / threads as u64 {
                let mut small = Box::new(n);
                for _ in 0..WRITES {
                    *black_box(&mut *small) += 1;
                }
                sum += *small;
            }
            drop(keep);
            sum
        })
    })
}

fn thread_start_exit(meter: &mut Meter, ops: u64) -> u64 {
    let sizes = sizes(4096, 16, 1024, 39);
    let threads = meter.threads();
    meter.warmed(ops, |ops| {
        on_threads(threads, |_| {
            let mut sum = 0;
            for n in 0..ops / threads as u64 {
                let short = || list(&sizes, n).into_iter().map(|block| block.take() & 0xff).sum::<u64>();
                sum += thread::scope(|scope| scope.spawn(short).join().expect("panics abort"));
            }
            sum
        })
    })
}

fn thousand_threads(meter: &mut Meter, ops: u64) -> u64 {
    const THREADS: usize = 1000;
    const LIVE: usize = 100;
    let sizes = sizes(4096, 16, 1024, 40);
    let all_live = Barrier::new(THREADS + 1);
    let all_seen = Barrier::new(THREADS + 1);
    let rounds = ops / THREADS as u64;
    let mut seen = 0.0;
    let before = measure::rss();
    let work = |number: usize| {
        let mut random = fastrand::Rng::with_seed(number as u64);
        let mut blocks: Vec<Block> = (0..LIVE).map(|n| Block::new(sizes[n + number], n as u64)).collect();
        let mut sum = 0;
        for n in 0..rounds as usize {
            let slot = &mut blocks[random.usize(0..LIVE)];
            let new = Block::new(sizes[(n + number) % sizes.len()], n as u64);
            sum += std::mem::replace(slot, new).take() & 0xff;
        }
        all_live.wait();
        all_seen.wait();
        sum
    };
    let (sum, _) = meter.time(ops, || {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS)
                .map(|number| {
                    let builder = thread::Builder::new().stack_size(64 << 10);
                    let work = &work;
                    builder.spawn_scoped(scope, move || work(number)).expect("a thousand threads")
                })
                .collect();
            all_live.wait();
            seen = (measure::rss() - before) as f64 / THREADS as f64;
            all_seen.wait();
            workers.into_iter().map(|worker| worker.join().expect("panics abort")).sum::<u64>()
        })
    });
    meter.point("resident bytes a thread", THREADS as f64, seen);
    sum
}
