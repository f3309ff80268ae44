//! The program of `examples/index` on the system's allocator, to compare: same work, same answers, same figures, only
//! without Arenite's table.

#[path = "index/app/mod.rs"]
mod app;

use std::process::ExitCode;

use app::Allocator;

fn main() -> ExitCode {
    app::run(&Allocator { name: "system", trim, table: None })
}

/// What glibc offers in the place of `arenite::trim()`; it does not say how much it gave back.
#[cfg(target_env = "gnu")]
fn trim() -> Option<usize> {
    // SAFETY: `malloc_trim` takes any padding, and locks the allocator itself.
    unsafe { libc::malloc_trim(0) };
    None
}

#[cfg(not(target_env = "gnu"))]
fn trim() -> Option<usize> {
    None
}
