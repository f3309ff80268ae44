//! C++'s `operator delete` and `operator delete[]` with the size of what is deleted, in the hardened library: the size is
//! compared. What a compiler calls them for is `delete` of an object whose type it knows.
//!
//! The libraries' own call the operators without a size. A program that has replaced those, and not these, gets its own: its
//! blocks may be none of ours, or longer. Over-aligned objects do not come by here: the libraries disagree on what they ask
//! for then.

use core::ffi::{CStr, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// An operator that takes no size.
struct Unsized {
    name: &'static CStr,
    /// Null before it was looked up; where it is a library's own, which frees, [`crate::free`].
    place: AtomicPtr<c_void>,
}

static DELETE: Unsized = Unsized { name: c"_ZdlPv", place: AtomicPtr::new(ptr::null_mut()) };
static DELETE_ARRAY: Unsized = Unsized { name: c"_ZdaPv", place: AtomicPtr::new(ptr::null_mut()) };

impl Unsized {
    /// # Safety
    /// As for `free_sized`; but where the size is none, one byte was asked for.
    #[inline(always)]
    unsafe fn call(&self, block: *mut c_void, size: usize) {
        let mut operator = self.place.load(Ordering::Relaxed);
        if operator.is_null() {
            operator = self.find();
        }
        // SAFETY: passed on to the caller; another operator than ours has this type by the language's rules.
        unsafe {
            if operator == crate::free as *mut c_void {
                return crate::free_sized(block, size.max(1));
            }
            core::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(operator)(block);
        }
    }

    #[cold]
    fn find(&self) -> *mut c_void {
        let operators = [self, &DELETE].map(|operator| {
            // SAFETY: the name is a C string.
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, operator.name.as_ptr()) }
        });
        // A library's operator for arrays calls the other.
        let is_replaced = operators.iter().any(|&code| !code.is_null() && !is_of_a_library(code));
        let found = operators.into_iter().find(|code| is_replaced && !code.is_null());
        let chosen = found.unwrap_or(crate::free as *mut c_void);
        // Whoever else looks finds the same.
        self.place.store(chosen, Ordering::Relaxed);
        chosen
    }
}

/// Whether the code at this address is libstdc++'s or libc++'s.
fn is_of_a_library(code: *const c_void) -> bool {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the call fills the struct, for which zero is a value, and its strings live as long as what they name.
    let path = unsafe {
        if libc::dladdr(code, info.as_mut_ptr()) == 0 || info.assume_init_ref().dli_fname.is_null() {
            return false;
        }
        CStr::from_ptr(info.assume_init_ref().dli_fname).to_bytes()
    };
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name.starts_with(b"libstdc++.so") || name.starts_with(b"libc++")
}

/// `operator delete(void *, std::size_t)`.
///
/// # Safety
/// As the language has it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn _ZdlPvm(block: *mut c_void, size: usize) {
    // SAFETY: passed on to the caller.
    unsafe { DELETE.call(block, size) };
}

/// `operator delete[](void *, std::size_t)`.
///
/// # Safety
/// As the language has it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn _ZdaPvm(block: *mut c_void, size: usize) {
    // SAFETY: passed on to the caller.
    unsafe { DELETE_ARRAY.call(block, size) };
}
