//! Misuse through `GlobalAlloc`, hardened: each case is a process of its own, which must end with the line that names
//! what is wrong, or by the access itself. What the plain build sees as well is in `heap_misuse.rs`.

mod support;

use std::alloc::GlobalAlloc;
use std::os::unix::process::ExitStatusExt;
use std::ptr;

use arenite::vm::{Address, MapOptions};
use support::process::{Output, in_child};
use support::{HEAP, KIB, MIB, layout};

/// Small, small over a page, middle, huge.
const SIZES: [usize; 5] = [24, 100, 4000, 100 * KIB, 10 * MIB];
const SMALL: [usize; 3] = [24, 100, 4000];
const LARGE: [usize; 2] = [100 * KIB, 10 * MIB];

fn alloc(size: usize) -> *mut u8 {
    // SAFETY: the size is not zero.
    let block = unsafe { HEAP.alloc(layout(size, 8)) };
    assert!(!block.is_null());
    block
}

/// Not safe at all: the process ends by it, or should.
fn free(block: *mut u8, size: usize) {
    // SAFETY: see above.
    unsafe { HEAP.dealloc(block, layout(size, 8)) };
}

/// Writes a byte at an offset from a block.
fn poke(block: *mut u8, offset: isize) {
    // SAFETY: see above.
    unsafe {
        let byte = block.offset(offset);
        byte.write_volatile(byte.read_volatile() ^ b'A');
    }
}

fn pairs(size: usize) {
    for _ in 0..1000 {
        free(alloc(size), size);
    }
}

/// Runs `misuse` in a process for each size, and asks for the line.
#[track_caller]
fn each(name: &str, sizes: &[usize], words: &str, misuse: impl Fn(usize)) {
    for output in outputs(name, sizes, &misuse) {
        output.assert_aborted(words);
    }
}

/// The same for what has no memory to be written to.
#[track_caller]
fn each_faults(name: &str, sizes: &[usize], misuse: impl Fn(usize)) {
    for output in outputs(name, sizes, &misuse) {
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}\n{}", output.stdout, output.stderr);
    }
}

fn outputs(name: &str, sizes: &[usize], misuse: &impl Fn(usize)) -> Vec<Output> {
    let run = |size: &usize| {
        in_child(
            name,
            |command| _ = command.env("SIZE", size.to_string()),
            || misuse(std::env::var("SIZE").unwrap().parse().unwrap()),
        )
    };
    sizes.iter().map(run).collect()
}

/// Would catch a state that is not looked at.
#[test]
fn a_double_free() {
    each("a_double_free", &SIZES, "was freed twice", |size| {
        let block = alloc(size);
        free(block, size);
        free(block, size);
    });
}

#[test]
fn a_double_free_after_others() {
    each("a_double_free_after_others", &SIZES, "was freed", |size| {
        let block = alloc(size);
        free(block, size);
        pairs(size);
        free(block, size);
    });
}

#[test]
fn a_double_free_with_another_between() {
    each("a_double_free_with_another_between", &SIZES, "was freed twice", |size| {
        let (first, second) = (alloc(size), alloc(size));
        free(first, size);
        free(second, size);
        free(first, size);
    });
}

/// Would catch a state that only one thread's cache knows.
#[test]
fn a_double_free_in_another_thread() {
    each("a_double_free_in_another_thread", &SIZES, "was freed", |size| {
        let address = alloc(size).expose_provenance();
        std::thread::spawn(move || free(ptr::with_exposed_provenance_mut(address), size)).join().unwrap();
        free(ptr::with_exposed_provenance_mut(address), size);
    });
}

#[test]
fn a_pointer_into_a_block() {
    for offset in [1, 8, 16, 20] {
        each("a_pointer_into_a_block", &SIZES, "is not the start of a block", |size| {
            free(alloc(size).wrapping_add(offset), size);
        });
    }
}

/// Would catch a slab's block that was never handed out, and one of a neighbour's size.
#[test]
fn a_pointer_beside_a_block() {
    each("a_pointer_beside_a_block", &SMALL, "is not", |size| {
        free(alloc(size).wrapping_add(48 * KIB), size);
    });
}

#[test]
fn a_pointer_to_the_stack() {
    each("a_pointer_to_the_stack", &SIZES, "is not a block of this heap", |size| {
        let mut value = [0_u64; 8];
        free((&raw mut value).cast(), size);
    });
}

/// Would catch a size that is compared by its class only.
#[test]
fn another_size() {
    each("another_size", &SIZES, "with the layout of another size", |size| free(alloc(size), size + 1));
}

#[test]
fn another_size_given_to_realloc() {
    each("another_size_given_to_realloc", &SIZES, "with the layout of another size", |size| {
        // SAFETY: not safe at all.
        unsafe { HEAP.realloc(alloc(size), layout(size - 1, 8), size * 2) };
    });
}

#[test]
fn a_freed_block_given_to_realloc() {
    each("a_freed_block_given_to_realloc", &SIZES, "was freed twice", |size| {
        let block = alloc(size);
        free(block, size);
        // SAFETY: not safe at all.
        unsafe { HEAP.realloc(block, layout(size, 8), size * 2) };
    });
}

/// Would catch the first blocks of a class coming in the order of their addresses, so that anybody knows where they lie.
#[test]
fn the_first_block_of_a_class_may_lie_anywhere() {
    const NAME: &str = "the_first_block_of_a_class_may_lie_anywhere";
    in_child(
        NAME,
        |_| {},
        || {
            // A tag of 8 bytes makes the class. The block at a slab's beginning is never handed out.
            let is_lowest = |size: usize| alloc(size) as usize % (64 * KIB) == size + 8;
            let lowest = (1..15).filter(|steps| is_lowest(steps * 8)).count();
            assert!(lowest < 10, "{lowest} of 14 classes began with their lowest block");
        },
    )
    .assert_success();
}

/// Would catch slack that is not watched: the sizes leave none, one byte, seven, and more than a word.
#[test]
fn a_byte_behind_a_block() {
    for size in [8, 9, 17, 23, 24, 25, 120, 121, 500, 1000, 4000, 20_000, 32_000] {
        each("a_byte_behind_a_block", &[size], "was written to behind its end", |size| {
            let block = alloc(size);
            poke(block, size as isize);
            free(block, size);
        });
    }
}

/// The end of a string, one byte too far.
#[test]
fn a_zero_behind_a_block() {
    for size in [9, 23, 24, 100, 500, 1000, 4000] {
        each("a_zero_behind_a_block", &[size], "was written to behind its end", |size| {
            let blocks: Vec<*mut u8> = (0..64).map(|_| alloc(size)).collect();
            // A canary's byte is zero now and then.
            // SAFETY: not safe at all.
            blocks.iter().for_each(|block| unsafe { block.add(size).write(0) });
            blocks.iter().for_each(|&block| free(block, size));
        });
    }
}

#[test]
fn a_byte_behind_a_large_block_that_ends_at_its_guard() {
    let name = "a_byte_behind_a_large_block_that_ends_at_its_guard";
    each_faults(name, &LARGE, |size| poke(alloc(size), size as isize));
}

/// Would catch a canary that is left out between the asked bytes and the guard.
#[test]
fn a_byte_behind_a_large_block() {
    each("a_byte_behind_a_large_block", &LARGE, "was written to behind its end", |size| {
        let block = alloc(size - 1);
        poke(block, size as isize - 1);
        free(block, size - 1);
    });
}

#[test]
fn a_copy_of_32_bytes_too_many() {
    each("a_copy_of_32_bytes_too_many", &SMALL, "was written to behind its end", |size| {
        let (block, source) = (alloc(size), vec![b'A'; size + 32]);
        // SAFETY: not safe at all.
        unsafe { block.copy_from_nonoverlapping(source.as_ptr(), size + 32) };
        free(block, size);
    });
}

#[test]
fn two_mebibytes_too_many() {
    each_faults("two_mebibytes_too_many", &SIZES, |size| {
        // SAFETY: not safe at all.
        unsafe { alloc(size).write_bytes(b'A', size + 2 * MIB) };
    });
}

#[test]
fn a_byte_before_a_block() {
    each("a_byte_before_a_block", &SIZES, "was written to before its start", |size| {
        let block = alloc(size);
        poke(block, -1);
        free(block, size);
    });
}

#[test]
fn a_copy_from_32_bytes_before_a_block() {
    each("a_copy_from_32_bytes_before_a_block", &SIZES, "was written to before its start", |size| {
        let block = alloc(size);
        // SAFETY: not safe at all.
        unsafe { block.sub(32).write_bytes(b'A', 40) };
        free(block, size);
    });
}

/// In a heap that is small still: in front of its blocks is nothing.
#[test]
fn a_mebibyte_before_a_block() {
    each_faults("a_mebibyte_before_a_block", &[24, 4000], |size| poke(alloc(size), -(MIB as isize)));
}

/// Would catch a block that leaves quarantine unseen.
#[test]
fn a_write_after_a_free() {
    for size in SMALL {
        for offset in [0, 8, size as isize - 1] {
            each("a_write_after_a_free", &[size], "was written to after it was freed", |size| {
                let block = alloc(size);
                free(block, size);
                poke(block, offset);
                pairs(size);
            });
        }
    }
}

#[test]
fn a_write_to_a_freed_middle_block() {
    each(
        "a_write_to_a_freed_middle_block",
        &[40 * KIB, 200 * KIB],
        "was written to after it was freed",
        |size| {
            let block = alloc(size);
            free(block, size);
            poke(block, size as isize / 2);
            pairs(size);
        },
    );
}

#[test]
fn a_read_of_a_large_freed_block() {
    each_faults("a_read_of_a_large_freed_block", &[3 * MIB, 10 * MIB], |size| {
        let block = alloc(size);
        free(block, size);
        // SAFETY: not safe at all.
        println!("{}", unsafe { block.add(size / 2).read_volatile() });
    });
}

/// A block whose pages moved because it grew, to sizes that are no whole number of pages too; and where it was first.
fn grown() -> (*mut u8, *mut u8, usize) {
    let first = 10 * MIB;
    let block = alloc(first);
    let (mut moved, mut size) = (block, first);
    // SAFETY: the layouts are the blocks', and all that is written and read is theirs.
    unsafe {
        block.add(first - 1).write(3);
        for larger in [20 * MIB, 30 * MIB + 1000, 40 * MIB + 8] {
            moved = HEAP.realloc(moved, layout(size, 8), larger);
            assert!(!moved.is_null() && moved != block);
            size = larger;
        }
        assert_eq!(moved.add(first - 1).read(), 3);
    }
    (moved, block, size)
}

/// Would catch pages that moved and can still be reached where they were, and a place that is anybody's.
#[test]
fn a_read_of_a_large_block_where_it_was_before_it_grew() {
    each_faults("a_read_of_a_large_block_where_it_was_before_it_grew", &[MIB, 10 * MIB - 1], |offset| {
        let (_, before, _) = grown();
        let page = Address::Hint(before.addr() + (offset & !(64 * KIB - 1)));
        let _other = MapOptions::new(64 * KIB).address(page).map_anonymous().unwrap();
        // SAFETY: not safe at all.
        println!("{}", unsafe { before.add(offset).read_volatile() });
    });
}

/// Would catch the end of a block that stays where it was when the block shrinks.
#[test]
fn a_read_of_a_large_block_where_it_was_before_it_shrank() {
    each_faults("a_read_of_a_large_block_where_it_was_before_it_shrank", &[MIB, 19 * MIB], |offset| {
        let block = alloc(20 * MIB);
        // SAFETY: not safe at all.
        unsafe {
            block.add(offset).write(1);
            assert!(!HEAP.realloc(block, layout(20 * MIB, 8), 10 * MIB).is_null());
            println!("{}", block.add(offset).read_volatile());
        }
    });
}

/// Would catch canaries that stayed behind, or are not where the block ends now.
#[test]
fn a_byte_behind_a_large_block_that_grew() {
    const NAME: &str = "a_byte_behind_a_large_block_that_grew";
    each(NAME, &[0, 1, 700], "was written to behind its end", |offset| {
        let (block, _, size) = grown();
        poke(block, (size + offset) as isize);
        free(block, size);
    });
}

#[test]
fn a_byte_before_a_large_block_that_grew() {
    each("a_byte_before_a_large_block_that_grew", &[1, 32], "was written to before its start", |offset| {
        let (block, _, size) = grown();
        poke(block, -(offset as isize));
        free(block, size);
    });
}

#[test]
fn a_large_block_that_grew_is_freed_where_it_was() {
    each("a_large_block_that_grew_is_freed_where_it_was", &[10 * MIB], "was freed twice", |size| {
        let (_, before, _) = grown();
        free(before, size);
    });
}

#[test]
fn a_large_block_that_grew_and_shrank_is_as_any_other() {
    const NAME: &str = "a_large_block_that_grew_and_shrank_is_as_any_other";
    let output = in_child(
        NAME,
        |_| {},
        || {
            for _ in 0..20 {
                let (block, _, size) = grown();
                // SAFETY: the layouts are the block's, and all that is read is its.
                unsafe {
                    // What was a canary reads as zero, as what was never written does.
                    assert!((10 * MIB..size).step_by(100).all(|at| block.add(at).read() == 0));
                    let shrunk = HEAP.realloc(block, layout(size, 8), 11 * MIB + 5);
                    assert_eq!(shrunk.add(10 * MIB - 1).read(), 3);
                    free(shrunk, 11 * MIB + 5);
                }
            }
            arenite::trim();
            assert_eq!(arenite::stats().in_use, 0);
        },
    );
    output.assert_success();
}

/// Would catch a block that is handed out again at once, and contents that the next owner sees: of a block that lay in
/// quarantine, came out of it, and went home.
#[test]
fn a_freed_block_is_not_used_again_at_once_and_is_zero() {
    for size in [8, 100, 4000, 100 * KIB, 2 * MIB, 10 * MIB] {
        let mut last = 0;
        for round in 0..200 {
            let block = alloc(size);
            assert_ne!(block.addr(), last, "{size}");
            last = block.addr();
            // SAFETY: the block is out, and this long. What the heap hands out was written or is zero.
            let bytes = unsafe { std::slice::from_raw_parts_mut(block, size) };
            assert!(support::block::is_zero(bytes), "{size}");
            bytes[size / 2..].fill(b'A');
            free(block, size);
            if round % 50 == 0 {
                arenite::trim();
                last = 0;
            }
        }
    }
}

/// Would catch contents that stay: the block is read after it was freed.
#[test]
fn a_freed_small_block_is_zero() {
    for size in SMALL {
        let block = alloc(size);
        // SAFETY: the block is out, and this long; then it is not, but its memory stays for a while.
        unsafe {
            block.write_bytes(b'A', size);
            free(block, size);
            for i in 0..size {
                assert_eq!(block.add(i).read_volatile(), 0, "byte {i} of {size}");
            }
        }
    }
}

/// Would catch a canary that is the same in the next process.
#[test]
fn canaries_differ_between_processes() {
    let name = "canaries_differ_between_processes";
    let canaries: Vec<String> = (0..4)
        .map(|_| {
            let output = in_child(
                name,
                |_| {},
                || {
                    let block = alloc(1000);
                    // SAFETY: the canary lies in the same mapping.
                    let word = unsafe { block.add(1000).cast::<u64>().read_unaligned() };
                    // Addresses differ by themselves.
                    println!("canary {:#x}", word ^ (block.addr() + 1000) as u64);
                },
            );
            output.assert_success();
            output.stdout.lines().find(|line| line.contains("canary 0x")).unwrap().to_owned()
        })
        .collect();
    for (i, canary) in canaries.iter().enumerate() {
        assert!(!canaries[..i].contains(canary), "{canaries:?}");
    }
}
