//! The op program of the property test, driven by coverage and under AddressSanitizer:
//!
//! ```sh
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz arena -- -max_total_time=60
//! ```
//!
//! Without cargo-fuzz the same binary comes from a plain build with its flags:
//!
//! ```sh
//! cd tests/fuzz && RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
//!     -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
//!     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
//!     cargo +nightly run --release --target x86_64-unknown-linux-gnu --bin arena -- -max_total_time=60
//! ```
#![no_main]

#[path = "../../arena_program/mod.rs"]
mod arena_program;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|calls: Vec<arena_program::Call>| arena_program::run(&calls));
