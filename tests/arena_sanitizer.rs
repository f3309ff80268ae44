//! What AddressSanitizer sees of an arena: everything that is nobody's is poisoned.
//!
//! ```sh
//! RUSTFLAGS=-Zsanitizer=address cargo +nightly test --features nightly --test arena_sanitizer \
//!     --target x86_64-unknown-linux-gnu
//! ```
#![feature(cfg_sanitize)]
#![cfg(sanitize = "address")]

use std::process::Command;

use arenite::Arena;

/// Reads the byte in a process of its own, and says what the sanitizer said.
fn verdict(test: &str, misuse: impl FnOnce() -> u8) -> String {
    const KEY: &str = "ARENITE_TEST_MISUSE";
    if std::env::var_os(KEY).is_some() {
        println!("read {}", misuse());
        std::process::exit(0);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(KEY, test)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn rewound_memory_is_poisoned() {
    let said = verdict("rewound_memory_is_poisoned", || {
        let mut arena = Arena::new();
        let stale = arena.scope(|scope| std::ptr::from_ref(scope.alloc([7_u8; 64])).cast::<u8>());
        // SAFETY: none: this is the misuse that must be found.
        unsafe { stale.add(8).read_volatile() }
    });
    assert!(said.contains("use-after-poison"), "{said}");
}

#[test]
fn memory_that_was_never_allocated_is_poisoned() {
    let said = verdict("memory_that_was_never_allocated_is_poisoned", || {
        let arena = Arena::new();
        let first = std::ptr::from_ref(arena.alloc(7_u64)).cast::<u8>();
        // SAFETY: none, as above.
        unsafe { first.add(8).read_volatile() }
    });
    assert!(said.contains("use-after-poison"), "{said}");
}

#[test]
fn a_freed_last_block_is_poisoned() {
    let said = verdict("a_freed_last_block_is_poisoned", || {
        let arena = Arena::new();
        let mut numbers = allocator_api2::vec::Vec::new_in(&arena);
        numbers.extend([7_u8; 100]);
        let stale = numbers.as_ptr();
        drop(numbers);
        // SAFETY: none, as above.
        unsafe { stale.read_volatile() }
    });
    assert!(said.contains("use-after-poison"), "{said}");
}
