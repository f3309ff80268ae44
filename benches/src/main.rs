//! Runs Arenite and its peers over the same work, each in a process of its own, and reports. See README.md.

mod builds;
mod callgrind;
mod child;
mod cli;
mod foreign;
mod machine;
mod peers;
mod plan;
mod report;
mod results;
mod run;
mod summary;
mod traces;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::List => run::list(),
        Command::Report(options) => report::run(&options),
        Command::Compare(options) => report::compare(&options),
        Command::Record(options) => traces::record(&options),
    }
}
