//! JSON, parsed into an arena, into boxes and by serde_json, side by side.
//!
//! ```sh
//! cargo run --release --example json               # cargo's own metadata, and a generated text of 32 MB
//! cargo run --release --example json -- a.json b.json
//! cat a.json | cargo run --release --example json -- -
//! ```
//!
//! Each parser has processes of its own, so that its peak memory is its own; times are medians over them.

mod parser;
mod trees;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use std::{fs, io};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use trees::{Document, parse_boxes};

#[derive(Parser)]
#[command(about = "Parses JSON into an arena, into boxes and by serde_json, and compares")]
struct Options {
    /// Files to parse; `-` is standard input. Without any: cargo's metadata, and a generated text.
    files: Vec<PathBuf>,
    /// Megabytes of the generated text.
    #[arg(long, default_value_t = 32)]
    megabytes: usize,
    /// Times that each parser runs.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Runs one parser only, and prints its figures as numbers.
    #[arg(long, hide = true)]
    only: Option<String>,
}

/// What one run cost: seconds, seconds, bytes.
#[derive(Clone, Copy)]
struct Cost {
    parse: f64,
    drop: f64,
    peak: f64,
    values: usize,
}

const PARSERS: [(&str, &str); 3] =
    [("arena", "in an arena"), ("boxes", "in boxes"), ("serde", "serde_json::Value")];

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(only) = &options.only {
        let input = fs::read(&options.files[0])?;
        let cost = measure(only, &input)?;
        println!("{} {} {} {}", cost.parse, cost.drop, cost.peak, cost.values);
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let mut files = Vec::new();
    for file in &options.files {
        if file.as_os_str() == "-" {
            let mut input = Vec::new();
            io::stdin().read_to_end(&mut input)?;
            files.push(scratch.file("stdin", &input)?);
        } else {
            files.push(file.clone());
        }
    }
    if files.is_empty() {
        let metadata = Command::new("cargo").args(["metadata", "--format-version", "1"]).output();
        if let Some(output) = metadata.ok().filter(|output| output.status.success()) {
            files.push(scratch.file("cargo-metadata", &output.stdout)?);
        }
        files.push(scratch.file("generated", &generate(options.megabytes << 20))?);
    }
    for file in &files {
        compare(file, options.rounds)?;
    }
    Ok(())
}

/// A folder that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Scratch> {
        let folder = std::env::temp_dir().join(format!("arenite-json-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Scratch(folder))
    }

    fn file(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, contents)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn compare(file: &Path, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let bytes = fs::metadata(file)?.len() as f64;
    let mut costs = vec![Vec::new(); PARSERS.len()];
    for _ in 0..rounds.max(1) {
        for (costs, (parser, _)) in costs.iter_mut().zip(PARSERS) {
            costs.push(in_own_process(parser, file)?);
        }
    }
    println!("{name}: {:.1} MB, {} values", bytes / 1e6, costs[0][0].values);
    println!("  {:<20}{:>12}{:>12}{:>12}{:>12}{:>12}", "", "parse", "drop", "both", "speed", "peak");
    for (costs, (_, title)) in costs.iter().zip(PARSERS) {
        let median = |figure: fn(&Cost) -> f64| {
            let mut figures: Vec<f64> = costs.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        let both = median(|cost| cost.parse + cost.drop);
        println!(
            "  {title:<20}{:>9.2} ms{:>9.2} ms{:>9.2} ms{:>7.0} MB/s{:>8.1} MiB",
            median(|cost| cost.parse) * 1e3,
            median(|cost| cost.drop) * 1e3,
            both * 1e3,
            bytes / 1e6 / both,
            median(|cost| cost.peak) / f64::from(1 << 20),
        );
    }
    Ok(())
}

fn in_own_process(parser: &str, file: &Path) -> Result<Cost, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::current_exe()?).args(["--only", parser]).arg(file).output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", file.display(), error.trim()).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace();
    let mut next = || numbers.next().ok_or("too few figures");
    Ok(Cost {
        parse: next()?.parse()?,
        drop: next()?.parse()?,
        peak: next()?.parse()?,
        values: next()?.parse()?,
    })
}

fn measure(parser: &str, input: &[u8]) -> Result<Cost, Box<dyn std::error::Error>> {
    match parser {
        "arena" => timed(|| Document::parse(input), |tree| tree.with(|value| value.count())),
        "boxes" => timed(|| parse_boxes(input), |tree| tree.count()),
        "serde" => timed(|| serde_json::from_slice(input), count_serde),
        other => Err(format!("no parser is called {other}").into()),
    }
}

fn timed<T, E: std::error::Error + 'static>(
    parse: impl FnOnce() -> Result<T, E>,
    count: impl FnOnce(&T) -> usize,
) -> Result<Cost, Box<dyn std::error::Error>> {
    let before = memory("VmRSS");
    let start = Instant::now();
    let tree = parse()?;
    let parsed = start.elapsed();
    let values = count(&tree);
    let start = Instant::now();
    drop(tree);
    let dropped = start.elapsed();
    let peak = memory("VmHWM") - before;
    Ok(Cost { parse: parsed.as_secs_f64(), drop: dropped.as_secs_f64(), peak, values })
}

fn count_serde(value: &serde_json::Value) -> usize {
    1 + match value {
        serde_json::Value::Array(values) => values.iter().map(count_serde).sum(),
        serde_json::Value::Object(members) => members.values().map(count_serde).sum(),
        _ => 0,
    }
}

/// A figure of `/proc/self/status`, in bytes; zero on systems without.
fn memory(field: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

/// Records such as a service would log, about `bytes` long: the same every time.
fn generate(bytes: usize) -> Vec<u8> {
    let style = ProgressStyle::with_template("generating {bytes}/{total_bytes} {wide_bar} {eta}");
    let bar = ProgressBar::new(bytes as u64).with_style(style.expect("a valid template"));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut text = String::from("[");
    while text.len() < bytes {
        let (id, a, b) = (random(), random(), random());
        let separator = if text.len() > 1 { ",\n" } else { "" };
        write!(
            text,
            r#"{separator}{{"id":{id},"user":"user-{}","active":{},"score":{}.{:03},"tags":["t{}","line\nbreak","caf\u00e9 {}"],"at":{{"x":{},"y":-{},"note":null}},"matrix":[[{},{}],[{},{}]]}}"#,
            a % 100_000, a % 2 == 0, b % 1000, a % 1000, b % 50, b % 7, a % 640, b % 480, a % 9, b % 9, id % 9, a % 5,
        )
        .expect("a string takes everything");
        bar.set_position(text.len() as u64);
    }
    text.push(']');
    bar.finish_and_clear();
    io::stdout().flush().ok();
    text.into_bytes()
}
