//! What the tests of the mapping layer share: files, children, and what the kernel says about an address.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use arenite::vm::{MapError, Mapping, page_size};

#[path = "../support/child.rs"]
mod child;

pub(crate) use child::{alone, this_binary};

/// A file without a name that holds `contents`.
pub(crate) fn file_of(contents: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!(
        "arenite-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file.write_all(contents).unwrap();
    file
}

/// `len` bytes, each different from its neighbours and from those a page further.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8 + (n / page_size() % 4) as u8).collect()
}

pub(crate) fn contents_of(file: &File) -> Vec<u8> {
    let mut contents = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut contents, 0).unwrap();
    contents
}

/// The bytes of any mapping.
pub(crate) fn bytes(mapping: &Mapping) -> &[u8] {
    // SAFETY: each test owns what it maps, and changes it between reads only.
    unsafe { mapping.as_slice_unchecked() }
}

pub(crate) fn put(mapping: &Mapping, at: usize, byte: u8) {
    assert!(at < mapping.len());
    // SAFETY: inside of the mapping, which the test has made writable.
    unsafe { mapping.as_ptr().add(at).write(byte) };
}

/// The message of an argument that was refused before any call.
pub(crate) fn refused<T>(result: io::Result<T>) -> String {
    let error = result.err().expect("must be refused");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    assert_eq!(MapError::of(&error).expect("typed").errno(), None, "{error}");
    error.to_string()
}

/// The message of something that is not supported.
pub(crate) fn unsupported<T>(result: io::Result<T>) -> String {
    let error = result.err().expect("must be unsupported");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
    assert!(MapError::of(&error).is_some());
    error.to_string()
}

/// The message of a call that the kernel refused with `errno`.
pub(crate) fn failed_with<T>(result: io::Result<T>, errno: i32) -> String {
    let error = result.err().expect("must fail");
    assert_eq!(MapError::of(&error).expect("typed").errno(), Some(errno), "{error}");
    error.to_string()
}

/// Whether each of the parts stands in the text.
#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

/// How a child ended.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum End {
    Exit(i32),
    Signal(i32),
}

/// Runs `body` in a fork and says how it ended; 0 is for true. The child has one thread: `body` must not allocate.
pub(crate) fn in_fork(body: impl FnOnce() -> bool) -> End {
    // SAFETY: the child runs `body`, which does as it is told above, and exits without unwinding or destructors.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            // A fault is what some tests wait for: no core file for it.
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
            libc::_exit(i32::from(!body()));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        if libc::WIFSIGNALED(status) {
            End::Signal(libc::WTERMSIG(status))
        } else {
            End::Exit(libc::WEXITSTATUS(status))
        }
    }
}

/// Whether reading the byte, or writing it back, raises a signal.
pub(crate) fn reads(ptr: *const u8) -> bool {
    // SAFETY: at worst the child dies, which is the question.
    in_fork(|| unsafe {
        _ = ptr.read_volatile();
        true
    }) == End::Exit(0)
}

pub(crate) fn writes(ptr: *mut u8) -> bool {
    // SAFETY: as above; the byte stays what it was.
    in_fork(|| unsafe {
        ptr.write_volatile(ptr.read_volatile());
        true
    }) == End::Exit(0)
}

/// Whether any page of `addr..addr + len` is mapped.
pub(crate) fn any_mapped(addr: usize, len: usize) -> bool {
    (addr..addr + len).step_by(page_size()).any(|page| {
        // SAFETY: asks about addresses and touches none; `msync` without flags to write anything.
        unsafe { libc::msync(std::ptr::without_provenance_mut(page), page_size(), libc::MS_ASYNC) == 0 }
    })
}

pub(crate) fn all_mapped(addr: usize, len: usize) -> bool {
    (addr..addr + len).step_by(page_size()).all(|page| any_mapped(page, 1))
}

/// The line of `/proc/self/maps` for the address: `7f00-7f01 rw-p …`.
pub(crate) fn maps_line(addr: usize) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find(|line| line_holds(line, addr)).map(str::to_owned)
}

/// A field of `/proc/self/smaps` for the address, such as `VmFlags`.
pub(crate) fn smaps_field(addr: usize, field: &str) -> String {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let found = smaps
        .lines()
        .skip_while(|line| !line_holds(line, addr))
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.expect("mapped").trim().to_owned()
}

pub(crate) fn has_flag(addr: usize, flag: &str) -> bool {
    smaps_field(addr, "VmFlags").split(' ').any(|name| name == flag)
}

fn line_holds(line: &str, addr: usize) -> bool {
    let parse = |text| usize::from_str_radix(text, 16).ok();
    let range = line.split(' ').next().and_then(|range| range.split_once('-'));
    let range = range.and_then(|(start, end)| Some(parse(start)?..parse(end)?));
    range.is_some_and(|range| range.contains(&addr))
}

/// Takes the rights of root away, with which limits do not count, and sets the limit on locked memory.
#[cfg(target_os = "linux")]
pub(crate) fn limit_locked_memory(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: plain numbers; the process is a test's own.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit), 0);
        if libc::geteuid() == 0 {
            assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        }
    }
}
