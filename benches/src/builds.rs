//! One worker for each allocator, built by cargo with the allocator's feature.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::package;
use crate::peers::Peer;

/// The programs that are built for each allocator.
pub(crate) const PROGRAMS: [&str; 2] = ["worker", "programs"];

/// Where what was built lies, and what it works on.
pub(crate) fn folder() -> PathBuf {
    package().join("target/workers")
}

/// A program on an allocator.
pub(crate) fn path(program: &str, feature: &str) -> PathBuf {
    folder().join(format!("{program}-{feature}"))
}

/// The small parent of programs that are not ours.
pub(crate) fn launcher() -> PathBuf {
    folder().join("launcher")
}

/// The program that has all arenas.
pub(crate) fn arena() -> PathBuf {
    folder().join("arena")
}

/// Arenite as a library to preload, where `--preload` expects it.
pub(crate) fn build_preload() -> anyhow::Result<()> {
    let arguments = ["build", "--release", "--example", "preload"];
    cargo(Command::new(program()).args(arguments).arg("--manifest-path").arg(package().join("../Cargo.toml")))
}

/// Builds what the peers need. An allocator that does not build is named with the reason, and the others go on.
pub(crate) fn build(peers: &[Peer]) -> anyhow::Result<BTreeMap<&'static str, String>> {
    fs::create_dir_all(folder())?;
    let mut features: Vec<_> = peers.iter().filter_map(Peer::feature).collect();
    features.sort_unstable();
    features.dedup();
    let bar = ProgressBar::new((features.len() * PROGRAMS.len()) as u64);
    bar.set_style(ProgressStyle::with_template("building {msg:24} {wide_bar} {pos}/{len} {elapsed}")?);
    build_one("launcher", &[], &launcher())?;
    if peers.iter().any(|peer| peer.feature().is_none()) {
        build_one("arena", &[], &arena())?;
    }
    let mut failures = BTreeMap::new();
    for feature in features {
        for program in PROGRAMS {
            bar.set_message(format!("{program} on {feature}"));
            bar.tick();
            if let Err(error) = build_program(program, feature) {
                bar.suspend(|| eprintln!("{feature} does not build and is left out: {error:#}"));
                failures.insert(feature, format!("does not build: {error}"));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(failures)
}

pub(crate) fn build_program(program: &str, feature: &str) -> anyhow::Result<()> {
    build_one(program, &["--features", &format!("allocators/{feature}")], &path(program, feature))
}

fn build_one(program: &str, features: &[&str], to: &Path) -> anyhow::Result<()> {
    let target = package().join("target");
    cargo(
        Command::new(self::program())
            .args(["build", "--profile", "measured", "--locked", "--package", program])
            .args(features)
            .arg("--manifest-path")
            .arg(package().join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            // Without it snmalloc's crate checks its own lists on every operation.
            .env("CXXFLAGS", "-DNDEBUG"),
    )?;
    fs::copy(target.join("measured").join(program), to)?;
    Ok(())
}

fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn cargo(command: &mut Command) -> anyhow::Result<()> {
    // What cargo has set for this program is not meant for others.
    let output = command.env_remove("RUSTFLAGS").output().context("cargo")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let error = text.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
        bail!("{error}");
    }
    Ok(())
}

/// What cargo says about all packages that the benchmarks depend on: input of the programs, and the way to the sources
/// that are.
pub(crate) fn metadata() -> anyhow::Result<PathBuf> {
    let output = Command::new(program())
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(package().join("Cargo.toml"))
        .output()
        .context("cargo")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let path = folder().join("metadata.json");
    fs::write(&path, output.stdout)?;
    Ok(path)
}
