//! The op program of the heap's property and stress tests, driven by coverage and under AddressSanitizer, as `arena.rs`
//! says; with `--features hardened` through all checks of the hardened build:
//!
//! ```sh
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz heap -- -max_total_time=60
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz --features hardened heap -- -max_total_time=60
//! ```
#![no_main]

#[path = "../../support/mod.rs"]
mod support;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;

use support::program::{Op, Program, SLOTS, World};

/// A size as programs have them: of any doubling up to 16 MiB, at its ends or between.
fn size(bytes: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    let doubling = bytes.int_in_range(0..=23)?;
    let within = match bytes.int_in_range(0..=3)? {
        0 => 0,
        1 => (1 << doubling) - 1,
        _ => bytes.int_in_range(0..=(1_usize << doubling) - 1)?,
    };
    Ok((1 << doubling) + within)
}

/// Mostly what words ask for; at times up to 2 MiB.
fn align(bytes: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    let most = if bytes.ratio(1, 8)? { 21 } else { 4 };
    Ok(1 << bytes.int_in_range(0..=most)?)
}

#[derive(Debug)]
struct AnyOp(Op);

impl<'a> Arbitrary<'a> for AnyOp {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<AnyOp> {
        let slot = bytes.int_in_range(0..=SLOTS - 1)?;
        Ok(AnyOp(match bytes.int_in_range(0..=19)? {
            0..=5 => Op::Alloc { slot, size: size(bytes)?, align: align(bytes)?, zeroed: bytes.arbitrary()? },
            6..=8 => {
                let size = if bytes.ratio(1, 10)? { 0 } else { size(bytes)? };
                Op::Allocate { slot, size, align: align(bytes)?, zeroed: bytes.arbitrary()? }
            }
            9..=12 => Op::Free { slot },
            13..=14 => Op::Realloc { slot, size: size(bytes)? },
            15..=16 => {
                let size = if bytes.ratio(1, 10)? { 0 } else { size(bytes)? };
                Op::Resize { slot, size, align: align(bytes)?, zeroed: bytes.arbitrary()? }
            }
            17 => Op::HandOver { slot },
            18 => Op::TakeOver { slot },
            _ => Op::Trim,
        }))
    }
}

fuzz_target!(|ops: Vec<AnyOp>| {
    let world = World::default();
    let mut program = Program::new(&world, 1);
    for op in ops {
        program.run(op.0);
    }
    program.check();
    program.finish();
    world.finish();
});
