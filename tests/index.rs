//! Runs the built examples `index` and `index_system` on trees whose content is known.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Both variants of the program.
const VARIANTS: [&str; 2] = ["index", "index_system"];
/// What the program keeps of a line.
const MAX_EXCERPT_CHARS: usize = 120;
/// How many skipped files the program names unasked.
const MAX_NAMED: usize = 20;

/// The examples lie beside `deps`, where this test lies.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: `cargo build --examples` does", path.display());
    Command::new(path)
}

struct Output {
    stdout: String,
    stderr: String,
}

/// Runs a variant; it must succeed.
fn run(name: &str, args: &[&str], dirs: &[&Path]) -> Output {
    run_command(example(name).args(args).args(dirs))
}

fn run_command(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    Output { stdout, stderr }
}

impl Output {
    /// What stands behind `name` in the figures.
    fn figure(&self, name: &str) -> &str {
        let found = self.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {name} in\n{}", self.stdout)).trim()
    }

    /// How many files were read.
    fn files(&self) -> usize {
        let (count, _) = self.figure("files").split_once(", ").unwrap();
        count.replace(',', "").parse().unwrap()
    }

    /// The answers: all that stands above the figures.
    fn answers(&self) -> &str {
        self.stdout.split("\nallocator ").next().unwrap()
    }

    fn assert_skipped(&self, path: &Path, reason: &str) {
        let line = format!("index: skipped {}: {reason}", path.display());
        assert!(self.stderr.lines().any(|l| l.starts_with(&line)), "no {line:?} in\n{}", self.stderr);
    }
}

fn write(path: PathBuf, content: impl AsRef<[u8]>) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// Files of many sizes in folders of some depth; the same with every run. All below the folder that is given back.
fn generated_tree() -> (TempDir, Vec<(PathBuf, String)>) {
    const WORDS: [&str; 16] = [
        "heap",
        "Heap",
        "allocate",
        "alloc_zeroed",
        "HashMap",
        "max_map_count",
        "__",
        "naïve",
        "größe_ALLOC",
        "x",
        "İstanbul",
        "unsafe",
        "impl",
        "realign",
        "HTTPServer2Go",
        "12_34",
    ];
    const BETWEEN: [&str; 8] = [" ", "\n", "\n\n", ".", "::", "\t", " — ", "\r\n"];
    let tree = TempDir::new().unwrap();
    let mut state = 1_u64;
    // Knuth's MMIX generator; its high bits.
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let mut files = Vec::new();
    for number in 0..64 {
        let magnitude = below(12);
        let words = below(1 << magnitude);
        let text: String =
            (0..words).flat_map(|_| [WORDS[below(WORDS.len())], BETWEEN[below(BETWEEN.len())]]).collect();
        let folder = ["", "a", "a/b", "a/b/c", "d e"][below(5)];
        files.push((write(tree.path().join(folder).join(format!("{number}.txt")), &text), text));
    }
    files.push((write(tree.path().join("long.txt"), "heap ".repeat(200)), "heap ".repeat(200)));
    files.sort();
    (tree, files)
}

/// A second, plain way to the answers, which looks at every word of every file.
mod naive {
    use super::*;

    /// A word: its line and its spellings.
    type Word = (usize, BTreeSet<String>);

    pub(crate) fn words(text: &str) -> Vec<Word> {
        let mut words = Vec::new();
        for (line, content) in text.lines().enumerate() {
            let mut word = String::new();
            for c in content.chars().chain([' ']) {
                if c.is_alphanumeric() || c == '_' {
                    word.push(c);
                } else if !word.is_empty() {
                    words.push((line, spellings(&word)));
                    word.clear();
                }
            }
        }
        words
    }

    /// The word and its parts.
    fn spellings(word: &str) -> BTreeSet<String> {
        let mut spaced = String::new();
        let mut before = '_';
        for c in word.chars() {
            if c.is_uppercase() && before != '_' && !before.is_uppercase() {
                spaced.push(' ');
            }
            spaced.push(if c == '_' { ' ' } else { c });
            before = c;
        }
        let parts: Vec<&str> = spaced.split_whitespace().collect();
        let parts = if parts.len() > 1 { parts } else { Vec::new() };
        parts.into_iter().chain([word]).map(str::to_lowercase).collect()
    }

    fn matches(query: &str, spelling: &str) -> bool {
        match (query.strip_prefix('*'), query.strip_suffix('*')) {
            (Some(piece), Some(_)) => spelling.contains(piece.strip_suffix('*').unwrap()),
            (None, Some(begin)) => spelling.starts_with(begin),
            _ => spelling == query,
        }
    }

    /// What the program prints for `query`.
    pub(crate) fn answer(query: &str, files: &[(PathBuf, String)]) -> String {
        let asked: Vec<&str> = query.split(' ').collect();
        let (mut places, mut found, mut in_files) = (0, String::new(), BTreeSet::new());
        let mut lines = BTreeSet::new();
        for (path, text) in files {
            for window in words(text).windows(asked.len()) {
                if asked
                    .iter()
                    .zip(window)
                    .all(|(one, word)| word.1.iter().any(|spelling| matches(one, spelling)))
                {
                    places += 1;
                    in_files.insert(path);
                    if lines.insert((path, window[0].0)) {
                        let line = text.lines().nth(window[0].0).unwrap().trim().replace('\t', " ");
                        let excerpt: String = line.chars().take(MAX_EXCERPT_CHARS).collect();
                        found += &format!("  {}:{}: {excerpt}\n", path.display(), window[0].0 + 1);
                    }
                }
            }
        }
        let [places, lines, files] = [places, lines.len(), in_files.len()].map(with_commas);
        format!("{query}: {places} places on {lines} lines of {files} files\n{found}")
    }
}

fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

/// Would catch an index that loses, doubles or misplaces a word, in a worker, in the merge or in a search.
#[test]
fn answers_as_a_plain_search_does() {
    let (tree, files) = generated_tree();
    let queries = [
        "heap",
        "map",
        "alloc*",
        "*align*",
        "*a*",
        "unsafe impl",
        "hashmap heap x",
        "größe*",
        "2go",
        "__",
        "nowhere",
    ];
    let mut args = vec!["--lines", "1000000"];
    args.extend(queries.iter().flat_map(|query| ["--query", query]));
    let expected: String = queries.iter().map(|query| naive::answer(query, &files)).collect();
    let all_words: Vec<_> = files.iter().flat_map(|(_, text)| naive::words(text)).collect();
    let different: BTreeSet<_> = all_words.iter().flat_map(|(_, spellings)| spellings).collect();
    let lines: usize = files.iter().map(|(_, text)| text.lines().count()).sum();

    let mut digests = BTreeSet::new();
    for name in VARIANTS {
        for threads in ["1", "2", "7"] {
            args.extend(["--threads", threads]);
            let output = run(name, &args, &[tree.path()]);
            args.truncate(args.len() - 2);
            assert_eq!(output.answers(), expected, "{name}, {threads} threads");
            assert_eq!(output.figure("threads"), threads);
            assert_eq!(output.figure("files"), format!("{}, skipped 0", files.len()));
            assert!(output.figure("text").ends_with(&format!(", {} lines", with_commas(lines))));
            let words =
                format!("{}, {} different", with_commas(all_words.len()), with_commas(different.len()));
            assert_eq!(output.figure("words"), words);
            assert_eq!(output.stderr, "");
            digests.insert(output.figure("answers").to_owned());
        }
    }
    assert_eq!(digests.len(), 1, "{digests:?}");
}

/// Would catch a fault that the plain search above shares.
#[test]
fn answers_what_was_written_down() {
    let tree = TempDir::new().unwrap();
    let file = write(
        tree.path().join("deep/er/small.rs"),
        "fn max_map_count() {}\n\n\tlet map = HashMap::new(); // map map\nunsafe\nimpl Map\x1b[31m {}\n",
    );
    let args =
        ["--query=MAP", "--query=unsafe impl", "--query=ha*", "--query=*ount*", "--query=*zz*", "--lines=9"];
    let output = run("index", &args, &[tree.path()]);
    let at = |line: usize, text: &str| format!("  {}:{line}: {text}\n", file.display());
    let third = at(3, "let map = HashMap::new(); // map map");
    let expected = [
        "map: 6 places on 3 lines of 1 files\n",
        &at(1, "fn max_map_count() {}"),
        &third,
        &at(5, "impl Map [31m {}"),
        "unsafe impl: 1 places on 1 lines of 1 files\n",
        &at(4, "unsafe"),
        "ha*: 1 places on 1 lines of 1 files\n",
        &third,
        "*ount*: 1 places on 1 lines of 1 files\n",
        &at(1, "fn max_map_count() {}"),
        "*zz*: 0 places on 0 lines of 0 files\n",
    ];
    assert_eq!(output.answers(), expected.concat());
    assert_eq!(output.figure("files"), "1, skipped 0");
    assert_eq!(output.figure("words"), "12, 12 different");
}

#[test]
fn names_what_it_skips_and_goes_on() {
    let tree = TempDir::new().unwrap();
    let at = |name: &str| tree.path().join(name);
    write(at("good.txt"), "good");
    let binary = write(at("binary"), b"ab\0c");
    let latin1 = write(at("latin1"), b"na\xefve");
    symlink(at("nothing"), at("dangling")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    symlink(tree.path(), at("folder/loop")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    write(at("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55");
    write(at(".git/config"), "text");
    let missing = at("missing");
    // A file that opens and then cannot be read, for root neither.
    let unreadable = Path::new("/proc/self/mem");

    for name in VARIANTS {
        let output = run(name, &["--query", "good"], &[&missing, tree.path(), unreadable]);
        output.assert_skipped(&missing, "No such file or directory");
        output.assert_skipped(&binary, "not text: byte 2 is NUL");
        output.assert_skipped(&latin1, "not text: no UTF-8 from byte 2");
        output.assert_skipped(&at("dangling"), "No such file or directory");
        output.assert_skipped(&at("folder/loop"), &format!("a link back to {}", tree.path().display()));
        output.assert_skipped(&at("socket"), "neither a file nor a folder");
        output.assert_skipped(&at("cache"), "a cache folder");
        output.assert_skipped(&at(".git"), "version control");
        output.assert_skipped(unreadable, "");
        assert_eq!(output.stderr.lines().count(), 9, "{}", output.stderr);
        assert_eq!(output.figure("files"), "1, skipped 9");
        assert!(output.answers().starts_with("good: 1 places on 1 lines of 1 files\n"), "{}", output.stdout);
    }
}

/// Folders that were asked for are named, however many files are skipped before them.
#[test]
fn sums_up_what_would_be_a_long_list() {
    let tree = TempDir::new().unwrap();
    for number in 0..MAX_NAMED + 5 {
        write(tree.path().join(format!("{number:02}")), [0]);
    }
    let missing = tree.path().join("missing");
    let brief = run("index", &[], &[tree.path(), &missing]);
    assert_eq!(brief.stderr.lines().count(), 1 + MAX_NAMED + 1, "{}", brief.stderr);
    brief.assert_skipped(&missing, "No such file or directory");
    assert!(brief.stderr.ends_with("index: skipped 5 more (--verbose names them)\n"), "{}", brief.stderr);
    let full = run("index", &["--verbose"], &[tree.path(), &missing]);
    assert_eq!(full.stderr.lines().count(), 1 + MAX_NAMED + 5, "{}", full.stderr);
}

/// Both say the same of time and memory; only one has Arenite's table.
#[test]
fn prints_figures() {
    let (tree, _) = generated_tree();
    for (name, allocator) in VARIANTS.into_iter().zip(["arenite", "system"]) {
        let output = run(name, &["--quiet"], &[tree.path()]);
        assert_eq!(output.figure("allocator"), allocator);
        let time = output.figure("time");
        assert!(["find", "index", "answer", "drop", "trim"].iter().all(|step| time.contains(step)), "{time}");

        let (above, memory) = output.stdout.split_once("\nresident memory\n").unwrap();
        let heading = "\n\narenite while the index is alive\n";
        let table = above.split_once(heading).map(|(_, table)| table.lines().count());
        assert_eq!(table.is_some_and(|lines| lines > 1), allocator == "arenite", "{above}");

        let lines: Vec<&str> = memory.lines().collect();
        let names = ["  before indexing ", "  at the peak ", "  index dropped ", "  after trim() "];
        assert_eq!(lines.len(), names.len(), "{memory}");
        let mib: Vec<f64> = lines
            .iter()
            .zip(names)
            .map(|(line, name)| {
                line.strip_prefix(name).unwrap().trim().split(' ').next().unwrap().parse().unwrap()
            })
            .collect();
        assert!(mib.iter().all(|&now| now <= mib[1]), "the peak is not the most: {memory}");
    }
}

/// The real input: this repository and its dependencies. Would catch dependencies that are not found, and an allocator
/// that keeps the memory of an index that is gone.
#[test]
fn gives_the_memory_of_the_real_index_back() {
    const MAX_KEPT_PERCENT: f64 = 10.0;
    let output = run("index", &["--quiet"], &[]);
    assert!(!output.stderr.contains("cargo does not say"), "{}", output.stderr);
    let alone = without_cargo();
    assert!(alone.stderr.starts_with("index: no dependencies, since cargo does not say"), "{}", alone.stderr);
    assert!(0 < alone.files() && alone.files() < output.files(), "{}", output.stdout);

    let trimmed = output.figure("  after trim()");
    let kept = trimmed.split_once(" % of the peak's").unwrap().0.rsplit(' ').next().unwrap();
    assert!(kept.parse::<f64>().unwrap() <= MAX_KEPT_PERCENT, "{}", output.stdout);
}

/// A run over the repository alone, since cargo cannot say where the dependencies are.
fn without_cargo() -> Output {
    run_command(example("index").arg("--quiet").env("CARGO", "/nowhere/cargo"))
}

#[test]
fn stops_in_peace_when_nobody_reads_on() {
    let (tree, _) = generated_tree();
    let mut command = example("index");
    command.args(["--lines", "1000000"]).arg(tree.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn refuses_a_query_that_it_does_not_know() {
    for query in ["", "*", "**", "a*b", "*end", "two words*", "::"] {
        let output = example("index").args(["--query", query]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{query:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("a query is a word"), "{query:?}: {stderr}");
    }
}
