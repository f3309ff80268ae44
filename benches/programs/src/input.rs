//! The input: files of the dependencies, the same on every machine with the same lock file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What `cargo metadata` has printed.
pub(crate) fn metadata() -> String {
    let path =
        std::env::var_os("ARENITE_BENCH_METADATA").expect("ARENITE_BENCH_METADATA names cargo's metadata");
    fs::read_to_string(path).expect("cargo's metadata")
}

/// The folders of all packages. Sorted by name and version: where they lie is the machine's own affair.
pub(crate) fn folders() -> Vec<PathBuf> {
    let metadata: serde_json::Value = serde_json::from_str(&metadata()).expect("JSON");
    let packages: BTreeSet<(String, PathBuf)> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|package| package["source"].is_string())
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
            (package["id"].to_string(), manifest.parent().expect("a folder").to_owned())
        })
        .collect();
    packages.into_iter().map(|(_, folder)| folder).collect()
}

/// The texts with this extension, by their paths, until there are so many bytes.
pub(crate) fn files(extension: &str, most_bytes: usize) -> Vec<String> {
    let mut texts = Vec::new();
    let mut bytes = 0;
    for folder in folders() {
        let mut found = Vec::new();
        walk(&folder, extension, &mut found);
        found.sort();
        for path in found {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if bytes + text.len() > most_bytes {
                return texts;
            }
            bytes += text.len();
            texts.push(text);
        }
    }
    texts
}

fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}
