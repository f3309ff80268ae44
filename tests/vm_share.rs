//! Who sees writes: parents, children and strangers; and what a memfd's seals forbid.
#![cfg(all(target_os = "linux", not(arenite_portable)))]

mod common;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use arenite::vm::{ForkAdvice, MapOptions, Memfd, Protection, Seals, Sharing, page_size};
use common::*;

/// Has the child write 2 where the parent wrote 1, and the parent 3 once the child has; says what each saw.
fn ping_pong(sharing: Sharing) -> (bool, u8) {
    let mapping = MapOptions::new(2).sharing(sharing).map_anonymous().unwrap();
    put(&mapping, 0, 1);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut byte = 0u8;
    // SAFETY: the child does as `in_fork` asks; pointers are to bytes of the mapping, and to one byte for the
    // pipe.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            mapping.as_ptr().write_volatile(2);
            // Wait for the parent's write.
            libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::_exit(i32::from(mapping.as_ptr().add(1).read_volatile() == 3));
        }
        mapping.as_ptr().add(1).write_volatile(3);
        libc::write(writer.as_raw_fd(), (&raw const byte).cast(), 1);
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        (libc::WEXITSTATUS(status) == 1, mapping.as_ptr().read_volatile())
    }
}

#[test]
fn parent_and_child_share_a_shared_mapping() {
    assert_eq!(ping_pong(Sharing::Shared), (true, 2));
}

#[test]
fn parent_and_child_do_not_share_a_private_mapping() {
    assert_eq!(ping_pong(Sharing::Private), (false, 1));
}

#[test]
fn two_processes_share_a_memfd() {
    const KEY: &str = "ARENITE_TEST_MEMFD";
    let options = MapOptions::new(page_size()).offset(3).sharing(Sharing::Shared);
    if let Ok(number) = std::env::var(KEY) {
        // The other process: it knows the descriptor's number and nothing else.
        // SAFETY: the parent has left this descriptor open for us.
        let memfd = Memfd::from(unsafe { OwnedFd::from_raw_fd(number.parse().unwrap()) });
        let mapping = options.map_file(&memfd).unwrap();
        assert_eq!(bytes(&mapping)[0], 1);
        put(&mapping, 1, 2);
        return;
    }
    let memfd = Memfd::new(c"shared", 2 * page_size() as u64).unwrap();
    let mapping = options.map_file(&memfd).unwrap();
    put(&mapping, 0, 1);
    // A descriptor that `exec` does not close.
    // SAFETY: plain numbers; the new descriptor is nobody else's.
    let open = unsafe { OwnedFd::from_raw_fd(libc::dup(memfd.as_fd().as_raw_fd())) };
    let status = this_binary()
        .args(["two_processes_share_a_memfd", "--exact"])
        .env(KEY, open.as_raw_fd().to_string())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(bytes(&mapping)[..2], [1, 2]);
}

#[test]
fn forks_see_what_was_advised() {
    let mapping = MapOptions::new(page_size()).map_anonymous().unwrap();
    put(&mapping, 0, 7);
    let seen = || in_fork(|| bytes(&mapping)[0] == 7);
    assert_eq!(seen(), End::Exit(0));
    // SAFETY: the children read one byte, as the test wants to see, and drop nothing.
    unsafe {
        mapping.advise_fork(.., ForkAdvice::WipeOnFork).unwrap();
        assert_eq!(in_fork(|| bytes(&mapping)[0] == 0), End::Exit(0));
        mapping.advise_fork(.., ForkAdvice::KeepOnFork).unwrap();
        assert_eq!(seen(), End::Exit(0));
        mapping.advise_fork(.., ForkAdvice::DontFork).unwrap();
        assert_eq!(seen(), End::Signal(libc::SIGSEGV));
        mapping.advise_fork(.., ForkAdvice::DoFork).unwrap();
        assert_eq!(seen(), End::Exit(0));
        // Wiping is for private anonymous memory.
        let shared = MapOptions::new(1).sharing(Sharing::Shared).map_anonymous().unwrap();
        says(&unsupported(shared.advise_fork(.., ForkAdvice::WipeOnFork)), &["advice=WipeOnFork"]);
    }
}

#[test]
fn seals_forbid_what_they_say() {
    // Alone: a child that another test forks would have the writable mapping too.
    alone("seals_forbid_what_they_say", || {
        let page = page_size() as u64;
        let memfd = Memfd::new(c"sealed", page).unwrap();
        assert_eq!(memfd.seals().unwrap(), Seals::default());
        memfd.set_len(2 * page).unwrap();
        memfd.seal(Seals::GROW).unwrap();
        says(
            &failed_with(memfd.set_len(3 * page), libc::EPERM),
            &["ftruncate(fd=", &format!("len={}): ", 3 * page)],
        );
        memfd.set_len(page).unwrap();
        memfd.seal(Seals::SHRINK).unwrap();
        failed_with(memfd.set_len(1), libc::EPERM);
        assert_eq!(memfd.len().unwrap(), page);

        // No seal against writing while somebody can write.
        let options = MapOptions::whole_file(&memfd).unwrap();
        let shared = options.sharing(Sharing::Shared).map_file(&memfd).unwrap();
        put(&shared, 0, 1);
        let text = failed_with(memfd.seal(Seals::WRITE), libc::EBUSY);
        says(&text, &["fcntl(fd=", "F_ADD_SEALS, Seals(WRITE)"]);
        drop(shared);
        memfd.seal(Seals::WRITE | Seals::SEAL).unwrap();
        failed_with(options.sharing(Sharing::Shared).map_file(&memfd), libc::EPERM);
        // A private one writes to its own copies.
        let private = options.map_file(&memfd).unwrap();
        put(&private, 0, 9);
        let reader = options.sharing(Sharing::Shared).protection(Protection::Read).map_file(&memfd).unwrap();
        assert_eq!(bytes(&reader)[0], 1);
        failed_with(memfd.seal(Seals::FUTURE_WRITE), libc::EPERM);
        let all = memfd.seals().unwrap();
        assert!(all.contains(Seals::GROW | Seals::SHRINK | Seals::WRITE | Seals::SEAL));
        assert_eq!(format!("{all:?}"), "Seals(SEAL | SHRINK | GROW | WRITE)");
    });
}

#[test]
fn future_write_leaves_mappings_that_exist() {
    let memfd = Memfd::new(c"future", page_size() as u64).unwrap();
    let options = MapOptions::whole_file(&memfd).unwrap().sharing(Sharing::Shared);
    let before = options.map_file(&memfd).unwrap();
    memfd.seal(Seals::FUTURE_WRITE).unwrap();
    put(&before, 0, 4);
    failed_with(options.map_file(&memfd), libc::EPERM);
    assert_eq!(bytes(&options.protection(Protection::Read).map_file(&memfd).unwrap())[0], 4);
}

#[test]
fn bad_memfds_are_named() {
    let name = std::ffi::CString::new(vec![b'x'; 300]).unwrap();
    says(&failed_with(Memfd::new(&name, 1), libc::EINVAL), &["memfd_create(name=", "len=1"]);
    let error = Memfd::new(c"huge", u64::MAX).unwrap_err();
    says(&error.to_string(), &["ftruncate(fd=", "len=18446744073709551615"]);
    let memfd = Memfd::new(c"empty", 0).unwrap();
    assert!(memfd.is_empty().unwrap());
    says(&refused(MapOptions::new(1).map_file(&memfd)), &["past the end of the file, which has 0 bytes"]);
    let file = Memfd::from(OwnedFd::from(file_of(&[1])));
    let error = file.seal(Seals::WRITE).unwrap_err();
    says(&error.to_string(), &["fcntl(fd="]);
}

#[test]
fn a_memfd_closes_on_exec() {
    let memfd = Memfd::new(c"closes", 1).unwrap();
    // SAFETY: plain numbers.
    let flags = unsafe { libc::fcntl(memfd.as_fd().as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    let mapping = MapOptions::new(1).map_file(&memfd).unwrap();
    assert!(maps_line(mapping.as_ptr().addr()).unwrap().contains("memfd:closes"));
    drop(OwnedFd::from(memfd));
    assert_eq!(bytes(&mapping)[0], 0);
}
