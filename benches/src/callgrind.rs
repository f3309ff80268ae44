//! Instructions, counted: a run of `n` and one of `2n` operations, and the difference is what `n` cost.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use measure::{Record, Unit};

use crate::child::{COUNT_PATIENCE, capture, preload};

/// As a record of its own whose score is instructions an operation.
pub(crate) fn measure(worker: &[&OsStr], ops: u64, library: Option<&Path>) -> anyhow::Result<Record> {
    let (less, _) = collected(worker, ops, library)?;
    let (more, mut record) = collected(worker, 2 * ops, library)?;
    record.score = (more as f64 - less as f64) / ops as f64;
    record.unit = Unit::Instructions;
    record.ops = ops;
    Ok(record)
}

/// The worker with all that stands before the number of operations.
fn collected(worker: &[&OsStr], ops: u64, library: Option<&Path>) -> anyhow::Result<(u64, Record)> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(worker)
        .args([&ops.to_string(), "1"]);
    preload(&mut command, library);
    let (output, errors) = capture(&mut command, COUNT_PATIENCE)?;
    let line = errors.lines().find(|line| line.contains("Collected :")).context("callgrind's summary")?;
    let count = line.rsplit(' ').next().and_then(|count| count.parse().ok()).context("callgrind's count")?;
    let record = serde_json::from_str(output.lines().last().unwrap_or("")).context("the worker's record")?;
    Ok((count, record))
}

/// Whether the machine has it.
pub(crate) fn is_there() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}
