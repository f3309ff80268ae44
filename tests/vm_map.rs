//! Every argument of a mapping: what it does, and that bad input is an error which names it and changes nothing.
//! These hold on every system.

mod common;

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use arenite::vm::{
    Address, MapError, MapOptions, Mapping, Memfd, Protection, Reservation, Sharing, page_size,
};
use common::*;

static_assertions::assert_impl_all!(Mapping: Send, Sync, std::fmt::Debug);
static_assertions::assert_impl_all!(Reservation: Send, Sync, std::fmt::Debug);
static_assertions::assert_impl_all!(Memfd: Send, Sync);
static_assertions::assert_impl_all!(MapError: Send, Sync, std::error::Error);

fn map(len: usize) -> Mapping {
    MapOptions::new(len).map_anonymous().unwrap()
}

#[test]
fn any_length_is_kept_and_rounded_inside() {
    for len in [1, 2, page_size() - 1, page_size(), page_size() + 1, 10 * page_size() + 7] {
        let mut mapping = map(len);
        assert_eq!((mapping.len(), mapping.as_slice().unwrap().len()), (len, len));
        assert_eq!(mapping.mapped_len(), len.next_multiple_of(page_size()));
        assert_eq!(mapping.page_len(), page_size());
        assert!(mapping.as_slice().unwrap().iter().all(|&byte| byte == 0));
        mapping.as_mut_slice().unwrap().fill(1);
    }
}

#[test]
fn bad_lengths_are_named() {
    says(&refused(MapOptions::new(0).map_anonymous()), &["mmap(", "len=0: "]);
    for len in [usize::MAX, usize::MAX - page_size() + 1, isize::MAX as usize + 1] {
        says(&refused(MapOptions::new(len).map_anonymous()), &["too large", &format!("len={len}: ")]);
    }
    let file = file_of(&pattern(100));
    says(&refused(MapOptions::new(0).map_file(&file)), &["len=0: "]);
    // The bytes before the odd offset count.
    let len = isize::MAX as usize - page_size() + 1;
    says(
        &refused(MapOptions::new(len).offset(1).map_file(&file)),
        &[&format!("len={len}: "), "1 bytes before"],
    );
    says(&refused(Reservation::new(0)), &["len=0: "]);
    says(&refused(Reservation::new(usize::MAX)), &["len=18446744073709551615: "]);
    // Not wrong, but more than there is: the kernel's answer, with the arguments.
    let len = isize::MAX as usize - page_size() + 1;
    let text = failed_with(MapOptions::new(len).map_anonymous(), libc::ENOMEM);
    says(
        &text,
        &["mmap(addr=kernel's choice, ", &format!("len={len}, read+write, private, anonymous, offset=0): ")],
    );
}

#[test]
fn hint_is_taken_where_there_is_room() {
    alone("hint_is_taken_where_there_is_room", || {
        let hole = map(4 * page_size()).as_ptr().addr();
        let hinted = MapOptions::new(1).address(Address::Hint(hole)).map_anonymous().unwrap();
        assert_eq!(hinted.as_ptr().addr(), hole);
        let elsewhere = MapOptions::new(1).address(Address::Hint(hole)).map_anonymous().unwrap();
        assert_ne!(elsewhere.as_ptr().addr(), hole);
    });
}

#[test]
fn exact_address_is_exact() {
    alone("exact_address_is_exact", || {
        let hole = map(4 * page_size()).as_ptr().addr();
        let options = MapOptions::new(100).address(Address::Exact(hole));
        let exact = options.map_anonymous().unwrap();
        assert_eq!(exact.as_ptr().addr(), hole);
        drop(exact);
        // Of a file at an odd offset, the first page lies there.
        let file = file_of(&pattern(2 * page_size()));
        let exact = options.offset(page_size() as u64 + 3).map_file(&file).unwrap();
        assert_eq!(exact.as_ptr().addr(), hole + 3);
        assert_eq!(bytes(&exact), &pattern(2 * page_size())[page_size() + 3..][..100]);
    });
}

#[test]
fn occupied_exact_address_is_an_error_and_changes_nothing() {
    let mut there = map(3 * page_size());
    there.as_mut_slice().unwrap().copy_from_slice(&pattern(3 * page_size()));
    there.protect(.., Protection::Read).unwrap();
    let base = there.as_ptr().addr();
    // On it, into its end, and around all of it.
    for (addr, len) in
        [(base, 1), (base + 2 * page_size(), 4 * page_size()), (base - page_size(), 9 * page_size())]
    {
        let exact = MapOptions::new(len).address(Address::Exact(addr));
        let text = failed_with(exact.map_anonymous(), libc::EEXIST);
        says(
            &text,
            &[&format!("addr=exactly {addr:#x}"), &format!("len={len}"), "something is mapped in the way"],
        );
        assert_eq!(exact.map_anonymous().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(
            Reservation::at(Address::Exact(addr), len).unwrap_err().kind(),
            std::io::ErrorKind::AlreadyExists
        );
    }
    assert_eq!(there.as_slice().unwrap(), pattern(3 * page_size()));
    assert!(!writes(there.as_ptr()), "the protection has changed");
}

#[test]
fn bad_exact_addresses_are_named() {
    let text = refused(MapOptions::new(1).address(Address::Exact(page_size() + 1)).map_anonymous());
    says(&text, &[&format!("addr={:#x}: not between two pages", page_size() + 1)]);
    says(&refused(MapOptions::new(1).address(Address::Exact(0)).map_anonymous()), &["addr=0x0: "]);
}

#[test]
fn protection_means_what_it_says() {
    for (protection, can_read, can_write) in [
        (Protection::None, false, false),
        (Protection::Read, true, false),
        (Protection::ReadWrite, true, true),
        (Protection::ReadExecute, true, false),
        (Protection::ReadWriteExecute, true, true),
    ] {
        let made_so = MapOptions::new(1).protection(protection).map_anonymous().unwrap();
        let mut changed = map(1);
        changed.protect(.., protection).unwrap();
        for mut mapping in [made_so, changed] {
            assert_eq!(
                (reads(mapping.as_ptr()), writes(mapping.as_ptr())),
                (can_read, can_write),
                "{protection}"
            );
            assert_eq!(mapping.as_slice().is_ok(), can_read);
            assert_eq!(mapping.as_mut_slice().is_ok(), can_write);
        }
    }
    assert!(MapOptions::new(1).protection(Protection::Execute).map_anonymous().unwrap().as_slice().is_err());
}

#[test]
fn protection_of_a_range() {
    let page = page_size();
    let mut mapping = map(3 * page + 10);
    mapping.as_mut_slice().unwrap().fill(9);
    mapping.protect(page..2 * page, Protection::None).unwrap();
    let at = |n: usize| mapping.as_ptr().wrapping_add(n);
    assert_eq!(
        (reads(at(page - 1)), reads(at(page)), reads(at(2 * page - 1)), reads(at(2 * page))),
        (true, false, false, true)
    );
    says(&refused(mapping.as_slice()), &["slice(", "not readable throughout"]);
    // A range call does not settle it, though it could; the whole does.
    mapping.protect(page..2 * page, Protection::ReadWrite).unwrap();
    assert!(mapping.as_slice().is_err());
    mapping.protect(.., Protection::Read).unwrap();
    assert!(mapping.as_slice().unwrap().iter().all(|&byte| byte == 9));
    says(&refused(mapping.as_mut_slice()), &["not readable and writable throughout"]);
    // The mapping's own end is an edge.
    mapping.protect(3 * page..3 * page + 10, Protection::ReadWrite).unwrap();
    assert!(writes(mapping.as_ptr().wrapping_add(3 * page + 9)) && !writes(mapping.as_ptr()));
}

#[test]
fn bad_ranges_are_named_and_change_nothing() {
    let page = page_size();
    let mut mapping = map(3 * page);
    let mut neighbour = mapping.split_off(2 * page).unwrap();
    neighbour.as_mut_slice().unwrap().fill(3);
    for (range, text) in [
        (1..page, "an edge is neither"),
        (0..page + 1, "an edge is neither"),
        (0..3 * page, "not inside"),
        (2 * page..3 * page, "not inside"),
        (page..0, "not inside"),
        (usize::MAX - 1..usize::MAX, "not inside"),
    ] {
        let named = format!("range={range:?}: ");
        says(&refused(mapping.protect(range.clone(), Protection::None)), &["mprotect(", &named, text]);
        says(
            &refused(mapping.advise(range.clone(), arenite::vm::Advice::Normal)),
            &["madvise(", &named, text],
        );
        says(
            &refused(mapping.discard(range.clone(), arenite::vm::Discard::DontNeed)),
            &["madvise(", &named, text],
        );
        says(&refused(mapping.purge(range.clone())), &["madvise(", &named, text]);
        says(&refused(mapping.lock(range.clone())), &["mlock(", &named, text]);
        says(&refused(mapping.unlock(range.clone())), &["munlock(", &named, text]);
        if text == "not inside" {
            says(&refused(mapping.flush(range.clone(), arenite::vm::Flush::Sync)), &["msync(", &named]);
            says(&refused(mapping.residency(range)), &["mincore(", &named]);
        }
    }
    says(&refused(mapping.protect(..=usize::MAX, Protection::None)), &["range=0..18446744073709551615: "]);
    mapping.protect(page..page, Protection::None).unwrap();
    assert!(mapping.as_mut_slice().is_ok() && writes(mapping.as_ptr()) && writes(neighbour.as_ptr()));
    assert!(neighbour.as_slice().unwrap().iter().all(|&byte| byte == 3));
}

#[test]
fn private_file_writes_stay_and_shared_ones_arrive() {
    let before = pattern(3 * page_size());
    let file = file_of(&before);
    let options = MapOptions::whole_file(&file).unwrap();
    let private = options.map_file(&file).unwrap();
    assert_eq!(bytes(&private), before);
    put(&private, 5, !before[5]);
    assert_eq!(bytes(&private)[5], !before[5]);
    assert_eq!(contents_of(&file), before, "a private write has reached the file");
    drop(private);
    assert_eq!(contents_of(&file), before, "a private write has reached the file at the end");

    let shared = options.sharing(Sharing::Shared).map_file(&file).unwrap();
    put(&shared, 5, !before[5]);
    assert_eq!(contents_of(&file)[5], !before[5]);
    drop(shared);
    assert_eq!(contents_of(&file)[5], !before[5]);
}

#[test]
fn only_own_memory_has_safe_slices() {
    let file = file_of(&pattern(10));
    let shared = MapOptions::new(10).sharing(Sharing::Shared);
    says(&refused(shared.map_anonymous().unwrap().as_slice()), &["shared: other processes"]);
    says(&refused(shared.map_file(&file).unwrap().as_slice()), &["a file: others can change or truncate"]);
    says(&refused(MapOptions::new(10).map_file(&file).unwrap().as_mut_slice()), &["a file: others"]);
}

#[test]
fn any_offset_shows_the_right_bytes() {
    let page = page_size();
    let all = pattern(4 * page + 100);
    let file = file_of(&all);
    for offset in [0, 1, 7, page - 1, page, page + 1, 2 * page, 3 * page + 99, all.len() - 1] {
        for len in
            [1, 2, page - 1, page, page + 1, 2 * page].into_iter().filter(|len| offset + len <= all.len())
        {
            let mapping = MapOptions::new(len).offset(offset as u64).map_file(&file).unwrap();
            assert_eq!(bytes(&mapping), &all[offset..offset + len], "offset {offset}, len {len}");
            assert_eq!(mapping.len(), len);
            assert_eq!(mapping.mapped_len(), (offset % page + len).next_multiple_of(page));
            assert_eq!(mapping.as_ptr().addr() % page, offset % page);
        }
    }
}

#[test]
fn ranges_behind_an_odd_offset() {
    let page = page_size();
    let file = file_of(&pattern(4 * page));
    let mut mapping = MapOptions::new(2 * page).offset(page as u64 + 100).map_file(&file).unwrap();
    // Between two pages is where the pages are, not where the pointer is.
    says(&refused(mapping.protect(page.., Protection::Read)), &["an edge is neither"]);
    mapping.protect(page - 100..2 * page - 100, Protection::Read).unwrap();
    let can_write = |at: usize| writes(mapping.as_ptr().wrapping_add(at));
    assert_eq!(
        [0, page - 101, page - 100, 2 * page - 101, 2 * page - 100].map(can_write),
        [true, true, false, false, true]
    );
}

#[test]
fn offsets_past_the_end_are_named() {
    let page = page_size() as u64;
    let file = file_of(&pattern(page_size() + 10));
    let file_len = page + 10;
    for (offset, len) in [(0, file_len + 1), (file_len, 1), (10, file_len), (5 * page, 1), (1 << 40, 1)] {
        let text = refused(MapOptions::new(len as usize).offset(offset).map_file(&file));
        says(
            &text,
            &[&format!("offset={offset}, len={len}: past the end of the file, which has {file_len} bytes")],
        );
    }
    for offset in [u64::MAX, u64::MAX - page, i64::MAX as u64, i64::MAX as u64 - page + 2] {
        let text = refused(MapOptions::new(page_size()).offset(offset).map_file(&file));
        says(&text, &[&format!("offset={offset}: with len={page} it is past the largest offset")]);
    }
    says(&refused(MapOptions::new(1).map_file(file_of(&[]))), &["offset=0, len=1: ", "which has 0 bytes"]);
    says(
        &refused(MapOptions::new(1).offset(page).map_anonymous()),
        &[&format!("offset={page}: anonymous memory has none")],
    );
}

#[test]
fn past_the_end_on_request() {
    let page = page_size();
    let file = file_of(&pattern(10));
    let options = MapOptions::new(2 * page).sharing(Sharing::Shared).past_end();
    let mapping = options.map_file(&file).unwrap();
    assert_eq!(in_fork(|| bytes(&mapping)[page] == 0), End::Signal(libc::SIGBUS));
    file.set_len(2 * page as u64).unwrap();
    assert_eq!(bytes(&mapping)[page], 0);
}

#[test]
fn unsuitable_descriptors_give_the_errno_and_the_arguments() {
    let options = MapOptions::new(page_size()).sharing(Sharing::Shared);
    // Nobody opens a thousand files here, so the number is free.
    // SAFETY: a closed descriptor is what is tested; every call on it fails.
    let closed = unsafe { BorrowedFd::borrow_raw(1000) };
    let text = failed_with(options.map_file(closed), libc::EBADF);
    let len = page_size();
    assert_eq!(
        text,
        format!(
            "mmap(addr=kernel's choice, len={len}, read+write, shared, fd=1000, offset=0): Bad file descriptor (os error 9)"
        )
    );

    let path = std::env::temp_dir().join(format!("arenite-write-only-{}", std::process::id()));
    let write_only = File::create(&path).unwrap();
    write_only.set_len(len as u64).unwrap();
    let read_only = File::open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let named = |file: &File| format!("fd={}, ", file.as_raw_fd());
    for sharing in [Sharing::Shared, Sharing::Private] {
        let text = failed_with(options.sharing(sharing).map_file(&write_only), libc::EACCES);
        says(&text, &[&named(&write_only), "fd: not open for what protection and sharing need"]);
    }
    let text = failed_with(options.map_file(&read_only), libc::EACCES);
    says(&text, &[&named(&read_only), "read+write, shared", "fd: not open for"]);
    options.protection(Protection::Read).map_file(&read_only).unwrap();
    options.sharing(Sharing::Private).map_file(&read_only).unwrap();

    let (pipe, _writer) = std::io::pipe().unwrap();
    let error = options.map_file(&pipe).unwrap_err();
    assert!(matches!(MapError::of(&error).unwrap().errno(), Some(libc::EACCES | libc::ENODEV)), "{error}");
    says(&error.to_string(), &["mmap(", &format!("fd={}", pipe.as_raw_fd())]);
    says(&refused(MapOptions::whole_file(&pipe)), &["no regular file"]);
}

#[test]
fn the_descriptor_may_be_closed_afterwards() {
    let file = file_of(&pattern(100));
    let mapping = MapOptions::new(100).map_file(&file).unwrap();
    drop(file);
    assert_eq!(bytes(&mapping), pattern(100));
}

#[test]
fn a_device_knows_its_own_end() {
    let zero = File::options().read(true).write(true).open("/dev/zero").unwrap();
    let mapping = MapOptions::new(1 << 20).map_file(&zero).unwrap();
    assert!(bytes(&mapping).iter().all(|&byte| byte == 0));
}

#[test]
fn an_error_is_retrievable_by_type() {
    let error = MapOptions::new(0).map_anonymous().unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<MapError>()).unwrap();
    assert_eq!((inner.call(), inner.errno()), ("mmap", None));
    assert!(MapError::of(&std::io::Error::from_raw_os_error(libc::EINVAL)).is_none());
}
