//! Processes: fork storms, `vfork` and `exec`, handlers that interrupt the heap, threads that die inside of C code, a
//! library with a heap of its own, a second version in the same program, static linking.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod support;

use std::ffi::{CString, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, ptr, thread};

use support::process::{self, BareThread, alone, fork, in_bare_thread, in_time};
use support::program::{Program, World, random_op};
use support::{Block, KIB, MIB, Random, layout};

#[global_allocator]
static GLOBAL: arenite::Arenite = arenite::Arenite::new();

fn use_the_heap(seed: u64, ops: usize) {
    let world = World::default();
    let mut program = Program::new(&world, seed);
    let mut random = Random::new(seed);
    for _ in 0..ops {
        program.run(random_op(&mut random));
    }
    program.check();
    program.finish();
    world.finish();
}

/// The sizes that threads and children have in common: a small class of each kind, and a middle one.
const SIZES: [usize; 5] = [24, 700, 5 * KIB, 30 * KIB, 100 * KIB];

/// More blocks of a size than caches hold, again and again: most of the time is spent under the locks of the layers.
fn churn(stop: &AtomicBool, seed: u64) {
    let mut random = Random::new(seed);
    while !stop.load(Relaxed) {
        let size = SIZES[random.between(0, 4)];
        let count = (4 * MIB / size).clamp(20, 400);
        let blocks: Vec<Block> = (0..count).map(|_| Block::alloc(layout(size, 8)).unwrap()).collect();
        blocks.into_iter().for_each(Block::free);
    }
}

/// `ARENITE_FORKS` forks (ten thousand for the long form) of a program whose threads allocate all the while; each child
/// allocates on every route, now and then forks again, and ends. Would catch a lock that is not held across a fork or
/// kept in the child, and a list that the child finds half changed: rare, so it takes many forks.
#[test]
fn a_storm_of_forks() {
    let forks = std::env::var("ARENITE_FORKS").ok().map_or(1500, |number| number.parse().unwrap());
    let limit = 80 + forks / 5;
    in_time(limit, "forks", || {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for seed in 0..2 {
                let stop = &stop;
                scope.spawn(move || churn(stop, seed));
            }
            for i in 0..forks {
                let child = fork(|| {
                    for size in SIZES {
                        let mut block = Block::alloc_zeroed(layout(size, 8)).unwrap();
                        assert!(block.is_zero());
                        block.fill(i);
                        block.realloc(size * 2).unwrap().free();
                    }
                    if i % 16 == 0 {
                        arenite::trim();
                        in_bare_thread(|| Block::alloc(layout(100, 8)).unwrap().free());
                        let grandchild = fork(|| {
                            Block::alloc(layout(9 * MIB, 8)).unwrap().free();
                            0
                        });
                        return grandchild.wait();
                    }
                    0
                });
                assert_eq!(child.wait(), 0, "fork {i}");
            }
            stop.store(true, Relaxed);
        });
    });
}

/// The standard library starts a program by `posix_spawn`, which is `vfork` and `exec`: the child runs on its parent's
/// memory for a moment. Would catch fork hooks that run there, and what they change in the parent.
#[test]
fn vfork_and_exec_beside_threads() {
    in_time(80, "spawns", || {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for seed in 0..2 {
                let stop = &stop;
                scope.spawn(move || churn(stop, seed));
            }
            for seed in 0..100 {
                assert!(Command::new("true").status().unwrap().success());
                // SAFETY: the child of a `vfork` does nothing but `execv` and `_exit`.
                unsafe {
                    let name = c"/bin/true";
                    let words = [name.as_ptr(), ptr::null()];
                    #[expect(deprecated, reason = "what is deprecated is still called")]
                    let child = libc::vfork();
                    if child == 0 {
                        libc::execv(name.as_ptr(), words.as_ptr());
                        libc::_exit(1);
                    }
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                    assert_eq!(status, 0);
                }
                use_the_heap(seed, 10);
            }
            stop.store(true, Relaxed);
        });
    });
}

static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn interrupt(_signal: c_int) {
    INTERRUPTIONS.fetch_add(1, Relaxed);
    // Reads memory that it was given, and writes its own: neither allocates.
    let text = [0_u8; 256];
    SEEN.fetch_add(std::hint::black_box(&text).iter().map(|&byte| u64::from(byte)).sum(), Relaxed);
}

/// A signal every tenth of a millisecond, whose handler does not allocate, at whatever instruction of the heap the thread
/// is at. Would catch a system call whose interruption is taken for a refusal, and a state that does not bear a delay.
#[test]
fn a_handler_that_does_not_allocate_interrupts_everything() {
    alone("a_handler_that_does_not_allocate_interrupts_everything", || {
        in_time(60, "interruptions", || {
            // SAFETY: plain structs that the kernel copies; the handler is safe at any time.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = interrupt as *const () as usize;
                // Not `SA_RESTART`: calls are interrupted.
                assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()), 0);
                let tenth = libc::timeval { tv_sec: 0, tv_usec: 100 };
                let timer = libc::itimerval { it_interval: tenth, it_value: tenth };
                assert_eq!(libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()), 0);
            }
            let end = Instant::now() + Duration::from_secs(4);
            let rounds = thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|seed| {
                        scope.spawn(move || {
                            let mut rounds = 0;
                            while Instant::now() < end {
                                use_the_heap(seed + 10 * rounds, 60);
                                rounds += 1;
                            }
                            rounds
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
            });
            let interruptions = INTERRUPTIONS.load(Relaxed);
            println!("{interruptions} interruptions of {rounds} programs");
            assert!(interruptions > 500, "{interruptions}");
        });
    });
}

unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut c_void) -> !;
    fn pause() -> c_int;
}

fn fill_the_cache() {
    for size in [16, 100, 3000] {
        let blocks: [Option<Block>; 40] = std::array::from_fn(|_| Block::alloc(layout(size, 8)));
        blocks.into_iter().flatten().for_each(Block::free);
    }
}

/// Would catch a cache that is lost with a thread that no Rust code sees the end of, and a hook that does not run then.
#[test]
fn threads_that_end_by_pthread_exit_or_are_cancelled() {
    extern "C-unwind" fn exits(_: *mut c_void) -> *mut c_void {
        fill_the_cache();
        // SAFETY: no frame below has anything to drop.
        unsafe { pthread_exit(ptr::null_mut()) }
    }
    extern "C-unwind" fn sleeps(_: *mut c_void) -> *mut c_void {
        fill_the_cache();
        loop {
            // SAFETY: a point of cancellation; no frame below has anything to drop.
            unsafe { pause() };
        }
    }
    alone("threads_that_end_by_pthread_exit_or_are_cancelled", || {
        fill_the_cache();
        arenite::trim();
        let before = arenite::stats();
        for _ in 0..100 {
            // SAFETY: neither looks at its argument.
            let (exits, sleeps) = unsafe {
                (BareThread::start(exits, ptr::null_mut()), BareThread::start(sleeps, ptr::null_mut()))
            };
            exits.join();
            sleeps.cancel();
            sleeps.join();
        }
        arenite::trim();
        let after = arenite::stats();
        assert_eq!(after.threads, before.threads, "{after}");
        assert!(after.in_caches <= before.in_caches + 64 * KIB, "{before}\n{after}");
        assert!(after.in_use <= before.in_use + 64 * KIB, "{before}\n{after}");
    });
}

/// Builds a part of the package `twins` in release, from a copy with an older version of Arenite beside it: the same
/// source under another number. Returns the directory that it was built into.
fn build_twins(part: &[&str], flags: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("twins-{}", part.join("").trim_matches('-')));
    let from = root.join("tests/fixtures/twins");
    copy_files(&from.join("src"), &copy.join("src"));
    copy_files(&root.join("src"), &copy.join("older/src"));
    fs::copy(root.join("README.md"), copy.join("older/README.md")).unwrap();
    let manifest = fs::read_to_string(from.join("Cargo.toml")).unwrap();
    fs::write(copy.join("Cargo.toml"), manifest.replace("../../..", root.to_str().unwrap())).unwrap();
    let older: String =
        fs::read_to_string(root.join("Cargo.toml"))
            .unwrap()
            .lines()
            // The targets that are named there stay behind.
            .take_while(|line| *line != "[dev-dependencies]")
            .map(|line| {
                if line.starts_with("version") { "version = \"0.0.1\"\n".into() } else { format!("{line}\n") }
            })
            .collect();
    let lints = "[lints.rust]\nunexpected_cfgs = \"allow\"\n";
    fs::write(copy.join("older/Cargo.toml"), older + lints).unwrap();
    let target = copy.join(format!("target-{}", flags.len()));
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release"])
        .args(part)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&copy)
        .env("RUSTFLAGS", flags)
        .status()
        .expect("cargo starts");
    assert!(built.success(), "twins {part:?} {flags}: {built}");
    target
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_files(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A library that carries Arenite, loaded by a program that has its own: two heaps, each with its caches, its purger and
/// its hooks. Would catch a symbol of one that is bound to the other, hooks that call into what was unloaded, and memory
/// that one heap takes for its own.
#[test]
fn a_library_brings_a_copy_of_its_own() {
    let target = build_twins(&["--lib"], "");
    alone("a_library_brings_a_copy_of_its_own", || {
        let path = CString::new(target.join("release/libtwins.so").to_str().unwrap()).unwrap();
        // SAFETY: the library's functions have these types, and it is not unloaded.
        let (run, address) = unsafe {
            let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!library.is_null(), "{path:?}");
            let run = libc::dlsym(library, c"twins_run".as_ptr());
            let address = libc::dlsym(library, c"twins_allocator".as_ptr());
            assert!(!run.is_null() && !address.is_null());
            (
                std::mem::transmute::<*mut c_void, extern "C" fn(u64) -> u64>(run),
                std::mem::transmute::<*mut c_void, extern "C" fn() -> usize>(address),
            )
        };
        let own = arenite::stats as fn() -> arenite::Stats as usize;
        assert_ne!(address(), own, "one copy for both");
        let expected = run(0);
        let before = arenite::stats();
        thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || {
                    for round in 0..20 {
                        use_the_heap(seed * 100 + round, 40);
                        assert_eq!(run(seed * 1000 + round) & 0xff, expected & 0xff);
                    }
                });
            }
        });
        let child = fork(|| {
            use_the_heap(7, 40);
            i32::from(run(5) & 0xff != expected & 0xff)
        });
        assert_eq!(child.wait(), 0);
        arenite::trim();
        let after = arenite::stats();
        assert!(after.in_use <= before.in_use + MIB, "{before}\n{after}");
    });
}

/// Two versions in one program, as cargo links them when dependencies differ: one is the global allocator, the other is
/// used by its own interface. Linked statically too.
#[test]
fn two_versions_in_one_program_and_static_linking() {
    for flags in ["", "-C target-feature=+crt-static"] {
        let target = build_twins(&["--bins"], flags);
        let output = process::output_in_time(&mut Command::new(target.join("release/twins")));
        output.assert_success();
        assert!(output.stdout.contains("both heaps are whole"), "{}", output.stdout);
    }
}
