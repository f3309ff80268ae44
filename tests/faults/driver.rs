//! Runs a subject in forked children, under one plan of faults after the other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arenite::vm::inject::{Fault, Place, When, arm, disarm, mapped_bytes, places, stuck_bytes};

use crate::support::process::fork;

/// What a child leaves for its parent, in memory that both have.
struct Report {
    places: [Option<Place>; 256],
    /// Bytes that are mapped and not counted.
    mapped: i64,
    stuck: usize,
}

const ERRORS: [i32; 3] = [libc::ENOMEM, libc::EAGAIN, libc::EINVAL];

type Key = (&'static str, &'static str, u32);

/// A body of work. `run` does it, refusals allowed; then, with no fault any more, `check` looks at contents and does the
/// work again, frees all, and says how many bytes should be mapped.
pub(crate) trait Subject {
    fn run(&mut self);
    fn check(self) -> usize;
}

/// Fails calls that `subject` makes: at random, by their kind, and each place that is wanted. Returns how often each place was made to fail.
pub(crate) fn fail_each_place<S: Subject>(
    name: &str,
    is_wanted: impl Fn(&Place) -> bool,
    subject: impl Fn() -> S,
) -> BTreeMap<Key, u32> {
    let mut refused: BTreeMap<Key, u32> = BTreeMap::new();
    let mut cases = 0;
    let mut run = |plan: &[Fault], refused: &mut BTreeMap<Key, u32>| {
        cases += 1;
        let report = in_child(plan, cases, &subject);
        for place in report.places.iter().flatten() {
            *refused.entry((place.call, place.file, place.line)).or_default() += place.refused;
        }
        report
    };
    let mut wanted: Vec<(Vec<Fault>, Place)> = Vec::new();
    // What led to each place when it was first seen.
    let mut known: BTreeMap<Key, Vec<Fault>> = BTreeMap::new();
    let mut note = |plan: &[Fault], report: &Report, wanted: &mut Vec<(Vec<Fault>, Place)>| {
        for place in report.places.iter().flatten() {
            known.entry((place.call, place.file, place.line)).or_insert_with(|| {
                if is_wanted(place) {
                    wanted.push((plan.to_vec(), *place));
                }
                plan.to_vec()
            });
        }
    };
    let first = run(&[], &mut refused);
    note(&[], &first, &mut wanted);
    // Any call anywhere, the more and the less often; and all calls of a kind from some time on.
    let mut plans = Vec::new();
    for seed in 0..60 {
        let when = When::OneIn([2, 5, 20, 100][seed as usize % 4], seed);
        plans.push(Fault { call: None, place: None, when, errno: ERRORS[seed as usize % 3] });
    }
    for call in ["mmap", "munmap", "mprotect", "madvise", "mremap"] {
        for errno in ERRORS {
            for from in [0, 1, 3] {
                let when = When::From(from);
                plans.push(Fault { call: Some(call), place: None, when, errno });
            }
        }
    }
    for plan in plans.chunks(1) {
        let report = run(plan, &mut refused);
        note(plan, &report, &mut wanted);
    }
    while let Some((before, Place { call, file, line, calls, .. })) = wanted.pop() {
        let choices = [
            (When::Only(0), libc::ENOMEM),
            (When::Only(0), libc::EINVAL),
            (When::Only(calls / 2), libc::EAGAIN),
            (When::From(0), libc::ENOMEM),
            (When::From(0), libc::EINVAL),
            (When::OneIn(3, line), libc::EAGAIN),
        ];
        for (when, errno) in choices {
            let mut plan = before.clone();
            plan.push(Fault { call: Some(call), place: Some((file, line)), when, errno });
            let report = run(&plan, &mut refused);
            note(&plan, &report, &mut wanted);
        }
    }
    // Some calls depend on where the kernel puts things.
    for _ in 0..100 {
        let spared = refused.iter().find(|(_, count)| **count == 0);
        let Some((&(call, file, line), _)) = spared else { break };
        let mut plan = known.get(&(call, file, line)).cloned().unwrap_or_default();
        let (place, when, errno) = (Some((file, line)), When::From(0), libc::ENOMEM);
        plan.push(Fault { call: Some(call), place, when, errno });
        run(&plan, &mut refused);
    }
    let mut text = String::new();
    for ((call, file, line), count) in &refused {
        let _ = writeln!(text, "{count:>8} {call:<20} {file}:{line}");
    }
    println!(
        "{name}: {cases} cases, {} calls refused at {} places\n{text}",
        refused.values().sum::<u32>(),
        refused.len()
    );
    let spared: Vec<_> = refused.iter().filter(|(_, count)| **count == 0).collect();
    assert!(spared.is_empty(), "never failed: {spared:?}");
    refused
}

fn in_child<S: Subject>(plan: &[Fault], case: usize, subject: impl Fn() -> S) -> Report {
    let shared = Shared::new();
    let child = fork(|| {
        move_addresses(case);
        let before = mapped_bytes();
        let mut subject = subject();
        arm(plan.to_vec().leak());
        subject.run();
        disarm();
        let report = shared.report();
        report.places.iter_mut().zip(places()).for_each(|(to, place)| *to = Some(place));
        let expected = subject.check();
        report.mapped = mapped_bytes() - before - expected as i64;
        report.stuck = stuck_bytes();
        0
    });
    let code = child.wait_or_status();
    let report = shared.report();
    assert_eq!(code, Ok(0), "under {plan:?}");
    assert_eq!(report.mapped, 0, "bytes are mapped that nobody knows of, under {plan:?}");
    // Where nothing can be unmapped for good, there is no room to remember it all.
    let is_hopeless = |fault: &Fault| {
        fault.call.is_none_or(|call| call == "munmap") && !matches!(fault.when, When::Only(_))
    };
    assert!(
        report.stuck == 0 || plan.iter().any(is_hopeless),
        "{} bytes are lost under {plan:?}",
        report.stuck
    );
    Report { ..*report }
}

/// Has the kernel put the child's mappings elsewhere than the last child's, so that they are aligned otherwise: nothing
/// else moves the addresses of forked children. The mapping is so long that it lies below all others, and so does what
/// comes later and is large. The steps cover a segment, each in the largest gap between those before it (the golden
/// ratio).
fn move_addresses(case: usize) {
    let len = (64 << 30) + case * 5063 % 8192 * 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel chooses the address, and the mapping stays.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED);
}

/// A page or two that a forked child writes and its parent reads.
struct Shared(*mut Report);

impl Shared {
    fn new() -> Shared {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses the address.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Report>(), protection, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let report = base.cast::<Report>();
        // SAFETY: the mapping has room for a report.
        unsafe { report.write(Report { places: [None; 256], mapped: i64::MIN, stuck: 0 }) };
        Shared(report)
    }

    #[expect(clippy::mut_from_ref, reason = "the parent looks when the child has ended")]
    fn report(&self) -> &mut Report {
        // SAFETY: written by `new`, and one process at a time looks.
        unsafe { &mut *self.0 }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's.
        unsafe { libc::munmap(self.0.cast(), size_of::<Report>()) };
    }
}
