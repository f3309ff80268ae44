//! Other people's programs with the example `preload` in `LD_PRELOAD`: each runs plain and preloaded, and what it says
//! and writes must be the same. `ARENITE_PRELOAD=/path/of/a/library.so` tests another allocator.
//!
//! A program that the machine lacks is reported on standard error and left out; with `CI=true` it is a failure that
//! names the Debian package.
#![cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]

#[path = "programs/capi.rs"]
mod capi;
#[path = "support/preload.rs"]
mod preload;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use preload::{Allocator, Scene};

/// Would catch a witness that always says the same, under which every other test here would prove nothing.
#[test]
fn the_witness_tells_them_apart() {
    for allocator in [Allocator::Plain, Allocator::Preloaded] {
        let bound = preload::binding_of(allocator, Path::new("/bin/true"));
        assert_eq!(
            bound == preload::library(),
            allocator == Allocator::Preloaded,
            "{allocator:?}: {}",
            bound.display()
        );
    }
}

/// Runs one module of CPython's own tests, or the part of it that `only` (empty: all) and `without` leave, and compares
/// the verdicts. At least `least` tests must have passed.
///
/// With `PYTHONMALLOC=malloc`, or Python would serve what is small from arenas of its own.
fn cpython(module: &str, only: &[&str], without: &[&str], least: usize) {
    let Some(python) = python_with_tests() else { return };
    let driver = preload::inputs().join("python/verdicts.py");
    preload::compare(&format!("cpython-{module}"), &["python"], &[], |scene| {
        let mut command = scene.command(&python);
        command.env("PYTHONMALLOC", "malloc").env("PYTHONDONTWRITEBYTECODE", "1").arg(&driver).arg(module);
        command.args(only.iter().flat_map(|pattern| ["--only", pattern]));
        command.args(without.iter().flat_map(|pattern| ["--without", pattern]));
        let output = scene.run_unrecorded(&mut command);
        let verdicts =
            fs::read_to_string(scene.dir().join("verdicts.txt")).expect("the driver writes verdicts");
        let passed = verdicts.lines().filter(|line| line.ends_with(" ok")).count();
        assert!(passed >= least, "{passed} tests of {module} passed:\n{verdicts}\n{}", output.stderr);
        scene.keep("verdicts.txt");
    });
}

/// A Python that has its own tests: distributions put them into a package of their own.
fn python_with_tests() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("python3"));
    let found = on_path.filter(|candidate| candidate.is_file()).find_map(|candidate| {
        // What `python3` names may be a script that chooses a version: ask for the program itself.
        let script = "import sys, test.test_list, test._test_multiprocessing; print(sys.executable)";
        let output = Command::new(candidate).args(["-c", script]).output().ok()?;
        let executable = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| PathBuf::from(executable.trim_end()))
    });
    if found.is_none() {
        preload::missing("a python3 with its own tests", "libpython3.11-testsuite");
    }
    found
}

#[test]
fn cpython_list() {
    cpython("test.test_list", &[], &[], 40);
}

#[test]
fn cpython_dict() {
    cpython("test.test_dict", &[], &[], 80);
}

#[test]
fn cpython_json() {
    cpython("test.test_json", &[], &[], 120);
}

#[test]
fn cpython_threading() {
    // The test left out asks that nothing has imported `threading` at start-up, which is up to the installation.
    cpython("test.test_threading", &[], &["*.test_import_from_another_thread"], 150);
}

/// What is left out of multiprocessing's tests: what mostly sleeps, which takes as long with any allocator, and one
/// that now and then waits for ten thousand sleeps, since a thread cannot be killed as a process can.
const SLEEPERS: &[&str] = &[
    "*TestBarrier*",
    "*TestCondition*",
    "*TestPoll*",
    "*TestResourceTracker*",
    "*TestTimeouts*",
    "*TestWait*",
    "*test_map_no_failfast",
    "*.WithThreadsTestPool.test_terminate",
];

#[test]
fn cpython_multiprocessing_fork() {
    cpython("multiprocessing_fork", &[], SLEEPERS, 180);
}

#[test]
fn cpython_multiprocessing_spawn() {
    let parts = ["*.WithProcesses*", "*.WithManagerTestPool*", "*SharedMemory*"];
    cpython("multiprocessing_spawn", &parts, SLEEPERS, 80);
}

#[test]
fn cpython_ctypes() {
    cpython("test.test_ctypes", &[], &[], 300);
}

#[test]
fn cpython_subprocess() {
    cpython("test.test_subprocess", &[], &[], 220);
}

#[test]
fn git() {
    if preload::find("git", "git").is_none() {
        return;
    }
    let script = preload::inputs().join("repository.sh");
    preload::compare("git", &["git"], &[], |scene| {
        let mut command = scene.command(Path::new("/bin/sh"));
        scene.run(command.arg(&script));
    });
}

/// A compiler on C++ that is heavy on templates, optimising and with debug information: the object byte for byte; then
/// the program that it makes, which has operator new fail and throw.
fn compiles_cxx(name: &str, package: &str, witnessed: &[&str]) {
    let Some(compiler) = preload::find(name, package) else { return };
    let source = preload::inputs().join("templates.cpp");
    let mut witnessed = witnessed.to_vec();
    witnessed.push("templates");
    preload::compare(name, &witnessed, &[], |scene| {
        let mut compile = scene.command(&compiler);
        scene.run(compile.args(["-std=c++17", "-O2", "-g", "-Wall", "-c", "-o", "templates.o"]).arg(&source));
        scene.keep("templates.o");
        let mut link = scene.command(&compiler);
        scene.run(link.args(["-pthread", "-o", "templates", "templates.o"]));
        let mut program = scene.command(&scene.dir().join("templates"));
        scene.run(&mut program);
    });
}

#[test]
fn gcc() {
    compiles_cxx("g++", "g++", &["cc1plus", "as", "ld"]);
}

#[test]
fn clang() {
    compiles_cxx("clang++", "clang", &["clang", "ld"]);
}

/// An interpreter on a script of ours, whose words are the same every time.
fn interprets(program: &str, package: &str, script: &str) {
    let Some(interpreter) = preload::find(program, package) else { return };
    let script = preload::inputs().join(script);
    preload::compare(program, &[program], &[], |scene| {
        let mut command = scene.command(&interpreter);
        scene.run(command.env("PERL_HASH_SEED", "0").arg(&script));
    });
}

#[test]
fn perl() {
    interprets("perl", "perl", "script.pl");
}

#[test]
fn node() {
    interprets("node", "nodejs", "script.js");
}

#[test]
fn ruby() {
    interprets("ruby", "ruby", "script.rb");
}

#[test]
fn sqlite3() {
    let Some(sqlite3) = preload::find("sqlite3", "sqlite3") else { return };
    let script = preload::inputs().join("script.sql");
    preload::compare("sqlite3", &["sqlite3"], &[], |scene| {
        let mut build = scene.command(&sqlite3);
        scene.run(build.args(["-bail", "-init"]).arg(&script).args(["items.db", "SELECT sqlite_version()"]));
        let mut dump = scene.command(&sqlite3);
        scene.run(dump.args(["items.db", ".dump"]));
        scene.keep("items.db");
    });
}

/// `cargo check` and `cargo run` of a crate with a build script, a procedural macro and something to warn of.
///
/// Rust's own `rustc` brings a malloc in its executable, so it is excused; `cargo`, the build script and the program
/// are not.
#[test]
fn cargo_check() {
    let cargo = Path::new(env!("CARGO"));
    preload::compare("cargo-check", &["cargo", "build-script", "small"], &["rustc"], |scene| {
        scene.write("Cargo.toml", include_str!("programs/crate/small.toml"));
        scene.write("build.rs", include_str!("programs/crate/build.rs"));
        scene.write("src/main.rs", include_str!("programs/crate/main.rs"));
        scene.write("shout/Cargo.toml", include_str!("programs/crate/shout.toml"));
        scene.write("shout/src/lib.rs", include_str!("programs/crate/shout.rs"));
        for arguments in [["check", "--offline", "--quiet"], ["run", "--offline", "--quiet"]] {
            let mut command = scene.command(cargo);
            let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
            for (variable, default) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
                let value = std::env::var_os(variable).unwrap_or_else(|| home.join(default).into());
                command.env(variable, value);
            }
            if let Some(toolchain) = std::env::var_os("RUSTUP_TOOLCHAIN") {
                command.env("RUSTUP_TOOLCHAIN", toolchain);
            }
            scene.run(command.args(arguments));
        }
    });
}

/// What redis-server is asked for after the benchmark; the answers depend on no clock.
const FILL: &str = "
    for i = 1, 20000 do redis.call('SET', 's' .. i, string.rep('x', i % 700)) end
    for i = 1, 3000 do
        redis.call('HSET', 'h' .. i % 100, 'f' .. i, string.rep('y', i % 90))
        redis.call('RPUSH', 'l' .. i % 50, i, string.rep('z', i % 300))
        redis.call('SADD', 't' .. i % 40, i, 'm' .. i)
        redis.call('ZADD', 'z' .. i % 30, i % 77, 'm' .. i)
        redis.call('XADD', 'x' .. i % 10, i .. '-1', 'field', i)
        redis.call('APPEND', 'grown', string.rep('a', i))
    end
    for i = 1, 20000, 3 do redis.call('UNLINK', 's' .. i) end
    redis.call('UNLINK', 'h1', 'l1', 'z1')
    return redis.call('DBSIZE')";

/// redis-server under redis-benchmark on loopback, with helper threads, then known contents, a rewrite of the log and
/// a snapshot (each from a fork), a clean shutdown, and a second life from the files.
#[test]
fn redis() {
    let programs = ["redis-server", "redis-benchmark", "redis-cli"];
    let packages = ["redis-server", "redis-tools", "redis-tools"];
    let found = [0, 1, 2].map(|i| preload::find(programs[i], packages[i]));
    let [Some(server), Some(benchmark), Some(client)] = found else { return };
    // The server's executable is also the tool that checks its files: Debian has one file under several names.
    preload::compare("redis", &["redis-check-", "redis-benchmark", "redis-cli"], &[], |scene| {
        let port = free_port();
        let redis = Redis { port: port.clone(), client: client.clone() };

        let running = redis.start(scene, &server);
        let load = [
            "-q",
            "-n",
            "20000",
            "-c",
            "30",
            "-P",
            "8",
            "-r",
            "5000",
            "-d",
            "200",
            "--threads",
            "2",
            "-p",
            &port,
        ];
        let tests = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset";
        let output = scene.run_unrecorded(scene.command(&benchmark).args(load).args(["-t", tests]));
        let finished = output.stdout.matches("requests per second").count();
        assert!(finished >= 15 && output.stderr.is_empty(), "{}\n{}", output.stdout, output.stderr);

        redis.ask(scene, &["FLUSHALL", "ASYNC"]);
        redis.ask(scene, &["EVAL", FILL, "0"]);
        redis.ask(scene, &["DEBUG", "DIGEST"]);
        redis.ask(scene, &["BGREWRITEAOF"]);
        redis.wait_for(scene, "aof_rewrite_in_progress:0");
        redis.ask(scene, &["BGSAVE"]);
        redis.wait_for(scene, "rdb_bgsave_in_progress:0");
        redis.wait_for(scene, "rdb_last_bgsave_status:ok");
        redis.wait_for(scene, "aof_last_bgrewrite_status:ok");
        redis.ask(scene, &["SORT", "t7", "ALPHA", "LIMIT", "0", "20"]);
        redis.ask(scene, &["SHUTDOWN", "SAVE"]);
        running.finish();

        let running = redis.start(scene, &server);
        redis.ask(scene, &["DEBUG", "DIGEST"]);
        redis.ask(scene, &["SHUTDOWN", "NOSAVE"]);
        running.finish();
        let log = fs::read_to_string(scene.dir().join("server.log")).expect("the server writes a log");
        assert!(log.contains("bye bye"), "no clean shutdown: {log}");
    });
}

struct Redis {
    port: String,
    client: PathBuf,
}

impl Redis {
    fn start(&self, scene: &Scene, server: &Path) -> preload::Background {
        let mut command = scene.command(server);
        command.args(["--port", &self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
        command.args([
            "--io-threads",
            "2",
            "--io-threads-do-reads",
            "yes",
            "--enable-debug-command",
            "local",
        ]);
        let running = scene.start(&mut command, "server.log");
        // It answers with an error while it still loads its files.
        let pong = || {
            preload::run(&mut self.command(scene, &["PING"])).is_ok_and(|output| output.stdout == "PONG\n")
        };
        let up = poll(pong);
        let log = || fs::read_to_string(scene.dir().join("server.log")).unwrap_or_default();
        assert!(up, "redis-server does not answer: {}", log());
        running
    }

    fn command(&self, scene: &Scene, words: &[&str]) -> Command {
        let mut command = scene.command(&self.client);
        command.args(["-e", "-p", &self.port]).args(words);
        command
    }

    fn ask(&self, scene: &mut Scene, words: &[&str]) {
        let output = scene.run_unrecorded(&mut self.command(scene, words));
        scene.record(words[0], output.stdout + &output.stderr);
    }

    fn wait_for(&self, scene: &Scene, line: &str) {
        let seen =
            || scene.run_unrecorded(&mut self.command(scene, &["INFO", "persistence"])).stdout.contains(line);
        assert!(poll(seen), "redis-server never says {line}");
    }
}

fn poll(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if done() {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

/// A port that was free a moment ago.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback gives a port");
    listener.local_addr().expect("a bound socket has an address").port().to_string()
}
