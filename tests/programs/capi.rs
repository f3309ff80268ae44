//! C's semantics, function by function: each test runs one check of `capi.c` on glibc as it is, which shows that the
//! check asks for what programs know, and then with the library preloaded.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::preload;

/// Whether glibc itself passes a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Glibc {
    Passes,
    /// Debian 12's glibc does otherwise; newer ones and the C standard are with us.
    DiffersByAge,
}

fn capi() -> &'static Path {
    static CAPI: OnceLock<PathBuf> = OnceLock::new();
    CAPI.get_or_init(|| {
        // Without built-ins: a compiler that knows malloc may leave out a pair of malloc and free.
        preload::compile("plugin.c", "capi.plugin.so", &["-fno-builtin", "-shared", "-fPIC"]);
        preload::compile("capi.c", "capi", &["-fno-builtin", "-ldl"])
    })
}

fn check(name: &str, library: Option<&Path>) {
    let mut command = Command::new(capi());
    command.arg(name).env_remove("LD_PRELOAD").stdin(Stdio::null());
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
    }
    let output = preload::run(&mut command).unwrap_or_else(|problem| panic!("{problem}"));
    let bound = match library {
        Some(library) => format!("malloc is of {}\n", library.display()),
        None => "/libc.so.6\n".to_owned(),
    };
    assert!(output.stdout.contains(&bound), "{name} with {library:?}: {}", output.stdout);
    assert!(
        output.stdout.ends_with(&format!("ok {name}\n")),
        "{name} did not come to its end: {}",
        output.stdout
    );
}

macro_rules! checks {
    ($($name:ident: $glibc:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let name = stringify!($name);
                if Glibc::$glibc == Glibc::Passes {
                    check(name, None);
                }
                check(name, Some(preload::library()));
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

checks! {
    absurd_sizes: Passes,
    after_main: Passes,
    aligned_alloc_refuses: DiffersByAge,
    alignment_of_nothing: Passes,
    before_main: Passes,
    blocks_of_libc: Passes,
    calloc_overflow: Passes,
    calloc_zeroes: Passes,
    every_alignment: Passes,
    fork_from_thread: Passes,
    fork_in_threads: Passes,
    free_keeps_errno: Passes,
    free_keeps_errno_when_unmapping_fails: Passes,
    free_null: Passes,
    frees_in_destructors: Passes,
    handing_over: Passes,
    last_thread_ends: Passes,
    main_thread_leaves: Passes,
    malloc_alignment: Passes,
    malloc_zero: Passes,
    memalign_rounds_up: Passes,
    one_owner: DiffersByAge,
    opened_library: Passes,
    out_of_memory: Passes,
    page_aligned: Passes,
    posix_memalign_refuses: Passes,
    realloc_keeps_contents: Passes,
    realloc_null: Passes,
    realloc_of_aligned: Passes,
    realloc_zero: Passes,
    reallocarray_overflow: Passes,
    reports: Passes,
    sized_frees: DiffersByAge,
    small_stacks: Passes,
    thread_churn: Passes,
    thread_exits: Passes,
    usable_size: Passes,
    vfork_and_exec: Passes,
}

/// Would catch blocks that a cache loses because the C library allocated through it while it was being made.
#[test]
fn a_cache_that_is_used_while_it_is_made_loses_nothing() {
    let keys = preload::compile("keys.c", "keys.so", &["-shared", "-fPIC"]);
    let mut command = Command::new(preload::compile("first.c", "first", &["-fno-builtin", "-lpthread"]));
    let libraries = format!("{} {}", keys.display(), preload::library().display());
    let output =
        preload::run(command.env("LD_PRELOAD", libraries)).unwrap_or_else(|problem| panic!("{problem}"));
    let out: Vec<usize> = output.stdout.lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(out.len(), 3);
    assert!(out[2] < out[1] + 4096, "{out:?}");
}

/// Would catch a check that was written and never run.
#[test]
fn every_check_is_run() {
    let output = preload::run(&mut Command::new(capi())).unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), NAMES);
}
