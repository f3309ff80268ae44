//! One measurement: a small process that does one piece of work and says what it took.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use measure::{Description, Record};
use wait_timeout::ChildExt;

/// What no workload needs, on any allocator that works.
const PATIENCE: Duration = Duration::from_secs(120);
/// What no count needs. Some allocators never end under valgrind, and everybody waits for them.
pub(crate) const COUNT_PATIENCE: Duration = Duration::from_secs(40);

/// Runs the command and reads the record that it prints.
pub(crate) fn measure(command: &mut Command) -> anyhow::Result<Record> {
    let (output, _) = capture(command, PATIENCE)?;
    let line = output.lines().last().context("nothing was printed")?;
    serde_json::from_str(line).context("what was printed is no record")
}

/// What `--list` of a worker says.
pub(crate) fn list(command: &mut Command) -> anyhow::Result<Vec<Description>> {
    let (output, _) = capture(command.arg("--list"), PATIENCE)?;
    Ok(serde_json::from_str(&output)?)
}

/// Standard output and error of a command that must succeed in time.
pub(crate) fn capture(command: &mut Command, patience: Duration) -> anyhow::Result<(String, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start")?;
    // Both are emptied while it runs, or it would wait for that.
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let read_stdout = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let read_stderr = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let status = child.wait_timeout(patience)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let output = String::from_utf8_lossy(&read_stdout.join().expect("reads only")?).into_owned();
    let errors = String::from_utf8_lossy(&read_stderr.join().expect("reads only")?).into_owned();
    match status {
        None => bail!("not done after {} s", patience.as_secs()),
        Some(status) if !status.success() => {
            let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
            bail!("{status} {last}")
        }
        Some(_) => Ok((output, errors)),
    }
}

/// With the library in the C library's place.
pub(crate) fn preload(command: &mut Command, library: Option<&Path>) {
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
    }
}
