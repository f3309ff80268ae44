//! The flags of a mapping on Linux, and huge pages. With an empty pool of huge pages the tests see that the error
//! says so; they print which way they took.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod common;

use arenite::vm::{HugePage, MapOptions, Mapping, Memfd, Protection, Reservation, Sharing, page_size};
use common::*;

const MIB2: usize = 2 << 20;

fn addr(mapping: &Mapping) -> usize {
    mapping.as_ptr().addr()
}

#[test]
fn no_reserve_and_stack_arrive() {
    let none = MapOptions::new(1).no_reserve().map_anonymous().unwrap();
    // With `vm.overcommit_memory` at 2 the kernel charges all the same.
    let strict =
        std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2");
    assert_eq!(has_flag(addr(&none), "nr"), !strict);
    let charged = MapOptions::new(1).map_anonymous().unwrap();
    assert!(has_flag(addr(&charged), "ac") && !has_flag(addr(&charged), "nr"));
    let stack = MapOptions::new(page_size()).stack().map_anonymous().unwrap();
    assert_eq!(stack.as_slice().unwrap()[0], 0);
}

#[test]
fn populate_faults_everything_in() {
    let lazy = MapOptions::new(16 * page_size()).map_anonymous().unwrap();
    assert_eq!(lazy.resident_pages(..).unwrap(), 0);
    let populated = MapOptions::new(16 * page_size()).populate().map_anonymous().unwrap();
    assert_eq!(populated.resident_pages(..).unwrap(), 16);
}

#[test]
fn locked_is_locked_and_within_the_limit() {
    alone("locked_is_locked_and_within_the_limit", || {
        let page = page_size();
        let locked = MapOptions::new(2 * page).locked().map_anonymous().unwrap();
        assert!(has_flag(addr(&locked), "lo"));
        assert_eq!(locked.resident_pages(..).unwrap(), 2);
        drop(locked);
        limit_locked_memory(2 * page as u64);
        MapOptions::new(2 * page).locked().map_anonymous().unwrap();
        let text = failed_with(MapOptions::new(4 * page).locked().map_anonymous(), libc::EAGAIN);
        says(&text, &[", locked, anonymous", "(os error 11); locked: more than RLIMIT_MEMLOCK allows"]);
        limit_locked_memory(0);
        let refused = if cfg!(target_env = "musl") { libc::ENOMEM } else { libc::EPERM };
        let text = failed_with(MapOptions::new(1).locked().map_anonymous(), refused);
        says(&text, &["locked: more than RLIMIT_MEMLOCK allows"]);
    });
}

#[test]
fn huge_lengths_are_rounded_everywhere() {
    alone("huge_lengths_are_rounded_everywhere", || {
        let options = MapOptions::new(MIB2 + 5).huge_pages(HugePage::Mib2);
        let mut huge = match options.map_anonymous() {
            Ok(huge) => huge,
            Err(error) => {
                eprintln!("no huge pages: {error}");
                says(
                    &failed_with(options.map_anonymous(), libc::ENOMEM),
                    &["huge pages (2 MiB): too few are free"],
                );
                return;
            }
        };
        eprintln!("with huge pages");
        assert_eq!((huge.len(), huge.mapped_len(), huge.page_len()), (MIB2 + 5, 2 * MIB2, MIB2));
        let base = addr(&huge);
        assert!(base.is_multiple_of(MIB2) && has_flag(base, "ht"));
        huge.as_mut_slice().unwrap().fill(1);
        // Protecting: by huge pages, and the last one whole.
        says(
            &refused(huge.protect(..page_size(), Protection::Read)),
            &["between two pages of 2097152 bytes"],
        );
        huge.protect(MIB2.., Protection::Read).unwrap();
        assert!(writes(huge.as_ptr()) && !writes(huge.as_ptr().wrapping_add(MIB2)));
        huge.protect(.., Protection::ReadWrite).unwrap();
        huge.purge(MIB2..).unwrap();
        assert_eq!((huge.as_slice().unwrap()[MIB2 - 1], huge.as_slice().unwrap()[MIB2]), (1, 0));
        huge.grow(2 * MIB2).unwrap();
        assert_eq!(huge.len(), 2 * MIB2);
        // Parts, and then the rest: nothing of it stays.
        says(&refused(huge.split_off(page_size())), &[&format!("at={}: ", page_size())]);
        let tail = huge.split_off(MIB2).unwrap();
        huge.unmap().unwrap();
        assert!(!any_mapped(base, MIB2) && all_mapped(base + MIB2, MIB2));
        tail.unmap().unwrap();
        assert!(!any_mapped(base, 2 * MIB2));

        let mut huge = options.map_anonymous().unwrap();
        huge.shrink(1).unwrap();
        assert_eq!(huge.mapped_len(), MIB2);
        let base = addr(&huge);
        drop(huge);
        assert!(!any_mapped(base, 2 * MIB2));

        // The default size is known without being told.
        let huge = MapOptions::new(1).huge_pages(HugePage::Default).map_anonymous().unwrap();
        assert!(huge.page_len() > page_size());
        assert_eq!(huge.mapped_len(), huge.page_len());

        // What may be missing when touched is no safe slice.
        let unreserved = options.no_reserve().map_anonymous().unwrap();
        says(&refused(unreserved.as_slice()), &["huge pages that are not reserved"]);
    });
}

#[test]
fn files_of_huge_pages_are_recognised() {
    alone("files_of_huge_pages_are_recognised", || {
        let memfd = Memfd::with_huge_pages(c"huge", MIB2 as u64 + 1, HugePage::Mib2).unwrap();
        assert_eq!(memfd.len().unwrap(), 2 * MIB2 as u64);
        let options = MapOptions::new(10).offset(MIB2 as u64 + 4096).sharing(Sharing::Shared);
        match options.map_file(&memfd) {
            Ok(mapping) => {
                eprintln!("with huge pages");
                assert_eq!((mapping.len(), mapping.mapped_len(), mapping.page_len()), (10, MIB2, MIB2));
                let base = addr(&mapping) - 4096;
                assert!(base.is_multiple_of(MIB2));
                put(&mapping, 0, 5);
                let whole = MapOptions::whole_file(&memfd).unwrap().map_file(&memfd).unwrap();
                assert_eq!(bytes(&whole)[MIB2 + 4096], 5);
                drop(mapping);
                assert!(!any_mapped(base, MIB2));
            }
            Err(error) => {
                eprintln!("no huge pages: {error}");
                says(
                    &failed_with(options.map_file(&memfd), libc::ENOMEM),
                    &["offset=2101248): ", "huge pages (2097152 bytes) of the file: too few"],
                );
            }
        }
    });
}

#[test]
fn huge_pages_inside_of_a_reservation() {
    alone("huge_pages_inside_of_a_reservation", || {
        let mut reservation = Reservation::new(4 * MIB2).unwrap();
        let at = reservation.as_ptr().addr().next_multiple_of(MIB2) - reservation.as_ptr().addr();
        let huge = MapOptions::new(MIB2).huge_pages(HugePage::Mib2);
        says(
            &refused(reservation.replace_anonymous(at + page_size(), &huge)),
            &["is not between two pages of 2097152"],
        );
        match reservation.replace_anonymous(at, &huge) {
            // SAFETY: just mapped, readable and writable.
            Ok(first) => unsafe { first.add(MIB2 - 1).write(1) },
            Err(error) => {
                eprintln!("no huge pages: {error}");
                // A page from the pool was wanting: the reservation is as before.
                assert!(maps_line(reservation.as_ptr().addr() + at).unwrap().contains("---p"));
            }
        }
        let base = reservation.as_ptr().addr();
        reservation.release().unwrap();
        assert!(!any_mapped(base, 4 * MIB2));
    });
}

#[test]
fn missing_huge_pages_are_named() {
    // Nobody has a pool of so many.
    let text = failed_with(MapOptions::new(1 << 44).huge_pages(HugePage::Mib2).map_anonymous(), libc::ENOMEM);
    says(&text, &["huge pages (2 MiB), anonymous", "(os error 12); huge pages (2 MiB): too few are free"]);
    let error = MapOptions::new(1 << 44).huge_pages(HugePage::Gib1).map_anonymous().unwrap_err();
    says(&error.to_string(), &["; huge pages (1 GiB): "]);
    // Rounding to the huge page overflows.
    let len = isize::MAX as usize - MIB2 + 2;
    let text = refused(MapOptions::new(len).huge_pages(HugePage::Mib2).map_anonymous());
    says(&text, &[&format!("len={len}: too large when rounded to pages of 2097152 bytes")]);
    // A file that is not made of them.
    let text =
        failed_with(MapOptions::new(1).huge_pages(HugePage::Mib2).map_file(file_of(&[1])), libc::EINVAL);
    says(&text, &["huge pages (2 MiB): the file is not made of them"]);
}
