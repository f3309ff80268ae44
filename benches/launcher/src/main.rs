//! `launcher NAME LIBRARY PROGRAM ARGUMENT…` runs a program with a library preloaded (`-` for none), and prints a record:
//! its time, its peak memory, and a sum of what it wrote.

use std::collections::BTreeMap;
use std::io::Read;
use std::mem::MaybeUninit;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use measure::{Record, Unit};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, library, program, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: launcher NAME LIBRARY PROGRAM ARGUMENT…");
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::piped());
    if library != "-" {
        command.env("LD_PRELOAD", library);
    }
    let start = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let mut output = child.stdout.take().expect("piped");
    let mut buffer = [0; 1 << 16];
    // FNV-1a.
    let mut checksum = 0xcbf2_9ce4_8422_2325_u64;
    loop {
        let count = output.read(&mut buffer).expect("its output");
        if count == 0 {
            break;
        }
        for byte in &buffer[..count] {
            checksum = (checksum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let status = child.wait().expect("a child");
    let wall_ns = start.elapsed().as_nanos() as u64;
    if !status.success() {
        eprintln!("{program}: {status}");
        return ExitCode::FAILURE;
    }
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: fills the structure, with the one child there was.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    let cpu_ns = ns(usage.ru_utime) + ns(usage.ru_stime);
    let record = Record {
        workload: name.clone(),
        score: cpu_ns as f64,
        unit: Unit::CpuNs,
        wall_ns,
        cpu_ns,
        ops: 1,
        peak_rss: usage.ru_maxrss as u64 * 1024,
        minor_faults: usage.ru_minflt as u64,
        major_faults: usage.ru_majflt as u64,
        mappings: 0,
        checksum,
        series: BTreeMap::new(),
    };
    println!("{}", serde_json::to_string(&record).expect("numbers and names"));
    ExitCode::SUCCESS
}
