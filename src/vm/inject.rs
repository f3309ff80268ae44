//! Faults for tests: any system call of this layer can be made to fail.
//!
//! Each call asks [`point`] first, which in a build for users is `Ok(())` and nothing else. With `--cfg arenite_faults`
//! it notes the place in the code that makes the call, counts, and refuses those that the test asked for. Beside that
//! [`mapped`] keeps the sum of what is mapped, so that a test sees a leak of a single page. In such a build the
//! environment can also make pages larger than the machine's, `SIMULATED_PAGE_SIZE` in bytes, and processors more than it
//! has: `SIMULATED_PROCESSORS`.

#[cfg(not(arenite_faults))]
mod chosen {
    use crate::vm::errno::Errno;
    use crate::vm::sys::MapCall;

    #[inline(always)]
    #[expect(clippy::unnecessary_wraps, reason = "as its twin, which refuses")]
    pub(crate) const fn point(_call: &'static str) -> Result<(), Errno> {
        Ok(())
    }

    #[inline(always)]
    pub(crate) const fn mapped(_more: usize, _less: usize) {}

    #[inline(always)]
    pub(crate) const fn simulated_page_size() -> Option<usize> {
        None
    }

    #[inline(always)]
    pub(crate) const fn simulated_processors() -> Option<usize> {
        None
    }

    #[inline(always)]
    pub(crate) const fn simulated_processor() -> Option<usize> {
        None
    }

    #[inline(always)]
    #[expect(clippy::unnecessary_wraps, reason = "as its twin, which fails where no mapping is left")]
    pub(crate) const fn on_a_simulated_page(base: *mut u8, _call: &MapCall) -> Result<*mut u8, Errno> {
        Ok(base)
    }
}

#[cfg(arenite_faults)]
mod chosen {
    use core::panic::Location;
    use core::ptr;

    // Not by way of `base::sync`: a model checker has no business here.
    use core::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicUsize, Ordering::SeqCst};

    use crate::base::align;
    use crate::vm::errno::Errno;
    use crate::vm::page::page_size;
    use crate::vm::sys::{self, MapCall};

    /// Which of the calls at a place fail, the first being 0.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum When {
        /// This one.
        Only(u32),
        /// This one and all that follow.
        From(u32),
        /// About one of so many, by a seed.
        OneIn(u32, u32),
    }

    /// Calls that are to fail.
    #[derive(Clone, Copy, Debug)]
    pub struct Fault {
        /// As the system's manual names it; none for every call.
        pub call: Option<&'static str>,
        /// Where it is made, file and line; none for every place.
        pub place: Option<(&'static str, u32)>,
        /// Which ones.
        pub when: When,
        /// With what.
        pub errno: i32,
    }

    /// A place in the code that made calls.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Place {
        /// The call.
        pub call: &'static str,
        /// The file of the place.
        pub file: &'static str,
        /// The line in it.
        pub line: u32,
        /// How many calls were made there.
        pub calls: u32,
        /// How many of them were refused.
        pub refused: u32,
    }

    struct Seen {
        location: AtomicPtr<Location<'static>>,
        call: AtomicPtr<&'static str>,
        calls: AtomicU32,
        refused: AtomicU32,
    }

    const PLACES: usize = 256;
    static SEEN: [Seen; PLACES] = [const {
        Seen {
            location: AtomicPtr::new(ptr::null_mut()),
            call: AtomicPtr::new(ptr::null_mut()),
            calls: AtomicU32::new(0),
            refused: AtomicU32::new(0),
        }
    }; PLACES];
    static FAULTS: AtomicPtr<Fault> = AtomicPtr::new(ptr::null_mut());
    static FAULTS_LEN: AtomicUsize = AtomicUsize::new(0);
    static ARMED: AtomicBool = AtomicBool::new(false);
    static MAPPED: AtomicI64 = AtomicI64::new(0);

    /// From now on these calls fail. To be called while no other thread is in this layer.
    pub fn arm(faults: &'static [Fault]) {
        ARMED.store(false, SeqCst);
        FAULTS.store(faults.as_ptr().cast_mut(), SeqCst);
        FAULTS_LEN.store(faults.len(), SeqCst);
        ARMED.store(true, SeqCst);
    }

    /// No call fails any more.
    pub fn disarm() {
        ARMED.store(false, SeqCst);
    }

    /// The places that have made calls.
    pub fn places() -> impl Iterator<Item = Place> {
        SEEN.iter().map_while(|seen| {
            // SAFETY: both are null or lead to what lives for ever.
            let (location, call) =
                unsafe { (seen.location.load(SeqCst).as_ref()?, *seen.call.load(SeqCst).as_ref()?) };
            let (calls, refused) = (seen.calls.load(SeqCst), seen.refused.load(SeqCst));
            Some(Place { call, file: location.file(), line: location.line(), calls, refused })
        })
    }

    /// Bytes that are mapped through this layer.
    pub fn mapped_bytes() -> i64 {
        MAPPED.load(SeqCst)
    }

    /// Bytes that the kernel would not unmap, and has not yet.
    pub fn stuck_bytes() -> usize {
        crate::vm::release::stuck_bytes()
    }

    pub(crate) fn mapped(more: usize, less: usize) {
        MAPPED.fetch_add(more as i64 - less as i64, SeqCst);
    }

    /// Bytes in a page, if the environment wants them to be more than the machine's.
    pub(crate) fn simulated_page_size() -> Option<usize> {
        let digits = core::str::from_utf8(sys::variable(c"SIMULATED_PAGE_SIZE")?).ok()?;
        digits.parse().ok().filter(|size: &usize| size.is_power_of_two())
    }

    /// How many processors a test wants the machine to have, if it wants so.
    pub(crate) fn simulated_processors() -> Option<usize> {
        static WANTED: AtomicUsize = AtomicUsize::new(UNKNOWN);
        const UNKNOWN: usize = usize::MAX;
        if WANTED.load(SeqCst) == UNKNOWN {
            let digits =
                sys::variable(c"SIMULATED_PROCESSORS").and_then(|value| core::str::from_utf8(value).ok());
            WANTED.store(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0), SeqCst);
        }
        Some(WANTED.load(SeqCst)).filter(|wanted| *wanted > 0)
    }

    /// Where the calling thread runs on such a machine: each by itself, and all move on by one now and then.
    pub(crate) fn simulated_processor() -> Option<usize> {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        const STAY: usize = 64;
        let here = 0_u8;
        // Stacks are megabytes.
        let thread = ((&raw const here).addr() >> 20).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let moves = ASKED.fetch_add(1, SeqCst) / STAY;
        simulated_processors().map(|processors| (thread + moves) % processors)
    }

    /// Moves a new mapping to where a page of the simulated size begins, as a kernel with such pages would have put it.
    /// Fails where the process may have no further mapping: this takes more of them, for a moment, than the kernel would.
    pub(crate) fn on_a_simulated_page(base: *mut u8, call: &MapCall) -> Result<*mut u8, Errno> {
        let page = page_size();
        let asked = libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE;
        if base.addr().is_multiple_of(page) || call.flags & asked != 0 {
            return Ok(base);
        }
        let len = align::up(call.len, page);
        // SAFETY: the first mapping is nobody's yet, and neither is what is reserved in its place.
        unsafe {
            libc::munmap(base.cast(), call.len);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let wide = libc::mmap(ptr::null_mut(), len + page, libc::PROT_NONE, flags, -1, 0);
            if wide == libc::MAP_FAILED {
                return Err(Errno::last());
            }
            let wide = wide.cast::<u8>();
            let lead = align::up(wide.addr(), page) - wide.addr();
            if lead > 0 {
                libc::munmap(wide.cast(), lead);
            }
            libc::munmap(wide.add(lead + len).cast(), page - lead);
            let (at, flags) = (wide.add(lead), call.flags | libc::MAP_FIXED);
            let offset = call.offset as libc::off_t;
            let placed = libc::mmap(at.cast(), call.len, call.protection, flags, call.fd, offset);
            if placed == libc::MAP_FAILED {
                let errno = Errno::last();
                libc::munmap(at.cast(), len);
                return Err(errno);
            }
            Ok(at)
        }
    }

    /// An error if the test wants this call to fail.
    #[track_caller]
    pub(crate) fn point(call: &'static str) -> Result<(), Errno> {
        let location = Location::caller();
        let seen = seen(call, location);
        let number = seen.calls.fetch_add(1, SeqCst);
        if !ARMED.load(SeqCst) {
            return Ok(());
        }
        // SAFETY: `arm` was given a slice that lives for ever.
        let faults = unsafe { core::slice::from_raw_parts(FAULTS.load(SeqCst), FAULTS_LEN.load(SeqCst)) };
        let is_meant = |fault: &&Fault| {
            fault.call.is_none_or(|name| name == call)
                && fault.place.is_none_or(|(file, line)| file == location.file() && line == location.line())
                && match fault.when {
                    When::Only(n) => number == n,
                    When::From(n) => number >= n,
                    When::OneIn(n, seed) => mixed(number ^ location.line() << 16, seed).is_multiple_of(n),
                }
        };
        match faults.iter().find(is_meant) {
            Some(fault) => {
                seen.refused.fetch_add(1, SeqCst);
                Err(Errno(fault.errno))
            }
            None => Ok(()),
        }
    }

    fn seen(call: &'static str, location: &'static Location<'static>) -> &'static Seen {
        let name = NAMES.iter().find(|name| **name == call).expect("a call that `NAMES` has");
        let is_it = |seen: &&Seen| {
            let new = ptr::from_ref(location).cast_mut();
            if seen.location.compare_exchange(ptr::null_mut(), new, SeqCst, SeqCst).is_ok() {
                seen.call.store(ptr::from_ref(name).cast_mut(), SeqCst);
            }
            // SAFETY: not null, and locations live for ever.
            let there = unsafe { &*seen.location.load(SeqCst) };
            there == location
        };
        SEEN.iter().find(is_it).expect("room for one more place")
    }

    /// The calls that can be refused.
    const NAMES: [&str; 16] = [
        "mmap",
        "munmap",
        "mprotect",
        "madvise",
        "mremap",
        "mlock",
        "munlock",
        "msync",
        "mincore",
        "ftruncate",
        "memfd_create",
        "sched_getaffinity",
        "pthread_key_create",
        "pthread_setspecific",
        "pthread_atfork",
        "pthread_create",
    ];

    fn mixed(number: u32, seed: u32) -> u32 {
        let mut word = number.wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
        word = (word ^ word >> 16).wrapping_mul(0x7feb_352d);
        word = (word ^ word >> 15).wrapping_mul(0x846c_a68b);
        word ^ word >> 16
    }
}

#[cfg(arenite_faults)]
pub use chosen::{Fault, Place, When, arm, disarm, mapped_bytes, places, stuck_bytes};
pub(crate) use chosen::{
    mapped, on_a_simulated_page, point, simulated_page_size, simulated_processor, simulated_processors,
};
