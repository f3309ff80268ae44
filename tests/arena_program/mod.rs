//! A program of arena calls with a shadow of what must be there: run by the property test and by the fuzzer.
//!
//! Scopes nest by recursion, as they do in a user's code. After each step that takes memory back, all blocks that are
//! still there are read again; each new one is checked against all others. Calls that need the arena itself (offsets,
//! [`owners`]) end all scopes.

mod owners;

use core::alloc::Layout;
use core::ptr::NonNull;
use std::cell::Cell;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use allocator_api2::alloc::Allocator;
use arenite::arena::{Arena, ArenaOptions, Cursor, Owned, Scope};

/// One call. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Call {
    Value(u64),
    Pair(u8),
    With { inner: bool },
    TryWith { fails: bool, inner: bool },
    Copy(u16),
    Text(u16),
    Iterate { len: u16, inner: bool },
    Format(u16),
    Rows { len: u16, how: Rows },
    CText { len: u16, nul: u16 },
    Own { len: u16, keep: Keep },
    Layout { size: u32, align: u8 },
    Zeroed { size: u32, align: u8 },
    Grow { block: u8, by: u32 },
    Shrink { block: u8, to: u32 },
    Free { block: u8 },
    Batch { len: u16, forget: bool },
    Overflow,
    TooMuch,
    Enter { guard: bool },
    Leave,
    Panic,
    Checkpoint,
    Rewind,
    Arena(OfArena),
}

/// Where the values of a slice come from.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Rows {
    Clone { panics: bool },
    Fill,
    Default,
    With { inner: bool },
    Exact { lies: bool },
}

/// What becomes of an owning handle.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Keep {
    UntilScopeEnds,
    Drop,
    Leak,
}

/// A call that only the arena itself can do.
#[derive(Clone, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum OfArena {
    Reset { keep_all: bool },
    Trim,
    Limit(u32),
    Offsets(u16),
    Rooted { len: u16, more: u16, freeze: bool },
    Pool { guards: u8, len: u16 },
    Mapped(u16),
}

/// Memory that was handed out: what it must hold.
#[derive(Clone, Debug)]
struct Block {
    start: NonNull<u8>,
    len: usize,
    align: usize,
    seed: u8,
    /// Came from the allocator, so it may be grown and freed.
    is_raw: bool,
}

#[derive(Default, Debug)]
struct Shadow {
    blocks: Vec<Block>,
    seed: u8,
}

thread_local! {
    /// Values of [`Counted`] that are there and that somebody will drop.
    static COUNTED: Cell<usize> = const { Cell::new(0) };
}

/// A value that counts how many of it there are, and can panic when it is cloned.
#[derive(Debug)]
struct Counted {
    marks: [u8; 20],
    value: u32,
    panics: bool,
}

struct Planned;

const LIMIT: usize = 8 << 20;

fn options() -> ArenaOptions {
    Arena::options().limit(LIMIT).growth_step(4096).kept_prefix(16384)
}

/// Runs the program in arenas of two least alignments.
pub(crate) fn run(calls: &[Call]) {
    run_in::<8>(calls);
    run_in::<1>(calls);
}

fn run_in<const MIN: usize>(calls: &[Call]) {
    let mut arena: Arena<MIN> = options().build_with_min_align().unwrap();
    let mut rest = calls;
    while !rest.is_empty() {
        let mut shadow = Shadow::default();
        let ended =
            catch_unwind(AssertUnwindSafe(|| run_scope(&mut arena.as_scope(), &mut rest, &mut shadow, 0)));
        ended.unwrap_or_else(as_planned);
        shadow.check_all();
        assert_eq!(COUNTED.get(), 0, "what is owned is dropped, once, and what is leaked is not");
        if let Some((call, after)) = rest.split_first() {
            rest = after;
            if let Call::Arena(call) = call {
                arena = owners::run(arena, call);
            }
        }
    }
    assert!(arena.peak() >= arena.used() && arena.committed() >= arena.used());
}

/// A panic that was no part of the program goes on.
fn as_planned(payload: Box<dyn std::any::Any + Send>) {
    if !payload.is::<Planned>() {
        resume_unwind(payload);
    }
}

/// Runs calls until the scope is left. A call that only the arena itself can do ends all scopes.
fn run_scope<const MIN: usize>(
    scope: &mut Scope<'_, MIN>,
    rest: &mut &[Call],
    shadow: &mut Shadow,
    depth: usize,
) {
    let first = shadow.blocks.len();
    let mut checkpoint = (scope.checkpoint(), first);
    // Dropped before the scope ends, also by a panic.
    let mut owned: Vec<Owned<'_, [Counted]>> = Vec::new();
    while let Some((call, after)) = rest.split_first() {
        match call {
            Call::Arena(_) => return,
            Call::Leave if depth > 0 => {
                *rest = after;
                return;
            }
            Call::Panic if depth > 0 => {
                *rest = after;
                // The hook would print.
                resume_unwind(Box::new(Planned));
            }
            Call::Enter { guard } if depth < 6 => {
                *rest = after;
                let (used, known) = (scope.used(), shadow.blocks.len());
                let mut enter = |inner: &mut Scope<'_, MIN>| {
                    assert_eq!((inner.used(), inner.peak()), (0, 0));
                    run_scope(inner, rest, shadow, depth + 1);
                    assert!(inner.peak() >= inner.used());
                    shadow.blocks.truncate(known);
                };
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    if *guard {
                        // Its scope twice, the second where the first began.
                        let mut guard = scope.scope_guard();
                        enter(&mut guard.scope());
                        guard.rewind();
                        enter(&mut guard.scope());
                    } else {
                        scope.scope(enter);
                    }
                }));
                ended.unwrap_or_else(as_planned);
                shadow.blocks.truncate(known);
                assert_eq!(scope.used(), used);
                shadow.check_all();
                continue;
            }
            Call::Checkpoint => checkpoint = (scope.checkpoint(), shadow.blocks.len()),
            Call::Rewind if shadow.blocks.len() >= checkpoint.1 => {
                owned.clear();
                shadow.blocks.truncate(checkpoint.1);
                // SAFETY: the shadow forgot what was allocated since, and `make` freed nothing below it.
                unsafe { scope.rewind(checkpoint.0) };
                shadow.check_all();
            }
            Call::Own { len, keep } => {
                *rest = after;
                let values = (0..u32::from(*len % 50)).map(|n| Counted::new(n, false));
                let Ok(handle) = scope.try_alloc_owned_slice(values) else { continue };
                assert!(handle.iter().zip(0..).all(|(one, n)| one.value == n));
                match keep {
                    Keep::UntilScopeEnds => owned.push(handle),
                    Keep::Drop => drop(handle),
                    Keep::Leak => forget_all(Owned::leak(handle)),
                }
            }
            other => run_call(scope, other, shadow, first.max(checkpoint.1)),
        }
        *rest = after;
    }
}

/// One allocation or more; `first` is the first block that may be changed.
fn run_call<const MIN: usize>(scope: &mut Scope<'_, MIN>, call: &Call, shadow: &mut Shadow, first: usize) {
    match *call {
        Call::Value(value) => {
            if let Ok(place) = scope.try_alloc(value) {
                shadow.fill_value(place, MIN);
            }
        }
        Call::Pair(value) => {
            if let Ok(place) = scope.try_alloc([value; 3]) {
                shadow.fill_value(place, MIN);
            }
        }
        Call::With { inner } => {
            let place = scope.try_alloc_with(|| {
                if inner {
                    shadow.add_value(&*scope, MIN);
                }
                [0_u32; 5]
            });
            if let Ok(place) = place {
                shadow.fill_value(place, MIN);
            }
        }
        Call::TryWith { fails, inner } => {
            let used = scope.used();
            let place = scope.try_alloc_try_with(|| {
                if inner {
                    shadow.add_value(&*scope, MIN);
                }
                if fails { Err(()) } else { Ok([0_u64; 7]) }
            });
            match place {
                Ok(Ok(place)) => shadow.fill_value(place, MIN),
                // Padding for the alignment may stay.
                Ok(Err(())) if !inner => assert!(scope.used() < used + 8),
                _ => {}
            }
        }
        Call::Copy(len) => {
            let values: Vec<u16> = (0..len).collect();
            if let Ok(place) = scope.try_alloc_slice_copy(&values) {
                assert_eq!(place, values);
                shadow.fill(NonNull::from(&mut *place).cast(), size_of_val(place), 2.max(MIN), false);
            }
        }
        Call::Text(len) => {
            let text = "arenas ".repeat(usize::from(len) / 7);
            if let Ok(place) = scope.try_alloc_str(&text) {
                assert_eq!(*place, *text);
                shadow.fill(NonNull::from(&mut *place).cast(), place.len(), MIN, false);
            }
        }
        Call::Iterate { len, inner } => {
            let row = {
                let values = (0..u32::from(len)).filter(|n| n % 5 != 4).inspect(|n| {
                    if inner && n % 50 == 0 {
                        shadow.add_value(&*scope, MIN);
                    }
                });
                scope.try_alloc_slice_iter(values)
            };
            if let Ok(row) = row {
                assert!(row.iter().copied().eq((0..u32::from(len)).filter(|n| n % 5 != 4)));
                shadow.fill(NonNull::from(&mut *row).cast(), size_of_val(row), 4.max(MIN), false);
            }
        }
        Call::Format(len) => {
            if let Ok(text) = scope.try_alloc_fmt(format_args!("{:1$}", 7, usize::from(len % 600))) {
                assert!(text.ends_with('7') && text.len() == usize::from(len % 600).max(1));
                shadow.fill(NonNull::from(&mut *text).cast(), text.len(), MIN, false);
            }
        }
        Call::Rows { len, how } => {
            let wanted: Vec<u32> = (0..u32::from(len)).collect();
            let row = match how {
                Rows::Clone { panics } => {
                    let values: Vec<Counted> =
                        wanted.iter().map(|&n| Counted::new(n, panics && n == 3)).collect();
                    let used = scope.used();
                    let cloned = catch_unwind(AssertUnwindSafe(|| scope.try_alloc_slice_clone(&values)));
                    match cloned {
                        Ok(Ok(row)) => {
                            assert!(row.iter().map(|one| one.value).eq(wanted));
                            forget_all(row);
                        }
                        Ok(Err(_)) => {}
                        Err(payload) => {
                            as_planned(payload);
                            assert!(scope.used() < used + 8, "a failed clone keeps nothing but padding");
                        }
                    }
                    assert!(COUNTED.get() >= values.len());
                    return;
                }
                Rows::Fill => scope.try_alloc_slice_fill(usize::from(len), 7_u32),
                Rows::Default => scope.try_alloc_slice_default::<u32>(usize::from(len)),
                Rows::With { inner } => scope.try_alloc_slice_with(usize::from(len), |n| {
                    if inner && n % 50 == 0 {
                        shadow.add_value(&*scope, MIN);
                    }
                    n as u32
                }),
                Rows::Exact { lies } => scope.try_alloc_slice_exact(Exactly {
                    next: 0,
                    end: u32::from(len),
                    told: if lies { usize::from(len / 2) } else { usize::from(len) },
                }),
            };
            if let Ok(row) = row {
                let right = match how {
                    Rows::Fill => row.iter().all(|&n| n == 7),
                    Rows::Default => row.iter().all(|&n| n == 0),
                    Rows::Exact { lies: true } => *row == wanted[..usize::from(len / 2)],
                    _ => *row == *wanted,
                };
                assert!(right, "{how:?}: {row:?}");
                shadow.fill(NonNull::from(&mut *row).cast(), size_of_val(row), 4.max(MIN), false);
            }
        }
        Call::CText { len, nul } => {
            let mut text = "c".repeat(usize::from(len));
            let until = usize::from(nul).min(text.len());
            if until < text.len() {
                text.replace_range(until..=until, "\0");
            }
            if let Ok(c_text) = scope.try_alloc_c_str_from(&text) {
                assert_eq!(c_text.to_bytes(), &text.as_bytes()[..until]);
                let own = CString::from(&*c_text);
                if let Ok(copy) = scope.try_alloc_c_str(&own) {
                    assert_eq!(*copy, *own);
                    shadow.fill(NonNull::from(copy).cast(), until + 1, MIN, false);
                }
                shadow.fill(NonNull::from(c_text).cast(), until + 1, MIN, false);
            }
        }
        Call::Layout { size, align } | Call::Zeroed { size, align } => {
            let layout = Layout::from_size_align(size as usize % (1 << 18), 1 << (align % 10)).unwrap();
            let zeroed = matches!(call, Call::Zeroed { .. });
            let block = if zeroed { (&*scope).allocate_zeroed(layout) } else { (&*scope).allocate(layout) };
            if let Ok(block) = block {
                // SAFETY: a zeroed block is initialised.
                assert!(!zeroed || unsafe { block.as_ref() }.iter().all(|&byte| byte == 0));
                shadow.fill(block.cast(), layout.size(), layout.align(), true);
            }
        }
        Call::Grow { block, by } => {
            let Some(index) = shadow.pick(first, block) else { return };
            let old = shadow.blocks[index].clone();
            let new = Layout::from_size_align(old.len + by as usize % (1 << 16), old.align).unwrap();
            // SAFETY: the block is there, with this layout.
            if let Ok(grown) = unsafe { (&*scope).grow(old.start, old.layout(), new) } {
                Block { start: grown.cast(), ..old }.check();
                shadow.replace(index, grown.cast(), new);
            }
        }
        Call::Shrink { block, to } => {
            let Some(index) = shadow.pick(first, block) else { return };
            let old = shadow.blocks[index].clone();
            let new = Layout::from_size_align(to as usize % (old.len + 1), old.align).unwrap();
            // SAFETY: the block is there, with this layout.
            if let Ok(shrunk) = unsafe { (&*scope).shrink(old.start, old.layout(), new) } {
                Block { start: shrunk.cast(), len: new.size(), ..old }.check();
                shadow.replace(index, shrunk.cast(), new);
            }
        }
        Call::Free { block } => {
            let Some(index) = shadow.pick(first, block) else { return };
            let old = shadow.blocks.remove(index);
            // SAFETY: the block is there, with this layout, and the shadow has forgotten it.
            unsafe { (&*scope).deallocate(old.start, old.layout()) };
            shadow.check_all();
        }
        Call::Batch { len, forget } => {
            let mut cursor: Cursor<'_, '_, MIN> = scope.cursor();
            for n in 0..len % 2000 {
                match cursor.try_alloc([n; 6]) {
                    Ok(place) => shadow.fill_value(place, MIN),
                    Err(_) => break,
                }
            }
            if forget {
                std::mem::forget(cursor);
            }
        }
        Call::Overflow => assert!(scope.try_alloc_slice_uninit::<u64>(usize::MAX / 4).is_err()),
        Call::TooMuch => assert!(scope.try_alloc_slice_uninit::<u8>(9 << 20).is_err()),
        _ => {}
    }
}

impl Counted {
    fn new(value: u32, panics: bool) -> Counted {
        COUNTED.set(COUNTED.get() + 1);
        Counted { marks: [7; 20], value, panics }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        if self.panics {
            resume_unwind(Box::new(Planned));
        }
        Counted::new(self.value, false)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_eq!(self.marks, [7; 20], "dropped what is not there");
        COUNTED.set(COUNTED.get() - 1);
    }
}

/// Nobody drops these any more.
fn forget_all(values: &[Counted]) {
    COUNTED.set(COUNTED.get() - values.len());
}

/// Numbers up to an end, of which it tells a wrong count.
struct Exactly {
    next: u32,
    end: u32,
    told: usize,
}

impl Iterator for Exactly {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let now = self.next;
        self.next += 1;
        (now < self.end).then_some(now)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.told, Some(self.told))
    }
}

impl ExactSizeIterator for Exactly {}

impl Block {
    fn layout(&self) -> Layout {
        Layout::from_size_align(self.len, self.align).unwrap()
    }

    fn byte(&self, index: usize) -> u8 {
        self.seed.wrapping_add(index as u8)
    }

    fn check(&self) {
        assert!(self.start.addr().get().is_multiple_of(self.align));
        // SAFETY: the block is there, and `fill` has written all of it.
        let bytes = unsafe { NonNull::slice_from_raw_parts(self.start, self.len).as_ref() };
        assert!(bytes.iter().enumerate().all(|(index, &byte)| byte == self.byte(index)), "{self:?} changed");
    }

    fn write(&self) {
        for index in 0..self.len {
            // SAFETY: the block is there, and no reference into it is used any more.
            unsafe { self.start.add(index).write(self.byte(index)) };
        }
    }

    fn overlaps(&self, other: &Block) -> bool {
        let (a, b) = (self.start.addr().get(), other.start.addr().get());
        self.len > 0 && other.len > 0 && a < b + other.len && b < a + self.len
    }
}

impl Shadow {
    fn fill(&mut self, start: NonNull<u8>, len: usize, align: usize, is_raw: bool) {
        self.seed = self.seed.wrapping_mul(5).wrapping_add(17);
        // Of an empty slice only its elements' alignment is promised.
        let align = if len == 0 && !is_raw { 1 } else { align };
        let block = Block { start, len, align, seed: self.seed, is_raw };
        assert!(start.addr().get().is_multiple_of(align));
        for other in &self.blocks {
            assert!(!block.overlaps(other), "{block:?} and {other:?}");
        }
        block.write();
        self.blocks.push(block);
    }

    fn fill_value<T>(&mut self, place: &mut T, min: usize) {
        self.fill(NonNull::from(place).cast(), size_of::<T>(), align_of::<T>().max(min), false);
    }

    fn add_value<const MIN: usize>(&mut self, scope: &Scope<'_, MIN>, min: usize) {
        if let Ok(place) = scope.try_alloc([0_u8; 13]) {
            self.fill_value(place, min);
        }
    }

    fn replace(&mut self, index: usize, start: NonNull<u8>, layout: Layout) {
        self.blocks.remove(index);
        self.fill(start, layout.size(), layout.align(), true);
        self.check_all();
    }

    /// A block of the allocator's, from `first` on.
    fn pick(&self, first: usize, number: u8) -> Option<usize> {
        let raw: Vec<usize> = (first..self.blocks.len()).filter(|&index| self.blocks[index].is_raw).collect();
        (!raw.is_empty()).then(|| raw[usize::from(number) % raw.len()])
    }

    fn check_all(&self) {
        self.blocks.iter().for_each(Block::check);
    }
}
