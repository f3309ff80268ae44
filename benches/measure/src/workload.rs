//! What a workload is, and the `main` of a program that has some.

use std::process::ExitCode;

use crate::{Description, Meter, Unit};

/// A piece of work whose result is known.
#[derive(Debug)]
pub struct Workload {
    pub name: &'static str,
    pub group: &'static str,
    pub stresses: &'static str,
    pub unit: Unit,
    /// Operations in a quick and in a full run.
    pub quick: u64,
    pub full: u64,
    /// Returns the checksum. Ends the process when a block does not hold what was written to it.
    pub run: fn(&mut Meter, u64) -> u64,
}

impl Workload {
    fn describe(&self) -> Description {
        Description {
            name: self.name.to_owned(),
            group: self.group.to_owned(),
            stresses: self.stresses.to_owned(),
            threaded: self.unit == Unit::WallNs || self.name.ends_with("-threads"),
            idle: self.name.starts_with("burst"),
            is_counted: self.unit == Unit::Instructions,
            only: Vec::new(),
        }
    }
}

/// How much work to do.
#[derive(Clone, Copy, Debug)]
enum Scale {
    Quick,
    Full,
    Count(u64),
}

impl Scale {
    fn parse(text: &str) -> Option<Scale> {
        match text {
            "quick" => Some(Scale::Quick),
            "full" => Some(Scale::Full),
            count => count.parse().ok().map(Scale::Count),
        }
    }

    fn ops(self, workload: &Workload) -> u64 {
        match self {
            Scale::Quick => workload.quick,
            Scale::Full => workload.full,
            Scale::Count(count) => count,
        }
    }
}

/// Does what the command line says: `NAME quick|full THREADS`, or `NAME COUNT THREADS` for exactly so many operations,
/// or `--list`.
pub fn run(workloads: &[&[Workload]]) -> ExitCode {
    run_with(&std::env::args().skip(1).collect::<Vec<String>>(), workloads)
}

/// The same for these arguments.
pub fn run_with(arguments: &[String], workloads: &[&[Workload]]) -> ExitCode {
    let all = || workloads.iter().copied().flatten();
    let [name, scale, threads] = match arguments {
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
    let record = meter.finish(workload.name, workload.unit, checksum);
    println!("{}", serde_json::to_string(&record).expect("numbers and names"));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: NAME quick|full|COUNT THREADS, or --list");
    ExitCode::from(2)
}
