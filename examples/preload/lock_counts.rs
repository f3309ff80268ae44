//! With `--cfg arenite_lock_counts`: at the program's end, what each lock counted goes to the file that the variable
//! `ARENITE_LOCK_COUNTS` names, a line for each lock that was taken.

use std::fmt::Write as _;
use std::time::{Duration, Instant};
use std::{env, fs};

use arenite::heap;
use arenite::vm::lock_counts::{LockCounts, now, of_nothing};

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = write;

extern "C" fn write() {
    let Some(path) = env::var_os("ARENITE_LOCK_COUNTS") else { return };
    let per_ns = ticks_per_ns();
    let mut text = String::from("layer,size,taken,contended,held_ns\n");
    let mut line = |layer, size, counts: LockCounts| {
        let LockCounts { taken, contended, held } = counts;
        if taken > 0 {
            let held = held as f64 / per_ns;
            let _ = writeln!(text, "{layer},{size},{taken},{contended},{held:.0}");
        }
    };
    heap::lock_counts(&mut line);
    line("nothing", 0, of_nothing());
    if let Err(error) = fs::write(&path, text) {
        eprintln!("{}: {error}", path.display());
    }
}

fn ticks_per_ns() -> f64 {
    let (begin, ticks) = (Instant::now(), now());
    while begin.elapsed() < Duration::from_millis(10) {}
    (now() - ticks) as f64 / begin.elapsed().as_nanos() as f64
}
