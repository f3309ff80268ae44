//! Which files to read, and reading one. What cannot be read is named, with the reason, and never ends the program.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::iter;
use std::path::{Path, PathBuf};

use cargo_metadata::MetadataCommand;
use walkdir::{DirEntry, WalkDir};

/// Longer files are left out, so that 32 bits count the words and lines of any file.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Marks a folder that can be made again from others (<https://bford.info/cachedir/>), as cargo's `target`.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// Something that was not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

impl Skipped {
    fn new(path: impl Into<PathBuf>, reason: impl ToString) -> Skipped {
        Skipped { path: path.into(), reason: reason.to_string() }
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sorted, each once.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) skipped: Vec<Skipped>,
}

/// This repository, and the folders of its dependencies that cargo has unpacked; without these where cargo fails.
pub(crate) fn default_dirs() -> (Vec<PathBuf>, Option<cargo_metadata::Error>) {
    // Cargo says where the repository is now; a binary that is started without it knows where it was built.
    let repository: PathBuf =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into();
    let (dependencies, error) = match dependencies(&repository) {
        Ok(dirs) => (dirs, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    (iter::once(repository).chain(dependencies).collect(), error)
}

fn dependencies(repository: &Path) -> Result<Vec<PathBuf>, cargo_metadata::Error> {
    // Offline, and for this machine only: the network is not asked for what other platforms would need. `CARGO` in the
    // environment says which cargo.
    let metadata = MetadataCommand::new()
        .current_dir(repository)
        .other_options(["--offline", "--filter-platform", "host-tuple"].map(String::from))
        .exec()?;
    let from_elsewhere = metadata.packages.iter().filter(|package| package.source.is_some());
    Ok(from_elsewhere.filter_map(|package| Some(package.manifest_path.parent()?.into())).collect())
}

/// Every file under `dirs`, links followed.
///
/// Left out, and named: the store of a version control (`.git`) and cache folders, unless `dirs` names them.
pub(crate) fn walk(dirs: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for dir in dirs {
        let mut walk = WalkDir::new(dir).follow_links(true).into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let path = error.path().unwrap_or(dir);
                    found.skipped.push(Skipped::new(path, walk_error(&error)));
                    continue;
                }
            };
            let kind = entry.file_type();
            if let Some(reason) = left_out(&entry) {
                found.skipped.push(Skipped::new(entry.path(), reason));
                if kind.is_dir() {
                    walk.skip_current_dir();
                }
            } else if kind.is_file() {
                found.files.push(entry.into_path());
            } else if !kind.is_dir() {
                found.skipped.push(Skipped::new(entry.path(), "neither a file nor a folder"));
            }
        }
    }
    // Sorted, so that the answers do not follow the order in which a folder happens to list its files.
    found.files.sort_unstable();
    found.files.dedup();
    found
}

fn walk_error(error: &walkdir::Error) -> String {
    match (error.loop_ancestor(), error.io_error()) {
        (Some(ancestor), _) => format!("a link back to {}", ancestor.display()),
        (None, Some(error)) => error.to_string(),
        (None, None) => error.to_string(),
    }
}

/// Why the walk goes round `entry`, if it does.
fn left_out(entry: &DirEntry) -> Option<&'static str> {
    if entry.depth() == 0 {
        return None;
    }
    if entry.file_name() == OsStr::new(".git") {
        return Some("version control");
    }
    let is_cache = entry.file_type().is_dir() && entry.path().join(CACHE_TAG).is_file();
    is_cache.then_some("a cache folder (CACHEDIR.TAG)")
}

/// The text of one file.
pub(crate) fn read(path: &Path) -> Result<String, Skipped> {
    let bytes = read_bytes(path).map_err(|error| Skipped::new(path, error))?;
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(Skipped::new(path, format!("not text: byte {at} is NUL")));
    }
    String::from_utf8(bytes).map_err(|error| {
        Skipped::new(path, format!("not text: no UTF-8 from byte {}", error.utf8_error().valid_up_to()))
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    if len <= MAX_FILE_BYTES {
        bytes.reserve_exact(len as usize);
        // One byte more than allowed shows a file that grew, or that hides its length as those of /proc do.
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    }
    if len.max(bytes.len() as u64) > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {MAX_FILE_BYTES} bytes"),
        ));
    }
    Ok(bytes)
}
