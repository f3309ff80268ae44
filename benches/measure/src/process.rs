//! What the kernel says about this process, read without allocating.

use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Processor time of all threads, in nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: fills the structure.
    let time = unsafe {
        assert_eq!(libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, time.as_mut_ptr()), 0);
        time.assume_init()
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Minor and major faults.
pub(crate) fn faults() -> (u64, u64) {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: fills the structure.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    (usage.ru_minflt as u64, usage.ru_majflt as u64)
}

/// The most that was ever resident, in bytes: of this program, where `ru_maxrss` begins with what the process held before
/// `exec`.
pub fn peak_rss() -> u64 {
    field_kib(c"/proc/self/status", b"VmHWM:") << 10
}

/// What is resident now, in bytes. Counted page by page: the kernel's running counters lag behind.
pub fn rss() -> u64 {
    field_kib(c"/proc/self/smaps_rollup", b"Rss:") << 10
}

/// Lines of `/proc/self/maps`.
pub fn mappings() -> u64 {
    let mut lines = 0;
    read(c"/proc/self/maps", |bytes| lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64);
    lines
}

fn field_kib(file: &CStr, field: &[u8]) -> u64 {
    let mut buffer = [0; 8192];
    let mut filled = 0;
    read(file, |bytes| {
        let taken = bytes.len().min(buffer.len() - filled);
        buffer[filled..filled + taken].copy_from_slice(&bytes[..taken]);
        filled += taken;
    });
    let at =
        buffer[..filled].windows(field.len()).position(|part| part == field).expect("a field of the file");
    buffer[at + field.len()..]
        .iter()
        .skip_while(|byte| !byte.is_ascii_digit())
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, byte| number * 10 + u64::from(byte - b'0'))
}

fn read(path: &CStr, mut with: impl FnMut(&[u8])) {
    let mut buffer = [0_u8; 4096];
    // SAFETY: a file of this function's own, read into its buffer.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        assert!(file >= 0);
        loop {
            let count = libc::read(file, buffer.as_mut_ptr().cast(), buffer.len());
            if count <= 0 {
                break;
            }
            with(&buffer[..count as usize]);
        }
        libc::close(file);
    }
}
