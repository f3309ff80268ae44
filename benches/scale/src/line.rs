//! Two threads that hand one word to and fro.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

#[repr(align(128))]
struct Line(AtomicU64);

/// Nanoseconds for one way: the fastest of some rounds, as another program may have a core in the others.
pub(crate) fn measure() -> f64 {
    (0..50).map(|_| round(20_000)).fold(f64::INFINITY, f64::min)
}

fn round(times: u64) -> f64 {
    let line = Line(AtomicU64::new(0));
    let begin = Instant::now();
    thread::scope(|scope| {
        for parity in 0..2 {
            let word = &line.0;
            scope.spawn(move || {
                for n in (parity..times).step_by(2) {
                    let mut patience = 0;
                    while word.load(Ordering::Acquire) != n {
                        patience += 1;
                        if patience > 10_000 {
                            thread::yield_now();
                        }
                    }
                    word.store(n + 1, Ordering::Release);
                }
            });
        }
    });
    begin.elapsed().as_nanos() as f64 / times as f64
}
