//! `cargo bench [-- run|list|report …]`: the package in this folder, which stands apart so that what it needs is not what
//! the library needs. Without a command it does a quick run.

use std::env;
use std::path::Path;
use std::process::{Command, exit};

fn main() {
    // Cargo adds `--bench`.
    let mut arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // `cargo test --benches` asks only whether it starts.
    if arguments.iter().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    if arguments.is_empty() {
        arguments = vec!["run".to_owned(), "--quick".to_owned()];
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/Cargo.toml");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--release", "--manifest-path"])
        .arg(manifest)
        .arg("--")
        .args(arguments)
        .status()
        .expect("cargo");
    exit(status.code().unwrap_or(1));
}
