//! What a `Box` costs in a release program with fat LTO, and C's `malloc` and `free` in the preloaded library: the
//! instructions of the hot path, counted, and no call on it.
//!
//! Would catch a fast path that is not inlined any more, a thread-local that grew a destructor or lazy state, a test or
//! a store too many, a slow path that wants a frame where the fast one begins.

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64", not(miri)))]
#[path = "support/preload.rs"]
#[allow(dead_code, reason = "only what builds the library and a program")]
mod preload;

use std::path::{Path, PathBuf};
use std::process::Command;

/// For `Box::new([x; 5])` and its drop together, beyond what the same array costs on the stack.
const MOST_INSTRUCTIONS: u64 = 12;
const MOST_WITHOUT_LTO: u64 = 20;

#[test]
fn a_box_costs_a_handful_of_instructions() {
    let program = build("release");
    let Some(boxes) = instructions_a_round(&program, "boxes", None) else { return };
    let arrays = instructions_a_round(&program, "arrays", None).expect("valgrind ran before");
    // The box's address goes through `black_box` where the array's did: one store and one load of the pointer more.
    let pair = boxes - arrays;
    println!("a pair costs {pair} instructions ({boxes} a round, {arrays} with an array on the stack)");
    assert!(pair <= MOST_INSTRUCTIONS, "{pair} instructions for a box and its drop");
}

/// Without LTO, as programs are built that did not ask for it. Would catch a step between the program and the fast path
/// that is inlined within a crate only.
#[test]
fn without_lto_a_box_costs_two_calls() {
    let program = build("without-lto");
    let Some(boxes) = instructions_a_round(&program, "boxes", None) else { return };
    let arrays = instructions_a_round(&program, "arrays", None).expect("valgrind ran before");
    let pair = boxes - arrays;
    println!("without LTO {pair} ({boxes} a round, {arrays} with an array on the stack)");
    assert!(pair <= MOST_WITHOUT_LTO, "{pair} instructions for a box and its drop");
}

#[test]
fn the_hot_path_has_no_call() {
    let program = build("release");
    let Some(output) = disassembly(&program) else { return };
    for function in ["make_box", "drop_box"] {
        let hot = to_the_end(&output, function, &["ret"]);
        assert!(hot.len() > 1);
        assert!(!hot.iter().any(|line| line.contains("call")), "{function}:\n{}", hot.join("\n"));
    }
}

/// C's functions in the preloaded library, from their beginning straight on to where they return, or jump to `memset`:
/// the way of a small block.
#[test]
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64",
    not(miri),
    not(feature = "hardened")
))]
fn functions_of_c_cost_a_handful_of_instructions() {
    let Some(output) = disassembly(preload::library()) else { return };
    for (function, most) in [("malloc", 11), ("free", 14), ("calloc", 16), ("realloc", 20)] {
        let hot = to_the_end(&output, function, &["ret", "jmp"]);
        println!("{function}: {} instructions", hot.len());
        let text = hot.join("\n");
        assert!(hot.len() > 5 && hot.len() <= most, "{} instructions in {function}:\n{text}", hot.len());
        let has_frame = hot.iter().any(|line| {
            let instruction = line.split_once(':').map_or("", |(_, rest)| rest.trim());
            instruction.starts_with("call") || instruction.starts_with("push") || instruction.contains("%rsp")
        });
        assert!(!has_frame, "{function}:\n{text}");
    }
}

/// That this is the way that small blocks go. Would catch one that always leads to the slow path.
#[test]
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64",
    not(miri),
    not(feature = "hardened")
))]
fn a_pair_of_malloc_and_free_goes_the_fast_way() {
    let program = preload::compile("pairs.c", "pairs", &["-O2", "-fno-builtin"]);
    let Some(nothing) = instructions_a_round(&program, "nothing", Some(preload::library())) else { return };
    // For each function a call, and a jump to the library.
    for (what, most) in [("pairs", 11 + 14 + 4), ("reallocs", 20 + 2)] {
        let some = instructions_a_round(&program, what, Some(preload::library()));
        let cost = some.expect("valgrind ran before") - nothing;
        println!("{what} cost {cost} instructions, and {nothing} the loop");
        assert!(cost <= most, "{cost} instructions for {what}");
    }
}

fn disassembly(program: &Path) -> Option<String> {
    run(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(program))
}

/// The lines of a function from its first to the first of these instructions.
fn to_the_end<'a>(disassembly: &'a str, function: &str, ends: &[&str]) -> Vec<&'a str> {
    // Where one has two names, as C's have, the tool prints one of them.
    let headers = [format!("<{function}>:"), format!("<__libc_{function}>:")];
    let is_header = |line: &&str| headers.iter().any(|header| line.ends_with(header));
    let body: Vec<&str> = disassembly.lines().skip_while(|line| !is_header(line)).skip(1).collect();
    let end =
        body.iter().position(|line| line.split_whitespace().nth(1).is_some_and(|name| ends.contains(&name)));
    let end = end.unwrap_or_else(|| panic!("no end of {function}:\n{}", body.join("\n")));
    body[..=end].to_vec()
}

/// Instructions for one more round, from two counts: what start and end cost falls out.
fn instructions_a_round(program: &Path, what: &str, preloaded: Option<&Path>) -> Option<u64> {
    let rounds = 100_000;
    let less = instructions(program, what, rounds, preloaded)?;
    let more = instructions(program, what, rounds * 2, preloaded)?;
    // Slow paths and the loop's ends are a fraction of an instruction a round.
    Some((more - less + rounds / 2) / rounds)
}

fn instructions(program: &Path, what: &str, rounds: u64, preloaded: Option<&Path>) -> Option<u64> {
    let folder = tempfile::tempdir().expect("a folder for callgrind's output");
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").current_dir(folder.path()).arg(program).arg(what).arg(rounds.to_string());
    if let Some(library) = preloaded {
        command.env("LD_PRELOAD", library);
    }
    let output = run(&mut command)?;
    let line = output.lines().find(|line| line.contains("Collected :")).expect("callgrind's summary");
    Some(line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number"))
}

/// Both outputs of a tool; none, and loudly, if the machine lacks it. In CI that is a failure.
fn run(command: &mut Command) -> Option<String> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            let tool = command.get_program().to_string_lossy().into_owned();
            assert!(
                std::env::var_os("CI").is_none(),
                "{tool}: {error}: install the Debian packages valgrind and binutils"
            );
            eprintln!("SKIPPED: {tool}: {error}");
            return None;
        }
    };
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}\n{text}");
    Some(text)
}

fn build(profile: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = here.join("tests/fixtures/fast_path");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fast_path");
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--profile", profile, "--quiet", "--manifest-path"])
        .arg(fixture.join("Cargo.toml"));
    command.arg("--target-dir").arg(&target).env_remove("RUSTFLAGS");
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join(profile).join("fast_path")
}
