//! Forks, bare threads, and what the kernel knows about a process. Every wait ends.

use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, ptr, thread};

pub(crate) use super::child::{Output, alone, in_child, output_in_time, this_binary};

/// For a forked child: it is killed after this, and the test fails.
const TIME_OF_A_FORK: Duration = Duration::from_secs(30);

/// What names a limit: the C libraries disagree.
#[cfg(target_env = "gnu")]
pub(crate) type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(crate) type Resource = libc::c_int;

/// Limits a command's resource, as `ulimit` does.
pub(crate) fn limit(command: &mut Command, resource: Resource, bytes: usize) {
    // SAFETY: `setrlimit` may be called between fork and exec.
    unsafe { command.pre_exec(move || set_limit(resource, bytes)) };
}

/// The soft limit only, so that it can be raised again.
pub(crate) fn set_limit(resource: Resource, bytes: usize) -> std::io::Result<()> {
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

// The C library unwinds a thread that is cancelled or calls `pthread_exit`; the standard declarations say that nothing
// unwinds.
unsafe extern "C-unwind" {
    fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int;
}

/// What a bare thread runs.
pub(crate) type Start = extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// A thread that the standard library knows nothing of, and that may end in any way. In a forked child the library's own
/// locks may be held by threads that are not there: its `spawn` takes one (of its table of stacks), and waits for ever.
#[derive(Debug)]
#[must_use]
pub(crate) struct BareThread(libc::pthread_t);

impl BareThread {
    /// # Safety
    /// `start` may be called with `argument` in another thread, until [`BareThread::join`] returns.
    pub(crate) unsafe fn start(start: Start, argument: *mut c_void) -> BareThread {
        // SAFETY: the number is written by the call; the rest is passed on to the caller.
        unsafe {
            let mut thread = std::mem::zeroed();
            assert_eq!(pthread_create(&raw mut thread, ptr::null(), start, argument), 0);
            BareThread(thread)
        }
    }

    pub(crate) fn cancel(&self) {
        // SAFETY: the thread was not waited for.
        assert_eq!(unsafe { libc::pthread_cancel(self.0) }, 0);
    }

    /// What it returned, or `PTHREAD_CANCELED`.
    pub(crate) fn join(self) -> *mut c_void {
        let mut result = ptr::null_mut();
        // SAFETY: the thread was not waited for.
        assert_eq!(unsafe { libc::pthread_join(self.0, &raw mut result) }, 0);
        result
    }
}

/// Runs the bodies at once, each in a bare thread, and waits for all. Allocates nothing.
pub(crate) fn in_bare_threads<const N: usize, F: FnOnce() + Send>(bodies: [F; N]) {
    extern "C-unwind" fn start<F: FnOnce()>(body: *mut c_void) -> *mut c_void {
        // SAFETY: the caller below passes the place of a body to each thread, and waits.
        let body = unsafe { (*body.cast::<Option<F>>()).take() };
        body.expect("one start")();
        ptr::null_mut()
    }
    let mut bodies = bodies.map(Some);
    // SAFETY: the threads are waited for, so the bodies outlive them.
    let threads =
        bodies.each_mut().map(|body| unsafe { BareThread::start(start::<F>, ptr::from_mut(body).cast()) });
    threads.into_iter().for_each(|thread| _ = thread.join());
}

pub(crate) fn in_bare_thread(body: impl FnOnce() + Send) {
    in_bare_threads([body]);
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
