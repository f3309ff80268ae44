//! C++'s sized `operator delete` with a size that is not the block's, with the preload library: hardened, each case ends with
//! the one line; else it does no harm, because the library finds the size itself.
//!
//! Would catch an operator that is not looked at, or that is taken over from a program that has its own.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "support/preload.rs"]
#[allow(dead_code, reason = "the tests of programs use the rest")]
mod preload;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[test]
fn a_wrong_size_is_stopped_when_hardened_and_harmless_else() {
    let Some(program) = compile("sized_delete", &[]) else { return };
    for kind in ["through_a_base", "another_size", "another_size_of_an_array"] {
        let output = run(&program, kind);
        let said = String::from_utf8_lossy(&output.stderr);
        if cfg!(feature = "hardened") {
            let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("arenite:")).collect();
            let is_said = lines.len() == 1
                && lines[0].starts_with("arenite: the block at 0x")
                && lines[0].contains("with the layout of another size");
            assert!(is_said && output.status.signal() == Some(libc::SIGABRT), "{kind}: {output:?}");
        } else {
            assert!(
                output.status.success() && output.stdout == b"missed\n" && said.is_empty(),
                "{kind}: {output:?}"
            );
        }
    }
}

#[test]
fn right_sizes_are_let_pass() {
    for (name, options) in [("sized_delete-right", [].as_slice()), ("sized_delete-replaced", &["-DREPLACED"])]
    {
        let Some(program) = compile(name, options) else { return };
        let output = run(&program, "right");
        assert!(output.status.success() && output.stdout == b"held\n", "{name}: {output:?}");
    }
}

/// None, and loudly, without the compiler. Not optimised: a compiler may leave out what is deleted at once.
fn compile(name: &str, options: &[&str]) -> Option<PathBuf> {
    let compiler = preload::find("g++", "g++")?;
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let output = Command::new(compiler)
        .args(["-std=c++14", "-fsized-deallocation", "-O0", "-Wall", "-Wno-sized-deallocation"])
        .args(options)
        .arg(preload::inputs().join("sized_delete.cpp"))
        .arg("-o")
        .arg(&program)
        .output()
        .expect("g++ starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

fn run(program: &Path, kind: &str) -> Output {
    Command::new(program)
        .arg(kind)
        .env("LD_PRELOAD", preload::library())
        .stdin(Stdio::null())
        .output()
        .expect("it starts")
}
