//! Writes a module with many items, for the compiler to check.

use std::fmt::Write;

fn main() {
    let mut text = String::new();
    for i in 0..1500 {
        writeln!(text, "pub fn generated_{i}(x: u64) -> Vec<Option<u64>> {{ (0..x).map(|y| y.checked_mul({i})).collect() }}").unwrap();
    }
    writeln!(text, "pub const ALL: &[fn(u64) -> Vec<Option<u64>>] = &[").unwrap();
    for i in 0..1500 {
        writeln!(text, "generated_{i},").unwrap();
    }
    writeln!(text, "];").unwrap();
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/generated.rs"), text).unwrap();
    println!("cargo::rerun-if-changed=build.rs");
}
