//! What a workload costs, measured from inside of its own process without allocating, and the line of JSON that says so.
//! Workloads, and how they are run.

mod process;
mod workload;

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use process::{mappings, peak_rss, rss};
pub use workload::{Workload, run, run_with};

/// What a worker prints.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    pub workload: String,
    /// What the row is compared by; the smaller the better.
    pub score: f64,
    pub unit: Unit,
    /// Timed work only, without warm-up and preparation.
    pub wall_ns: u64,
    pub cpu_ns: u64,
    pub ops: u64,
    /// Of the whole process.
    pub peak_rss: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// Lines of `/proc/self/maps`, the most that the workload has seen.
    pub mappings: u64,
    /// Equal for every allocator, or one of them is broken.
    pub checksum: u64,
    /// Curves: a name, and points in their order.
    pub series: BTreeMap<String, Vec<(f64, f64)>>,
}

/// What a score counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Processor time an operation: what one thread does, whoever else has the machine.
    CpuNs,
    /// Wall time an operation.
    WallNs,
    /// Instructions an operation.
    Instructions,
    /// Resident bytes for each live byte.
    RssPerLive,
    /// Resident bytes.
    Bytes,
}

/// What `--list` prints of each workload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Description {
    pub name: String,
    pub group: String,
    /// What it stresses, in one line.
    pub stresses: String,
    /// More than one thread allocates.
    pub threaded: bool,
    /// It mostly sleeps: many may run at once.
    pub idle: bool,
    /// Instructions are, and not time: to be run under callgrind.
    pub is_counted: bool,
    /// Who takes part; all if it is empty.
    pub only: Vec<String>,
}

/// Gathers what a workload reports.
#[derive(Debug)]
pub struct Meter {
    wall_ns: u64,
    cpu_ns: u64,
    ops: u64,
    mappings: u64,
    score: Option<f64>,
    series: BTreeMap<String, Vec<(f64, f64)>>,
    threads: usize,
}

impl Meter {
    pub fn new(threads: usize) -> Meter {
        Meter { wall_ns: 0, cpu_ns: 0, ops: 0, mappings: 0, score: None, series: BTreeMap::new(), threads }
    }

    /// How many threads a workload shall use that has no number of its own.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Times `work`, which does `ops` operations. Several calls add up. Returns nanoseconds an operation too, of
    /// processor time.
    pub fn time<R>(&mut self, ops: u64, work: impl FnOnce() -> R) -> (R, f64) {
        let cpu = process::cpu_ns();
        let wall = Instant::now();
        let result = work();
        self.wall_ns += wall.elapsed().as_nanos() as u64;
        let spent = process::cpu_ns() - cpu;
        self.cpu_ns += spent;
        self.ops += ops;
        (result, spent as f64 / ops as f64)
    }

    /// Runs a tenth of `body` untimed to warm up, then all of it timed.
    pub fn warmed(&mut self, ops: u64, mut body: impl FnMut(u64) -> u64) -> u64 {
        std::hint::black_box(body((ops / 10).max(1)));
        self.time(ops, || body(ops)).0
    }

    /// Overrules the score, which else is the time for an operation.
    pub fn score(&mut self, score: f64) {
        self.score = Some(score);
    }

    pub fn point(&mut self, series: &str, x: f64, y: f64) {
        self.series.entry(series.to_owned()).or_default().push((x, y));
    }

    /// To be called where the process holds most.
    pub fn see_mappings(&mut self) {
        self.mappings = self.mappings.max(mappings());
    }

    pub fn finish(mut self, workload: &str, unit: Unit, checksum: u64) -> Record {
        self.see_mappings();
        let faults = process::faults();
        let per_op = |ns: u64| ns as f64 / self.ops.max(1) as f64;
        let score = self.score.unwrap_or(match unit {
            Unit::CpuNs => per_op(self.cpu_ns),
            _ => per_op(self.wall_ns),
        });
        Record {
            workload: workload.to_owned(),
            score,
            unit,
            wall_ns: self.wall_ns,
            cpu_ns: self.cpu_ns,
            ops: self.ops,
            peak_rss: peak_rss(),
            minor_faults: faults.0,
            major_faults: faults.1,
            mappings: self.mappings,
            checksum,
            series: self.series,
        }
    }
}

/// The geometric mean.
pub fn geomean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value.ln();
        count += 1;
    }
    (sum / f64::from(count.max(1))).exp()
}
