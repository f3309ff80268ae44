//! Reservations that wait for their next arena, with a committed prefix: making an arena from one costs no system call
//! and no page fault.
//!
//! Each thread keeps one to itself, which costs no atomic instruction to take and give. Further ones wait in a list
//! for all threads, at most [`ARENA_WARM`](crate::config::ARENA_WARM) of them. A thread that ends gives its own to the
//! list. What waits is bounded by number, and each by the prefix that its arena was told to keep.
//!
//! The list's lock is only ever tried: whoever finds it taken maps or unmaps instead of waiting, also in the child of
//! a `fork` where its holder is gone.

use core::cell::Cell;
use core::ptr::NonNull;

use crate::arena::header::Header;
use crate::arena::options::Shape;
use crate::config::ARENA_WARM;
use crate::vm::Lock;

/// The thread's own.
struct Slot(Cell<Option<NonNull<Header>>>);

/// Linked through `next`.
#[derive(Debug)]
struct List {
    head: Option<NonNull<Header>>,
    len: usize,
}

// SAFETY: the headers in the list belong to it alone.
unsafe impl Send for List {}

thread_local! {
    static OWN: Slot = const { Slot(Cell::new(None)) };
}

static LIST: Lock<List> = Lock::new(List { head: None, len: 0 });

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(header) = self.0.take() {
            give_to_all(header);
        }
    }
}

/// A warm reservation of this shape: reset, and the caller's alone.
#[inline]
pub(crate) fn take(shape: Shape) -> Option<NonNull<Header>> {
    let own = OWN.try_with(|slot| {
        // SAFETY: what the slot holds is the thread's alone.
        let fits = slot.0.get().filter(|header| unsafe { header.as_ref() }.shape == shape);
        if fits.is_some() {
            slot.0.set(None);
        }
        fits
    });
    own.ok().flatten().or_else(|| take_from_all(shape))
}

#[cold]
fn take_from_all(shape: Shape) -> Option<NonNull<Header>> {
    let mut list = LIST.try_lock()?;
    let mut link: Option<NonNull<Header>> = None;
    let mut found = list.head;
    // SAFETY: headers in the list are its own, and the lock is held.
    unsafe {
        while let Some(header) = found.filter(|header| header.as_ref().shape != shape) {
            link = Some(header);
            found = header.as_ref().next.get();
        }
        let header = found?;
        let next = header.as_ref().next.take();
        match link {
            Some(before) => before.as_ref().next.set(next),
            None => list.head = next,
        }
        list.len -= 1;
        Some(header)
    }
}

/// Keeps a reservation that has been reset, or unmaps it if enough are kept.
#[inline]
pub(crate) fn give(header: NonNull<Header>) {
    let before = OWN.try_with(|slot| slot.0.replace(Some(header)));
    match before {
        Ok(None) => {}
        Ok(Some(older)) => give_to_all(older),
        // The thread is about to end.
        Err(_) => give_to_all(header),
    }
}

#[cold]
fn give_to_all(header: NonNull<Header>) {
    if let Some(mut list) = LIST.try_lock().filter(|list| list.len < ARENA_WARM) {
        // SAFETY: the header is the caller's, who gives it away.
        unsafe { header.as_ref() }.next.set(list.head);
        list.head = Some(header);
        list.len += 1;
        return;
    }
    // SAFETY: the header is the caller's, of a reservation, and nobody uses it any more.
    unsafe { Header::unmap(header) };
}

/// Unmaps what waits in the list and in the calling thread's slot; says how many reservations that were.
pub(crate) fn clear() -> usize {
    let mut count = 0;
    let mut drop_one = |header| {
        count += 1;
        // SAFETY: as in `give_to_all`.
        unsafe { Header::unmap(header) };
    };
    if let Ok(Some(header)) = OWN.try_with(|slot| slot.0.take()) {
        drop_one(header);
    }
    let head = LIST.try_lock().and_then(|mut list| {
        list.len = 0;
        list.head.take()
    });
    let mut rest = head;
    while let Some(header) = rest {
        // SAFETY: the header was taken out of the list.
        rest = unsafe { header.as_ref() }.next.take();
        drop_one(header);
    }
    count
}
