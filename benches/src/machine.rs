//! What the figures were taken on, and with which versions.

use std::fs;
use std::process::Command;

use arenite::vm::{Advice, MapOptions};
use serde::{Deserialize, Serialize};

use crate::cli::package;
use crate::peers::{Kind, Peer};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) huge_pages: String,
    pub(crate) rustc: String,
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let memory = field("/proc/meminfo", "MemTotal");
        let kib = first_number(&memory);
        let huge_pages =
            fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        Machine {
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: output("uname", &["-sr"]),
            huge_pages: huge_pages.split(['[', ']']).nth(1).unwrap_or("").to_owned(),
            rustc: output("rustc", &["--version"]),
        }
    }
}

/// Fills in so many bytes of memory, and gives them back to the kernel. In a virtual machine whose host takes back what is
/// free (a balloon that reports free pages does after two seconds) the next touch costs ten times the fault itself, and huge
/// pages meet it first, because what is reported is free in such pieces: whoever comes after this pays for its own faults only.
pub(crate) fn touch_memory(bytes: u64) {
    let kib = first_number(&field("/proc/meminfo", "MemAvailable"));
    let len = bytes.min(kib << 9) as usize;
    // Short of memory the figures are less certain, no more.
    let Ok(memory) = MapOptions::new(len.max(1)).map_anonymous() else { return };
    let _ = memory.advise(.., Advice::HugePage);
    let _ = memory.advise(.., Advice::PopulateWrite);
}

fn first_number(text: &str) -> u64 {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The version of an allocator, as its source names it.
pub(crate) fn version(peer: &Peer) -> String {
    match peer.kind {
        Kind::Linked { package: Some(name), .. } | Kind::Arena { package: name } => {
            let lock = cargo_lock::Lockfile::load(package().join("Cargo.lock"));
            let found = lock.ok().and_then(|lock| {
                lock.packages
                    .iter()
                    .find(|package| package.name.as_str() == name)
                    .map(|found| found.version.to_string())
            });
            format!("{name} {}", found.unwrap_or_default())
        }
        Kind::Linked { package: None, .. } => output("ldd", &["--version"])
            .lines()
            .next()
            .unwrap_or("glibc")
            .trim_start_matches("ldd ")
            .to_owned(),
        Kind::Preloaded { package, .. } => {
            format!("{package} {}", output("dpkg-query", &["-W", "-f=${Version}", package]))
        }
        Kind::PreloadedOurs => "the preload example".to_owned(),
    }
}
