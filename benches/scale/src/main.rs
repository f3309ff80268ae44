//! Where the heap's locks end on machines with many cores.
//!
//! What a workload asks of each lock is counted on this machine: see `inputs/`, and README.md beside this package for how.
//! `simulate` plays the same visits from many cores; `line` measures what it costs to move a cache line between two.

mod inputs;
mod line;
mod simulation;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use comfy_table::{Table, presets};

use inputs::Demand;
use simulation::{Machine, Outcome, simulate};

#[derive(Parser)]
#[command(about = "Simulates the heap's locks under many cores")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A row for each workload, a column for each number of cores: how busy the busiest lock is, in per cent.
    Simulate(Simulate),
    /// What moving a cache line between two threads costs here, in nanoseconds.
    Line,
}

#[derive(Args)]
struct Simulate {
    /// Counts of locks, as the `preload` example writes them.
    #[arg(required = true)]
    counts: Vec<PathBuf>,
    /// Millions of allocations a second, of all cores together.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    #[arg(long, value_delimiter = ',', default_value = "1,2,8,16,32,64,128,256")]
    cores: Vec<usize>,
    /// Cores that share a depot and slabs; none share with others if it is the number of cores or more.
    #[arg(long, default_value_t = usize::MAX)]
    group: usize,
    /// Cores that share a memory node.
    #[arg(long, default_value_t = 64)]
    node: usize,
    /// Nanoseconds to move a cache line between cores of one node.
    #[arg(long, default_value_t = 80.0)]
    near: f64,
    /// Nanoseconds to move a cache line between nodes.
    #[arg(long, default_value_t = 250.0)]
    far: f64,
    /// Cache lines of a depot beyond the one that it has now.
    #[arg(long, default_value_t = 0.0)]
    more_depot_lines: f64,
    /// Say which part of the visits found the lock taken.
    #[arg(long)]
    contended: bool,
    /// Milliseconds to simulate.
    #[arg(long, default_value_t = 20.0)]
    ms: f64,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Simulate(options) => print(&options),
        Command::Line => {
            println!("{:.0} ns", line::measure());
            Ok(())
        }
    }
}

fn print(options: &Simulate) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut header = vec!["workload".to_owned()];
    header.extend(options.cores.iter().map(ToString::to_string));
    table.set_header(header);
    for path in &options.counts {
        let mut demand = Demand::read(path)?;
        let mut row = vec![demand.name.clone()];
        for &cores in &options.cores {
            let machine = Machine {
                cores,
                group: options.group,
                node: options.node,
                near_ns: options.near,
                far_ns: options.far,
                allocations_per_ns: options.rate / 1e3,
                more_depot_lines: options.more_depot_lines,
            };
            row.push(cell(&simulate(&machine, &demand, options.ms * 1e6), options.rate, options.contended));
        }
        table.add_row(row);
    }
    println!("{table}");
    Ok(())
}

/// `depot 64: 42 %, 3 ns`: the busiest lock, how busy it is, and for how long an allocation waits in the mean. And how
/// much of the rate was reached, when it was less.
fn cell(outcome: &Outcome, rate: f64, contended: bool) -> String {
    let reached = outcome.allocations_per_ns * 1e3;
    let mut text =
        format!("{}: {:.0} %, {:.1} ns", outcome.busiest, outcome.utilisation * 100.0, outcome.wait_ns);
    if contended {
        text += &format!(", {:.2} % found it taken", outcome.contended * 100.0);
    }
    if reached < rate * 0.97 {
        text += &format!(" ({reached:.0} M/s)");
    }
    text
}
