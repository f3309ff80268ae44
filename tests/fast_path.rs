//! What a `Box` costs in a release program with fat LTO: the instructions of the hot path, counted, and no call on it.
//!
//! Would catch a fast path that is not inlined any more, a thread-local that grew a destructor or lazy state, a test or
//! a store too many.

use std::path::{Path, PathBuf};
use std::process::Command;

/// For `Box::new([x; 5])` and its drop together, beyond what the same array costs on the stack.
const MOST_INSTRUCTIONS: u64 = 14;

#[test]
fn a_box_costs_a_handful_of_instructions() {
    let program = build();
    let Some(boxes) = instructions_a_round(&program, "boxes") else { return };
    let arrays = instructions_a_round(&program, "arrays").expect("valgrind ran before");
    // The box's address goes through `black_box` where the array's did: one store and one load of the pointer more.
    let pair = boxes - arrays;
    println!("a pair costs {pair} instructions ({boxes} a round, {arrays} with an array on the stack)");
    assert!(pair <= MOST_INSTRUCTIONS, "{pair} instructions for a box and its drop");
}

#[test]
fn the_hot_path_has_no_call() {
    let program = build();
    let Some(output) = run(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(&program)) else {
        return;
    };
    for function in ["make_box", "drop_box"] {
        let header = format!("<{function}>:");
        let body: Vec<&str> = output.lines().skip_while(|line| !line.contains(&header)).skip(1).collect();
        let to_return = body.iter().position(|line| line.split_whitespace().nth(1) == Some("ret"));
        let hot =
            &body[..to_return.unwrap_or_else(|| panic!("no return in {function}:\n{}", body.join("\n")))];
        assert!(!hot.is_empty());
        assert!(!hot.iter().any(|line| line.contains("call")), "{function}:\n{}", hot.join("\n"));
    }
}

/// Instructions for one more round, from two counts: what start and end cost falls out.
fn instructions_a_round(program: &Path, what: &str) -> Option<u64> {
    let rounds = 100_000;
    let less = instructions(program, what, rounds)?;
    let more = instructions(program, what, rounds * 2)?;
    // Slow paths and the loop's ends are a fraction of an instruction a round.
    Some((more - less + rounds / 2) / rounds)
}

fn instructions(program: &Path, what: &str, rounds: u64) -> Option<u64> {
    let folder = tempfile::tempdir().expect("a folder for callgrind's output");
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").current_dir(folder.path()).arg(program).arg(what).arg(rounds.to_string());
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

fn build() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = here.join("tests/fixtures/fast_path");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fast_path");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--release", "--quiet", "--manifest-path"]).arg(fixture.join("Cargo.toml"));
    command.arg("--target-dir").arg(&target).env_remove("RUSTFLAGS");
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("release/fast_path")
}
