//! The program that `index` and `index_system` share: read, index, answer, drop, trim, and say what each step cost.
//!
//! The stair of modules, each importing only from above: `tokens`, `memory`, `sources`, `text_index`, `query`,
//! `options`, `report`.

mod memory;
mod options;
mod query;
mod report;
mod sources;
mod text_index;
mod tokens;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::ThreadPoolBuilder;

use memory::Resident;
use options::Options;
use report::{Figures, Memory, Times};

/// All that differs between the variants of the program.
#[derive(Debug)]
pub(crate) struct Allocator {
    pub(crate) name: &'static str,
    /// Gives free memory back to the kernel; how many bytes, where the allocator says.
    pub(crate) trim: fn() -> Option<usize>,
    /// The allocator's own statistics, ready to print.
    pub(crate) table: Option<fn() -> String>,
}

/// Runs the program. Only a command line that makes no sense, threads that cannot be started and an output that
/// cannot be written end it early; nothing that it finds in the folders does.
pub(crate) fn run(allocator: &Allocator) -> ExitCode {
    let options = Options::parse();
    match index_and_report(allocator, &options) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader went away (`index | head`): it has seen what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("index: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn index_and_report(allocator: &Allocator, options: &Options) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let (dirs, error) =
        if options.dirs.is_empty() { sources::default_dirs() } else { (options.dirs.clone(), None) };
    if let Some(error) = error {
        report::complain(&format!(
            "index: no dependencies, since cargo does not say where they are: {error}"
        ));
    }
    // The pool outlives the index, as a program's pool does: its idle threads must not keep the memory.
    let pool = ThreadPoolBuilder::new().num_threads(options.threads()).build().map_err(io::Error::other)?;
    let before = Resident::read();

    let start = Instant::now();
    let found = sources::walk(&dirs);
    let walk = start.elapsed();

    let start = Instant::now();
    let bar = progress_bar(options.quiet, found.files.len());
    let (index, mut skipped) = pool.install(|| text_index::build(&found.files, &bar));
    bar.finish_and_clear();
    let build = start.elapsed();

    skipped.splice(0..0, found.skipped);
    report::skipped(&skipped, &dirs, options.verbose);

    let start = Instant::now();
    let answers: Vec<_> = options.queries.iter().cloned().map(|query| query.answer(&index)).collect();
    let queries = start.elapsed();
    report::answers(&mut out, &answers, options.lines())?;
    // What follows takes a moment: whoever reads the answers has them now.
    out.flush()?;

    let totals = index.totals();
    let digest = query::digest(&answers);
    let table = allocator.table.map(|table| table());

    let start = Instant::now();
    drop((answers, index, found.files));
    let drop = start.elapsed();
    let dropped = Resident::read();

    let start = Instant::now();
    let given_back = (allocator.trim)();
    let trim = start.elapsed();
    let trimmed = Resident::read();

    report::figures(
        &mut out,
        &Figures {
            allocator: allocator.name,
            threads: pool.current_num_threads(),
            totals,
            skipped: skipped.len(),
            digest,
            times: Times { walk, build, queries, drop, trim },
            table,
            memory: Memory::new(before, dropped, trimmed),
            given_back,
        },
    )?;
    out.flush()
}

/// Counts the files that were read, for a person only.
fn progress_bar(quiet: bool, files: usize) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} files, {elapsed}");
    ProgressBar::new(files as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
