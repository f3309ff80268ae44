//! A recorded program's allocations again: the same sizes in the same order on as many threads, a mark in the first and the
//! last byte of each block, and every page written.
//!
//! A thread that needs another thread's block waits until it is there, and no thread runs ahead of the others by more than
//! two parts of the recording. The operation that comes first in the recording never has to wait, so they all end.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error, realloc};
use std::hint::black_box;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread;

use measure::{Meter, Unit, Workload};
use trace::{Op, Place, Trace};

use crate::threads::Patience;

/// Names the trace.
const FILE_VARIABLE: &str = "ARENITE_BENCH_TRACE";

/// The driver shows one of these for each trace that it has, and neither without.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "replay",
        group: "traces",
        stresses: "a recorded program's allocations, on one thread",
        unit: Unit::CpuNs,
        quick: 1,
        full: 1,
        run: replay,
    },
    Workload {
        name: "replay-threads",
        group: "traces",
        stresses: "a recorded program's allocations, on as many threads as it had",
        unit: Unit::WallNs,
        quick: 1,
        full: 1,
        run: replay,
    },
];

/// A block that one thread holds.
#[derive(Clone, Copy)]
struct Held {
    start: *mut u8,
    size: u64,
    align_log2: u8,
}

const NOTHING: Held = Held { start: ptr::null_mut(), size: 0, align_log2: 0 };

/// A block on its way from one thread to another; null until it is there.
#[derive(Default)]
struct Shared {
    start: AtomicPtr<u8>,
    size: AtomicU64,
    align_log2: AtomicU32,
}

struct Replay<'a> {
    trace: &'a Trace,
    shared: Vec<Shared>,
    /// The part that each thread is in.
    parts: Vec<AtomicU32>,
}

fn replay(meter: &mut Meter, rounds: u64) -> u64 {
    let path = std::env::var_os(FILE_VARIABLE).expect("ARENITE_BENCH_TRACE names the trace");
    let trace = Trace::open(Path::new(&path)).unwrap_or_else(|error| panic!("{error:#}"));
    let threads = trace.header.threads.len();
    let mut sum = 0;
    for _ in 0..rounds {
        let mut shared = Vec::new();
        shared.resize_with(trace.header.shared as usize, Shared::default);
        let parts = (0..threads).map(|_| AtomicU32::new(0)).collect();
        let replay = Replay { trace: &trace, shared, parts };
        // What was not freed by the program is freed here, behind the clock.
        let (held, _) = meter.time(trace.header.ops, || {
            if threads == 1 {
                return vec![replay.thread(0)];
            }
            thread::scope(|scope| {
                let workers: Vec<_> = (0..threads)
                    .map(|number| {
                        scope.spawn({
                            let replay = &replay;
                            move || replay.thread(number)
                        })
                    })
                    .collect();
                workers.into_iter().map(|worker| worker.join().expect("panics abort")).collect()
            })
        });
        for (table, part) in held {
            sum += part;
            table.0.into_iter().filter(|held| !held.start.is_null()).for_each(free);
        }
    }
    sum
}

/// Moves to the thread that frees what is left.
struct Table(Vec<Held>);

// SAFETY: owns its blocks.
unsafe impl Send for Table {}

impl Replay<'_> {
    /// Does what the thread did. Returns what it still holds, and a sum of what it asked for.
    fn thread(&self, number: usize) -> (Table, u64) {
        let mut held = vec![NOTHING; self.trace.header.threads[number].places as usize];
        let mut stream = self.trace.stream(number);
        let mut sum = 0_u64;
        while let Some(op) = stream.next_op().unwrap_or_else(|error| panic!("{error:#}")) {
            match op {
                Op::Alloc { place, size, align_log2, zeroed } => {
                    let block = make(size, align_log2, zeroed);
                    self.put(&mut held, place, block);
                    sum = sum.wrapping_mul(31).wrapping_add(size);
                }
                Op::Free { place } => free(self.take(&mut held, place)),
                Op::Realloc { from, to, size } => {
                    let block = resize(self.take(&mut held, from), size);
                    self.put(&mut held, to, block);
                    sum = sum.wrapping_mul(31).wrapping_add(size);
                }
                Op::Part(part) => self.enter(number, part),
            }
        }
        self.parts[number].store(u32::MAX, Ordering::Release);
        (Table(held), sum)
    }

    #[inline]
    fn put(&self, held: &mut [Held], place: Place, block: Held) {
        match place {
            Place::Own(place) => held[place as usize] = block,
            Place::Shared(place) => {
                let shared = &self.shared[place as usize];
                shared.size.store(block.size, Ordering::Relaxed);
                shared.align_log2.store(block.align_log2.into(), Ordering::Relaxed);
                shared.start.store(block.start, Ordering::Release);
            }
        }
    }

    #[inline]
    fn take(&self, held: &mut [Held], place: Place) -> Held {
        match place {
            Place::Own(place) => std::mem::replace(&mut held[place as usize], NOTHING),
            Place::Shared(place) => {
                let shared = &self.shared[place as usize];
                let mut patience = Patience::default();
                while shared.start.load(Ordering::Acquire).is_null() {
                    patience.wait();
                }
                Held {
                    start: shared.start.load(Ordering::Relaxed),
                    size: shared.size.load(Ordering::Relaxed),
                    align_log2: shared.align_log2.load(Ordering::Relaxed) as u8,
                }
            }
        }
    }

    #[cold]
    fn enter(&self, number: usize, part: u32) {
        self.parts[number].store(part, Ordering::Release);
        let mut patience = Patience::default();
        while self.parts.iter().any(|other| other.load(Ordering::Acquire).saturating_add(1) < part) {
            patience.wait();
        }
    }
}

#[inline]
fn layout(block: Held) -> Layout {
    // SAFETY: from a layout, that of the recorded program.
    unsafe { Layout::from_size_align_unchecked(block.size as usize, 1 << block.align_log2) }
}

/// What a block of this size holds in its first and last byte.
#[inline]
fn mark(size: u64) -> u8 {
    (size as u8).wrapping_mul(167) | 1
}

#[inline]
fn make(size: u64, align_log2: u8, zeroed: bool) -> Held {
    let block = Held { start: ptr::null_mut(), size, align_log2 };
    let layout = layout(block);
    // SAFETY: a global allocator is never asked for nothing, so the recording has no such block.
    let start = unsafe { black_box(if zeroed { alloc_zeroed(layout) } else { alloc(layout) }) };
    if start.is_null() {
        handle_alloc_error(layout);
    }
    let last = size as usize - 1;
    // SAFETY: bytes of the block, cleared where they are read.
    if zeroed && unsafe { start.read() | start.add(last / 2).read() | start.add(last).read() } != 0 {
        broken(layout, "is not clear");
    }
    let block = Held { start, ..block };
    touch(block, 0);
    block
}

/// Marks the block, and writes every page of it from the given byte on.
#[inline]
fn touch(block: Held, from: usize) {
    let last = block.size as usize - 1;
    // SAFETY: bytes of the block.
    unsafe {
        for at in (from + 4096..last).step_by(4096) {
            block.start.add(at).write(1);
        }
        block.start.write(mark(block.size));
        block.start.add(last).write(mark(block.size));
    }
}

#[inline]
fn check(block: Held) {
    // SAFETY: bytes of the block, written when it was made.
    let (first, last) = unsafe { (block.start.read(), block.start.add(block.size as usize - 1).read()) };
    if first != mark(block.size) || last != mark(block.size) {
        broken(layout(block), "does not hold what was written to it");
    }
}

#[inline]
fn free(block: Held) {
    check(block);
    // SAFETY: the block is held by nobody else, and was made with this layout.
    unsafe { dealloc(block.start, layout(block)) };
}

#[inline]
fn resize(block: Held, size: u64) -> Held {
    check(block);
    // SAFETY: as for `free`; the size is not zero, or the program would have broken the rules.
    let start = unsafe { black_box(realloc(block.start, layout(block), size as usize)) };
    if start.is_null() {
        handle_alloc_error(layout(Held { size, ..block }));
    }
    let kept = block.size.min(size) as usize - 1;
    // SAFETY: bytes that were in the block before.
    let first = unsafe { start.read() };
    // SAFETY: as above.
    if first != mark(block.size) || block.size <= size && unsafe { start.add(kept).read() } != first {
        broken(layout(block), "was not copied");
    }
    let block = Held { start, size, ..block };
    touch(block, kept);
    block
}

#[cold]
fn broken(layout: Layout, what: &str) -> ! {
    eprintln!("a block of {layout:?} {what}");
    std::process::abort()
}
