//! A search index over a source tree, with Arenite as the program's allocator.
//!
//! ```sh
//! cargo run --release --example index              # this repository and its dependencies' sources
//! cargo run --release --example index -- src --query 'unsafe impl'
//! cargo run --release --example index_system       # the same program on the system's allocator
//! ```
//!
//! It reads every text file, answers a few queries, and prints what that cost in time and in resident memory: at
//! the peak, after the index was dropped, and after `trim()`. Everything but the choice of the allocator is in `app`,
//! so the figures of `index` and `index_system` compare line by line, and their answers carry the same digest.

mod app;

use std::process::ExitCode;

use app::Allocator;
use arenite::Arenite;

#[global_allocator]
static GLOBAL: Arenite = Arenite::new();

fn main() -> ExitCode {
    app::run(&Allocator {
        name: "arenite",
        trim: || Some(arenite::trim()),
        table: Some(|| arenite::stats().to_string()),
    })
}
