//! The allocator of the program that links this crate: the one whose feature is on, else the system's.

macro_rules! allocators {
    ($($feature:literal: $type:ty = $new:expr, trim $trim:block)*) => {
        $(
            #[cfg(feature = $feature)]
            #[global_allocator]
            static GLOBAL: $type = $new;
        )*

        /// Asks the allocator to give back to the system what it can. False: it has no such call.
        #[allow(unreachable_code, reason = "without a feature, only the end is left")]
        pub fn trim() -> bool {
            $(
                #[cfg(feature = $feature)]
                return $trim;
            )*
            trim_preloaded()
        }
    };
}

allocators! {
    "arenite": arenite::Arenite = arenite::Arenite::new(), trim { arenite::trim(); true }
    "glibc": std::alloc::System = std::alloc::System, trim { trim_preloaded() }
    "jemalloc": tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc, trim { trim_jemalloc(_rjem_mallctl) }
    "mimalloc2": mimalloc::MiMalloc = mimalloc::MiMalloc, trim { trim_mimalloc(mi_collect) }
    "mimalloc3": mimalloc::MiMalloc = mimalloc::MiMalloc, trim { trim_mimalloc(mi_collect) }
    "recorder": trace::Recorder = trace::Recorder, trim { trim_preloaded() }
    "rpmalloc": rpmalloc::RpMalloc = rpmalloc::RpMalloc, trim { false }
    "rusty_alloc": rusty_alloc_api::RustyAlloc = rusty_alloc_api::RustyAlloc, trim { false }
    "smmalloc": smmalloc::Smalloc = smmalloc::Smalloc::new(), trim { false }
    "snmalloc": snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc, trim { false }
    "talc": Talc = Talc::new(talc_source()), trim { false }
}

// It is made to manage memory that somebody else provides: blocks of a megabyte from the system's allocator.
#[cfg(feature = "talc")]
type Talc = talc::TalcLock<spinning_top::RawSpinlock, talc::source::GlobalAllocSource<std::alloc::System>>;

#[cfg(feature = "talc")]
const fn talc_source() -> talc::source::GlobalAllocSource<std::alloc::System> {
    talc::source::GlobalAllocSource::new(std::alloc::System)
}

type MiCollect = unsafe extern "C" fn(force: bool);

type Mallctl = unsafe extern "C" fn(
    name: *const libc::c_char,
    old: *mut libc::c_void,
    old_len: *mut usize,
    new: *mut libc::c_void,
    new_len: usize,
) -> libc::c_int;

#[cfg(any(feature = "mimalloc2", feature = "mimalloc3"))]
unsafe extern "C" {
    fn mi_collect(force: bool);
}

#[cfg(feature = "jemalloc")]
unsafe extern "C" {
    fn _rjem_mallctl(
        name: *const libc::c_char,
        old: *mut libc::c_void,
        old_len: *mut usize,
        new: *mut libc::c_void,
        new_len: usize,
    ) -> libc::c_int;
}

fn trim_mimalloc(collect: MiCollect) -> bool {
    // SAFETY: may be called at any time.
    unsafe { collect(true) };
    true
}

/// Empties the thread's cache and purges all arenas (4096 stands for all of them).
fn trim_jemalloc(mallctl: Mallctl) -> bool {
    for command in [c"thread.tcache.flush", c"arena.4096.purge"] {
        // SAFETY: commands that neither take nor give a value.
        unsafe {
            mallctl(command.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), 0)
        };
    }
    true
}

/// The call of whichever library stands before the C library, or glibc's own.
fn trim_preloaded() -> bool {
    // SAFETY: each symbol has one meaning, and is called with its own signature.
    unsafe {
        if let Some(collect) = symbol(c"mi_collect") {
            return trim_mimalloc(std::mem::transmute::<*mut libc::c_void, MiCollect>(collect));
        }
        if let Some(mallctl) = symbol(c"mallctl") {
            return trim_jemalloc(std::mem::transmute::<*mut libc::c_void, Mallctl>(mallctl));
        }
        if let Some(release) = symbol(c"MallocExtension_ReleaseFreeMemory") {
            std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn()>(release)();
            return true;
        }
        if let Some(command) = symbol(c"scalable_allocation_command") {
            type Command = unsafe extern "C" fn(libc::c_int, *mut libc::c_void) -> libc::c_int;
            let clean_all_buffers = 0;
            let command = std::mem::transmute::<*mut libc::c_void, Command>(command);
            return command(clean_all_buffers, std::ptr::null_mut()) == 0;
        }
        #[cfg(target_env = "gnu")]
        {
            // Arenite preloaded answers to this name as well.
            libc::malloc_trim(0);
            true
        }
        #[cfg(not(target_env = "gnu"))]
        false
    }
}

fn symbol(name: &std::ffi::CStr) -> Option<*mut libc::c_void> {
    // SAFETY: asks for a name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}
