//! Growing, shrinking, splitting, unmapping: the kernel holds exactly what the owner says, and neighbours are not
//! harmed.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod common;

use arenite::vm::{Address, MapOptions, Mapping, Memfd, Protection, Sharing, page_size};
use common::*;

fn filled(pages: usize) -> Mapping {
    let mut mapping = MapOptions::new(pages * page_size()).map_anonymous().unwrap();
    mapping.as_mut_slice().unwrap().copy_from_slice(&pattern(pages * page_size()));
    mapping
}

#[test]
fn growing_keeps_contents_and_adds_zeros() {
    let page = page_size();
    let mut mapping = filled(2);
    mapping.grow(64 * page + 5).unwrap();
    assert_eq!((mapping.len(), mapping.mapped_len()), (64 * page + 5, 65 * page));
    let slice = mapping.as_mut_slice().unwrap();
    assert_eq!(slice[..2 * page], pattern(2 * page));
    assert!(slice[2 * page..].iter().all(|&byte| byte == 0));
    slice.fill(1);
    // Within the last page there is nothing to ask the kernel for.
    let before = mapping.as_ptr();
    mapping.grow_in_place(65 * page).unwrap();
    assert_eq!((mapping.as_ptr(), mapping.as_slice().unwrap().len()), (before, 65 * page));
}

#[test]
fn growing_in_place_never_moves() {
    alone("growing_in_place_never_moves", || {
        let page = page_size();
        // A hole of two pages behind the first.
        let mut whole = filled(4);
        let mut rest = whole.split_off(page).unwrap();
        let last = rest.split_off(2 * page).unwrap();
        drop(rest);
        let base = whole.as_ptr();
        whole.grow_in_place(3 * page).unwrap();
        assert_eq!(whole.as_ptr(), base);
        assert_eq!(whole.as_slice().unwrap()[..page], pattern(page));
        let text = failed_with(whole.grow_in_place(4 * page), libc::ENOMEM);
        says(&text, &["mremap(addr=0x", &format!("len={}, new_len={}, in place): ", 3 * page, 4 * page)]);
        assert_eq!(whole.len(), 3 * page);
        assert_eq!(last.as_slice().unwrap(), &pattern(4 * page)[3 * page..]);
        // It may move: then the old place is free and the neighbour untouched.
        whole.grow(64 * page).unwrap();
        assert_ne!(whole.as_ptr(), base);
        assert!(!any_mapped(base.addr(), 3 * page) && all_mapped(whole.as_ptr().addr(), 64 * page));
        assert_eq!(whole.as_slice().unwrap()[..page], pattern(page));
        assert_eq!(last.as_slice().unwrap(), &pattern(4 * page)[3 * page..]);
    });
}

#[test]
fn growing_a_file_shows_more_of_it() {
    let page = page_size();
    let file = file_of(&pattern(4 * page));
    let mut mapping = MapOptions::new(10).offset(page as u64 + 3).map_file(&file).unwrap();
    mapping.grow(2 * page).unwrap();
    assert_eq!(bytes(&mapping), &pattern(4 * page)[page + 3..][..2 * page]);
    assert_eq!(mapping.mapped_len(), 3 * page);

    let memfd = Memfd::new(c"grows", page as u64).unwrap();
    let mut shared =
        MapOptions::whole_file(&memfd).unwrap().sharing(Sharing::Shared).map_file(&memfd).unwrap();
    put(&shared, 0, 8);
    memfd.set_len(9 * page as u64).unwrap();
    shared.grow(9 * page).unwrap();
    put(&shared, 8 * page, 9);
    assert_eq!((bytes(&shared)[0], bytes(&shared)[8 * page]), (8, 9));
}

#[test]
fn shared_anonymous_memory_does_not_grow() {
    let mut shared = MapOptions::new(10).sharing(Sharing::Shared).map_anonymous().unwrap();
    shared.grow(page_size()).unwrap();
    let text = unsupported(shared.grow(page_size() + 1));
    says(&text, &["mremap(", &format!("new_len={}", page_size() + 1), "shared anonymous memory cannot grow"]);
    assert_eq!(shared.len(), page_size());
}

#[test]
fn what_the_kernel_holds_in_pieces_does_not_grow() {
    let page = page_size();
    let mut mapping = filled(2);
    mapping.protect(page.., Protection::Read).unwrap();
    let text = failed_with(mapping.grow(5 * page), libc::EFAULT);
    says(&text, &["mremap(", &format!("new_len={}", 5 * page), "holds the mapping in pieces"]);
    assert_eq!(mapping.as_slice().unwrap(), pattern(2 * page));
}

#[test]
fn shrinking_unmaps_the_tail() {
    alone("shrinking_unmaps_the_tail", || {
        let page = page_size();
        let mut mapping = filled(4);
        let neighbour = mapping.split_off(3 * page).unwrap();
        let base = mapping.as_ptr().addr();
        mapping.shrink(page + 1).unwrap();
        assert_eq!(
            (mapping.as_ptr().addr(), mapping.len(), mapping.mapped_len()),
            (base, page + 1, 2 * page)
        );
        assert!(
            all_mapped(base, 2 * page)
                && !any_mapped(base + 2 * page, page)
                && all_mapped(base + 3 * page, page)
        );
        assert_eq!(mapping.as_slice().unwrap(), &pattern(4 * page)[..page + 1]);
        assert_eq!(neighbour.as_slice().unwrap(), &pattern(4 * page)[3 * page..]);
        // What was beyond the end of the last page comes back as it was: it was never unmapped.
        mapping.grow_in_place(2 * page).unwrap();
        assert_eq!(mapping.as_slice().unwrap(), &pattern(4 * page)[..2 * page]);
    });
}

#[test]
fn bad_lengths_are_named_and_change_nothing() {
    let mut mapping = filled(2);
    let len = mapping.len();
    says(&refused(mapping.grow(len - 1)), &["mremap(", &format!("new_len={}: less than len={len}", len - 1)]);
    says(&refused(mapping.grow(usize::MAX)), &["len=18446744073709551615: too large"]);
    says(
        &refused(mapping.shrink(len + 1)),
        &["munmap(", &format!("new_len={}: more than len={len}", len + 1)],
    );
    says(&refused(mapping.shrink(0)), &["len=0: "]);
    for at in [0, len, len + 1, usize::MAX] {
        says(&refused(mapping.split_off(at)), &["split_off(", &format!("at={at}: both parts need a byte")]);
    }
    says(&refused(mapping.split_off(1)), &["at=1: not between two pages"]);
    mapping.grow(len).unwrap();
    mapping.shrink(len).unwrap();
    assert_eq!(mapping.as_slice().unwrap(), pattern(len));
}

#[test]
fn split_parts_unmap_separately() {
    alone("split_parts_unmap_separately", || {
        let page = page_size();
        let mut first = filled(3);
        let mut middle = first.split_off(page).unwrap();
        let last = middle.split_off(page).unwrap();
        let base = first.as_ptr().addr();
        assert_eq!([first.len(), middle.len(), last.len()], [page; 3]);
        // Each is its own: protection and contents.
        middle.protect(.., Protection::None).unwrap();
        assert!(middle.as_slice().is_err() && writes(first.as_ptr()) && writes(last.as_ptr()));
        drop(middle);
        assert!(
            all_mapped(base, page) && !any_mapped(base + page, page) && all_mapped(base + 2 * page, page)
        );
        assert_eq!(first.as_slice().unwrap(), pattern(page));
        assert_eq!(last.as_slice().unwrap(), &pattern(3 * page)[2 * page..]);
        drop(first);
        assert!(!any_mapped(base, 2 * page) && all_mapped(base + 2 * page, page));
        last.unmap().unwrap();
        assert!(!any_mapped(base, 3 * page));
    });
}

#[test]
fn a_split_behind_an_odd_offset() {
    let page = page_size();
    let file = file_of(&pattern(4 * page));
    let mut head = MapOptions::new(3 * page).offset(100).map_file(&file).unwrap();
    says(&refused(head.split_off(page)), &[&format!("at={page}: not between two pages")]);
    let tail = head.split_off(page - 100).unwrap();
    assert_eq!(bytes(&head), &pattern(4 * page)[100..page]);
    assert_eq!(bytes(&tail), &pattern(4 * page)[page..3 * page + 100]);
    assert_eq!((head.mapped_len(), tail.mapped_len()), (page, 3 * page));
}

#[test]
fn dropping_unmaps_exactly_what_was_mapped() {
    alone("dropping_unmaps_exactly_what_was_mapped", || {
        let page = page_size();
        let file = file_of(&pattern(4 * page));
        // The neighbours: the first and the last of these pages. The mapping goes between them.
        let mut before = filled(8);
        let base = before.as_ptr().addr();
        let mut hole = before.split_off(page).unwrap();
        let after = hole.split_off(6 * page).unwrap();
        drop(hole);
        for (len, offset) in [(1, 0), (page + 1, 0), (page, 1), (2, page as u64 - 1), (3 * page, 5)] {
            let exact = MapOptions::new(len).address(Address::Exact(base + page)).offset(offset);
            let mapping = exact.map_file(&file).unwrap();
            let mapped = (offset as usize % page + len).next_multiple_of(page);
            assert!(all_mapped(base + page, mapped) && !any_mapped(base + page + mapped, 6 * page - mapped));
            drop(mapping);
            assert!(!any_mapped(base + page, 6 * page), "len {len}, offset {offset}");
        }
        assert_eq!(before.as_slice().unwrap(), pattern(page));
        assert_eq!(after.as_slice().unwrap(), &pattern(8 * page)[7 * page..]);
    });
}

#[test]
fn owners_move_between_threads() {
    let mapping = filled(1);
    let sum = std::thread::scope(|scope| {
        scope
            .spawn(|| mapping.as_slice().unwrap().iter().map(|&byte| u64::from(byte)).sum::<u64>())
            .join()
            .unwrap()
    });
    let back = std::thread::spawn(move || mapping).join().unwrap();
    assert_eq!(back.as_slice().unwrap().iter().map(|&byte| u64::from(byte)).sum::<u64>(), sum);
}
