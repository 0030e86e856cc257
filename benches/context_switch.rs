//! What the eBPF programs add to a context switch: two threads on one CPU pass a byte to and fro, with the programs in
//! the kernel and without, in turn. Prints the median of the differences in CPU time a switch. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: it drives processes and clocks of its own, and a panic is how it fails"
)]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use stallspan::source::bpf::{BpfSettings, BpfSource, Hierarchy, Slot};

const ROUNDS: u32 = 20_000;
const PAIRS: usize = 15;
const CGROUPS: &str = "/sys/fs/cgroup/cpu";

fn cpu_time() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap()).as_nanos().try_into().unwrap()
}

fn settle(cgroup: Option<&Path>) {
    let mut cpus = CpuSet::new();
    cpus.set(1);
    sched_setaffinity(None, &cpus).unwrap();
    if let Some(dir) = cgroup {
        std::fs::write(dir.join("tasks"), rustix::thread::gettid().as_raw_nonzero().to_string()).unwrap();
    }
}

/// CPU time of one switch, ns.
fn switches(cgroups: [Option<&Path>; 2]) -> f64 {
    let (mut here_out, mut there_in) = pipe();
    let (mut there_out, mut here_in) = pipe();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            settle(cgroups[1]);
            let mut byte = [0];
            while there_in.read(&mut byte).unwrap() == 1 {
                there_out.write_all(&byte).unwrap();
            }
        });
        let measured = scope.spawn(move || {
            settle(cgroups[0]);
            let mut byte = [0];
            let mut run = |rounds| {
                for _ in 0..rounds {
                    here_out.write_all(&byte).unwrap();
                    here_in.read_exact(&mut byte).unwrap();
                }
            };
            run(ROUNDS / 10);
            let before = cpu_time();
            run(ROUNDS);
            cpu_time() - before
        });
        measured.join().unwrap() as f64 / f64::from(ROUNDS * 2)
    })
}

fn pipe() -> (std::fs::File, std::fs::File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    (writer.into(), reader.into())
}

fn main() {
    let btf = stallspan::host::kernel_btf().unwrap();
    let v1 = Path::new(CGROUPS).join("tasks").exists();
    let hierarchy = if v1 { Hierarchy::Controller("cpu".to_owned()) } else { Hierarchy::Unified };
    let dirs: Vec<PathBuf> =
        if v1 { ["a", "b"].map(|name| Path::new(CGROUPS).join(format!("stallspan-bench-{name}"))).into() } else { Vec::new() };
    for dir in &dirs {
        std::fs::create_dir_all(dir).unwrap();
    }
    let settings = BpfSettings { hierarchy, ..BpfSettings::default() };
    let open = || {
        let mut source = BpfSource::open(&btf, &settings).unwrap();
        for (dir, slot) in dirs.iter().zip(1..) {
            source.set_cgroup(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir).unwrap()), Slot(slot)).unwrap();
            source.set_floors(Slot(slot), Some(1_000_000), None).unwrap();
        }
        source
    };
    let dir = |index: usize| dirs.get(index).map(PathBuf::as_path);
    let cases = [("host tasks", [None, None]), ("one container", [dir(0), dir(0)]), ("two containers", [dir(0), dir(1)])];
    let mut added = cases.map(|_| Vec::new());
    let mut plain = Vec::new();
    for _ in 0..PAIRS {
        let without = cases.map(|(_, places)| switches(places));
        let source = open();
        let with = cases.map(|(_, places)| switches(places));
        drop(source);
        plain.extend(without);
        for (index, sum) in added.iter_mut().enumerate() {
            sum.push(with[index] - without[index]);
        }
    }
    println!("a switch without programs: {:.0} ns", median(&mut plain));
    for ((name, _), mut added) in cases.into_iter().zip(added) {
        let least = added.iter().copied().fold(f64::MAX, f64::min);
        println!("{name}: {:.0} ns more (least {least:.0})", median(&mut added));
    }
    for dir in dirs {
        let _ = std::fs::remove_dir(dir);
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
