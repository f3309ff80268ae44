//! The layers of `src/`: a folder imports only what stands above it, and no file is too long to be read at a sitting.
//!
//! Would catch an import that runs up the stair, the heap and the arenas knowing of each other, a system call outside
//! `vm`, and a file that swallows its neighbours.

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer, and those that it may import. `lib.rs` only names them.
const LAYERS: [(&str, &[&str]); 7] = [
    ("config", &[]),
    ("base", &[]),
    ("vm", &["base"]),
    ("arena", &["base", "config", "vm"]),
    ("heap", &["base", "config", "vm"]),
    ("global", &["base", "config", "vm", "heap"]),
    ("stats", &["base", "config", "vm", "heap", "global"]),
];

const MOST_LINES: usize = 500;

#[test]
fn imports_run_down_the_stair() {
    let mut imports = 0;
    for file in sources() {
        let Some((layer, allowed)) = layer_of(&file) else { continue };
        for (number, line) in code(&file).lines().enumerate() {
            for imported in line.split("crate::").skip(1) {
                let imported: String =
                    imported.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !LAYERS.iter().any(|(name, _)| *name == imported) {
                    continue;
                }
                imports += 1;
                let is_allowed = imported == layer || allowed.contains(&imported.as_str());
                assert!(is_allowed, "{}:{}: {layer} imports {imported}", file.display(), number + 1);
            }
        }
    }
    assert!(imports > 50, "only {imports} imports were seen: the search has lost its object");
}

#[test]
fn only_vm_makes_system_calls() {
    for file in sources() {
        if file.components().any(|part| part.as_os_str() == "vm") {
            continue;
        }
        for (number, line) in code(&file).lines().enumerate() {
            let calls = line.split("libc::").skip(1).filter(|rest| {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                rest[name.len()..].starts_with('(')
            });
            assert_eq!(calls.count(), 0, "{}:{}: a call outside vm: {line}", file.display(), number + 1);
        }
    }
}

#[test]
fn files_are_short() {
    for file in sources() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", file.display());
    }
}

#[test]
fn every_source_belongs_to_a_layer() {
    for file in sources() {
        let is_root = file.file_name().unwrap() == "lib.rs";
        assert!(is_root || layer_of(&file).is_some(), "{} is in no layer", file.display());
    }
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn layer_of(file: &Path) -> Option<(&'static str, &'static [&'static str])> {
    let relative = file.strip_prefix(source_folder()).unwrap();
    let first = relative.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    LAYERS.into_iter().find(|(name, _)| *name == first)
}

/// The file without its comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn sources() -> Vec<PathBuf> {
    let mut folders = vec![source_folder()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 10);
    files
}
