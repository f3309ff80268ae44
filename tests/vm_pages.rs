//! What is done to pages: dropping contents, guards, advice, locking, flushing, residency, names.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod common;

use std::ffi::CString;

use arenite::vm::{Advice, Discard, Flush, MapOptions, Mapping, Memfd, Protection, Sharing, page_size};
use common::*;

/// Without transparent huge pages, which would bring neighbours into memory; not every kernel has them.
fn map(pages: usize) -> Mapping {
    let mapping = MapOptions::new(pages * page_size()).map_anonymous().unwrap();
    _ = mapping.advise(.., Advice::NoHugePage);
    mapping
}

#[test]
fn purged_pages_read_as_zero_and_take_no_memory() {
    let page = page_size();
    let mut mapping = map(4);
    mapping.as_mut_slice().unwrap().fill(1);
    mapping.purge(page..3 * page).unwrap();
    assert_eq!(mapping.residency(..).unwrap(), [true, false, false, true]);
    let slice = mapping.as_slice().unwrap();
    assert!(slice[page..3 * page].iter().all(|&byte| byte == 0));
    assert!(slice[..page].iter().chain(&slice[3 * page..]).all(|&byte| byte == 1));

    // Shared anonymous memory: for the child too.
    let mut shared = MapOptions::new(page).sharing(Sharing::Shared).map_anonymous().unwrap();
    put(&shared, 0, 1);
    shared.purge(..).unwrap();
    assert_eq!(bytes(&shared)[0], 0);

    // A file has contents to come back to.
    let mut file = MapOptions::new(10).map_file(file_of(&pattern(10))).unwrap();
    says(&unsupported(file.purge(..)), &["madvise(", "a mapping of a file: use discard"]);
    put(&file, 3, 99);
    file.discard(.., Discard::DontNeed).unwrap();
    assert_eq!(bytes(&file), pattern(10));
}

#[test]
fn discards_do_what_they_say() {
    let page = page_size();
    let mut mapping = map(2);
    mapping.as_mut_slice().unwrap().fill(1);
    mapping.discard(..page, Discard::DontNeed).unwrap();
    assert_eq!((bytes(&mapping)[0], bytes(&mapping)[page]), (0, 1));

    // Contents that may vanish are no safe slice, until they are gone for sure.
    mapping.discard(page.., Discard::Free).unwrap();
    says(&refused(mapping.as_slice()), &["Discard::Free may still vanish"]);
    mapping.purge(page..).unwrap();
    assert!(mapping.as_slice().is_err());
    mapping.purge(..).unwrap();
    assert!(mapping.as_slice().unwrap().iter().all(|&byte| byte == 0));

    let memfd = Memfd::new(c"hole", 2 * page as u64).unwrap();
    let options = MapOptions::whole_file(&memfd).unwrap();
    let mut shared = options.sharing(Sharing::Shared).map_file(&memfd).unwrap();
    (0..2 * page).step_by(page).for_each(|at| put(&shared, at, 1));
    shared.discard(..page, Discard::Remove).unwrap();
    let other = options.map_file(&memfd).unwrap();
    assert_eq!((bytes(&other)[0], bytes(&other)[page]), (0, 1));

    says(&unsupported(mapping.discard(.., Discard::Remove)), &["advice=Remove: not for pages like these"]);
    says(&unsupported(shared.discard(.., Discard::Free)), &["advice=Free: not for pages like these"]);
}

#[test]
fn locked_pages_are_dropped_only_on_request() {
    let mut mapping = map(1);
    mapping.as_mut_slice().unwrap().fill(1);
    mapping.lock(..).unwrap();
    says(&unsupported(mapping.purge(..)), &["advice=\"purge\""]);
    assert_eq!(mapping.as_slice().unwrap()[0], 1);
    match mapping.discard(.., Discard::DontNeedLocked) {
        Ok(()) => assert_eq!(mapping.as_slice().unwrap()[0], 0),
        Err(error) => says(&error.to_string(), &["advice=DontNeedLocked: "]),
    }
}

#[test]
fn guards_raise_a_signal() {
    let page = page_size();
    let mut mapping = map(3);
    mapping.as_mut_slice().unwrap().fill(1);
    if let Err(error) = mapping.guard(page..2 * page) {
        says(&unsupported::<()>(Err(error)), &["advice=\"guard\""]);
        eprintln!("no guards in this kernel");
        return;
    }
    assert!(reads(mapping.as_ptr()) && !reads(mapping.as_ptr().wrapping_add(page)));
    says(&refused(mapping.as_slice()), &["some pages are guards"]);
    mapping.unguard(page..2 * page).unwrap();
    assert!(mapping.as_slice().is_err());
    mapping.unguard(..).unwrap();
    let slice = mapping.as_slice().unwrap();
    assert_eq!((slice[page - 1], slice[page], slice[2 * page]), (1, 0, 1));
}

#[test]
fn residency_follows_touching() {
    let page = page_size();
    let mapping = map(5);
    assert_eq!(mapping.resident_pages(..).unwrap(), 0);
    put(&mapping, 2 * page, 1);
    put(&mapping, 5 * page - 1, 1);
    assert_eq!(mapping.residency(..).unwrap(), [false, false, true, false, true]);
    assert_eq!(mapping.residency(2 * page + 5..2 * page + 6).unwrap(), [true]);
    assert_eq!(mapping.resident_pages(1..2 * page + 1).unwrap(), 1);
    assert_eq!(mapping.residency(7..7).unwrap(), []);
    // More than one batch of answers.
    let large = map(2500);
    [0, 1023, 1024, 2499].into_iter().for_each(|n| put(&large, n * page, 1));
    let resident = large.residency(..).unwrap();
    let found: Vec<usize> = (0..2500).filter(|&n| resident[n]).collect();
    assert_eq!((found, resident.len()), (vec![0, 1023, 1024, 2499], 2500));
}

#[test]
fn advice_arrives_or_is_reported() {
    let mapping = map(8);
    let addr = mapping.as_ptr().addr();
    mapping.advise(.., Advice::PopulateRead).unwrap();
    assert_eq!(mapping.resident_pages(..).unwrap(), 8);
    for (advice, flag, set) in [
        (Advice::Random, "rr", true),
        (Advice::Sequential, "sr", true),
        (Advice::Normal, "rr", false),
        (Advice::DontDump, "dd", true),
        (Advice::DoDump, "dd", false),
        (Advice::HugePage, "hg", true),
        (Advice::NoHugePage, "nh", true),
        (Advice::Mergeable, "mg", true),
        (Advice::Unmergeable, "mg", false),
    ] {
        match mapping.advise(.., advice) {
            Ok(()) => assert_eq!(has_flag(addr, flag), set, "{advice:?}"),
            // Kernels are built without some.
            Err(error) => says(&unsupported::<()>(Err(error)), &[&format!("advice={advice:?}: ")]),
        }
    }
    for advice in [Advice::WillNeed, Advice::Cold, Advice::PageOut, Advice::PopulateWrite] {
        mapping.advise(.., advice).unwrap();
    }
    assert!(mapping.as_slice().unwrap().iter().all(|&byte| byte == 0), "advice has changed contents");

    let read_only = MapOptions::new(1).protection(Protection::Read).map_anonymous().unwrap();
    let error = read_only.advise(.., Advice::PopulateWrite).unwrap_err();
    says(&error.to_string(), &["madvise(addr=0x", "range=0..1, advice=PopulateWrite): "]);
    // No huge page fits into one page.
    let error = map(1).advise(.., Advice::Collapse).unwrap_err();
    says(&error.to_string(), &["advice=Collapse"]);
}

#[test]
fn collapse_builds_huge_pages() {
    const MIB2: usize = 2 << 20;
    let mapping = MapOptions::new(2 * MIB2).map_anonymous().unwrap();
    let at = mapping.as_ptr().addr().next_multiple_of(MIB2) - mapping.as_ptr().addr();
    (0..MIB2).step_by(page_size()).for_each(|n| put(&mapping, at + n, 1));
    match mapping.advise(at..at + MIB2, Advice::Collapse) {
        Ok(()) => assert_ne!(smaps_field(mapping.as_ptr().addr() + at, "AnonHugePages"), "0 kB"),
        Err(error) => eprintln!("not collapsed: {error}"),
    }
    assert_eq!(bytes(&mapping)[at], 1);
}

#[test]
fn locking_obeys_the_limit() {
    alone("locking_obeys_the_limit", || {
        let page = page_size();
        let mapping = map(4);
        let addr = mapping.as_ptr().addr();
        limit_locked_memory(2 * page as u64);
        mapping.lock(page..3 * page).unwrap();
        assert_eq!(mapping.residency(..).unwrap(), [false, true, true, false]);
        assert!(has_flag(addr + page, "lo") && !has_flag(addr, "lo"));
        let text = failed_with(mapping.lock(..), libc::ENOMEM);
        says(
            &text,
            &["mlock(addr=0x", &format!("range=0..{}): ", 4 * page), "more than RLIMIT_MEMLOCK allows"],
        );
        mapping.unlock(page..3 * page).unwrap();
        assert!(!has_flag(addr + page, "lo"));
        mapping.lock(..2 * page).unwrap();
        mapping.unlock(..).unwrap();
        limit_locked_memory(0);
        says(&failed_with(mapping.lock(..page), libc::EPERM), &["RLIMIT_MEMLOCK"]);
    });
}

#[test]
fn flush_reaches_the_file() {
    let page = page_size();
    let file = file_of(&vec![0; 3 * page]);
    let mapping = MapOptions::new(2 * page).offset(100).sharing(Sharing::Shared).map_file(&file).unwrap();
    put(&mapping, page + 7, 5);
    mapping.flush(page + 7..page + 8, Flush::Sync).unwrap();
    mapping.flush(.., Flush::Async).unwrap();
    mapping.flush(.., Flush::Sync).unwrap();
    mapping.flush(9..9, Flush::Sync).unwrap();
    assert_eq!(contents_of(&file)[page + 107], 5);
    // A file system that counts dirty pages sees none of ours.
    assert_eq!(smaps_field(mapping.as_ptr().addr(), "Private_Dirty"), "0 kB");

    let private = MapOptions::new(page).map_file(&file).unwrap();
    put(&private, 0, 9);
    says(
        &unsupported(private.flush(.., Flush::Sync)),
        &["msync(", "a private mapping: its writes never reach"],
    );
    assert_eq!(contents_of(&file)[0], 0);
}

#[test]
fn names_are_shown_where_the_kernel_can() {
    let mapping = map(2);
    match mapping.set_name(c"arenite test") {
        Ok(()) => assert!(maps_line(mapping.as_ptr().addr()).unwrap().ends_with("[anon:arenite test]")),
        Err(error) => {
            eprintln!("no names: {error}");
            let parts = ["prctl(", "name=\"arenite test\"): ", "not in this kernel"];
            says(&unsupported::<()>(Err(error)), &parts);
        }
    }
    for name in ["a[b", "a]", "a\\", "$a", "`", "tab\t", "\u{fc}", &"x".repeat(80)] {
        let name = CString::new(name).unwrap();
        says(
            &refused(mapping.set_name(&name)),
            &["prctl(", &format!("name={name:?}: not at most 79 printable")],
        );
    }
}
