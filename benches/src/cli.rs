//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Benchmarks of Arenite and its peers: the same work, a process for each
#[derive(Debug, Parser)]
#[command(name = "arenite-bench")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build, measure, and report
    Run(RunOptions),
    /// Name the workloads and the allocators
    List,
    /// Make tables and charts of results again
    Report(ReportOptions),
    /// Say how far the figures of two runs lie apart
    Compare(CompareOptions),
    /// Record the allocations of a program, to be replayed by `run --trace`
    Record(RecordOptions),
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Workloads or groups, whole names or parts of them [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Smaller workloads, fewer rounds: within five minutes on two cores, once all is built
    #[arg(long)]
    pub(crate) quick: bool,

    /// Allocators and arenas to compare [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) peers: Vec<String>,

    /// How often each is run before those that are not stable are run again [default: 3 in a quick run, else 7]
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,

    /// No round but the first is begun after so many minutes [default: 4.5 in a quick run, else 26]
    #[arg(long, value_name = "N")]
    pub(crate) minutes: Option<f64>,

    /// A recorded program to replay, beside those that come with the set; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Vec<PathBuf>,

    /// Threads of the workloads that leave it open
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) threads: usize,

    /// Where the results go: FILE.json, and FILE.csv and FILE.html beside it
    #[arg(long, value_name = "FILE", default_value_os_t = default_results())]
    pub(crate) out: PathBuf,

    /// Arenite as a library to preload under C programs
    #[arg(long, value_name = "FILE", default_value_os_t = default_preload())]
    pub(crate) preload: PathBuf,

    /// Use the workers that were built before
    #[arg(long)]
    pub(crate) no_build: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// Results of a run, or of several with different workloads; the page is written beside the first
    #[arg(value_name = "FILE", default_values_os_t = [default_results()])]
    pub(crate) results: Vec<PathBuf>,

    /// Results of another run: figures that differ by more than 5 % are marked
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,

    /// Print the tables as Markdown instead
    #[arg(long)]
    pub(crate) markdown: bool,

    /// Also write the tables of benches/README.md and of the library's README.md, between their markers
    #[arg(long)]
    pub(crate) readme: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecordOptions {
    /// Where the recording goes
    #[arg(value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// Operations of a workload; its own number if it is not said
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// Threads of a workload
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) threads: usize,

    /// A workload of the group `programs`, or a program whose global allocator is `trace::Recorder`, and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    pub(crate) first: PathBuf,
    pub(crate) second: PathBuf,
}

/// The folder of this package, from wherever it is run.
pub(crate) fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn default_results() -> PathBuf {
    package().join("target/results/latest.json")
}

pub(crate) fn default_preload() -> PathBuf {
    package().join("../target/release/examples/libpreload.so")
}
