//! The command line.

use std::path::PathBuf;

use clap::Parser;

use super::query::Query;

/// Index the text files of source trees, answer queries, and say what it took in time and memory
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Folders or files to read [default: this repository and the sources of its dependencies]
    ///
    /// Every text file is read. Version control stores (.git) and cache folders (with a CACHEDIR.TAG) inside a DIR are
    /// passed by; what cannot be read or is not text is named and skipped.
    #[arg(value_name = "DIR")]
    pub(crate) dirs: Vec<PathBuf>,

    /// What to look for: word, begin*, *piece* or 'some words in a row'; may be repeated
    #[arg(
        long = "query",
        value_name = "WORD",
        default_values = ["unsafe", "alloc*", "*align*", "unsafe impl"]
    )]
    pub(crate) queries: Vec<Query>,

    /// Lines to show of each answer
    #[arg(long, value_name = "N", default_value_t = 3, conflicts_with = "quiet")]
    lines: usize,

    /// Threads that read and index [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// No progress bar and no lines: the counts of the answers, and the figures
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Name all that was skipped, however much
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl Options {
    /// How many lines of each answer to show.
    pub(crate) fn lines(&self) -> usize {
        if self.quiet { 0 } else { self.lines }
    }

    /// Zero: as many as the pool finds right.
    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or(0, usize::from)
    }
}
