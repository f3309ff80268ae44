//! Real crates on real input, on the allocator that this binary was built with. The input is the unpacked sources of all
//! packages that the benchmarks depend on, and what cargo says about them: `ARENITE_BENCH_METADATA` names that file.

mod example;
mod index;
mod input;
mod javascript;
mod parse;
mod text;

use std::process::ExitCode;

// The global allocator is in it.
use allocators as _;

fn main() -> ExitCode {
    measure::run(&[
        parse::WORKLOADS,
        javascript::WORKLOADS,
        text::WORKLOADS,
        index::WORKLOADS,
        example::WORKLOADS,
    ])
}
