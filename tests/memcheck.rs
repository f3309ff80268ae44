//! What valgrind's memcheck sees of a program whose global allocator is Arenite with the feature `valgrind`: each misuse is
//! reported, at a small, a middle and a huge size, and a program without any is let pass.
//!
//! Would catch a request that is not made or names the wrong bytes, a way through the heap that is not told of, memory of
//! the heap's own that is closed (the clean program would be accused), and a leaked block that the heap itself points to.
// The program is the same for a test in release.
#![cfg(all(
    debug_assertions,
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
))]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What memcheck's exit code is when it has something to report.
const REPORTED: i32 = 99;

/// Runs `kind` at each size, of which 64 is a class of its own; the report must have the words, or where there are none there must be no report.
#[track_caller]
fn is_reported(kind: &str, words: Option<fn(usize) -> String>) {
    for size in [1, 64, 20_000, 200_000, 10_000_000] {
        let Some((code, report)) = memcheck(kind, size) else { return };
        match words {
            None => assert_eq!(code, Some(0), "{kind} of {size} bytes:\n{report}"),
            Some(words) => {
                let words = words(size);
                // The heap ends the process itself when it sees a double free.
                let failed = code.is_none_or(|code| code == REPORTED);
                assert!(failed && report.contains(&words), "{kind}: no {words:?}:\n{report}");
            }
        }
    }
}

#[test]
fn a_program_without_misuse() {
    is_reported("nothing", None);
}

#[test]
fn a_read_after_the_free() {
    is_reported("read_after_free", Some(|_| "Invalid read of size 1".to_owned()));
}

#[test]
fn a_write_behind_the_end() {
    is_reported("write_behind", Some(|_| "Invalid write of size 1".to_owned()));
}

#[test]
fn a_read_of_what_was_never_written() {
    is_reported("read_of_nothing_written", Some(|_| "depends on uninitialised value".to_owned()));
}

#[test]
fn a_pointer_from_before_a_realloc() {
    is_reported("stale_after_realloc", Some(|_| "Invalid read of size 1".to_owned()));
}

#[test]
fn a_double_free() {
    is_reported("free_twice", Some(|_| "Invalid free()".to_owned()));
}

#[test]
fn a_leak() {
    for kind in ["leak", "leak_of_first_blocks"] {
        is_reported(
            kind,
            Some(|size| format!("{} bytes in 2 blocks are definitely lost", grouped(2 * size))),
        );
    }
}

#[test]
fn a_use_of_a_rewound_arena() {
    is_reported("rewound_arena", Some(|_| "Invalid read of size 1".to_owned()));
}

/// The exit code and the report; none, and loudly, if the machine lacks the tool. In CI that is a failure.
fn memcheck(kind: &str, size: usize) -> Option<(Option<i32>, String)> {
    let output = Command::new("valgrind")
        .args(["--leak-check=full", "--errors-for-leak-kinds=definite"])
        .arg(format!("--error-exitcode={REPORTED}"))
        .arg(program())
        .args([kind, &size.to_string()])
        .output();
    match output {
        Ok(output) => Some((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "valgrind: {error}: install the Debian package");
            eprintln!("SKIPPED: valgrind: {error}");
            None
        }
    }
}

/// As the tool writes numbers: 20,000.
fn grouped(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// The program, built once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/memcheck");
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("memcheck");
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--manifest-path"]).arg(fixture.join("Cargo.toml"));
        command.arg("--target-dir").arg(&target).env_remove("RUSTFLAGS");
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.join("debug/memcheck")
    })
}
