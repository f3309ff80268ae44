//! The typed layer: an error names the call, changes nothing that it does not say, and loses nothing.

use std::io;

use arenite::vm::{
    Advice, Discard, Flush, MapError, MapOptions, Mapping, Memfd, Protection, Reservation, Sharing, page_size,
};

use crate::driver::{Subject, fail_each_place};

struct Mappings {
    refusals: bool,
    kept: Vec<Mapping>,
}

impl Mappings {
    /// What the call gave; an error must name its call.
    fn of<T>(&self, result: io::Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                assert!(self.refusals, "{error}");
                let inner = MapError::of(&error).unwrap_or_else(|| panic!("{error:?} has no arguments"));
                assert!(error.to_string().starts_with(&format!("{}(", inner.call())), "{error}");
                assert!(inner.errno().is_some() || error.to_string().contains("the kernel lost"), "{error}");
            })
            .ok()
    }

    fn work(&mut self) {
        let page = page_size();
        if let Some(mut mapping) = self.of(MapOptions::new(5 * page + 3).map_anonymous()) {
            mapping.as_mut_slice().unwrap().fill(7);
            let _ = self.of(mapping.advise(.., Advice::WillNeed));
            let _ = self.of(mapping.lock(..page));
            let _ = self.of(mapping.unlock(..page));
            let _ = self.of(mapping.residency(..));
            let _ = self.of(mapping.grow(9 * page));
            assert!(mapping.as_slice().unwrap()[..5 * page].iter().all(|&byte| byte == 7));
            let len = mapping.len();
            if self.of(mapping.shrink(4 * page)).is_some() {
                assert_eq!(mapping.len(), 4 * page);
                let _ = self.of(mapping.grow_in_place(4 * page + 1));
            } else {
                assert_eq!(mapping.len(), len, "it failed and changed something");
            }
            if self.of(mapping.protect(.., Protection::Read)).is_some() {
                assert!(mapping.as_slice().unwrap()[..4 * page].iter().all(|&byte| byte == 7));
                let _ = self.of(mapping.protect(.., Protection::ReadWrite));
            }
            let _ = self.of(mapping.discard(..page, Discard::DontNeed));
            let tail = mapping.split_off(2 * page).unwrap();
            self.kept.extend([mapping, tail]);
        }
        if let Some(memfd) = self.of(Memfd::new(c"faults", 3 * page as u64)) {
            let shared = MapOptions::new(2 * page).offset(11).sharing(Sharing::Shared);
            if let Some(mapping) = self.of(shared.map_file(&memfd)) {
                // SAFETY: mapped, and nobody else knows of the memfd.
                unsafe { mapping.as_ptr().write(9) };
                let _ = self.of(mapping.flush(.., Flush::Sync));
                self.kept.push(mapping);
            }
            let _ = self.of(memfd.set_len(4 * page as u64));
            if let Some(mut reservation) = self.of(Reservation::new(64 * page)) {
                let _ = self.of(reservation.commit(..4 * page));
                let whole = MapOptions::new(2 * page).sharing(Sharing::Shared);
                let _ = self.of(reservation.replace_file(8 * page, &whole, &memfd));
                let _ = self.of(reservation.purge(..4 * page));
                let _ = self.of(reservation.decommit(..2 * page));
            }
        }
    }
}

impl Subject for Mappings {
    fn run(&mut self) {
        self.refusals = true;
        self.work();
    }

    fn check(mut self) -> usize {
        self.refusals = false;
        self.work();
        self.kept.clear();
        // Retries what could not be unmapped.
        arenite::trim();
        arenite::stats().reserved
    }
}

#[test]
fn mappings_survive_each_refusal() {
    let refused = fail_each_place("mappings", |_| true, || Mappings { refusals: false, kept: Vec::new() });
    assert!(refused.len() > 15, "{refused:?}");
}
