//! The models: what a few threads do, and what must hold when they have.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread;

use crate::base::sync;
use crate::heap::group::Group;
use crate::heap::magazine::Magazine;
use crate::heap::segments::SEGMENTS;
use crate::heap::size_class::SizeClass;
use crate::heap::stand_ins::{self, HOME, MADE, block, use_block};
use crate::heap::{depot, metadata, middle, purge, work};
use crate::vm::sys::{REFUSE, UNMAPPED};
use crate::vm::{Lock, release};

const SMALL: SizeClass = SizeClass::from_index(0);
const MIDDLE: SizeClass = SizeClass::from_index(1);

/// Runs every execution with at most so many preemptions; more if `LOOM_MAX_PREEMPTIONS` says so.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    // The protocols' statics belong to one model at a time.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let body = Arc::new(body);
    for trailing in [false, true] {
        sync::TRAILING.store(trailing, Relaxed);
        let mut builder = Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
        let executions = Arc::new(AtomicUsize::new(0));
        let (count, body) = (Arc::clone(&executions), Arc::clone(&body));
        builder.check(move || {
            sync::begin();
            touch_all();
            stand_ins::begin();
            count.fetch_add(1, Relaxed);
            body();
        });
        println!("{} executions", executions.load(Relaxed));
    }
}

/// Atomics are made when they are first reached: that must be before there are threads.
fn touch_all() {
    depot::magazines(Group, SMALL);
    middle::flush(true);
    purge::note_work();
    purge::take_turn();
    purge::trim();
    let _ = SEGMENTS.lock();
    release::retry();
    release::stuck_bytes();
}

/// Two that want in, and one that tries. Would catch an entry that does not see what the last holder wrote, two holders,
/// and a sleeper whom nobody wakes (loom sees that no thread can go on).
#[test]
fn a_lock_lets_one_in_at_a_time() {
    model(3, || {
        let lock = Arc::new(Lock::new(UnsafeCell::new(0)));
        drop(lock.lock());
        let add = |lock: &Lock<UnsafeCell<u32>>| {
            // SAFETY: under the lock.
            lock.lock().with_mut(|value| unsafe { *value += 1 });
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || add(&lock))
            })
            .collect();
        let tried = lock.try_lock().map(|guard| {
            // SAFETY: under the lock.
            guard.with_mut(|value| unsafe { *value += 1 });
        });
        others.into_iter().for_each(|other| other.join().unwrap());
        // SAFETY: under the lock.
        lock.lock().with(|value| assert_eq!(unsafe { *value }, 2 + u32::from(tried.is_some())));
    });
}

fn magazine_of(blocks: &[NonNull<u8>]) -> Magazine {
    let mut magazine = metadata::take_magazine(SMALL.capacity()).unwrap();
    for block in blocks {
        // SAFETY: the magazine is this function's and has the room.
        unsafe { magazine.push(block.as_ptr()) };
    }
    magazine
}

/// Uses each block of a magazine and takes it apart; says how many.
fn consume(magazine: Magazine) -> usize {
    // SAFETY: the magazine came out of the depot and is the caller's.
    unsafe {
        let blocks = magazine.blocks();
        blocks.iter().for_each(|&block| use_block(NonNull::new(block).unwrap()));
        let len = blocks.len();
        metadata::give_magazine(magazine);
        len
    }
}

fn drain() -> usize {
    let mut blocks = 0;
    while let Some(magazine) = depot::take_idle(Group, SMALL, true) {
        blocks += consume(magazine);
    }
    blocks
}

/// Two threads give magazines, one takes, the purger takes. Would catch a magazine that two get or nobody, a count that
/// is wrong, and blocks whose contents the next owner need not see.
#[test]
fn a_depot_hands_over_whole_magazines() {
    model(3, || {
        let give = || {
            let blocks = [block(), block()];
            blocks.into_iter().for_each(use_block);
            let magazine = magazine_of(&blocks);
            // SAFETY: the magazine is this function's and not empty.
            if unsafe { depot::give_full(SMALL, magazine) } { 0 } else { consume(magazine) }
        };
        let giver = thread::spawn(give);
        let purger = thread::spawn(|| {
            depot::begin_round(Group, SMALL);
            depot::take_idle(Group, SMALL, false).map_or(0, consume)
        });
        let mut blocks = give();
        let spare = metadata::take_magazine(SMALL.capacity());
        // SAFETY: the spare is this function's and empty.
        match unsafe { depot::take_full(SMALL, spare) } {
            Some(magazine) => blocks += consume(magazine),
            // SAFETY: it stayed this function's.
            None => unsafe { metadata::give_magazine(spare.unwrap()) },
        }
        blocks += giver.join().unwrap() + purger.join().unwrap();
        assert_eq!(depot::blocks(SMALL), 2 * depot::magazines(Group, SMALL));
        blocks += drain();
        assert_eq!(blocks, 4);
    });
}

fn free(block: NonNull<u8>) {
    use_block(block);
    // As `route::free_middle` does. SAFETY: the block is the caller's.
    unsafe {
        if !middle::keep(MIDDLE, block) {
            middle::free(MIDDLE, block);
        } else if work::is_noted() {
            return;
        }
    }
    purge::note_work();
}

fn alloc() -> NonNull<u8> {
    let block = middle::alloc_kept(MIDDLE).or_else(|| NonNull::new(middle::alloc(MIDDLE, 0))).unwrap();
    use_block(block);
    block
}

/// Three threads take from one place and put back into it. Would catch a block that two get or nobody, and one whose
/// contents the next owner need not see.
#[test]
fn a_shelf_gives_a_block_to_one() {
    model(3, || {
        // By way of a run, so that every place is there before the threads are.
        free(alloc());
        let others: Vec<_> = (0..2)
            .map(|_| {
                thread::spawn(|| {
                    free(alloc());
                })
            })
            .collect();
        let own = alloc();
        others.into_iter().for_each(|other| other.join().unwrap());
        free(own);
        middle::flush(true);
        assert_eq!(HOME.with_borrow(Vec::len), MADE.get());
    });
}

/// A thread frees a block and is gone; the purger must send it home, however its rounds and the free fall together.
/// Would catch a free that the round does not see and that does not see the round: the purger would sleep for ever on
/// what lies there, and loom sees that no thread can go on.
#[test]
fn the_purger_sees_what_was_freed_or_is_woken() {
    model(3, || {
        purge::note_growth();
        let purger = thread::spawn(|| {
            while HOME.with_borrow(Vec::is_empty) {
                purge::take_turn();
            }
        });
        // Something else: a round may begin at any time from now on.
        purge::note_work();
        free(block());
        purger.join().unwrap();
    });
}

/// Two threads leave addresses that the kernel would not unmap, and two try again. Would catch addresses that are
/// unmapped twice or with another's length, and those that nobody knows of any more.
#[test]
fn addresses_that_wait_are_unmapped_once() {
    model(3, || {
        UNMAPPED.with_borrow_mut(Vec::clear);
        let keep = |base: usize, len| {
            // SAFETY: the stand-in for the system never looks at the range.
            unsafe { release::keep(std::ptr::without_provenance_mut(base), len) };
        };
        keep(0x10_0000, 0x1000);
        REFUSE.set(1);
        let other = thread::spawn(move || {
            release::retry();
            keep(0x20_0000, 0x2000);
        });
        release::retry();
        keep(0x30_0000, 0x3000);
        other.join().unwrap();
        REFUSE.set(0);
        release::retry();
        let mut unmapped = UNMAPPED.take();
        unmapped.sort_unstable();
        assert_eq!(unmapped, [(0x10_0000, 0x1000), (0x20_0000, 0x2000), (0x30_0000, 0x3000)]);
        assert_eq!(release::stuck_bytes(), 0);
    });
}
