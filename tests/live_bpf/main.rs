//! The eBPF source on the kernel that runs, against what the kernel itself counts. Needs root; says so and passes where
//! the kernel refuses the programs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::print_stderr,
    reason = "a test: it reads files, waits for the kernel, and a panic is how it fails"
)]

mod scene;

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use scene::{Cgroup, hierarchy};
use stallspan::source::bpf::{BpfSettings, BpfSource, Record, Runner, Slot, SlotTotals};

/// One test at a time: they compete for two CPUs as it is.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn open(ring_bytes: u32) -> Option<BpfSource> {
    let settings = BpfSettings { hierarchy: hierarchy(), ring_bytes, ..BpfSettings::default() };
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

    fn records(&mut self) -> Vec<Record> {
        let mut found = Vec::new();
        while self.source.drain(|record| found.push(record)).more {}
        found
    }
}

#[test]
fn waits_of_a_task_are_those_of_its_schedstat() {
    let _turn = turn();
    let Some(mut watched) = Watched::new("waits") else { return };
    watched.source.set_floors(watched.slot, Some(0), None).unwrap();
    let neighbors = Cgroup::new("neighbors");
    let _burners: Vec<_> = (0..3).map(|_| neighbors.burn("0")).collect();
    let victim = watched.cgroup.burn("0");
    pause(300);
    watched.records();
    let (before, [_, wait_before, count_before]) = (watched.totals(), victim.schedstat());
    pause(3000);
    let ([_, wait, count], after) = (victim.schedstat(), watched.totals());
    close("waits", after.wait_ns - before.wait_ns, wait - wait_before, 0.02);
    assert!((after.waits - before.waits).abs_diff(count - count_before) <= 2);
    let mut sum = 0;
    for record in watched.records() {
        let Record::Wait(wait) = record else { panic!("{record:?}") };
        assert_eq!((wait.task.tid, wait.task.slot), (victim.pid(), watched.slot));
        sum += wait.length_ns;
        let explained = wait.throttled_ns + wait.self_ns + wait.idle_ns + wait.neighbor_ns();
        assert!(explained.abs_diff(wait.length_ns) * 20 <= wait.length_ns.max(200_000), "{wait:?}");
    }
    close("sum of records", sum, wait - wait_before, 0.02);
}
