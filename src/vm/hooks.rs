//! Where the system calls back: a thread's end, a fork, a thread of our own.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use crate::vm::errno::Errno;
use crate::vm::inject;

/// A pthread key: the destructor runs at the end of each thread that has set a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExitKey(libc::pthread_key_t);

impl ExitKey {
    #[cfg_attr(arenite_faults, track_caller)]
    pub(crate) fn new(destructor: unsafe extern "C" fn(*mut c_void)) -> Result<ExitKey, Errno> {
        inject::point("pthread_key_create")?;
        let mut key = 0;
        // SAFETY: the key is written by the call.
        match unsafe { libc::pthread_key_create(&raw mut key, Some(destructor)) } {
            0 => Ok(ExitKey(key)),
            error => Err(Errno(error)),
        }
    }

    /// Has the destructor called with `value` when the calling thread ends. The C library may allocate for this.
    #[cfg_attr(arenite_faults, track_caller)]
    pub(crate) fn set(self, value: *mut c_void) -> Result<(), Errno> {
        inject::point("pthread_setspecific")?;
        // SAFETY: the key was made by `new`.
        match unsafe { libc::pthread_setspecific(self.0, value) } {
            0 => Ok(()),
            error => Err(Errno(error)),
        }
    }

    /// What the calling thread has set, or null.
    pub(crate) fn get(self) -> *mut c_void {
        // SAFETY: the key was made by `new`.
        unsafe { libc::pthread_getspecific(self.0) }
    }

    pub(crate) const fn into_raw(self) -> libc::pthread_key_t {
        self.0
    }

    /// The key that `into_raw` gave.
    pub(crate) const fn from_raw(raw: libc::pthread_key_t) -> ExitKey {
        ExitKey(raw)
    }
}

/// A number that no other thread of the process has while this one runs. In the child of a fork, the thread that forked
/// keeps its own.
pub(crate) fn this_thread() -> usize {
    // SAFETY: always allowed.
    unsafe { libc::pthread_self() as usize }
}

/// Has the three called around every `fork` of this process. The C library may allocate for this.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) fn at_fork(
    prepare: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) -> Result<(), Errno> {
    inject::point("pthread_atfork")?;
    // SAFETY: the functions live as long as the code does.
    match unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) } {
        0 => Ok(()),
        error => Err(Errno(error)),
    }
}

/// Starts a detached thread with all signals blocked and a small stack. The C library may allocate for this.
#[cfg_attr(arenite_faults, track_caller)]
pub(crate) fn spawn_detached(body: extern "C" fn(*mut c_void) -> *mut c_void) -> Result<(), Errno> {
    inject::point("pthread_create")?;
    const STACK: usize = 256 << 10;
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: each struct is initialised by the call that takes it first; the attributes live until destroyed.
    unsafe {
        let error = libc::pthread_attr_init(attributes.as_mut_ptr());
        if error != 0 {
            return Err(Errno(error));
        }
        libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK);
        // The thread inherits the mask: a signal meant for the program never lands on it.
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let error = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), body, ptr::null_mut());
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if error == 0 { Ok(()) } else { Err(Errno(error)) }
    }
}
