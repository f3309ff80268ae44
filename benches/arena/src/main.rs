//! Arenite's arenas beside bumpalo, bump-scope, blink-alloc and stumpalo, in one run.
//!
//! `cargo run --release` prints one table a work: instructions by callgrind (the difference between two counts, so that
//! start and end fall out), times as medians of interleaved rounds, memory as the system counts it in a process of its
//! own. `valgrind` is needed for the instructions, and left out if it is not there.

mod peers;
mod work;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Instant;

use peers::{Arenite, ArenitePacked, Blink, BumpScope, Bumpalo, Peer, Stumpalo};

/// A loop over `count` units of work.
type Run = fn(u64);

/// One work: its name, the units of a timed round, whether instructions are counted, and who does it.
struct Work {
    name: &'static str,
    round: u64,
    unit: &'static str,
    instructions: bool,
    runs: Vec<(&'static str, Run)>,
}

macro_rules! of_all {
    ($work:ident) => {
        vec![
            (Arenite::NAME, work::$work::<Arenite> as Run),
            (ArenitePacked::NAME, work::$work::<ArenitePacked>),
            (Bumpalo::NAME, work::$work::<Bumpalo>),
            (BumpScope::NAME, work::$work::<BumpScope>),
            (Blink::NAME, work::$work::<Blink>),
            (Stumpalo::NAME, work::$work::<Stumpalo>),
        ]
    };
}

fn works() -> Vec<Work> {
    let mut numbers = of_all!(numbers);
    numbers.insert(1, ("arenite, cursor", work::numbers_by_cursor as Run));
    let work = |name, round, unit, instructions, runs| Work { name, round, unit, instructions, runs };
    vec![
        work("u32", 2_000_000, "ns", true, numbers),
        work("node of 40 bytes", 2_000_000, "ns", true, of_all!(nodes)),
        work("short text", 2_000_000, "ns", true, of_all!(texts)),
        work("10,007 exact growths", 40, "ns", false, of_all!(exact_growth)),
        work("request", 200_000, "ns", true, of_all!(requests)),
        work("1 GiB of fresh nodes", 1, "ns", false, of_all!(fresh)),
    ]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["run", work, who, count] => find(work, who)(count.parse().expect("a count")),
        ["fresh", who] => report_fresh(find("1 GiB of fresh nodes", who)),
        ["spike", who] => spike(who),
        _ => panic!("usage: arenite-arena-bench"),
    }
}

fn find(name: &str, who: &str) -> Run {
    let work = works().into_iter().find(|work| work.name == name).expect("a work");
    work.runs.into_iter().find(|run| run.0 == who).expect("an arena").1
}

fn compare() {
    for work in works() {
        let fresh = work.name.starts_with("1 GiB");
        println!("\n## {}\n", work.name);
        println!("| arena | instructions | median time | memory |\n|---|---|---|---|");
        let times = if fresh { vec![String::new(); work.runs.len()] } else { medians(&work) };
        for ((who, _), time) in work.runs.iter().zip(times) {
            let count = if work.instructions { instructions(&work, who) } else { None };
            let count = count.map_or("-".to_owned(), |count| format!("{count:.1}"));
            let (time, memory) = if fresh { fresh_medians(who) } else { (time, "-".to_owned()) };
            println!("| {who} | {count} | {time} | {memory} |");
        }
    }
    println!("\n## after 1 GiB and a reset\n\n| arena | resident |\n|---|---|");
    for who in [Arenite::NAME, Bumpalo::NAME, BumpScope::NAME, Blink::NAME, Stumpalo::NAME] {
        println!("| {who} | {} |", own_process(&["spike", who]).trim());
    }
}

/// The median time of a unit for each, rounds interleaved.
fn medians(work: &Work) -> Vec<String> {
    const ROUNDS: usize = 31;
    let mut times = vec![Vec::with_capacity(ROUNDS); work.runs.len()];
    for _ in 0..ROUNDS {
        for (times, (_, run)) in times.iter_mut().zip(&work.runs) {
            let start = Instant::now();
            run(work.round);
            times.push(start.elapsed().as_secs_f64() * 1e9 / work.round as f64);
        }
    }
    times.iter_mut().map(|times| format!("{:.2} {}", median(times), work.unit)).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Instructions of one unit, under callgrind.
fn instructions(work: &Work, who: &str) -> Option<f64> {
    let folder = std::env::temp_dir();
    let units = if work.name == "request" { 5_000 } else { 50_000 };
    let count = |units: u64| -> Option<f64> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .current_dir(&folder)
            .arg(std::env::current_exe().ok()?)
            .args(["run", work.name, who, &units.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find(|line| line.contains("Collected"))?.rsplit(' ').next()?.parse().ok()
    };
    Some((count(units * 2)? - count(units)?) / units as f64)
}

/// A gigabyte in a process of its own, seven times: the medians of time and of peak memory beyond the payload.
fn fresh_medians(who: &str) -> (String, String) {
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let line = own_process(&["fresh", who]);
        let mut numbers = line.split_whitespace().map(|number| number.parse::<f64>().expect("a number"));
        times.push(numbers.next().expect("the time"));
        peaks.push(numbers.next().expect("the peak"));
    }
    (format!("{:.3} s", median(&mut times)), format!("peak +{:.1} MiB", median(&mut peaks)))
}

fn report_fresh(run: Run) {
    let before = status("VmRSS");
    let start = Instant::now();
    run(1);
    let time = start.elapsed().as_secs_f64();
    println!("{time} {}", (status("VmHWM") - before - work::FRESH as f64) / f64::from(1 << 20));
}

fn spike(who: &str) {
    fn run<P: Peer>() -> f64 {
        let before = status("VmRSS");
        let mut arena = P::new();
        for n in 0..(1_u64 << 27) {
            std::hint::black_box(arena.node(work::Node::of(n)));
            if n * 40 > 1 << 30 {
                break;
            }
        }
        arena.reset();
        status("VmRSS") - before
    }
    let bytes = match who {
        Bumpalo::NAME => run::<Bumpalo>(),
        BumpScope::NAME => run::<BumpScope>(),
        Blink::NAME => run::<Blink>(),
        Stumpalo::NAME => run::<Stumpalo>(),
        _ => run::<Arenite>(),
    };
    println!("{:.1} MiB", bytes / f64::from(1 << 20));
}

fn own_process(arguments: &[&str]) -> String {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(arguments).output().expect("this program runs");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let _ = write!(text, "failed: {}", output.status);
    }
    text
}

/// A line of `/proc/self/status`, in bytes.
fn status(field: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).expect("a number") * 1024.0
}
