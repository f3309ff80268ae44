//! The synthetic workloads, on the allocator that this binary was built with.

mod block;
mod containers;
mod instructions;
mod memory;
mod micro;
mod replay;
mod sizes;
mod threads;

use std::process::ExitCode;

fn main() -> ExitCode {
    measure::run(&[
        micro::WORKLOADS,
        sizes::WORKLOADS,
        containers::WORKLOADS,
        threads::WORKLOADS,
        memory::WORKLOADS,
        instructions::WORKLOADS,
        replay::WORKLOADS,
    ])
}
