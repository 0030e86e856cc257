//! The eBPF source on the kernel that runs, against what the kernel itself counts. Needs root; says so and passes where
//! the kernel refuses the programs.
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

mod memory;
mod scene;
mod trace;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use scene::{BURN, Cgroup, Process, hierarchy};
use stallspan::source::bpf::{
    BUCKET_SCALE, BUCKETS, BpfSettings, BpfSource, Comm, FIRST_BUCKET, Form, Record, Runner, Slot, SlotTotals, ThrottleClock,
};

/// One test at a time: they compete for two CPUs as it is.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn open(ring_bytes: u32) -> Option<BpfSource> {
    // The lane runs these tests once in each form of the programs.
    let form = std::env::var_os("STALLSPAN_TEST_RAW_BPF").map(|_| Form::Raw);
    let settings = BpfSettings { hierarchy: hierarchy(), ring_bytes, form, ..BpfSettings::default() };
    let btf = stallspan::host::kernel_btf().ok()?;
    match BpfSource::open(&btf, &settings) {
        Ok(source) => Some(source),
        Err(error) if rustix::process::geteuid().is_root() => panic!("{error}"),
        Err(error) => {
            eprintln!("not tested: {error}");
            None
        }
    }
}

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Lets tasks run together for a while; before and after they stand still, so that no wait is in progress when others look.
fn run_for(tasks: &[&Process], ms: u64) {
    tasks.iter().for_each(|task| task.go());
    pause(ms);
    tasks.iter().for_each(|task| task.stop());
}

fn stop(tasks: &[&Process]) {
    pause(200);
    tasks.iter().for_each(|task| task.stop());
}

fn close(what: &str, found: u64, expected: u64, ratio: f64) {
    let error = (found as f64 - expected as f64).abs() / (expected as f64).max(1.0);
    eprintln!("{what}: {:.3} ms, expected {:.3} ms, off by {:.2} %", found as f64 / 1e6, expected as f64 / 1e6, error * 100.0);
    assert!(error <= ratio, "{what}: {found} is not {expected} within {ratio}");
}

struct Watched {
    source: BpfSource,
    cgroup: Cgroup,
    slot: Slot,
}

impl Watched {
    fn new(name: &str) -> Option<Self> {
        let mut source = open(4 << 20)?;
        let (cgroup, slot) = (Cgroup::new(name), Slot(1));
        source.set_cgroup(cgroup.id(), slot).unwrap();
        Some(Self { source, cgroup, slot })
    }

    fn totals(&self) -> SlotTotals {
        self.source.totals(self.slot).unwrap()
    }

    /// Time that the container waited while each of the others ran.
    fn blamed(&self) -> HashMap<Runner, u64> {
        let mut sums = HashMap::new();
        self.source.blames(|blame| {
            if blame.victim == self.slot {
                *sums.entry(blame.share.runner).or_default() += blame.share.ns;
            }
        });
        sums
    }

    fn records(&mut self) -> Vec<Record> {
        let mut found = Vec::new();
        while self.source.drain(|record| found.push(record)).more {}
        found
    }
}

/// As OTLP defines it: the index of the upper bound, less one.
fn bucket_of(ns: u64) -> usize {
    let index = ((ns as f64 / 1e9).log2() * f64::from(1 << BUCKET_SCALE)).ceil() as i32 - 1 - FIRST_BUCKET;
    usize::try_from(index).unwrap().min(BUCKETS - 1)
}

#[test]
fn waits_of_a_task_are_those_of_its_schedstat() {
    let _turn = turn();
    let Some(mut watched) = Watched::new("waits") else { return };
    watched.source.set_floors(watched.slot, Some(0), None).unwrap();
    let neighbors = Cgroup::new("neighbors");
    let _burners: Vec<_> = (0..3).map(|_| neighbors.burn("0")).collect();
    let victim = watched.cgroup.burn("0");
    stop(&[&victim]);
    watched.records();
    let (before, [_, wait_before, count_before]) = (watched.totals(), victim.schedstat());
    run_for(&[&victim], 3000);
    let ([_, wait, count], after) = (victim.schedstat(), watched.totals());
    close("waits", after.wait_ns - before.wait_ns, wait - wait_before, 0.001);
    assert!((after.waits - before.waits).abs_diff(count - count_before) <= 1);
    let (mut sum, mut buckets) = (0, [0; BUCKETS]);
    for record in watched.records() {
        let Record::Wait(wait) = record else { panic!("{record:?}") };
        assert_eq!((wait.task.tid, wait.task.slot), (victim.pid(), watched.slot));
        sum += wait.length_ns;
        buckets[bucket_of(wait.length_ns)] += 1;
        let explained = wait.throttled_ns + wait.self_ns + wait.idle_ns + wait.neighbor_ns();
        assert!(explained.abs_diff(wait.length_ns) * 20 <= wait.length_ns.max(200_000), "{wait:?}");
    }
    close("sum of records", sum, wait - wait_before, 0.01);
    // Waits under 10 us have no record.
    let counted = after.buckets.since(&before.buckets).counts;
    let short = bucket_of(10_000) + 1;
    let off: u32 = counted.iter().zip(buckets).skip(short).map(|(counted, seen)| counted.abs_diff(seen)).sum();
    assert_eq!(off, 0, "{counted:?} are not {buckets:?}");
}

fn comm(name: &str) -> Runner {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Runner::Host(Comm(bytes))
}

/// The victim never sleeps, so it waits exactly while somebody else runs on its CPU. How long that was, the kernel's own
/// trace tells. What the tasks' `schedstat` says they ran is less where a hypervisor takes the CPU away meanwhile: run time
/// is counted without that (`update_rq_clock_task`, kernel/sched/core.c), waits with it.
#[test]
fn neighbors_and_host_processes_are_blamed_for_the_time_they_ran() {
    let _turn = turn();
    let Some(mut watched) = Watched::new("victim") else { return };
    watched.source.set_floors(watched.slot, Some(1_000_000), None).unwrap();
    let (heavy, light) = (Cgroup::new("heavy"), Cgroup::new("light"));
    heavy.set_weight(4);
    light.set_weight(2);
    watched.cgroup.set_weight(2);
    watched.source.set_cgroup(heavy.id(), Slot(2)).unwrap();
    watched.source.set_cgroup(light.id(), Slot(3)).unwrap();
    let link = std::env::temp_dir().join("hostburner");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    let host = Process::start(&format!("exec taskset -c 0 {} -c \"{BURN}\"", link.display()));
    let (victim, heavy_task, light_task) = (watched.cgroup.burn("0"), heavy.burn("0"), light.burn("0"));
    let (tasks, all) = ([&heavy_task, &light_task, &host], [&victim, &heavy_task, &light_task, &host]);
    stop(&all);
    watched.records();
    let runners = [Runner::Container(Slot(2)), Runner::Container(Slot(3)), comm("hostburner")];
    let (totals, blamed, ran) = (watched.totals(), watched.blamed(), tasks.map(|task| task.schedstat()[0]));
    let trace = trace::Trace::of_cpu_0();
    run_for(&all, 4000);
    let (totals_after, blamed_after, ran_after) = (watched.totals(), watched.blamed(), tasks.map(|task| task.schedstat()[0]));
    let traced = trace.map(|trace| trace.end().while_waited(victim.pid()));
    std::fs::remove_file(&link).unwrap();
    let waited = totals_after.wait_ns - totals.wait_ns;
    let mut in_records: HashMap<Runner, u64> = HashMap::new();
    for record in watched.records() {
        let Record::Wait(wait) = record else { panic!("{record:?}") };
        for share in &wait.culprits {
            *in_records.entry(share.runner).or_default() += share.ns;
        }
    }
    for (index, runner) in runners.into_iter().enumerate() {
        let found = blamed_after[&runner] - blamed.get(&runner).copied().unwrap_or(0);
        let share = |ns: u64| ns as f64 / waited as f64;
        let truth = match &traced {
            Some(traced) => traced.ran.get(&tasks[index].pid()).copied().unwrap_or(0) as f64 / traced.ns as f64,
            None => share(ran_after[index] - ran[index]),
        };
        eprintln!("{runner:?}: share {:.3}, in records {:.3}, truth {truth:.3}", share(found), share(in_records[&runner]));
        assert!((share(found) - truth).abs() < 0.05 && (share(in_records[&runner]) - truth).abs() < 0.05);
    }
    if let Some(traced) = &traced {
        let unknown = traced.unknown_ns as f64 / waited as f64;
        eprintln!("the trace knows {:.4} of the wait, and does not know {unknown:.4}", traced.ns as f64 / waited as f64);
        close("waited by the trace", waited, traced.ns + traced.unknown_ns / 2, 0.05);
    }
    let explained: u64 = blamed_after.values().sum::<u64>() - blamed.values().sum::<u64>() + totals_after.self_ns - totals.self_ns;
    assert!(explained * 100 >= waited * 95, "{explained} of {waited} explained");
}

/// Of three tasks on one CPU two wait whenever one runs.
#[test]
fn a_container_in_its_own_way_blames_itself() {
    let _turn = turn();
    let Some(watched) = Watched::new("self") else { return };
    watched.cgroup.set_weight(50);
    let tasks = [watched.cgroup.burn("0"), watched.cgroup.burn("0"), watched.cgroup.burn("0")];
    let tasks = tasks.each_ref();
    let ran = || tasks.iter().map(|task| task.schedstat()[0]).sum::<u64>();
    stop(&tasks);
    let (before, ran_before) = (watched.totals(), ran());
    let trace = trace::Trace::of_cpu_0();
    run_for(&tasks, 2000);
    let (after, ran_after) = (watched.totals(), ran());
    let (own, run) = (after.self_ns - before.self_ns, after.run_ns - before.run_ns);
    let Some(trace) = trace else {
        close("own part", own, 2 * (ran_after - ran_before), 0.05);
        return close("run time", run, ran_after - ran_before, 0.02);
    };
    let (events, pids) = (trace.end(), tasks.map(Process::pid));
    let (mut truth, mut unknown) = (0, 0);
    for pid in pids {
        let traced = events.while_waited(pid);
        eprintln!("{pid}: waited {} ns by the trace, and {} it does not know", traced.ns, traced.unknown_ns);
        truth += pids.iter().filter_map(|pid| traced.ran.get(pid)).sum::<u64>();
        unknown += traced.unknown_ns;
    }
    close("own part", own, own.clamp(truth, truth + unknown), 0.05);
    let (ran, unknown) = events.ran(&pids);
    eprintln!("they ran {ran} ns by the trace, and {unknown} it does not know");
    close("run time", run, run.clamp(ran, ran + unknown), 0.02);
}

/// Tasks that the balancer moves about: what they waited is explained on every CPU they waited on.
#[test]
fn waits_that_move_between_cpus_are_explained() {
    let _turn = turn();
    let Some(mut watched) = Watched::new("moving") else { return };
    watched.source.set_floors(watched.slot, Some(1_000_000), None).unwrap();
    let neighbors = Cgroup::new("neighbors");
    watched.source.set_cgroup(neighbors.id(), Slot(2)).unwrap();
    let all = format!("0-{}", std::thread::available_parallelism().unwrap().get() - 1);
    let _burners: Vec<_> = (0..5).map(|_| neighbors.burn(&all)).collect();
    let victims: Vec<_> = (0..3).map(|_| watched.cgroup.burn(&all)).collect();
    let victims: Vec<&Process> = victims.iter().collect();
    stop(&victims);
    watched.records();
    let before = (watched.totals(), watched.blamed(), victims.iter().map(|task| task.schedstat()[1]).sum::<u64>());
    run_for(&victims, 4000);
    let after = (watched.totals(), watched.blamed(), victims.iter().map(|task| task.schedstat()[1]).sum::<u64>());
    let waited = after.0.wait_ns - before.0.wait_ns;
    close("waits", waited, after.2 - before.2, 0.001);
    let blamed = after.1.values().sum::<u64>() - before.1.values().sum::<u64>();
    let (own, idle) = (after.0.self_ns - before.0.self_ns, after.0.idle_ns - before.0.idle_ns);
    eprintln!("waited {waited}, blamed {blamed}, own {own}, idle {idle}");
    let explained = blamed + own + idle;
    assert!(explained * 100 >= waited * 95 && explained * 100 <= waited * 101, "{explained} of {waited}");
    let mut unexplained = 0;
    for record in watched.records() {
        let Record::Wait(wait) = record else { panic!("{record:?}") };
        unexplained += (wait.throttled_ns + wait.self_ns + wait.idle_ns + wait.neighbor_ns()).abs_diff(wait.length_ns);
    }
    assert!(unexplained * 20 <= waited, "{unexplained} of {waited}");
}

/// What the kernel counted of a cgroup's throttling, own and ancestors', summed over CPUs; before 6.6 only its own.
fn throttled_clock(cgroup: &Cgroup) -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(cgroup.procs().with_file_name(file));
    let text = read("cpu.stat.local").or_else(|_| read("cpu.stat")).ok()?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
    value("throttled_time").or_else(|| value("throttled_usec").map(|us| us * 1000))
}

fn throttled(tasks: usize, cpu_of: impl Fn(usize) -> usize, per_cpu: u64) {
    let Some(mut watched) = Watched::new("quota") else { return };
    watched.source.set_floors(watched.slot, Some(1_000_000), None).unwrap();
    let burning: Vec<_> = (0..tasks).map(|task| watched.cgroup.burn(&cpu_of(task).to_string())).collect();
    let burning: Vec<&Process> = burning.iter().collect();
    // At neither edge does anybody wait: waits count when they end, the kernel's clock before.
    stop(&burning);
    watched.records();
    let (before, Some(clock)) = (watched.totals(), throttled_clock(&watched.cgroup)) else { return };
    watched.cgroup.set_quota(Duration::from_millis(20), Duration::from_millis(100));
    burning.iter().for_each(|task| task.go());
    pause(5000);
    watched.cgroup.lift_quota();
    stop(&burning);
    let (after, clock_after) = (watched.totals(), throttled_clock(&watched.cgroup).unwrap());
    let truth = (clock_after - clock) * per_cpu;
    let waited = after.wait_ns - before.wait_ns;
    eprintln!("{tasks} tasks waited {:.1} ms", waited as f64 / 1e6);
    let exact = matches!(watched.source.offer().throttle, ThrottleClock::Exact | ThrottleClock::Queue);
    let ratio = if exact { 0.05 } else { 0.25 };
    close("throttled", after.throttled_ns - before.throttled_ns, truth, ratio);
    let mut in_records = 0;
    for record in watched.records() {
        let Record::Wait(wait) = record else { panic!("{record:?}") };
        in_records += wait.throttled_ns;
    }
    close("throttled in records", in_records, truth, ratio);
    let blamed: u64 = watched.blamed().values().sum();
    assert!(blamed + after.throttled_ns <= after.wait_ns + after.wait_ns / 50, "{blamed}");
}

#[test]
fn one_task_under_quota_is_throttled_as_long_as_its_queue() {
    let _turn = turn();
    throttled(1, |_| 0, 1);
}

#[test]
fn four_tasks_under_quota_are_throttled_each() {
    let _turn = turn();
    throttled(4, |task| task % 2, 2);
}

#[test]
fn without_a_quota_nothing_is_throttled() {
    let _turn = turn();
    let Some(watched) = Watched::new("free") else { return };
    let _tasks: Vec<_> = (0..4).map(|_| watched.cgroup.burn("0-1")).collect();
    pause(1500);
    let totals = watched.totals();
    assert!(totals.wait_ns > 100_000_000, "{totals:?}");
    assert_eq!(totals.throttled_ns, 0);
}

#[test]
fn a_full_ring_is_counted_to_the_last_record() {
    let _turn = turn();
    let Some(mut source) = open(4096) else { return };
    let (cgroup, slot) = (Cgroup::new("full"), Slot(1));
    source.set_cgroup(cgroup.id(), slot).unwrap();
    source.set_floors(slot, Some(0), None).unwrap();
    let _tasks: Vec<_> = (0..3).map(|_| cgroup.burn("0")).collect();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let lost = || source.totals(slot).unwrap();
    while lost().lost <= 50 || lost().lost_ns <= 100_000_000 {
        assert!(std::time::Instant::now() < deadline, "{:?}", lost());
        pause(20);
    }
    drop(cgroup.run("0", "sleep 0"));
    source.remove_cgroup(cgroup.id()).unwrap();
    pause(100);
    let mut records = 0;
    while source.drain(|record| records += u64::from(matches!(record, Record::Wait(_)))).more {}
    let totals = source.totals(slot).unwrap();
    eprintln!("{} waits, {records} records, {} lost", totals.waits, totals.lost);
    // Nobody else has records, so everybody's losses are this slot's.
    assert_eq!(source.losses().unwrap(), (totals.lost, totals.lost_ns));
    // Waits before the walk's floor make no record at all.
    let short = totals.waits - records - totals.lost;
    assert!(short * 10_000 <= totals.wait_ns && totals.buckets.below as u64 + short <= totals.waits);
}

#[test]
fn waits_in_progress_are_told_with_their_beginning() {
    let _turn = turn();
    let Some(mut watched) = Watched::new("waiting") else { return };
    if !watched.source.offer().waiting {
        return;
    }
    let neighbors = Cgroup::new("neighbors");
    let _burners: Vec<_> = (0..4).map(|_| neighbors.burn("0")).collect();
    let victim = watched.cgroup.burn("0");
    watched.source.set_floors(watched.slot, Some(0), None).unwrap();
    pause(300);
    let (mut seen, stolen) = (Vec::new(), scene::Stolen::of_cpu_0());
    for _ in 0..100 {
        watched.source.waiting(|waiting| seen.push(waiting)).unwrap();
        pause(7);
    }
    let stolen = stolen.share();
    victim.stop();
    let records = watched.records();
    assert!(seen.len() > 30, "{} of 100", seen.len());
    let (mut over, mut near) = (0, 0);
    for waiting in &seen {
        assert_eq!(waiting.task.tid, victim.pid());
        assert!(waiting.begin_ns <= waiting.now_ns && waiting.throttled_ns == 0, "{waiting:?}");
        // The victim's waits are as far apart as four others' turns.
        let nearest = records.iter().filter_map(|record| {
            let Record::Wait(wait) = record else { return None };
            let off = (wait.end_ns - wait.length_ns).abs_diff(waiting.begin_ns);
            (wait.task == waiting.task).then_some((off, wait.end_ns))
        });
        let (off, ended) = nearest.min().unwrap();
        assert!(off < 2_000_000, "never ended, the nearest began {off} ns off: {waiting:?}");
        near += usize::from(off < 100_000);
        over += usize::from(ended + 100_000 <= waiting.now_ns);
    }
    // A hypervisor that takes the CPU between its two clocks moves what is known of their difference (`mono_learn`).
    assert!(near * 10 >= seen.len() * 9, "only {near} of {} are told with their beginning", seen.len());
    // The hypervisor may hold a CPU up after its clock was read for a switch, and before the switch: such a wait ended before
    // it was seen.
    eprintln!("{over} of {} had ended, {:.1} % of the time was stolen", seen.len(), stolen * 100.0);
    assert!(over as f64 <= (0.2 + stolen) * seen.len() as f64, "{over} of {}, {stolen} stolen", seen.len());
}

#[test]
fn throttle_clock_of_this_kernel_is_known() {
    let Some(source) = open(4096) else { return };
    eprintln!("{:?}, maps {} KiB", source.offer(), source.map_bytes() >> 10);
    assert_ne!(source.offer().throttle, ThrottleClock::Absent);
}

/// A ring of a length that nothing else has: other agents on this machine are not counted.
const MARK: u32 = 1 << 15;

/// Rings of that length in the kernel. A program keeps its maps, and a link its program: where no ring is, nothing is.
fn marked_rings() -> usize {
    let maps = aya::maps::loaded_maps().filter_map(Result::ok);
    maps.filter(|map| map.name_as_str() == Some("records") && map.max_entries() == MARK).count()
}

/// The test program itself, killed while it holds the source.
#[test]
fn nothing_is_left_after_a_hundred_kills() {
    const HOLD: &str = "STALLSPAN_TEST_HOLDS_BPF";
    let _turn = turn();
    if std::env::var_os(HOLD).is_some() {
        let source = open(MARK);
        println!("{}", if source.is_some() { "loaded" } else { "not loaded" });
        pause(60_000);
        drop(source);
        return;
    }
    let Some(source) = open(MARK) else { return };
    assert_eq!(marked_rings(), 1, "what is loaded is seen");
    drop(source);
    for _ in 0..100 {
        let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nothing_is_left_after_a_hundred_kills", "--nocapture"])
            .env(HOLD, "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(holder.stdout.take().unwrap()));
        let loaded = lines.map_while(Result::ok).find(|line| line.ends_with("loaded")).unwrap();
        assert!(!loaded.ends_with("not loaded"));
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while marked_rings() > 0 {
        assert!(std::time::Instant::now() < deadline, "{} left", marked_rings());
        pause(50);
    }
}

/// A slot that is cleared begins at nothing, for its next container.
#[test]
fn a_cleared_slot_begins_anew() {
    let _turn = turn();
    let Some(mut watched) = Watched::new("cleared") else { return };
    let tasks = [watched.cgroup.burn("0"), watched.cgroup.burn("0")];
    pause(500);
    drop(tasks);
    assert!(watched.totals().wait_ns > 0);
    watched.source.remove_cgroup(watched.cgroup.id()).unwrap();
    pause(50);
    watched.source.clear_slot(watched.slot).unwrap();
    assert_eq!(watched.totals(), SlotTotals::NONE);
    assert_eq!(watched.blamed().len(), 0);
    let _task = watched.cgroup.burn("0");
    pause(300);
    assert_eq!(watched.totals(), SlotTotals::NONE);
}
