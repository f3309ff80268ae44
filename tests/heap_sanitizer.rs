//! What AddressSanitizer sees of the heap: what was freed, and what lies behind the bytes that were asked for.
//!
//! ```sh
//! RUSTFLAGS=-Zsanitizer=address cargo +nightly test --features nightly --test heap_sanitizer \
//!     --target x86_64-unknown-linux-gnu
//! ```
#![feature(cfg_sanitize)]
#![cfg(sanitize = "address")]

mod support;

use std::process::Command;

use support::{Block, KIB, MIB, layout};

/// Misuses a block of each size in a process of its own; the sanitizer must say so.
#[track_caller]
fn is_seen(test: &str, misuse: impl FnOnce(usize)) {
    const KEY: &str = "ARENITE_TEST_MISUSE";
    if let Ok(size) = std::env::var(KEY) {
        misuse(size.parse().unwrap());
        std::process::exit(0);
    }
    for size in [1, 13, 100, 4000, 20 * KIB, 200 * KIB, 10 * MIB] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(KEY, size.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("ERROR: AddressSanitizer"), "{size} bytes: {said}");
    }
}

#[test]
fn a_read_after_the_free() {
    is_seen("a_read_after_the_free", |size| {
        let block = Block::alloc(layout(size, 8)).unwrap();
        let stale = block.address();
        block.free();
        // SAFETY: none: this is the misuse that must be found.
        unsafe { stale.read_volatile() };
    });
}

#[test]
fn a_write_behind_the_end() {
    is_seen("a_write_behind_the_end", |size| {
        let block = Block::alloc(layout(size, 8)).unwrap();
        // SAFETY: none, as above.
        unsafe { block.address().add(size).write_volatile(1) };
    });
}

#[test]
fn a_pointer_from_before_a_realloc() {
    is_seen("a_pointer_from_before_a_realloc", |size| {
        let block = Block::alloc(layout(size, 8)).unwrap();
        let stale = block.address();
        let _moved = block.realloc(size + 1).unwrap();
        // SAFETY: none, as above.
        unsafe { stale.read_volatile() };
    });
}
