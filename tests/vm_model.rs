//! Long rows of calls against a shadow: whatever is done to one owner, every owner shows what its shadow says.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod common;

use arenite::vm::{Discard, MapOptions, Mapping, Memfd, Protection, Reservation, Sharing, page_size};
use common::*;
use proptest::prelude::*;

/// One call on one of the owners; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Call {
    Write { owner: usize, at: usize, byte: u8 },
    Purge { owner: usize, pages: (usize, usize) },
    DontNeed { owner: usize, pages: (usize, usize) },
    Protect { owner: usize, pages: (usize, usize) },
    Unprotect { owner: usize },
    Grow { owner: usize, by: usize },
    Shrink { owner: usize, to: usize },
    Split { owner: usize, page: usize },
    Drop { owner: usize },
    Map { len: usize },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let owner = any::<usize>;
    let pages = || (0usize..8, 0usize..8);
    let call = prop_oneof![
        6 => (owner(), any::<usize>(), any::<u8>()).prop_map(|(owner, at, byte)| Call::Write { owner, at, byte }),
        1 => (owner(), pages()).prop_map(|(owner, pages)| Call::Purge { owner, pages }),
        1 => (owner(), pages()).prop_map(|(owner, pages)| Call::DontNeed { owner, pages }),
        1 => (owner(), pages()).prop_map(|(owner, pages)| Call::Protect { owner, pages }),
        2 => owner().prop_map(|owner| Call::Unprotect { owner }),
        1 => (owner(), 0usize..50_000).prop_map(|(owner, by)| Call::Grow { owner, by }),
        1 => (owner(), any::<usize>()).prop_map(|(owner, to)| Call::Shrink { owner, to }),
        1 => (owner(), 1usize..8).prop_map(|(owner, page)| Call::Split { owner, page }),
        1 => owner().prop_map(|owner| Call::Drop { owner }),
        2 => (1usize..100_000).prop_map(|len| Call::Map { len }),
    ];
    prop::collection::vec(call, 1..60)
}

struct Shadowed {
    mapping: Mapping,
    /// What the pages hold, to the end of the last one.
    shadow: Vec<u8>,
    /// Whether all pages are accessible.
    accessible: bool,
    /// Whether no part was ever protected by itself: then the kernel holds the mapping in one piece and can grow it.
    whole: bool,
}

impl Shadowed {
    fn map(len: usize) -> Shadowed {
        let mapping = MapOptions::new(len).map_anonymous().unwrap();
        Shadowed { shadow: vec![0; mapping.mapped_len()], mapping, accessible: true, whole: true }
    }

    /// The bytes of some whole pages, the last of which may be the short one.
    fn range(&self, (first, count): (usize, usize)) -> std::ops::Range<usize> {
        let len = self.mapping.len();
        (first * page_size()).min(len)..((first + count) * page_size()).min(len)
    }

    fn clear(&mut self, range: std::ops::Range<usize>) {
        // The kernel drops the rest of the last page too.
        let end = range.end.next_multiple_of(page_size());
        if !range.is_empty() {
            self.shadow[range.start..end].fill(0);
        }
    }

    fn check(&self) {
        let len = self.mapping.len();
        assert_eq!(self.mapping.mapped_len(), self.shadow.len());
        if let Ok(slice) = self.mapping.as_slice() {
            assert!(slice == &self.shadow[..len], "contents differ from the shadow");
        }
        assert_eq!(self.accessible, self.mapping.as_slice().is_ok());
    }
}

fn run(calls: Vec<Call>) {
    let page = page_size();
    let mut owners = vec![Shadowed::map(5 * page)];
    for call in calls {
        let count = owners.len();
        match call {
            Call::Write { owner, at, byte } => {
                let it = &mut owners[owner % count];
                if let Ok(slice) = it.mapping.as_mut_slice() {
                    let at = at % slice.len();
                    slice[at] = byte;
                    it.shadow[at] = byte;
                }
            }
            Call::Purge { owner, pages } => {
                let it = &mut owners[owner % count];
                let range = it.range(pages);
                it.mapping.purge(range.clone()).unwrap();
                it.clear(range);
            }
            Call::DontNeed { owner, pages } => {
                let it = &mut owners[owner % count];
                let range = it.range(pages);
                it.mapping.discard(range.clone(), Discard::DontNeed).unwrap();
                it.clear(range);
            }
            Call::Protect { owner, pages } => {
                let it = &mut owners[owner % count];
                let range = it.range(pages);
                it.accessible &= range.is_empty();
                it.whole &= range.is_empty();
                it.mapping.protect(range, Protection::None).unwrap();
            }
            Call::Unprotect { owner } => {
                let it = &mut owners[owner % count];
                it.mapping.protect(.., Protection::ReadWrite).unwrap();
                it.accessible = true;
            }
            Call::Grow { owner, by } => {
                let it = &mut owners[owner % count];
                let new_len = it.mapping.len() + by;
                match it.mapping.grow(new_len) {
                    Ok(()) => it.shadow.resize(it.mapping.mapped_len(), 0),
                    Err(error) => {
                        assert!(!it.whole, "{error}");
                        says(&error.to_string(), &["mremap(", "holds the mapping in pieces"]);
                    }
                }
            }
            Call::Shrink { owner, to } => {
                let it = &mut owners[owner % count];
                it.mapping.shrink(1 + to % it.mapping.len()).unwrap();
                it.shadow.truncate(it.mapping.mapped_len());
            }
            Call::Split { owner, page: cut } => {
                let it = &mut owners[owner % count];
                if let Ok(mapping) = it.mapping.split_off(cut * page) {
                    let shadow = it.shadow.split_off(cut * page);
                    let (accessible, whole) = (it.accessible, it.whole);
                    owners.push(Shadowed { mapping, shadow, accessible, whole });
                }
            }
            Call::Drop { owner } => drop(owners.swap_remove(owner % count)),
            Call::Map { len } => owners.push(Shadowed::map(len)),
        }
        if owners.is_empty() {
            owners.push(Shadowed::map(1));
        }
        owners.iter().for_each(Shadowed::check);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mappings_show_what_their_shadows_say(calls in calls()) {
        run(calls);
    }

    /// Would catch a commit that loses contents, a decommit that keeps them, or a replacement that reaches beyond itself.
    #[test]
    fn reservations_show_what_their_shadows_say(
        calls in prop::collection::vec((0u8..6, 0usize..PAGES, 1usize..4, 1u8..255), 1..60),
    ) {
        let page = page_size();
        let memfd = Memfd::new(c"model", 4 * page as u64).unwrap();
        let shared = MapOptions::new(1).sharing(Sharing::Shared);
        let mut file = [0u8; 4];
        let mut reservation = Reservation::new(PAGES * page).unwrap();
        let mut shadow = [Page::Reserved; PAGES];
        for (call, first, count, byte) in calls {
            let end = (first + count).min(PAGES);
            let range = first * page..end * page;
            let pages = &mut shadow[first..end];
            match call {
                0 => {
                    reservation.commit(range).unwrap();
                    pages.iter_mut().filter(|at| **at == Page::Reserved).for_each(|at| *at = Page::Own(0));
                }
                1 => {
                    reservation.decommit(range).unwrap();
                    pages.fill(Page::Reserved);
                }
                2 => {
                    reservation.purge(range).unwrap();
                    pages.iter_mut().filter(|at| matches!(at, Page::Own(_))).for_each(|at| *at = Page::Own(0));
                }
                3 => {
                    let source = usize::from(byte) % 4;
                    let options = shared.offset((source * page) as u64);
                    reservation.replace_file(first * page, &options, &memfd).unwrap();
                    pages[0] = Page::File(source);
                }
                4 => {
                    reservation.replace_anonymous(first * page, &MapOptions::new(page)).unwrap();
                    pages[0] = Page::Own(0);
                }
                _ => {
                    // SAFETY: what is not reserved only is readable and writable.
                    let write = || unsafe { reservation.as_ptr().add(first * page).write(byte) };
                    match &mut pages[0] {
                        Page::Reserved => {}
                        Page::Own(own) => { write(); *own = byte; }
                        Page::File(source) => { write(); file[*source] = byte; }
                    }
                }
            }
            for (n, state) in shadow.iter().enumerate() {
                // SAFETY: as above.
                let read = || unsafe { reservation.as_ptr().add(n * page).read() };
                match *state {
                    Page::Reserved => {}
                    Page::Own(own) => prop_assert_eq!(read(), own),
                    Page::File(source) => prop_assert_eq!(read(), file[source]),
                }
            }
        }
        let base = reservation.as_ptr().addr();
        let committed: Vec<bool> =
            (0..PAGES).map(|n| maps_line(base + n * page).is_some_and(|line| line.contains(" rw-"))).collect();
        prop_assert_eq!(committed, shadow.map(|state| state != Page::Reserved).to_vec());
    }
}

const PAGES: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    Reserved,
    Own(u8),
    File(usize),
}
