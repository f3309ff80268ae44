//! What the figures were taken on, and with which versions.

use std::fs;
use std::process::Command;

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
        let kib: u64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
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

/// Writes a byte to each page of four gibibytes, or of half of what is free. A virtual machine gets its memory from the host
/// only when it touches it, and that fault costs more than the fault itself: the first rounds would pay for all.
pub(crate) fn touch_memory() {
    let available = field("/proc/meminfo", "MemAvailable");
    let kib: usize = available.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let mut memory = vec![0_u8; (kib << 10 >> 1).min(4 << 30)];
    memory.iter_mut().step_by(4096).for_each(|page| *page = 1);
    std::hint::black_box(memory);
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
