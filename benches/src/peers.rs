//! The allocators. To add one that is a crate: see README.md, *Adding an allocator*.

use std::path::{Path, PathBuf};

/// Who is compared with all others.
pub(crate) const OURS: &str = "arenite";

/// One allocator.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Sits out the workloads where several threads allocate.
    pub(crate) single_threaded: bool,
    /// Aborts or never ends under valgrind: its instructions are not counted.
    pub(crate) no_valgrind: bool,
    /// Is there for the C programs, unless it is asked for by name: the same allocator is linked under another name, or it is no
    /// rival.
    pub(crate) foreign_only: bool,
}

/// How the program gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Linked as the global allocator: the feature of the crate `allocators`, and the package to name the version of.
    Linked { feature: &'static str, package: Option<&'static str> },
    /// The program on the system's allocator with this library in its place, and Debian's name of it.
    Preloaded { library: &'static str, package: &'static str },
    /// Arenite as the library that `--preload` names.
    PreloadedOurs,
    /// An arena in the program that has all of them, and the package to name the version of.
    Arena { package: &'static str },
}

const fn linked(name: &'static str, package: &'static str) -> Peer {
    Peer {
        name,
        kind: Kind::Linked { feature: name, package: Some(package) },
        single_threaded: false,
        no_valgrind: false,
        foreign_only: false,
    }
}

const fn preloaded(name: &'static str, library: &'static str, package: &'static str) -> Peer {
    Peer {
        name,
        kind: Kind::Preloaded { library, package },
        single_threaded: false,
        no_valgrind: false,
        foreign_only: false,
    }
}

pub(crate) const PEERS: &[Peer] = &[
    linked("arenite", "arenite"),
    Peer { foreign_only: true, ..linked("arenite-hardened", "arenite") },
    Peer {
        name: "glibc",
        kind: Kind::Linked { feature: "glibc", package: None },
        single_threaded: false,
        no_valgrind: false,
        foreign_only: false,
    },
    linked("mimalloc3", "libmimalloc-sys"),
    linked("mimalloc2", "libmimalloc-sys"),
    linked("jemalloc", "tikv-jemalloc-sys"),
    Peer { no_valgrind: true, ..linked("snmalloc", "snmalloc-sys") },
    linked("rpmalloc", "rpmalloc-sys"),
    Peer { no_valgrind: true, ..linked("smmalloc", "smmalloc") },
    linked("rusty_alloc", "rusty_alloc"),
    Peer { single_threaded: true, ..linked("talc", "talc") },
    preloaded("tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
    preloaded("tbb", "libtbbmalloc_proxy.so.2", "libtbbmalloc2"),
    Peer { foreign_only: true, ..preloaded("jemalloc-deb", "libjemalloc.so.2", "libjemalloc2") },
    Peer { foreign_only: true, ..preloaded("mimalloc-deb", "libmimalloc.so.2", "libmimalloc2.0") },
    Peer {
        name: "arenite-so",
        kind: Kind::PreloadedOurs,
        single_threaded: false,
        no_valgrind: false,
        foreign_only: true,
    },
];

const fn arena(name: &'static str, package: &'static str) -> Peer {
    Peer {
        name,
        kind: Kind::Arena { package },
        single_threaded: false,
        no_valgrind: false,
        foreign_only: false,
    }
}

/// `arenite-packed` aligns to one byte at least, `arenite-cursor` holds its position in registers.
pub(crate) const ARENAS: &[Peer] = &[
    arena("arenite", "arenite"),
    arena("arenite-packed", "arenite"),
    arena("arenite-cursor", "arenite"),
    arena("bumpalo", "bumpalo"),
    arena("bump-scope", "bump-scope"),
    arena("blink-alloc", "blink-alloc"),
    arena("stumpalo", "stumpalo"),
    arena("typed-arena", "typed-arena"),
];

impl Peer {
    /// The library to preload, if that is how it is run; an error where the machine lacks it.
    pub(crate) fn library(&self, ours: &Path) -> anyhow::Result<Option<PathBuf>> {
        match self.kind {
            Kind::Linked { .. } | Kind::Arena { .. } => Ok(None),
            Kind::Preloaded { library, package } => {
                let folders =
                    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
                let found =
                    folders.iter().map(|folder| Path::new(folder).join(library)).find(|path| path.exists());
                found
                    .map(Some)
                    .ok_or_else(|| anyhow::anyhow!("{library} is not installed (Debian: {package})"))
            }
            Kind::PreloadedOurs if ours.exists() => Ok(Some(ours.canonicalize()?)),
            Kind::PreloadedOurs => anyhow::bail!(
                "{} is not there (cargo build --release --example preload)",
                ours.file_name().unwrap_or_default().display()
            ),
        }
    }

    /// Whether programs that are not ours can have it.
    pub(crate) fn is_for_foreign(&self) -> bool {
        self.feature() == Some("glibc")
    }

    /// The worker that it runs; none for an arena.
    pub(crate) fn feature(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Linked { feature, .. } => Some(feature),
            Kind::Preloaded { .. } | Kind::PreloadedOurs => Some("glibc"),
            Kind::Arena { .. } => None,
        }
    }
}
