//! What systems without Linux's calls say, seen on Linux: `RUSTFLAGS="--cfg arenite_portable" cargo test --test
//! 'vm_*'`.
#![cfg(arenite_portable)]

mod common;

use arenite::vm::{
    Address, Advice, Discard, ForkAdvice, HugePage, MapOptions, Memfd, Reservation, Seals, Sharing, page_size,
};
use common::*;

#[test]
fn what_is_missing_is_named_and_changes_nothing() {
    let page = page_size();
    let one = MapOptions::new(page);
    for (options, name) in [
        (one.no_reserve(), "no-reserve: not on this system"),
        (one.populate(), "populate: not on this system"),
        (one.locked(), "locked: not on this system"),
        (one.stack(), "stack: not on this system"),
        (one.huge_pages(HugePage::Mib2), "huge pages (2 MiB): not on this system"),
        (one.huge_pages(HugePage::Default), "huge pages (default size): not on this system"),
    ] {
        says(&unsupported(options.map_anonymous()), &["mmap(", name]);
    }
    let mut mapping = one.map_anonymous().unwrap();
    mapping.as_mut_slice().unwrap().fill(1);
    for advice in [Advice::HugePage, Advice::Collapse, Advice::PopulateRead, Advice::Cold, Advice::DontDump] {
        says(&unsupported(mapping.advise(.., advice)), &[&format!("advice={advice:?}: not on this system")]);
    }
    mapping.advise(.., Advice::WillNeed).unwrap();
    unsupported(mapping.discard(.., Discard::Remove));
    unsupported(mapping.purge(..));
    unsupported(mapping.guard(..));
    // SAFETY: it is refused.
    unsupported(unsafe { mapping.advise_fork(.., ForkAdvice::DontFork) });
    unsupported(mapping.residency(..));
    unsupported(mapping.set_name(c"name"));
    unsupported(mapping.grow(2 * page));
    unsupported(Memfd::new(c"memfd", 1));
    unsupported(Memfd::with_huge_pages(c"memfd", 1, HugePage::Default));
    unsupported(Memfd::from(std::os::fd::OwnedFd::from(file_of(&[1]))).seal(Seals::GROW));
    unsupported(Reservation::new(1).unwrap().purge(..));
    assert!(mapping.as_slice().unwrap().iter().all(|&byte| byte == 1));
}

#[test]
fn what_every_system_has_works() {
    let page = page_size();
    let mut mapping = MapOptions::new(3 * page).map_anonymous().unwrap();
    mapping.as_mut_slice().unwrap().fill(1);
    mapping.lock(..page).unwrap();
    mapping.unlock(..page).unwrap();
    let tail = mapping.split_off(2 * page).unwrap();
    mapping.shrink(page).unwrap();
    assert!(mapping.as_slice().unwrap().iter().chain(tail.as_slice().unwrap()).all(|&byte| byte == 1));
    let occupied = MapOptions::new(1).address(Address::Exact(mapping.as_ptr().addr()));
    assert_eq!(occupied.map_anonymous().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    let file = file_of(&[0; 10]);
    let shared = MapOptions::new(10).sharing(Sharing::Shared).map_file(&file).unwrap();
    put(&shared, 9, 1);
    shared.flush(.., arenite::vm::Flush::Sync).unwrap();
    assert_eq!(contents_of(&file)[9], 1);
}
