//! Recorded programs: those of the set, which are recorded when they are first needed, and the user's own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use measure::{Description, Record};
use trace::{Header, Trace};

use crate::cli::{RecordOptions, RunOptions};
use crate::{builds, child};

pub(crate) const GROUP: &str = "traces";

/// The feature of the program that records.
const FEATURE: &str = "recorder";

/// Workloads of the programs, with so many operations that a replay takes about a fifth of a second. Those with several
/// threads come out different each time, so a recording is kept.
const DEFAULT: &[(&str, u64)] = &[("swc", 3 << 20), ("serde-json", 3), ("index", 12), ("tantivy", 2 << 20)];

/// A recording.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) workload: Description,
    path: PathBuf,
}

/// Whether these names ask for any of the set.
fn are_wanted(names: &[String]) -> bool {
    let fits = |name: &String| {
        name == GROUP
            || DEFAULT.iter().any(|(workload, _)| format!("trace-{workload}").contains(name.as_str()))
    };
    names.is_empty() || names.iter().any(fits)
}

/// Those of the set, recorded now unless they were before, and those that the command line names.
pub(crate) fn all(options: &RunOptions) -> anyhow::Result<Vec<Recording>> {
    let mut all = Vec::new();
    if are_wanted(&options.names) {
        let folder = builds::folder().join("traces");
        std::fs::create_dir_all(&folder)?;
        for &(workload, count) in DEFAULT {
            let path = folder.join(workload).with_extension("trace");
            // One of an older format is made anew.
            if Trace::open(&path).is_err() {
                record_workload(workload, Some(count), 2, &path)?;
            }
            all.push(path);
        }
    }
    all.extend(options.trace.iter().cloned());
    all.into_iter().map(recording).collect()
}

fn recording(path: PathBuf) -> anyhow::Result<Recording> {
    let Header { program, ops, peak_live_bytes, shared, threads, .. } = Trace::open(&path)?.header;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let workload = Description {
        name: format!("trace-{name}"),
        group: GROUP.to_owned(),
        stresses: format!(
            "{program}, replayed: {ops} operations, {} threads, {shared} blocks that change threads, at most {} MiB live",
            threads.len(),
            peak_live_bytes >> 20
        ),
        threaded: threads.len() > 1,
        idle: false,
        is_counted: false,
        only: Vec::new(),
    };
    Ok(Recording { workload, path })
}

/// So many replays by this worker, one after the other.
pub(crate) fn measure(
    recordings: &[Recording],
    workload: &Description,
    worker: &Path,
    rounds: u32,
    library: Option<&Path>,
) -> anyhow::Result<Record> {
    let recording = recordings.iter().find(|recording| recording.workload.name == workload.name);
    let mut command = Command::new(worker);
    command.arg(if workload.threaded { "replay-threads" } else { "replay" }).args([&rounds.to_string(), "1"]);
    command.env("ARENITE_BENCH_TRACE", &recording.expect("one of the recordings").path);
    child::preload(&mut command, library);
    let record = child::measure(&mut command)?;
    Ok(Record { workload: workload.name.clone(), ..record })
}

/// `record`.
pub(crate) fn record(options: &RecordOptions) -> anyhow::Result<ExitCode> {
    let (program, arguments) = options.command.split_first().expect("clap asks for one");
    let name = program.to_string_lossy();
    let header = match arguments {
        [] if !Path::new(program).exists() => {
            record_workload(&name, options.count, options.threads, &options.out)?
        }
        _ => {
            let mut command = Command::new(program);
            command.args(arguments);
            record_command(&mut command, &name, &options.out)?
        }
    };
    println!(
        "{}: {} operations on {} threads, {} blocks that change threads, at most {} MiB live",
        options.out.display(),
        header.ops,
        header.threads.len(),
        header.shared,
        header.peak_live_bytes >> 20
    );
    Ok(ExitCode::SUCCESS)
}

fn record_workload(name: &str, count: Option<u64>, threads: usize, to: &Path) -> anyhow::Result<Header> {
    eprintln!("recording {name}");
    builds::build_program("programs", FEATURE)?;
    let mut command = Command::new(builds::path("programs", FEATURE));
    command
        .arg(name)
        .arg(count.map_or("quick".to_owned(), |count| count.to_string()))
        .arg(threads.to_string());
    command.env("ARENITE_BENCH_METADATA", builds::metadata()?);
    record_command(&mut command, name, to)
}

fn record_command(command: &mut Command, name: &str, to: &Path) -> anyhow::Result<Header> {
    let raw = tempfile::NamedTempFile::new()?;
    let variable = OsStr::new(trace::FILE_VARIABLE.to_str().expect("letters"));
    let status = command.env(variable, raw.path()).stdout(std::process::Stdio::null()).status();
    let status = status.with_context(|| format!("{name} does not start"))?;
    anyhow::ensure!(status.success(), "{name}: {status}");
    trace::convert(name, raw.path(), to)
        .with_context(|| format!("is trace::Recorder the global allocator of {name}?"))
}
