//! Reserve, commit, decommit, release; and replacing inside of a reservation.

mod common;

use std::os::fd::BorrowedFd;

use arenite::vm::{Address, MapOptions, Protection, Reservation, Sharing, page_size};
use common::*;

fn at(reservation: &Reservation, n: usize) -> *mut u8 {
    reservation.as_ptr().wrapping_add(n)
}

#[test]
fn reserved_is_inaccessible_until_committed() {
    let page = page_size();
    let mut reservation = Reservation::new(4 * page).unwrap();
    assert!(!reads(at(&reservation, 0)));
    reservation.commit(page..3 * page).unwrap();
    let can_write = |reservation: &Reservation| [0, 1, 2, 3].map(|n| writes(at(reservation, n * page)));
    assert_eq!(can_write(&reservation), [false, true, true, false]);
    // SAFETY: the page is committed.
    unsafe {
        assert_eq!(at(&reservation, page).read(), 0);
        at(&reservation, page).write(7);
        at(&reservation, 2 * page).write(8);
        // Again and wider: what is there stays.
        reservation.commit(..).unwrap();
        assert_eq!(at(&reservation, page).read(), 7);
        reservation.decommit(page..2 * page).unwrap();
        assert_eq!(can_write(&reservation), [true, false, true, true]);
        reservation.commit(page..2 * page).unwrap();
        assert_eq!(at(&reservation, page).read(), 0, "contents have outlived the decommit");
        assert_eq!(at(&reservation, 2 * page).read(), 8);
        reservation.protect(2 * page..3 * page, Protection::Read).unwrap();
        assert!(reads(at(&reservation, 2 * page)) && !writes(at(&reservation, 2 * page)));
    }
}

#[test]
fn lengths_and_addresses() {
    let page = page_size();
    let reservation = Reservation::new(page + 1).unwrap();
    assert_eq!((reservation.len(), reservation.mapped_len()), (page + 1, 2 * page));
    reservation.commit(page..page + 1).unwrap();
    assert!(writes(at(&reservation, 2 * page - 1)));
    let base = reservation.as_ptr().addr();
    let error = Reservation::at(Address::Exact(base), 1).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    says(&error.to_string(), &["mmap(addr=exactly 0x", "len=1, no access, private, anonymous"]);
    // More addresses than there is memory.
    #[cfg(target_pointer_width = "64")]
    Reservation::new(1 << 44).unwrap().release().unwrap();
}

#[test]
fn bad_ranges_are_named_and_change_nothing() {
    let page = page_size();
    let mut reservation = Reservation::new(2 * page).unwrap();
    reservation.commit(..page).unwrap();
    for (range, text) in
        [(1..page, "an edge is neither"), (0..3 * page, "not inside"), (page..page + 1, "an edge")]
    {
        let named = format!("range={range:?}: ");
        says(&refused(reservation.commit(range.clone())), &["mprotect(", &named, text]);
        says(&refused(reservation.protect(range.clone(), Protection::Read)), &["mprotect(", &named, text]);
        says(&refused(reservation.decommit(range.clone())), &["mmap(", &named, text]);
        says(&refused(reservation.purge(range.clone())), &["madvise(", &named, text]);
        says(&refused(reservation.advise(range, arenite::vm::Advice::Normal)), &["madvise(", &named, text]);
    }
    reservation.decommit(page..page).unwrap();
    assert!(writes(at(&reservation, 0)) && !reads(at(&reservation, page)));
}

#[test]
fn a_file_replaces_inside_and_nowhere_else() {
    let page = page_size();
    let file = file_of(&pattern(3 * page));
    let mut reservation = Reservation::new(4 * page).unwrap();
    reservation.commit(..).unwrap();
    for n in 0..4 {
        // SAFETY: committed.
        unsafe { at(&reservation, n * page).write(9) };
    }
    let shared = MapOptions::new(page + 5).offset(7).sharing(Sharing::Shared);
    let first = reservation.replace_file(page, &shared, &file).unwrap();
    assert_eq!(first.as_ptr(), at(&reservation, page + 7));
    // SAFETY: two pages of the file lie there, readable and writable.
    unsafe {
        assert_eq!(std::slice::from_raw_parts(first.as_ptr(), page + 5), &pattern(3 * page)[7..page + 12]);
        first.write(!first.read());
        assert_eq!((at(&reservation, 0).read(), at(&reservation, 3 * page).read()), (9, 9));
    }
    assert_eq!(contents_of(&file)[7], !pattern(8)[7]);

    // What cannot be put there leaves what is.
    // SAFETY: a closed descriptor is what is tested; every call on it fails.
    let closed = unsafe { BorrowedFd::borrow_raw(1000) };
    failed_with(reservation.replace_file(page, &shared, closed), libc::EBADF);
    let too_long = MapOptions::new(2 * page);
    let text = refused(reservation.replace_file(3 * page, &too_long, &file));
    says(&text, &[&format!("at={}: {} bytes do not fit into {}", 3 * page, 2 * page, 4 * page)]);
    says(&refused(reservation.replace_anonymous(usize::MAX, &too_long)), &["at=18446744073709551615: "]);
    says(
        &refused(reservation.replace_anonymous(1, &too_long)),
        &["at=1: the address 0x", "is not between two pages"],
    );
    let addressed = too_long.address(Address::Hint(page));
    says(&refused(reservation.replace_anonymous(0, &addressed)), &["addr: the reservation says where"]);
    // SAFETY: as above.
    unsafe {
        assert_eq!(first.read(), !pattern(8)[7]);
        assert_eq!((at(&reservation, 0).read(), at(&reservation, 3 * page).read()), (9, 9));
    }

    // Anonymous memory in the file's place: the file keeps what it has.
    let fresh = reservation.replace_anonymous(page, &MapOptions::new(page)).unwrap();
    // SAFETY: just mapped.
    unsafe {
        assert_eq!(fresh.read(), 0);
        fresh.add(7).write(1);
    }
    assert_eq!(contents_of(&file)[7], !pattern(8)[7]);
    // And back to nothing.
    reservation.decommit(..).unwrap();
    assert!((0..4).all(|n| !reads(at(&reservation, n * page))));
}

#[cfg(all(target_os = "linux", not(arenite_portable)))]
mod linux {
    use super::*;

    fn charged(reservation: &Reservation, n: usize) -> bool {
        has_flag(reservation.as_ptr().addr() + n, "ac")
    }

    #[test]
    fn only_what_is_committed_is_charged_and_resident() {
        alone("linux::only_what_is_committed_is_charged_and_resident", || {
            let page = page_size();
            let mut reservation = Reservation::new(1 << 30).unwrap();
            let resident = |reservation: &Reservation| smaps_field(reservation.as_ptr().addr() + page, "Rss");
            assert!(!charged(&reservation, 0));
            reservation.commit(page..65 * page).unwrap();
            assert!(
                charged(&reservation, page) && !charged(&reservation, 0) && !charged(&reservation, 65 * page)
            );
            assert_eq!(resident(&reservation), "0 kB");
            // SAFETY: committed.
            (1..65).for_each(|n| unsafe { at(&reservation, n * page).write(1) });
            assert_eq!(resident(&reservation), format!("{} kB", 64 * page / 1024));
            reservation.purge(page..65 * page).unwrap();
            assert_eq!(resident(&reservation), "0 kB");
            assert!(charged(&reservation, page) && writes(at(&reservation, page)));
            // SAFETY: committed.
            (1..65).for_each(|n| unsafe { at(&reservation, n * page).write(1) });
            reservation.decommit(page..65 * page).unwrap();
            assert!(!charged(&reservation, page));
            assert_eq!(resident(&reservation), "0 kB");
            // One piece again: nothing is left for the kernel to keep.
            let line = maps_line(reservation.as_ptr().addr()).unwrap();
            assert_eq!(maps_line(reservation.as_ptr().addr() + 100 * page).unwrap(), line);
        });
    }

    #[test]
    fn release_and_drop_unmap_exactly_all() {
        alone("linux::release_and_drop_unmap_exactly_all", || {
            let page = page_size();
            let mut around = MapOptions::new(6 * page).map_anonymous().unwrap();
            let mut hole = around.split_off(page).unwrap();
            let mut after = hole.split_off(4 * page).unwrap();
            let base = hole.as_ptr().addr();
            drop(hole);
            for release in [true, false] {
                let mut reservation = Reservation::at(Address::Exact(base), 4 * page - 1).unwrap();
                reservation.commit(page..2 * page).unwrap();
                let file = file_of(&pattern(page));
                reservation.replace_file(2 * page, &MapOptions::new(page), &file).unwrap();
                assert!(all_mapped(base, 4 * page));
                if release {
                    reservation.release().unwrap();
                } else {
                    drop(reservation);
                }
                assert!(!any_mapped(base, 4 * page));
            }
            around.as_mut_slice().unwrap().fill(1);
            after.as_mut_slice().unwrap().fill(1);
        });
    }

    #[test]
    fn a_commit_that_cannot_be_promised_is_an_error() {
        let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
        let reservation = Reservation::new(1 << 44).unwrap();
        let committed = reservation.commit(..);
        if mode.trim() == "1" {
            eprintln!("this kernel promises anything");
            return committed.unwrap();
        }
        says(
            &failed_with(committed, libc::ENOMEM),
            &["mprotect(addr=0x", "range=0..17592186044416, protection=read+write"],
        );
        assert!(!reads(reservation.as_ptr()));
    }
}
