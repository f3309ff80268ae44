//! One workload in one process, on the allocator that this binary was built with:
//! `worker NAME quick|full THREADS`, or `worker NAME COUNT THREADS` for exactly so many operations. `worker --list` says
//! what there is.

mod block;
mod containers;
mod instructions;
mod memory;
mod micro;
mod sizes;
mod threads;
mod workload;

use std::process::ExitCode;

use measure::Meter;
use workload::{Scale, Workload};

fn all() -> impl Iterator<Item = &'static Workload> {
    [
        micro::WORKLOADS,
        sizes::WORKLOADS,
        containers::WORKLOADS,
        threads::WORKLOADS,
        memory::WORKLOADS,
        instructions::WORKLOADS,
    ]
    .into_iter()
    .flatten()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, scale, threads] = match arguments.as_slice() {
        [name, scale, threads] => [name, scale, threads],
        [option] if option == "--list" => {
            let descriptions: Vec<_> = all().map(Workload::describe).collect();
            println!("{}", serde_json::to_string(&descriptions).expect("names"));
            return ExitCode::SUCCESS;
        }
        _ => return usage(),
    };
    let (Some(workload), Some(scale), Ok(threads)) =
        (all().find(|workload| workload.name == name), Scale::parse(scale), threads.parse())
    else {
        return usage();
    };
    let mut meter = Meter::new(threads);
    let checksum = (workload.run)(&mut meter, scale.ops(workload));
    measure::print(&meter.finish(workload.name, workload.unit, checksum));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: worker NAME quick|full|COUNT THREADS, or worker --list");
    ExitCode::from(2)
}
