//! This test binary once more, for one test in a process of its own. Every wait ends.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The environment variable that names an emulator, where tests are for another machine than this one.
pub(crate) const RUNNER: &str = "ARENITE_TEST_RUNNER";

const CHILD: &str = "ARENITE_TEST_CHILD";
/// For a child: it is killed after this, and the test fails.
const TIMEOUT: Duration = Duration::from_secs(90);

pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `body` in a process of its own, made by running this test binary again for the test `name` alone; `set_up` may
/// change the environment or the limits. Returns in the first process only.
pub(crate) fn in_child(name: &str, set_up: impl FnOnce(&mut Command), body: impl FnOnce()) -> Output {
    if std::env::var_os(CHILD).is_some_and(|child| child == name) {
        body();
        std::process::exit(0);
    }
    let mut command = this_binary();
    command.args([name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"]);
    for (variable, _) in std::env::vars_os() {
        if variable != RUNNER && variable.to_string_lossy().starts_with("ARENITE_") {
            command.env_remove(variable);
        }
    }
    command.env(CHILD, name);
    set_up(&mut command);
    let output = output_in_time(&mut command);
    // A name that is no test's runs none, and exits well.
    assert!(output.stdout.contains("running 1 test"), "{name} did not run: {}", output.stdout);
    output
}

/// This test binary once more, by the program that [`RUNNER`] names if it does: an emulator.
pub(crate) fn this_binary() -> Command {
    let binary = std::env::current_exe().unwrap();
    match std::env::var_os(RUNNER) {
        None => Command::new(binary),
        Some(runner) => {
            let mut command = Command::new(runner);
            command.arg(binary);
            command
        }
    }
}

/// The same for a body that must succeed.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    let output = in_child(name, |_| {}, body);
    output.assert_success();
    print!("{}", output.stdout);
}

pub(crate) fn output_in_time(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let deadline = Instant::now() + TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let status = status.unwrap_or_else(|| panic!("no end after {TIMEOUT:?}\n{stdout}\n{stderr}"));
    Output { status, stdout, stderr }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Output {
    #[track_caller]
    pub(crate) fn assert_success(&self) {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
    }

    /// The lines on standard error that begin as the heap's do.
    pub(crate) fn complaints(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("arenite:")).collect()
    }

    /// The process was ended by `abort`, with one line of the heap's that has `words` in it.
    #[track_caller]
    pub(crate) fn assert_aborted(&self, words: &str) {
        let all = format!("{}\n{}\n{}", self.status, self.stdout, self.stderr);
        assert_eq!(self.status.signal(), Some(libc::SIGABRT), "{all}");
        assert_eq!(self.complaints().len(), 1, "{all}");
        assert!(self.complaints()[0].contains(words), "no {words:?} in {all}");
    }
}
