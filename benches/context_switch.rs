//! What the eBPF programs add to a context switch: two threads on one CPU pass a byte to and fro, with the programs in
//! the kernel and without, in turn. Prints the median of the differences in CPU time a switch, each from the mean of the runs
//! without before and after it, and between which two values the middle half of them lies. Then two threads that run for
//! 100 us each: what taking their records from the ring and writing them down costs at 10 000 switches a second. Needs root.
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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use stallspan::history::{Settings, Store};
use stallspan::model::{ContainerKey, DelayKind, EventFields, Mono, Subject, Wait};
use stallspan::source::bpf::{BpfSettings, BpfSource, Hierarchy, Record, Slot};

/// Short, so that what else goes on in the machine is the same with and without.
const ROUNDS: u32 = 4_000;
const PAIRS: usize = 75;
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

/// How long a thread runs before it lets the other one run.
const TURN: Duration = Duration::from_micros(100);
const RING_TIME: Duration = Duration::from_secs(5);
/// As often as the agent does where spans come.
const DRAIN_EVERY: Duration = Duration::from_millis(10);
/// The floor of containers that send spans.
const FLOOR_NS: u64 = 20_000;

fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// Takes turns on one CPU until told to stop; how often it let go.
fn take_turns(cgroup: Option<&Path>, stop: &AtomicBool) -> u64 {
    settle(cgroup);
    let mut turns = 0;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        while begin.elapsed() < TURN {}
        std::thread::yield_now();
        turns += 1;
    }
    turns
}

/// What the records of many switches cost whoever takes them.
fn ring(source: &mut BpfSource, dirs: [Option<&Path>; 2]) {
    let settings = Settings { retention: Duration::from_secs(120), resolution: Duration::from_millis(100), memory: 16 << 20 };
    let (mut history, container) = (Store::new(settings), Subject::Container(ContainerKey(1)));
    history.events_begin(Mono(0), EventFields::default());
    let (stop, mut records, mut cost) = (AtomicBool::new(false), 0, Duration::ZERO);
    let turns: u64 = std::thread::scope(|scope| {
        let stop = &stop;
        let threads = dirs.map(|dir| scope.spawn(move || take_turns(dir, stop)));
        let begin = Instant::now();
        while begin.elapsed() < RING_TIME {
            std::thread::sleep(DRAIN_EVERY);
            let before = thread_cpu_time();
            records += source
                .drain(|record| {
                    if let Record::Wait(seen) = record {
                        let (begin, end) = (Mono(seen.end_ns - seen.length_ns), Mono(seen.end_ns));
                        history.record_wait(&[container], Wait::new(seen.task.tid, DelayKind::Cpu, begin, end));
                    }
                })
                .records;
            cost += thread_cpu_time() - before;
        }
        stop.store(true, Ordering::Relaxed);
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    });
    let each_second = |count: f64| count / RING_TIME.as_secs_f64();
    println!(
        "{:.0} turns/s, {:.0} records/s: taking them costs {:.2} % of a core, {:.2} us each",
        each_second(turns as f64),
        each_second(records as f64),
        100.0 * each_second(cost.as_secs_f64()),
        cost.as_secs_f64() * 1e6 / (records as f64).max(1.0)
    );
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
    let measure = || cases.map(|(_, places)| switches(places));
    let (mut with, mut without) = (Vec::new(), vec![measure()]);
    for _ in 0..PAIRS {
        let source = open();
        with.push(measure());
        drop(source);
        without.push(measure());
    }
    println!("a switch without programs: {:.0} ns", quarters(without.iter().flatten().copied().collect())[1]);
    for (case, (name, _)) in cases.into_iter().enumerate() {
        let added = with.iter().zip(without.windows(2)).map(|(with, around)| with[case] - (around[0][case] + around[1][case]) / 2.0);
        let [low, median, high] = quarters(added.collect());
        println!("{name}: {median:.0} ns more ({low:.0} to {high:.0})");
    }
    let mut source = open();
    for slot in 1..=dirs.len() {
        source.set_floors(Slot(u32::try_from(slot).unwrap()), Some(FLOOR_NS), None).unwrap();
    }
    ring(&mut source, [dir(0), dir(1)]);
    drop(source);
    for dir in dirs {
        let _ = std::fs::remove_dir(dir);
    }
}

/// The median, between the values a quarter lies below and a quarter above.
fn quarters(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}
