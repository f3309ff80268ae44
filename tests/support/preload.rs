//! Runs a program twice, as it is and with an allocator in `LD_PRELOAD`, and compares what it did.
//!
//! A test describes what to run as a closure over a [`Scene`]: a working directory, an environment and a transcript.
//! [`compare`] calls it once plain and once preloaded, in a directory of the same name, and wants the same transcript.
//! A second preloaded library, the witness (`tests/programs/witness.c`), has every process note which library its
//! `malloc` is bound to: so a run in which the allocator was not there cannot pass.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What one command may take. A deadlock in the allocator ends as a failure that names the command.
const COMMAND_LIMIT: Duration = Duration::from_secs(150);

/// The library under test: `ARENITE_PRELOAD`, or else the example `preload`, built here.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| match std::env::var_os("ARENITE_PRELOAD") {
        Some(path) => {
            fs::canonicalize(&path).unwrap_or_else(|error| panic!("ARENITE_PRELOAD {path:?}: {error}"))
        }
        None => build_library(),
    })
}

fn build_library() -> PathBuf {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's tmp lies in the target directory");
    // Beside the plain one, which another test process may be running.
    let (target, features) = match cfg!(feature = "hardened") {
        true => (target.join("hardened"), ["--features", "hardened"].as_slice()),
        false => (target.to_owned(), [].as_slice()),
    };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--example", "preload", "--target-dir"])
        .arg(&target)
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(built.success(), "cargo build --release --example preload: {built}");
    let library = target.join("release/examples/libpreload.so");
    assert!(library.exists(), "{} is not where cargo should have put it", library.display());
    library
}

/// The witness, compiled once per test process.
fn witness() -> &'static Path {
    static WITNESS: OnceLock<PathBuf> = OnceLock::new();
    WITNESS.get_or_init(|| compile("witness.c", "witness.so", &["-shared", "-fPIC", "-ldl"]))
}

/// Compiles a C source of `tests/programs` with the machine's `cc`, which Rust needs for linking anyway, to a file of
/// this name below cargo's directory for tests.
pub(crate) fn compile(source: &str, name: &str, options: &[&str]) -> PathBuf {
    let dir = temporary("compile");
    let fresh = dir.path().join(name);
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-pthread"])
        .arg(inputs().join(source))
        .args(options)
        .arg("-o")
        .arg(&fresh)
        .output()
        .expect("cc starts (Debian package gcc)");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && messages.is_empty(), "cc {source}: {messages}");
    // Renamed, not written in place: another test process may be running the last one.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::rename(&fresh, &path).expect("both lie in one directory");
    path
}

/// The directory with what the tests feed to the programs.
pub(crate) fn inputs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// A directory of its own below cargo's, removed when it drops.
pub(crate) fn temporary(name: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("a directory below target/tmp")
}

/// The program's path. On a machine without it: in continuous integration (`CI=true`) a failure that names the Debian
/// package, elsewhere a line on standard error, past the test harness's capture, and `None`.
pub(crate) fn find(program: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    if found.is_none() {
        missing(program, package);
    }
    found
}

/// As [`find`] does, for something that was looked for otherwise.
pub(crate) fn missing(what: &str, package: &str) {
    let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!in_ci, "{what} is missing: install the Debian package {package}");
    let line = format!("SKIPPED, not tested: {what} is missing (Debian package {package})\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
}

/// How a program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Allocator {
    Plain,
    Preloaded,
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// One run of a test: a working directory, an environment, and the transcript that is compared in the end.
#[derive(Debug)]
pub(crate) struct Scene {
    root: PathBuf,
    allocator: Allocator,
    transcript: Vec<(String, String)>,
}

impl Scene {
    fn new(root: &Path, allocator: Allocator) -> Scene {
        let scene = Scene { root: root.to_owned(), allocator, transcript: Vec::new() };
        fs::create_dir(scene.dir()).expect("the working directory can be made");
        scene
    }

    /// Leaves nothing for the next run to find.
    fn clear(&self) {
        fs::remove_dir_all(self.dir()).expect("the working directory can be removed");
        let _ = fs::remove_file(self.log());
    }

    /// The working directory, which has the same name in both runs.
    pub(crate) fn dir(&self) -> PathBuf {
        self.root.join("work")
    }

    fn log(&self) -> PathBuf {
        self.root.join("witness.log")
    }

    /// A command in the working directory and in an environment that holds nothing of the caller's but the path.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut preload = witness().as_os_str().to_owned();
        if self.allocator == Allocator::Preloaded {
            preload.push(":");
            preload.push(library());
        }
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("LD_PRELOAD", preload)
            .env("ARENITE_WITNESS", self.log())
            .current_dir(self.dir())
            .stdin(Stdio::null());
        command
    }

    /// Puts a file into the working directory.
    pub(crate) fn write(&self, name: &str, contents: &str) {
        let path = self.dir().join(name);
        fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("the directory can be made");
        fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Adds to the transcript.
    pub(crate) fn record(&mut self, what: &str, text: impl Into<String>) {
        self.transcript.push((what.to_owned(), text.into()));
    }

    /// Adds a file of the working directory to the transcript, byte for byte.
    pub(crate) fn keep(&mut self, name: &str) {
        let path = self.dir().join(name);
        let bytes = fs::read(&path)
            .unwrap_or_else(|error| panic!("{:?}: {}: {error}", self.allocator, path.display()));
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(binary) => hexadecimal(binary.as_bytes()),
        };
        self.record(name, text);
    }

    /// Runs a command to its successful end and puts what it said into the transcript.
    pub(crate) fn run(&mut self, command: &mut Command) {
        let output = self.run_unrecorded(command);
        let name = command.get_program().to_string_lossy().into_owned();
        self.record(&format!("{name}, stdout"), output.stdout);
        self.record(&format!("{name}, stderr"), output.stderr);
    }

    /// Runs a command whose words vary from run to run; that it ends well is still asked.
    pub(crate) fn run_unrecorded(&self, command: &mut Command) -> Output {
        run(command).unwrap_or_else(|problem| panic!("{:?}: {problem}", self.allocator))
    }

    /// Starts a command that runs beside the others, with its output in the working directory's file `log`.
    pub(crate) fn start(&self, command: &mut Command, log: &str) -> Background {
        let log = File::create(self.dir().join(log)).expect("the log can be made");
        command.stdout(log.try_clone().expect("a handle can be doubled")).stderr(log).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Background(child)
    }

    /// Which library `malloc` was bound to, for each executable that ran.
    fn bindings(&self) -> BTreeSet<(String, PathBuf)> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let pair = |line: &str| {
            let (executable, library) = line.split_once('\t').expect("the witness writes two columns");
            let name = executable.rsplit('/').next().unwrap_or(executable);
            (name.to_owned(), fs::canonicalize(library).unwrap_or_else(|_| PathBuf::from(library)))
        };
        text.lines().map(pair).collect()
    }
}

/// A process that the test ends itself; dropped, it is killed with all that it started.
#[derive(Debug)]
pub(crate) struct Background(Child);

impl Background {
    /// Waits for the end that something else has brought about, and wants it to be a clean one.
    pub(crate) fn finish(mut self) {
        let status = wait(&mut self.0).expect("the process ends when it is told to");
        assert!(status.success(), "the process in the background: {status}");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        kill_group(&self.0);
        // It is gone or about to be; a failure to reap it changes nothing.
        let _ = self.0.wait();
    }
}

/// Kills the process group that a child of ours leads.
fn kill_group(child: &Child) {
    let group = i32::try_from(child.id()).expect("a process number");
    // SAFETY: no memory is passed. The child was started as the leader of its group and, as nobody has reaped it or
    // `Child::wait` has remembered that, the number is not another's: a group lives while the leader is unreaped.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus, String> {
    let deadline = Instant::now() + COMMAND_LIMIT;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            kill_group(child);
            let _ = child.wait();
            return Err(format!("no end after {COMMAND_LIMIT:?}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its successful end, or says what happened instead.
pub(crate) fn run(command: &mut Command) -> Result<Output, String> {
    // Files, not pipes: a grandchild that outlives the command would keep a pipe open.
    let dir = temporary("output");
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let create = |path| File::create(path).expect("a file for the output");
    command.stdout(create(&out)).stderr(create(&err)).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let end = wait(&mut child);
    let read = |path| String::from_utf8_lossy(&fs::read(path).expect("the output was written")).into_owned();
    let (stdout, stderr) = (read(&out), read(&err));
    let problem = match end {
        Ok(status) if status.success() => return Ok(Output { stdout, stderr }),
        Ok(status) => match status.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            None => status.to_string(),
        },
        Err(problem) => problem,
    };
    let tail =
        |text: &str| text.chars().rev().take(3000).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    Err(format!("{command:?}: {problem}\n-- stdout\n{}\n-- stderr\n{}", tail(&stdout), tail(&stderr)))
}

/// The library whose `malloc` a run of `program` reaches.
pub(crate) fn binding_of(allocator: Allocator, program: &Path) -> PathBuf {
    let root = temporary("binding");
    let scene = Scene::new(root.path(), allocator);
    scene.run_unrecorded(&mut scene.command(program));
    let bindings = scene.bindings();
    let (_, library) = bindings.first().expect("the witness saw the program");
    library.clone()
}

/// Plays `scene` plain and preloaded and wants the same transcript, and that each executable of `witnessed` ran with
/// `malloc` bound to the library. An executable of `own` may have a `malloc` of its own.
pub(crate) fn compare(name: &str, witnessed: &[&str], own: &[&str], play: impl Fn(&mut Scene)) {
    // One directory for both, one after the other: its path may find its way into what a program writes.
    let root = temporary(name);
    let [plain, preloaded] = [Allocator::Plain, Allocator::Preloaded].map(|allocator| {
        let mut scene = Scene::new(root.path(), allocator);
        play(&mut scene);
        if allocator == Allocator::Preloaded {
            check_bindings(&scene.bindings(), witnessed, own);
        }
        scene.clear();
        scene.transcript
    });
    assert!(!plain.is_empty(), "{name} records nothing to compare");
    assert_eq!(plain.len(), preloaded.len(), "{name} records as much in both runs");
    for ((what, plain), (_, preloaded)) in plain.iter().zip(&preloaded) {
        assert!(plain == preloaded, "{name}: {what} differs:\n{}", difference(plain, preloaded));
    }
}

/// Whether `executable` goes by `name`: `python3.11` by `python`, `x86_64-linux-gnu-ld.bfd` by `ld`.
fn is_named(executable: &str, name: &str) -> bool {
    executable.starts_with(name) || executable.split(['-', '.']).any(|part| part == name)
}

fn check_bindings(bindings: &BTreeSet<(String, PathBuf)>, witnessed: &[&str], own: &[&str]) {
    for wanted in witnessed {
        let ran = bindings.iter().any(|(executable, _)| is_named(executable, wanted));
        assert!(ran, "no process of {wanted} was seen with the library: {bindings:?}");
    }
    for (executable, bound) in bindings {
        let excused = own.iter().any(|name| is_named(executable, name));
        let library = library();
        assert!(
            excused || bound == library,
            "{executable} calls the malloc of {}, not of {}",
            bound.display(),
            library.display()
        );
    }
}

/// The first lines that differ, with their numbers.
fn difference(plain: &str, preloaded: &str) -> String {
    let mut text = String::new();
    let (mut left, mut right) = (plain.lines(), preloaded.lines());
    let mut shown = 0;
    for number in 1.. {
        let (a, b) = (left.next(), right.next());
        if (a.is_none() && b.is_none()) || shown == 10 {
            break;
        }
        if a != b {
            writeln!(
                text,
                "line {number}\n  plain:     {}\n  preloaded: {}",
                a.unwrap_or("(none)"),
                b.unwrap_or("(none)")
            )
            .expect("a string can be written");
            shown += 1;
        }
    }
    text
}

/// Sixteen bytes a line, so that a difference has a place.
fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 5 / 2);
    for line in bytes.chunks(16) {
        for byte in line {
            write!(text, "{byte:02x}").expect("a string can be written");
        }
        text.push('\n');
    }
    text
}
