//! Misuse through C's functions, with the hardened preload library: each case is a process of `tests/programs/misuse.c`,
//! which must end with the line that names what is wrong, or by the access itself. The cases are of the kinds that the
//! security tests of mimalloc-bench have, at its three sizes.
//!
//! Would catch a check that is left out: each case that is not stopped prints «missed», and fails here.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "support/preload.rs"]
#[allow(dead_code, reason = "the tests of programs use the rest")]
mod preload;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// How a case must end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The one line, by its words, and an abort.
    Says(&'static str),
    /// A fault at the access: there is no memory.
    Faults,
    /// The one line, or a fault, whichever memory the address falls into.
    SaysOrFaults(&'static str),
    /// What is asked of the block is so.
    Holds,
    /// The same, or a fault at the look.
    HoldsOrFaults,
    /// Nothing sees it, or the next free block's canary does: the byte lies beyond those that are looked at.
    MayBeMissed,
}
use End::{Faults, Holds, HoldsOrFaults, MayBeMissed, Says, SaysOrFaults};

const TWICE: End = Says("was freed twice");
const FOREIGN: End = Says("is not a block of this heap");
const INNER: End = Says("is not the start of a block");
const SIZE: End = Says("with the layout of another size");
const BEHIND: End = Says("was written to behind its end");
const BEFORE: End = Says("was written to before its start");
const LONG: End = Says("would be written to behind its end");
const STRAY: End = SaysOrFaults("is none that is out");
const LATE: End = Says("was written to after it was freed");

const SIZES: [usize; 3] = [8, 4096, 256 << 10];

/// Each kind, and how it ends at each size.
const KINDS: [(&str, [End; 3]); 42] = [
    ("double_free", [TWICE; 3]),
    ("double_free_later", [TWICE; 3]),
    ("double_free_of_two", [TWICE; 3]),
    ("double_free_and_go_on", [TWICE; 3]),
    ("double_free_with_a_new_block", [TWICE; 3]),
    ("free_of_one", [FOREIGN; 3]),
    ("free_of_stack", [FOREIGN; 3]),
    ("free_of_static", [FOREIGN; 3]),
    ("free_of_page_further", [Says("is not"), Says("is not"), INNER]),
    ("free_of_gigabyte_further", [FOREIGN; 3]),
    ("free_of_odd_address", [INNER; 3]),
    ("free_of_inner_address", [INNER; 3]),
    ("free_of_unmapped", [FOREIGN; 3]),
    ("free_of_mapped", [FOREIGN; 3]),
    ("free_of_wild", [FOREIGN; 3]),
    ("free_after_trim", [FOREIGN; 3]),
    ("free_of_state", [FOREIGN; 3]),
    ("free_with_another_size", [SIZE; 3]),
    ("store_behind_1", [BEHIND, BEHIND, Faults]),
    ("store_behind_32", [MayBeMissed, BEHIND, Faults]),
    ("store_behind_1m", [Faults; 3]),
    ("store_before_1", [BEFORE; 3]),
    ("store_before_32", [MayBeMissed, MayBeMissed, BEFORE]),
    ("store_before_1m", [Faults; 3]),
    ("copy_behind_1", [LONG; 3]),
    ("copy_behind_32", [LONG; 3]),
    ("copy_behind_1m", [LONG; 3]),
    ("copy_before_1", [STRAY; 3]),
    ("copy_before_32", [STRAY; 3]),
    ("copy_before_1m", [STRAY; 3]),
    ("write_after_free", [MayBeMissed, MayBeMissed, Faults]),
    ("write_after_free_and_go_on", [LATE, LATE, Faults]),
    ("write_to_no_bytes", [Faults; 3]),
    ("write_to_no_bytes_and_free", [Faults; 3]),
    ("read_from_no_bytes", [Faults; 3]),
    ("double_free_of_no_bytes", [TWICE; 3]),
    ("reuse", [Holds; 3]),
    ("reuse_by_half_the_size", [Holds; 3]),
    ("reuse_by_growth", [Holds; 3]),
    ("zero_after_free", [HoldsOrFaults; 3]),
    ("zero_when_new", [Holds; 3]),
    // No misuse at all.
    ("copy_beside_a_huge_block", [Holds; 3]),
];

/// Of so many kinds of misuse, each at three sizes, at least so many cases must be stopped.
const MISUSES: usize = KINDS.len() - 1;
const STOPPED: usize = 118;

#[test]
fn misuse_is_stopped() {
    let program = preload::compile("misuse.c", "misuse", &["-fno-builtin"]);
    let mut missed = Vec::new();
    let mut wrong = Vec::new();
    for (kind, ends) in KINDS {
        for (size, end) in SIZES.into_iter().zip(ends) {
            let outcome = run(&program, kind, size);
            let says = |words: &str| outcome.signal == Some(libc::SIGABRT) && outcome.says(words);
            let faults = outcome.signal == Some(libc::SIGSEGV);
            let holds = outcome.stdout == "held\n" && outcome.signal.is_none();
            let is_as_it_must_be = match end {
                Says(words) => says(words),
                Faults => faults,
                SaysOrFaults(words) => faults || says(words),
                Holds => holds,
                HoldsOrFaults => holds || faults,
                MayBeMissed => true,
            };
            if outcome.stdout.contains("missed") {
                missed.push(format!("{kind} {size}"));
            }
            if !is_as_it_must_be {
                wrong.push(format!("{kind} of {size} bytes should end as {end:?}: {outcome:?}"));
            }
        }
    }
    let cases = MISUSES * SIZES.len();
    let stopped = cases - missed.len();
    println!("{stopped} of {cases} are stopped; missed: {missed:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(stopped >= STOPPED, "{missed:?}");
}

/// Would catch a kind that the table above forgets, and one that glibc's own allocator would not let pass without harm: a
/// case that ends the program whatever the allocator does would prove nothing.
#[test]
fn the_table_has_every_kind() {
    let program = preload::compile("misuse.c", "misuse-names", &["-fno-builtin"]);
    let output = Command::new(program).output().expect("it starts");
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: BTreeSet<&str> = names.lines().collect();
    assert_eq!(names, KINDS.iter().map(|(name, _)| *name).collect());
}

#[derive(Debug)]
struct Outcome {
    signal: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// One line of the heap's, with these words, and an address.
    fn says(&self, words: &str) -> bool {
        let lines: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("arenite:")).collect();
        lines.len() == 1 && lines[0].starts_with("arenite: the block at 0x") && lines[0].contains(words)
    }
}

fn run(program: &Path, kind: &str, size: usize) -> Outcome {
    let output = Command::new(program)
        .args([kind, &size.to_string()])
        .env("LD_PRELOAD", preload::library())
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    Outcome {
        signal: output.status.signal(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
