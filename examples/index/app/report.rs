//! What the program says: answers and figures on standard output, what was skipped on standard error.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount};

use super::memory::Resident;
use super::query::Answer;
use super::sources::Skipped;
use super::text_index::Totals;

/// More than these are named with `--verbose` only.
const MAX_NAMED: usize = 20;

/// What each step took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Finding the files.
    pub(crate) walk: Duration,
    /// Reading and indexing them.
    pub(crate) build: Duration,
    pub(crate) queries: Duration,
    /// Dropping the index.
    pub(crate) drop: Duration,
    pub(crate) trim: Duration,
}

/// Resident bytes at four moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    before_bytes: u64,
    peak_bytes: u64,
    dropped_bytes: u64,
    trimmed_bytes: u64,
}

impl Memory {
    /// `None` if one of the moments is not known.
    pub(crate) fn new(
        before: Option<Resident>,
        dropped: Option<Resident>,
        trimmed: Option<Resident>,
    ) -> Option<Memory> {
        let [before, dropped, trimmed] = [before?, dropped?, trimmed?];
        Some(Memory {
            before_bytes: before.now_bytes,
            // The kernel counts by processor and adds up late: its peak may lie some pages under a moment seen here.
            peak_bytes: trimmed
                .peak_bytes
                .max(dropped.peak_bytes)
                .max(dropped.now_bytes)
                .max(before.now_bytes),
            dropped_bytes: dropped.now_bytes,
            trimmed_bytes: trimmed.now_bytes,
        })
    }

    /// What came to the process since indexing began.
    fn growth(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.before_bytes)
    }

    /// `bytes`, its growth, and how much of the peak's growth that is.
    fn against_peak(&self, bytes: u64) -> String {
        let growth = self.growth(bytes);
        let share = 100.0 * growth as f64 / self.growth(self.peak_bytes).max(1) as f64;
        format!("{}  growth {}, {share:.1} % of the peak's", mib(bytes), mib(growth).trim_start())
    }
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) allocator: &'static str,
    pub(crate) threads: usize,
    pub(crate) totals: Totals,
    pub(crate) skipped: usize,
    pub(crate) digest: u64,
    pub(crate) times: Times,
    pub(crate) table: Option<String>,
    pub(crate) memory: Option<Memory>,
    /// By `trim()`, in bytes, where it says.
    pub(crate) given_back: Option<usize>,
}

/// A line on standard error. It may be closed: then nobody wants to know.
pub(crate) fn complain(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Names what was skipped: always what the caller asked for, of the rest the first few.
pub(crate) fn skipped(skipped: &[Skipped], asked_for: &[PathBuf], verbose: bool) {
    let (asked, rest): (Vec<_>, Vec<_>) =
        skipped.iter().partition(|skipped| asked_for.contains(&skipped.path));
    let named = if verbose { rest.len() } else { rest.len().min(MAX_NAMED) };
    for Skipped { path, reason } in asked.into_iter().chain(rest[..named].iter().copied()) {
        complain(&format!("index: skipped {}: {reason}", printable(&path.display().to_string())));
    }
    if named < rest.len() {
        complain(&format!("index: skipped {} more (--verbose names them)", rest.len() - named));
    }
}

pub(crate) fn answers(out: &mut impl Write, answers: &[Answer], max_lines: usize) -> io::Result<()> {
    for answer in answers {
        let lines = answer.lines.len();
        let [places, on, of] = [answer.places, lines, answer.files].map(|count| HumanCount(count as u64));
        writeln!(out, "{}: {places} places on {on} lines of {of} files", answer.query)?;
        for line in answer.lines.iter().take(max_lines) {
            writeln!(out, "  {}:{}: {}", printable(&line.path), line.number, line.excerpt)?;
        }
        if 0 < max_lines && max_lines < lines {
            writeln!(out, "  and {} more lines", HumanCount((lines - max_lines) as u64))?;
        }
    }
    writeln!(out)
}

pub(crate) fn figures(out: &mut impl Write, figures: &Figures) -> io::Result<()> {
    let Figures { totals, times, .. } = figures;
    writeln!(out, "allocator  {}", figures.allocator)?;
    writeln!(out, "threads    {}", figures.threads)?;
    writeln!(out, "files      {}, skipped {}", HumanCount(totals.files as u64), figures.skipped)?;
    writeln!(out, "text       {}, {} lines", BinaryBytes(totals.bytes), HumanCount(totals.lines as u64))?;
    writeln!(
        out,
        "words      {}, {} different",
        HumanCount(totals.words),
        HumanCount(totals.different as u64)
    )?;
    writeln!(out, "answers    digest {:016x}", figures.digest)?;

    let all = times.walk + times.build + times.queries + times.drop + times.trim;
    writeln!(
        out,
        "time       {:.3} s: find {:.3}, index {:.3}, answer {:.3}, drop {:.3}, trim {:.3}",
        all.as_secs_f64(),
        times.walk.as_secs_f64(),
        times.build.as_secs_f64(),
        times.queries.as_secs_f64(),
        times.drop.as_secs_f64(),
        times.trim.as_secs_f64()
    )?;

    if let Some(table) = &figures.table {
        writeln!(out, "\n{} while the index is alive\n{}", figures.allocator, table.trim_end())?;
    }

    writeln!(out, "\nresident memory")?;
    let Some(memory) = &figures.memory else { return writeln!(out, "  not known: /proc does not say") };
    writeln!(out, "  before indexing  {}", mib(memory.before_bytes))?;
    let growth = mib(memory.growth(memory.peak_bytes));
    writeln!(out, "  at the peak      {}  growth {}", mib(memory.peak_bytes), growth.trim_start())?;
    writeln!(out, "  index dropped    {}", memory.against_peak(memory.dropped_bytes))?;
    write!(out, "  after trim()     {}", memory.against_peak(memory.trimmed_bytes))?;
    match figures.given_back {
        Some(bytes) => writeln!(out, ", gave back {}", mib(bytes as u64).trim_start()),
        None => writeln!(out),
    }
}

/// `bytes` in MiB, as wide as a terabyte.
fn mib(bytes: u64) -> String {
    format!("{:10.2} MiB", bytes as f64 / (1 << 20) as f64)
}

/// A file's name may hold anything: what would steer a terminal, or break a line, is replaced.
fn printable(name: &str) -> String {
    name.replace(char::is_control, "\u{FFFD}")
}
