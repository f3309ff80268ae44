//! `run` and `list`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use measure::{Description, Record};

use crate::builds::{self, PROGRAMS};
use crate::cli::RunOptions;
use crate::machine::{Machine, version};
use crate::peers::{PEERS, Peer};
use crate::plan::{self, Step};
use crate::report;
use crate::results::{Measurement, Outcome, PeerInfo, Results};
use crate::{callgrind, child, foreign};

/// What a step is taken to last before the first one of its workload has been seen, in milliseconds.
const FIRST_GUESS: u64 = 400;

/// After so many steps what is there is saved, in case the rest is never waited for.
const SAVED_EVERY: usize = 100;

pub(crate) fn run(options: &RunOptions) -> anyhow::Result<ExitCode> {
    let mut peers = plan::peers(&options.peers, options.quick)?;
    let mut absent: Vec<(Peer, String)> = Vec::new();
    peers.retain(|peer| match peer.library(&options.preload) {
        Ok(_) => true,
        Err(reason) => {
            absent.push((peer.clone(), reason.to_string()));
            false
        }
    });
    if !options.no_build {
        let failures = builds::build(&peers)?;
        peers.retain(|peer| match failures.get(peer.feature()) {
            None => true,
            Some(reason) => {
                absent.push((peer.clone(), reason.clone()));
                false
            }
        });
    }
    anyhow::ensure!(!peers.is_empty(), "no allocator is left to measure");
    let programs = Programs::listed(&peers[0])?;
    let mut workloads = plan::chosen(&programs.descriptions, &options.names)?;
    if !callgrind::is_there() {
        eprintln!("valgrind is not there: instructions are not counted");
        workloads.retain(|workload| workload.group != "instructions");
    }
    let info = |peer: &Peer, absent| PeerInfo { name: peer.name.to_owned(), version: version(peer), absent };
    let mut results = Results {
        date: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M").to_string(),
        machine: Machine::this(),
        quick: options.quick,
        rounds: options.rounds.unwrap_or(if options.quick { 3 } else { 7 }),
        threads: options.threads,
        peers: peers
            .iter()
            .map(|peer| info(peer, None))
            .chain(absent.iter().map(|(peer, reason)| info(peer, Some(reason.clone()))))
            .collect(),
        workloads: workloads.clone(),
        measurements: Vec::new(),
    };
    measure_all(options, &programs, &workloads, &peers, &mut results)?;
    results.save(&options.out)?;
    report::all(&results, &options.out, None)
}

pub(crate) fn list() -> anyhow::Result<ExitCode> {
    let built = PEERS.iter().find(|peer| builds::path(PROGRAMS[0], peer.feature()).exists());
    let one = match built {
        Some(peer) => peer.clone(),
        None => {
            let glibc = PEERS[1].clone();
            builds::build(std::slice::from_ref(&glibc))?;
            glibc
        }
    };
    println!("workloads");
    for workload in Programs::listed(&one)?.descriptions {
        println!("  {:13} {:22} {}", workload.group, workload.name, workload.stresses);
    }
    println!("\nallocators");
    for peer in PEERS {
        println!("  {:13} {}", peer.name, version(peer));
    }
    Ok(ExitCode::SUCCESS)
}

/// Which program has which workload.
struct Programs {
    descriptions: Vec<Description>,
    owners: HashMap<String, &'static str>,
}

impl Programs {
    /// As the programs of one allocator, which are the same for all, name them.
    fn listed(peer: &Peer) -> anyhow::Result<Programs> {
        let mut all = Programs { descriptions: Vec::new(), owners: HashMap::new() };
        for program in PROGRAMS {
            let path = builds::path(program, peer.feature());
            // Not built yet, and `--no-build` was said.
            if !path.exists() {
                continue;
            }
            let (output, _) = child::capture(Command::new(&path).arg("--list"))
                .with_context(|| format!("{program} on {}", peer.feature()))?;
            let list: Vec<Description> = serde_json::from_str(&output)?;
            all.owners.extend(list.iter().map(|workload| (workload.name.clone(), program)));
            all.descriptions.extend(list);
        }
        all.descriptions.extend(foreign::descriptions());
        Ok(all)
    }
}

fn measure_all(
    options: &RunOptions,
    programs: &Programs,
    workloads: &[Description],
    peers: &[Peer],
    results: &mut Results,
) -> anyhow::Result<()> {
    let rounds = results.rounds;
    let metadata = builds::metadata()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let steps = plan::steps(workloads, peers, rounds, options.quick, cores);
    let bar = ProgressBar::new(steps.len() as u64 * FIRST_GUESS);
    bar.set_style(ProgressStyle::with_template(
        "{msg:42} {wide_bar} {percent:>3} %  {elapsed} gone, about {eta} left",
    )?);
    let mut estimate = Estimate::default();
    let mut done = 0;
    // Those that do not run under valgrind: each has to show it once only.
    let uncounted: Mutex<HashMap<&str, String>> = Mutex::default();
    for (at, step) in steps.iter().enumerate() {
        bar.set_message(format!(
            "{}, round {} of {rounds}: {}",
            step[0].workload.name,
            step[0].round + 1,
            step[0].peer.name
        ));
        let start = Instant::now();
        let outcomes: Vec<anyhow::Result<Record>> = std::thread::scope(|scope| {
            let running: Vec<_> = step
                .iter()
                .map(|step| scope.spawn(|| one(options, programs, &metadata, &uncounted, step)))
                .collect();
            running.into_iter().map(|thread| thread.join().expect("does not panic")).collect()
        });
        let took = start.elapsed().as_millis() as u64;
        done += took;
        estimate.add(&step[0].workload.name, took);
        let left: u64 = steps[at + 1..].iter().map(|step| estimate.of(&step[0].workload.name)).sum();
        bar.set_length(done + left);
        bar.set_position(done);
        if at % SAVED_EVERY == 0 {
            results.save(&options.out)?;
        }
        for (step, outcome) in step.iter().zip(outcomes) {
            let outcome = match outcome {
                Ok(record) => Outcome::Record(record),
                Err(error) => {
                    bar.suspend(|| {
                        eprintln!("{} fails on {}: {error:#}", step.workload.name, step.peer.name);
                    });
                    Outcome::Failure(format!("{error:#}"))
                }
            };
            results.measurements.push(Measurement {
                peer: step.peer.name.to_owned(),
                workload: step.workload.name.clone(),
                round: step.round,
                outcome,
            });
        }
    }
    bar.finish_and_clear();
    reject_wrong_sums(&mut results.measurements);
    Ok(())
}

fn one<'a>(
    options: &RunOptions,
    programs: &Programs,
    metadata: &Path,
    uncounted: &Mutex<HashMap<&'a str, String>>,
    step: &Step<'a>,
) -> anyhow::Result<Record> {
    let library: Option<PathBuf> = step.peer.library(&options.preload)?;
    let library: Option<&Path> = library.as_deref();
    if step.workload.group == foreign::GROUP {
        return foreign::measure(&step.workload.name, library, metadata);
    }
    let program = builds::path(programs.owners[&step.workload.name], step.peer.feature());
    if step.workload.group == "instructions" {
        if let Some(reason) = uncounted.lock().expect("no panic").get(step.peer.name) {
            anyhow::bail!("{reason}");
        }
        let ops = if options.quick { 10_000 } else { 50_000 };
        return callgrind::measure(&program, &step.workload.name, ops, library).inspect_err(|error| {
            let reason = format!("not under valgrind: {error:#}");
            uncounted.lock().expect("no panic").insert(step.peer.name, reason);
        });
    }
    let scale = if options.quick { "quick" } else { "full" };
    let mut command = Command::new(program);
    command.args([&step.workload.name, scale, &options.threads.to_string()]);
    command.env("ARENITE_BENCH_METADATA", metadata);
    child::preload(&mut command, library);
    child::measure(&mut command)
}

/// How long the steps of a workload have taken on the average.
#[derive(Default)]
struct Estimate(HashMap<String, (u64, u64)>);

impl Estimate {
    fn add(&mut self, workload: &str, took: u64) {
        let (sum, count) = self.0.entry(workload.to_owned()).or_default();
        *sum += took;
        *count += 1;
    }

    fn of(&self, workload: &str) -> u64 {
        self.0.get(workload).map_or(FIRST_GUESS, |(sum, count)| sum / count)
    }
}

/// A result that most allocators do not agree with is a failure, however fast it came.
fn reject_wrong_sums(measurements: &mut [Measurement]) {
    let mut votes: HashMap<(String, u64), usize> = HashMap::new();
    for measurement in measurements.iter() {
        if let Outcome::Record(record) = &measurement.outcome {
            *votes.entry((record.workload.clone(), record.checksum)).or_default() += 1;
        }
    }
    for measurement in measurements {
        let Outcome::Record(record) = &measurement.outcome else { continue };
        let right = votes.iter().filter(|((workload, _), _)| *workload == record.workload);
        let (&(_, right), _) = right.max_by_key(|&(_, votes)| votes).expect("its own vote");
        if record.checksum != right {
            eprintln!("{} has a wrong result on {}", measurement.workload, measurement.peer);
            measurement.outcome = Outcome::Failure("a wrong result".to_owned());
        }
    }
}
