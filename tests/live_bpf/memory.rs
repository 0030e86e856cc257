//! Memory work, against the kernel's own delay accounting.

use std::time::Duration;

use stallspan::source::bpf::{BpfSettings, BpfSource, Hierarchy, Record, Slot};

use super::scene::{Cgroup, Process};
use super::{close, pause, turn};

/// Delay accounting, on until this is dropped.
struct SwitchedOn(String);

impl SwitchedOn {
    const FILE: &str = "/proc/sys/kernel/task_delayacct";

    fn new() -> Self {
        let was = std::fs::read_to_string(Self::FILE).unwrap();
        std::fs::write(Self::FILE, "1").unwrap();
        Self(was)
    }
}

impl Drop for SwitchedOn {
    fn drop(&mut self) {
        let _as_before = std::fs::write(Self::FILE, &self.0);
    }
}

/// Reads a file of holes through a memory cgroup that is too small for it.
#[test]
fn reclaim_for_a_limit_is_what_delay_accounting_counts() {
    let _turn = turn();
    let root = std::path::Path::new("/sys/fs/cgroup/memory");
    if !root.join("memory.limit_in_bytes").exists() {
        return;
    }
    let settings = BpfSettings { hierarchy: Hierarchy::Controller("memory".to_owned()), ..BpfSettings::default() };
    let Ok(btf) = stallspan::host::kernel_btf() else { return };
    let Ok(mut source) = BpfSource::open(&btf, &settings) else { return };
    let cgroup = Cgroup::at(root, "reclaim");
    std::fs::write(cgroup.procs().with_file_name("memory.limit_in_bytes"), "33554432").unwrap();
    source.set_cgroup(cgroup.id(), Slot(1)).unwrap();
    source.set_floors(Slot(1), None, Some(0)).unwrap();
    let switched = SwitchedOn::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 30).unwrap();
    let reader =
        Process::start(&format!("echo $$ > {}; exec dd if={} of=/dev/null bs=1M", cgroup.procs().display(), file.path().display()));
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while source.memory(Slot(1)).unwrap().0.count <= 1000 {
        assert!(std::time::Instant::now() < deadline, "{:?}", source.memory(Slot(1)));
        pause(100);
    }
    let (mut truth, pid) = (None, reader.pid());
    reader.stop();
    stallspan::host::Taskstats::open().unwrap().query_tids(&[pid], |_, answer| truth = answer.ok());
    drop(switched);
    let truth = truth.unwrap();
    let (reclaim, _) = source.memory(Slot(1)).unwrap();
    let kind = stallspan::model::DelayKind::Reclaim;
    eprintln!("{} reclaims, delay accounting {:?}", reclaim.count, truth.delay_count.get(kind));
    close("reclaim", reclaim.ns, truth.delay_ns.get(kind).unwrap(), 0.10);
    assert!(reclaim.count.abs_diff(truth.delay_count.get(kind).unwrap()) * 10 <= reclaim.count);
    let (mut records, mut sum) = (0, 0);
    while source
        .drain(|record| {
            let Record::Reclaim(work) = record else { panic!("{record:?}") };
            assert_eq!(work.task.tid, pid);
            records += 1;
            sum += work.length_ns;
        })
        .more
    {}
    assert_eq!(
        (records + source.totals(Slot(1)).unwrap().lost, sum + source.totals(Slot(1)).unwrap().lost_ns),
        (reclaim.count, reclaim.ns)
    );
}
