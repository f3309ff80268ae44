//! Programs in other languages, as Debian packages them, with the allocator preloaded.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use measure::{Description, Record};

use crate::{builds, child};

pub(crate) const GROUP: &str = "c-programs";

struct Program {
    name: &'static str,
    stresses: &'static str,
    /// `@INPUT` stands for the file that `input` has made, `@METADATA` for what cargo says of the dependencies.
    command: &'static [&'static str],
    input: Option<fn() -> String>,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "c-perl",
        stresses: "perl: a hash of lists of strings, sorted and joined",
        command: &[
            "perl",
            "-e",
            "for my $n (1..300000) { push @{$h{$n % 5003}}, \"word\" . ($n * 7919 % 100003) } \
             print join(',', map { scalar(@{$h{$_}}) . $h{$_}[-1] } sort keys %h), \"\\n\"",
        ],
        input: None,
    },
    Program {
        name: "c-lua",
        stresses: "lua: trees of tables",
        command: &[
            "lua5.4",
            "-e",
            "local function t(d) if d == 0 then return {} end return {t(d-1), t(d-1)} end \
             local function c(n) return n[1] and 1 + c(n[1]) + c(n[2]) or 1 end \
             local s = 0 for i = 1, 24 do s = s + c(t(14)) end print(s)",
        ],
        input: None,
    },
    Program {
        name: "c-sqlite",
        stresses: "sqlite3: a database in memory, filled, indexed, joined",
        command: &[
            "sqlite3",
            ":memory:",
            "create table t(a integer primary key, b text, c integer); \
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000) \
             insert into t select i, 'row ' || (i * 7919 % 100003), i % 1009 from n; \
             create index tb on t(b); \
             select c, count(*), group_concat(b) from t group by c having c % 100 = 7; \
             select count(*) from t x join t y on x.b = y.b where x.a < y.a;",
        ],
        input: None,
    },
    Program {
        name: "c-jq",
        stresses: "jq: cargo's metadata taken apart and put together",
        command: &[
            "jq",
            "-c",
            "[.packages[] | {name, deps: [.dependencies[].name] | sort, targets: .targets}]",
            "@METADATA",
        ],
        input: None,
    },
    Program {
        name: "c-gcc",
        stresses: "gcc -O2: 60 functions",
        command: &["gcc", "-O2", "-S", "-x", "c", "@INPUT", "-o", "-"],
        input: Some(c_source),
    },
    Program {
        name: "c-z3",
        stresses: "z3: nine pigeons in eight holes, and arithmetic",
        command: &["z3", "-smt2", "@INPUT"],
        input: Some(pigeons),
    },
    Program {
        name: "c-gs",
        stresses: "ghostscript: pages of text and curves rendered",
        command: &["gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=pgmraw", "-r60", "-sOutputFile=-", "@INPUT"],
        input: Some(postscript),
    },
];

/// Those whose program the machine has.
pub(crate) fn descriptions() -> Vec<Description> {
    let is_there = |program: &&Program| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program.command[0]).exists())
    };
    let describe = |program: &Program| Description {
        name: program.name.to_owned(),
        group: GROUP.to_owned(),
        stresses: program.stresses.to_owned(),
        threaded: false,
        idle: false,
        is_counted: false,
        only: Vec::new(),
    };
    PROGRAMS.iter().filter(is_there).map(describe).collect()
}

pub(crate) fn measure(name: &str, library: Option<&Path>, metadata: &Path) -> anyhow::Result<Record> {
    let program = PROGRAMS.iter().find(|program| program.name == name).expect("one of the descriptions");
    let input = match program.input {
        Some(make) => {
            let path: PathBuf = builds::folder().join(format!("{name}.input"));
            fs::write(&path, make())?;
            path
        }
        None => PathBuf::new(),
    };
    let mut command = Command::new(builds::launcher());
    command.arg(name).arg(library.unwrap_or(Path::new("-")));
    for argument in program.command {
        match *argument {
            "@INPUT" => command.arg(&input),
            "@METADATA" => command.arg(metadata),
            argument => command.arg(argument),
        };
    }
    child::measure(&mut command)
}

fn c_source() -> String {
    let mut text = String::new();
    for n in 0..60 {
        _ = writeln!(
            text,
            "int f{n}(const int *a, int n) {{ int s = {n}; for (int i = 0; i < n; i++) {{ \
             switch (a[i] % 7) {{ case 0: s += a[i] * {n}; break; case 3: s ^= a[n - i]; break; default: s -= i; }} \
             if (s > {n}000) s /= 3; }} return s; }}"
        );
    }
    text
}

fn pigeons() -> String {
    let mut text = String::new();
    let (pigeons, holes) = (9, 8);
    for (p, h) in (0..pigeons).flat_map(|p| (0..holes).map(move |h| (p, h))) {
        _ = writeln!(text, "(declare-const p{p}h{h} Bool)");
    }
    for p in 0..pigeons {
        let any: Vec<String> = (0..holes).map(|h| format!("p{p}h{h}")).collect();
        _ = writeln!(text, "(assert (or {}))", any.join(" "));
        for (q, h) in (0..p).flat_map(|q| (0..holes).map(move |h| (q, h))) {
            _ = writeln!(text, "(assert (not (and p{p}h{h} p{q}h{h})))");
        }
    }
    text + "(check-sat)\n"
}

fn postscript() -> String {
    let mut text = String::from("%!PS\n/Times-Roman findfont 9 scalefont setfont\n");
    for page in 0..20 {
        for line in 0..70 {
            _ = writeln!(
                text,
                "40 {} moveto (page {page}, line {line}: all that is allocated is freed) show",
                760 - 10 * line
            );
            _ = writeln!(text, "newpath 400 {} {} 0 {} arc stroke", 10 * line, 5 + line, 5 * line);
        }
        text.push_str("showpage\n");
    }
    text
}
