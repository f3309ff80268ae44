//! The process's first allocation: by several threads in one instant, beside a fork, under a hail of signals. Each round is a
//! forked child in which the heap has not started; the test's own memory is the system's.
//!
//! Would catch a heap that is started twice, or used before it is whole; one that stays half started in the child of a fork,
//! which would wait for ever; and hooks around `fork` that are missing, or take a lock a second time.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod support;

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{array, hint, ptr};

use support::process::{self, alone, fork, in_bare_threads, in_time};
use support::{Block, GIB, KIB, MIB, layout};

const THREADS: usize = 4;

/// A small class of each kind, a middle one, a huge one.
const SIZES: [usize; 5] = [24, 700, 30 * KIB, 100 * KIB, 9 * MIB];

/// Where threads wait for each other, awake: they leave within a microsecond where there are processors for them.
struct Gate(AtomicUsize);

impl Gate {
    const fn new() -> Gate {
        Gate(AtomicUsize::new(0))
    }

    fn pass(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        while self.0.load(Ordering::SeqCst) < THREADS {
            // SAFETY: always allowed.
            unsafe { libc::sched_yield() };
        }
    }
}

/// A block on each route, from the `first` on, all of them held at once.
fn use_every_route(first: usize) {
    let blocks: [Block; SIZES.len()] = array::from_fn(|i| {
        let size = SIZES[(first + i) % SIZES.len()];
        let mut block = Block::alloc(layout(size, 8)).unwrap();
        block.fill((first * SIZES.len() + i) as u64);
        block
    });
    for block in blocks {
        let size = block.size();
        block.realloc(size + size / 2).unwrap().free();
    }
}

/// The heap is whole, and there is one of it.
fn check() {
    let stats = arenite::stats();
    assert_eq!((stats.in_use, stats.threads), (0, 0), "{stats}");
    assert!(stats.reserved < 2 * GIB, "more than one region: {stats}");
    let purgers = process::threads().iter().filter(|(name, _)| name == "arenite-purge").count();
    assert!(purgers <= 1, "{purgers} purgers");
}

/// In the child of a fork: all that the parent can do, and another fork.
fn use_the_child(seed: usize) -> i32 {
    use_every_route(seed);
    in_bare_threads(array::from_fn::<_, 2, _>(|i| move || use_every_route(seed + i)));
    fork(|| {
        use_every_route(seed);
        0
    })
    .wait()
}

/// Runs `round` in forked children of a process in which nothing has touched the heap.
fn in_new_processes(test: &str, rounds: usize, round: impl Fn(usize)) {
    alone(test, || {
        in_time(85, test, || {
            for i in 0..rounds {
                let child = fork(|| {
                    assert_eq!(arenite::stats().reserved, 0, "the heap has started before");
                    round(i);
                    0
                });
                assert_eq!(child.wait(), 0, "round {i}");
            }
        });
    });
}

#[test]
fn several_threads_at_once() {
    in_new_processes("several_threads_at_once", 300, |round| {
        let (start, end) = (Gate::new(), Gate::new());
        in_bare_threads(array::from_fn::<_, THREADS, _>(|i| {
            let (start, end) = (&start, &end);
            move || {
                start.pass();
                let mut first = Block::alloc(layout(SIZES[(round + i) % SIZES.len()], 8)).unwrap();
                first.fill(i as u64);
                // All hold their first one: two that overlap have other contents.
                end.pass();
                first.free();
                use_every_route(i);
            }
        }));
        check();
        assert_eq!(fork(|| use_the_child(round)).wait(), 0);
    });
}

/// The fork takes some hundred microseconds; the first allocation comes a microsecond later in each round.
#[test]
fn beside_a_fork() {
    in_new_processes("beside_a_fork", 400, |round| {
        let start = Gate::new();
        in_bare_threads(array::from_fn::<_, THREADS, _>(|i| {
            let start = &start;
            move || {
                start.pass();
                if i == 0 {
                    assert_eq!(fork(|| use_the_child(round)).wait(), 0);
                    return;
                }
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_micros(round as u64) {
                    hint::spin_loop();
                }
                use_every_route(i);
            }
        }));
        check();
        assert_eq!(fork(|| use_the_child(round)).wait(), 0);
    });
}

static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn interrupt(_signal: c_int) {
    INTERRUPTIONS.fetch_add(1, Ordering::Relaxed);
}

/// Blocks the signal for the calling thread, or lets it in.
fn mask(how: c_int) {
    // SAFETY: the set is filled before it is read.
    unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGUSR1);
        assert_eq!(libc::pthread_sigmask(how, &raw const signals, ptr::null_mut()), 0);
    }
}

/// One thread sends signals without a pause, which interrupt the others.
#[test]
fn under_signals() {
    in_new_processes("under_signals", 200, |round| {
        mask(libc::SIG_BLOCK);
        // SAFETY: a plain struct that the kernel copies; the handler is safe at any time.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = interrupt as *const () as usize;
            // Not `SA_RESTART`: calls are interrupted.
            assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()), 0);
        }
        let start = Gate::new();
        let (left, is_over) = (AtomicUsize::new(THREADS - 1), AtomicBool::new(false));
        in_bare_threads(array::from_fn::<_, THREADS, _>(|i| {
            let (start, left, is_over) = (&start, &left, &is_over);
            move || {
                if i == 0 {
                    start.pass();
                    while !is_over.load(Ordering::Relaxed) {
                        // SAFETY: to this process, which has a handler.
                        unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
                    }
                    return;
                }
                mask(libc::SIG_UNBLOCK);
                start.pass();
                while INTERRUPTIONS.load(Ordering::Relaxed) == 0 {
                    hint::spin_loop();
                }
                use_every_route(round + i);
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    is_over.store(true, Ordering::Relaxed);
                }
            }
        }));
        check();
        assert_eq!(fork(|| use_the_child(round)).wait(), 0);
    });
}
