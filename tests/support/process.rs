//! Tests in a process of their own, forks, and what the kernel knows about a process. Every wait ends.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CHILD: &str = "ARENITE_TEST_CHILD";
/// For a child: it is killed after this, and the test fails.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The same for a forked child, which does less.
const TIME_OF_A_FORK: Duration = Duration::from_secs(30);

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
        if variable.to_string_lossy().starts_with("ARENITE_") {
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

/// This test binary once more, by the program in `ARENITE_TEST_RUNNER` if there is one: an emulator.
pub(crate) fn this_binary() -> Command {
    let binary = std::env::current_exe().unwrap();
    match std::env::var_os("ARENITE_TEST_RUNNER") {
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

/// Limits a command's resource, as `ulimit` does.
pub(crate) fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, bytes: usize) {
    // SAFETY: `setrlimit` may be called between fork and exec.
    unsafe { command.pre_exec(move || set_limit(resource, bytes)) };
}

/// The soft limit only, so that it can be raised again.
pub(crate) fn set_limit(resource: libc::__rlimit_resource_t, bytes: usize) -> std::io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is filled by the first call and read by the second.
    let result = unsafe {
        libc::getrlimit(resource, &raw mut limit);
        limit.rlim_cur = bytes as libc::rlim_t;
        libc::setrlimit(resource, &raw const limit)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A forked child of this process.
#[must_use]
pub(crate) struct Fork(libc::pid_t);

/// Forks. The child runs `body`, which gives the exit code, and must not use what a lock of another thread guards; where
/// it panics, it says so and exits with [`PANICKED`]. It is killed by the kernel if it takes longer than a minute.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> Fork {
    end_forked_children_that_panic();
    // SAFETY: the child calls nothing but `body`, which knows its limits, and `exit`.
    unsafe {
        match libc::fork() {
            0 => {
                IS_FORKED.store(true, Ordering::Relaxed);
                libc::alarm(60);
                libc::exit(body());
            }
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            pid => Fork(pid),
        }
    }
}

static IS_FORKED: AtomicBool = AtomicBool::new(false);

/// The exit code of a forked child that panicked.
const PANICKED: i32 = 101;

/// The harness's hook takes locks that threads of the parent may have held, which nobody opens in the child: those of
/// another test that fails at that moment. And what a panic unwinds to is the harness, whose threads are not there.
///
/// Set here, before any fork, because setting a hook takes such a lock too.
fn end_forked_children_that_panic() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let harness = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_FORKED.load(Ordering::Relaxed) {
                return harness(info);
            }
            let _ = writeln!(Unlocked, "{info}");
            // SAFETY: always allowed.
            unsafe { libc::_exit(PANICKED) };
        }));
    });
}

/// Standard error, past the standard library's lock.
struct Unlocked;

impl std::fmt::Write for Unlocked {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // SAFETY: the pointer and the length are of one string.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        Ok(())
    }
}

/// Runs `body` in a thread that the standard library knows nothing of, and waits for it: in a forked child its own locks
/// may be held by threads that are not there.
pub(crate) fn in_bare_thread(body: impl FnOnce() + Send) {
    extern "C" fn start<F: FnOnce()>(body: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: the caller below passes the place of a body, and waits.
        let body = unsafe { (*body.cast::<Option<F>>()).take() };
        body.expect("one start")();
        std::ptr::null_mut()
    }
    fn start_of<F: FnOnce()>(_: &Option<F>) -> extern "C" fn(*mut libc::c_void) -> *mut libc::c_void {
        start::<F>
    }
    let mut body = Some(body);
    let start = start_of(&body);
    // SAFETY: the thread is waited for, so the body outlives it; each struct is initialised by the call that takes it.
    unsafe {
        let mut thread = std::mem::zeroed();
        let place = (&raw mut body).cast();
        assert_eq!(libc::pthread_create(&raw mut thread, std::ptr::null(), start, place), 0);
        assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
    }
}

impl Fork {
    /// The exit code; fails when the child hangs or is killed.
    #[track_caller]
    pub(crate) fn wait(self) -> i32 {
        self.wait_or_status()
            .unwrap_or_else(|status| panic!("a forked child ended with the wait status {status:#x}"))
    }

    /// The exit code, or the wait status of a child that was killed; fails when it hangs.
    #[track_caller]
    pub(crate) fn wait_or_status(self) -> Result<i32, i32> {
        let deadline = Instant::now() + TIME_OF_A_FORK;
        loop {
            let mut status = 0;
            // SAFETY: the child is ours and was not waited for.
            match unsafe { libc::waitpid(self.0, &raw mut status, libc::WNOHANG) } {
                0 if Instant::now() > deadline => {
                    let threads = threads_of(self.0);
                    // SAFETY: as above.
                    unsafe {
                        libc::kill(self.0, libc::SIGKILL);
                        libc::waitpid(self.0, &raw mut status, 0);
                    }
                    panic!("a forked child has not ended after {TIME_OF_A_FORK:?}\n{threads}");
                }
                0 => thread::sleep(Duration::from_millis(1)),
                pid if pid == self.0 && libc::WIFEXITED(status) => return Ok(libc::WEXITSTATUS(status)),
                _ => return Err(status),
            }
        }
    }
}

/// What each thread of another process does, and has done: time that grows is slowness, a wait without end is none.
fn threads_of(process: libc::pid_t) -> String {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else {
        return "no threads are seen".to_owned();
    };
    let mut text = String::new();
    for task in tasks.flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        // The fields behind the name, which may hold anything: the state is the third of all.
        let stat = read("stat");
        let stat: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |number: usize| stat.get(number - 3).copied().unwrap_or("?");
        let _ = writeln!(
            text,
            "{}: state {}, ticks of user {} and of system {}, page faults {}, in {:?}, system call {:?}\n{}",
            read("comm").trim_end(),
            field(3),
            field(14),
            field(15),
            field(10),
            read("wchan"),
            read("syscall").trim_end(),
            // For the superuser only.
            read("stack"),
        );
    }
    text
}

/// Ends the process with a message if `f` takes longer than `seconds`: for what would hang in this process.
pub(crate) fn in_time<T>(seconds: u64, what: &str, f: impl FnOnce() -> T) -> T {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let what = what.to_owned();
    let watchdog = thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(seconds)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            // Not `eprintln`, whose output belongs to a test that does not end.
            let _ = writeln!(std::io::stderr(), "{what}: no end after {seconds} s");
            std::process::abort();
        }
    });
    let result = f();
    drop(end);
    watchdog.join().unwrap();
    result
}

/// Looks every few milliseconds whether `done`; false when it is not after `limit`.
pub(crate) fn eventually(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Resident memory of this process, in bytes. The kernel counts by batches: it may be some hundred KiB off.
pub(crate) fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * kernel_page_size()
}

/// Bytes in a page of the kernel's, whatever the tests have Arenite take for one.
fn kernel_page_size() -> usize {
    // SAFETY: any name may be asked for.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Bytes of the range whose pages are resident. `start` may lie anywhere in a page.
pub(crate) fn resident_in(start: usize, len: usize) -> usize {
    let page = kernel_page_size();
    let first = start / page * page;
    let pages = (start + len - first).div_ceil(page);
    let mut residency = vec![0_u8; pages];
    // SAFETY: the vector has a byte for each page; the kernel checks the range.
    let result = unsafe { libc::mincore(first as *mut _, pages * page, residency.as_mut_ptr()) };
    assert_eq!(result, 0, "mincore: {}", std::io::Error::last_os_error());
    residency.iter().filter(|&&page| page & 1 == 1).count() * page
}

/// Page faults of this process that needed no disk.
pub(crate) fn minor_faults() -> usize {
    // SAFETY: zero is a valid `rusage`, which the call fills.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage.ru_minflt as usize
    }
}

/// Mappings of this process.
pub(crate) fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// The threads of this process by their names, with the bits of the signals that they block.
pub(crate) fn threads() -> Vec<(String, u64)> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
        .map(|status| {
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().trim().to_owned()
            };
            (field("Name:"), u64::from_str_radix(&field("SigBlk:"), 16).unwrap())
        })
        .collect()
}

pub(crate) fn purger() -> Option<(String, u64)> {
    threads().into_iter().find(|(name, _)| name == "arenite-purge")
}
