//! `run` and `list`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use measure::{Description, Record};

use crate::builds::{self, PROGRAMS};
use crate::cli::{RunOptions, default_preload};
use crate::machine::{Machine, touch_memory, version};
use crate::peers::{ARENAS, Kind, PEERS, Peer};
use crate::plan::{self, Row, Step};
use crate::results::{Measurement, Outcome, PeerInfo, Results};
use crate::traces::{self, Recording};
use crate::{callgrind, child, foreign, report, summary};

/// What a row is taken to last before it was first run, in milliseconds.
const FIRST_GUESS: u64 = 4000;

/// More rounds than this make no median any better.
const MOST_ROUNDS: usize = 45;

pub(crate) fn run(options: &RunOptions) -> anyhow::Result<ExitCode> {
    let mut peers = plan::peers(&options.peers)?;
    let mut absent: Vec<(Peer, String)> = Vec::new();
    let is_preloaded = peers.iter().any(|peer| matches!(peer.kind, Kind::PreloadedOurs));
    if is_preloaded && !options.no_build && options.preload == default_preload() {
        // If it fails, the library is not there, which is said below.
        builds::build_preload().unwrap_or_else(|error| eprintln!("the preload example: {error:#}"));
    }
    peers.retain(|peer| match peer.library(&options.preload) {
        Ok(_) => true,
        Err(reason) => {
            absent.push((peer.clone(), reason.to_string()));
            false
        }
    });
    if !options.no_build {
        let failures = builds::build(&peers)?;
        peers.retain(|peer| match peer.feature().and_then(|feature| failures.get(feature)) {
            None => true,
            Some(reason) => {
                absent.push((peer.clone(), reason.clone()));
                false
            }
        });
    }
    anyhow::ensure!(!peers.is_empty(), "no allocator is left to measure");
    let programs = Programs::listed(&peers, traces::all(options)?)?;
    let mut workloads = plan::chosen(&programs.descriptions, &options.names)?;
    if !callgrind::is_there() {
        eprintln!("valgrind is not there: instructions are not counted");
        workloads.retain(|workload| !workload.is_counted);
    }
    let is_arena = |peer: &Peer| matches!(peer.kind, Kind::Arena { .. });
    let infos = |arenas: bool| {
        let info =
            |peer: &Peer, absent| PeerInfo { name: peer.name.to_owned(), version: version(peer), absent };
        let present = peers.iter().filter(|peer| is_arena(peer) == arenas).map(|peer| info(peer, None));
        let absent = absent.iter().filter(|(peer, _)| is_arena(peer) == arenas);
        present.chain(absent.map(|(peer, reason)| info(peer, Some(reason.clone())))).collect()
    };
    let mut results = Results {
        date: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M").to_string(),
        machine: Machine::this(),
        quick: options.quick,
        rounds: options.rounds.unwrap_or(if options.quick { 3 } else { 7 }),
        threads: options.threads,
        peers: infos(false),
        arenas: infos(true),
        workloads: workloads.clone(),
        measurements: Vec::new(),
    };
    Session {
        options,
        programs: &programs,
        metadata: builds::metadata()?,
        uncounted: Mutex::default(),
        bar: ProgressBar::hidden(),
        start: Instant::now(),
        took: HashMap::new(),
        peaks: HashMap::new(),
    }
    .measure(&workloads, &peers, &mut results)?;
    results.save(&options.out)?;
    report::all(&results, &options.out, None)
}

pub(crate) fn list() -> anyhow::Result<ExitCode> {
    let is_built =
        |peer: &&Peer| peer.feature().is_some_and(|feature| builds::path(PROGRAMS[0], feature).exists());
    let mut some: Vec<Peer> = ARENAS.to_vec();
    let built = PEERS.iter().find(is_built).cloned();
    some.push(built.unwrap_or_else(|| PEERS[1].clone()));
    if !is_built(&&some[ARENAS.len()]) || !builds::arena().exists() {
        builds::build(&some)?;
    }
    println!("workloads");
    for workload in Programs::listed(&some, Vec::new())?.descriptions {
        println!("  {:13} {:22} {}", workload.group, workload.name, workload.stresses);
    }
    println!("  {:13} {:22} recorded programs, replayed: `run traces` names them", traces::GROUP, "trace-…");
    println!("\nallocators");
    for peer in PEERS.iter() {
        println!("  {:15} {}", peer.name, version(peer));
    }
    println!("\narenas");
    for peer in ARENAS {
        println!("  {:15} {}", peer.name, version(peer));
    }
    Ok(ExitCode::SUCCESS)
}

/// Which program has which workload.
struct Programs {
    descriptions: Vec<Description>,
    owners: HashMap<String, &'static str>,
    recordings: Vec<Recording>,
}

impl Programs {
    /// As the programs of one allocator, which are the same for all, and the arenas, which are not, name them.
    fn listed(peers: &[Peer], recordings: Vec<Recording>) -> anyhow::Result<Programs> {
        let mut all = Programs { descriptions: Vec::new(), owners: HashMap::new(), recordings };
        for program in PROGRAMS {
            let Some(feature) = peers.iter().find_map(Peer::feature) else { break };
            let path = builds::path(program, feature);
            // Not built yet, and `--no-build` was said.
            if !path.exists() {
                continue;
            }
            let list =
                child::list(&mut Command::new(&path)).with_context(|| format!("{program} on {feature}"))?;
            // What replays needs a recording.
            let list: Vec<_> = list.into_iter().filter(|workload| workload.group != traces::GROUP).collect();
            all.owners.extend(list.iter().map(|workload| (workload.name.clone(), program)));
            all.descriptions.extend(list);
        }
        all.descriptions.extend(all.recordings.iter().map(|recording| recording.workload.clone()));
        all.descriptions.extend(foreign::descriptions());
        all.descriptions.extend(of_arenas(peers)?);
        Ok(all)
    }
}

/// Each workload with the arenas that have it, times before counts.
fn of_arenas(peers: &[Peer]) -> anyhow::Result<Vec<Description>> {
    let mut all: Vec<Description> = Vec::new();
    if !builds::arena().exists() {
        return Ok(all);
    }
    for peer in peers.iter().filter(|peer| matches!(peer.kind, Kind::Arena { .. })) {
        for mut workload in child::list(Command::new(builds::arena()).arg(peer.name))? {
            match all.iter_mut().find(|known| known.name == workload.name) {
                Some(known) => known.only.push(peer.name.to_owned()),
                None => {
                    workload.only.push(peer.name.to_owned());
                    all.push(workload);
                }
            }
        }
    }
    all.sort_by_key(|workload| workload.is_counted);
    Ok(all)
}

/// What is needed while it runs.
struct Session<'a> {
    options: &'a RunOptions,
    programs: &'a Programs,
    metadata: PathBuf,
    /// Those that do not run under valgrind, and why: each has to show it once only.
    uncounted: Mutex<HashMap<&'static str, String>>,
    bar: ProgressBar,
    start: Instant,
    /// How long each row has taken the last time, in milliseconds.
    took: HashMap<String, u64>,
    /// The most memory that each workload has had resident.
    peaks: HashMap<String, u64>,
}

impl Session<'_> {
    /// All rounds as long as there is time; then, while there still is, more of the rows that are not stable.
    fn measure(
        mut self,
        workloads: &[Description],
        peers: &[Peer],
        results: &mut Results,
    ) -> anyhow::Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let rows = plan::rows(workloads, peers, cores);
        let minutes = self.options.minutes.unwrap_or(if self.options.quick { 4.5 } else { 26.0 });
        let budget = Duration::from_secs_f64(minutes * 60.0);
        self.bar = ProgressBar::new(budget.as_millis() as u64);
        self.bar.set_style(ProgressStyle::with_template(
            "{msg:42} {wide_bar} {percent:>3} %  {elapsed} gone, at most {eta} left",
        )?);
        let mut done = vec![0; rows.len()];
        for round in 0..results.rounds {
            for (at, row) in rows.iter().enumerate() {
                if round < row.rounds(results.rounds) && (round == 0 || self.start.elapsed() < budget) {
                    // In the first round, which is never cut short, the time may turn out to be too little.
                    let rest = if round == 0 { &rows[at..] } else { &[] };
                    self.row(row, round, rest, budget, results)?;
                    done[at] += 1;
                }
            }
            results.save(&self.options.out)?;
        }
        loop {
            let mut is_done = true;
            for (row, done) in rows.iter().zip(&mut done) {
                let is_stable = || {
                    let row = summary::row(row.workload, &results.measurements);
                    row.cells
                        .values()
                        .all(|cell| cell.failure.is_some() || cell.uncertainty < summary::STABLE / 2.0)
                };
                if row.is_timed() && *done < MOST_ROUNDS && self.start.elapsed() < budget && !is_stable() {
                    self.row(row, *done, &[], budget, results)?;
                    *done += 1;
                    is_done = false;
                }
            }
            if is_done {
                break;
            }
        }
        self.bar.finish_and_clear();
        reject_wrong_sums(&mut results.measurements);
        Ok(())
    }

    /// One round of one row.
    fn row(
        &mut self,
        row: &Row<'_>,
        round: usize,
        rest: &[Row<'_>],
        budget: Duration,
        results: &mut Results,
    ) -> anyhow::Result<()> {
        let name = &row.workload.name;
        let start = Instant::now();
        for steps in row.steps(round) {
            self.bar.set_message(format!("{name}, round {}: {}", round + 1, steps[0].peer.name));
            let left: u64 =
                rest.iter().map(|row| self.took.get(&row.workload.name).unwrap_or(&FIRST_GUESS)).sum();
            let elapsed = self.start.elapsed().as_millis() as u64;
            self.bar.set_length((elapsed + left).max(budget.as_millis() as u64));
            self.bar.set_position(elapsed);
            if row.is_timed() {
                let peak = self.peaks.get(name).copied().unwrap_or(0);
                touch_memory(peak + peak / 4);
            }
            let outcomes: Vec<anyhow::Result<Record>> = std::thread::scope(|scope| {
                let running: Vec<_> = steps.iter().map(|step| scope.spawn(|| self.one(step))).collect();
                running.into_iter().map(|thread| thread.join().expect("does not panic")).collect()
            });
            for (step, outcome) in steps.iter().zip(outcomes) {
                let outcome = match outcome {
                    Ok(record) => {
                        let peak = self.peaks.entry(name.clone()).or_default();
                        *peak = record.peak_rss.max(*peak);
                        Outcome::Record(record)
                    }
                    Err(error) => {
                        self.bar.suspend(|| eprintln!("{name} fails on {}: {error:#}", step.peer.name));
                        Outcome::Failure(format!("{error:#}"))
                    }
                };
                results.measurements.push(Measurement {
                    peer: step.peer.name.to_owned(),
                    workload: name.clone(),
                    round,
                    outcome,
                });
            }
        }
        self.took.insert(name.clone(), start.elapsed().as_millis() as u64);
        Ok(())
    }

    fn one(&self, step: &Step<'_>) -> anyhow::Result<Record> {
        let library: Option<PathBuf> = step.peer.library(&self.options.preload)?;
        let library: Option<&Path> = library.as_deref();
        let name = step.workload.name.as_str();
        if step.workload.group == foreign::GROUP {
            return foreign::measure(name, library, &self.metadata);
        }
        let (program, mut before) = match step.peer.feature() {
            None => (builds::arena(), vec![OsStr::new(step.peer.name)]),
            Some(feature) => {
                let program = self.programs.owners.get(name).copied().unwrap_or(PROGRAMS[0]);
                (builds::path(program, feature), Vec::new())
            }
        };
        if step.workload.group == traces::GROUP {
            let rounds = if self.options.quick { 1 } else { 3 };
            return traces::measure(&self.programs.recordings, step.workload, &program, rounds, library);
        }
        before.push(OsStr::new(name));
        if step.workload.is_counted {
            if let Some(reason) = self.uncounted.lock().expect("no panic").get(step.peer.name) {
                anyhow::bail!("{reason}");
            }
            let ops = if self.options.quick { 10_000 } else { 50_000 };
            before.insert(0, program.as_os_str());
            return callgrind::measure(&before, ops, library).map_err(|error| {
                let reason = format!("not under valgrind: {error:#}");
                self.uncounted.lock().expect("no panic").insert(step.peer.name, reason.clone());
                anyhow::anyhow!(reason)
            });
        }
        let scale = if self.options.quick { "quick" } else { "full" };
        let mut command = Command::new(program);
        command.args(before).args([scale, &self.options.threads.to_string()]);
        command.env("ARENITE_BENCH_METADATA", &self.metadata);
        child::preload(&mut command, library);
        child::measure(&mut command)
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
