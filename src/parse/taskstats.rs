//! `struct taskstats` (include/uapi/linux/taskstats.h), any version, by offset up to the length received.
//!
//! The struct only ever grew at its end, except version 15 (6.14, 6.15), which put new fields in the middle and has
//! the size of version 16: there only the version tells them apart. A field beyond the received length is unknown,
//! bytes beyond the known fields are passed over, no length is refused.

use crate::model::{DelayKind, Delays};

use super::netlink::array;

/// `TASK_COMM_LEN`
const COMM: usize = 16;

/// `ac_flag`: the exit message of the last thread of its group (5.19+).
pub const EXIT_OF_GROUP: u8 = 0x20;

/// One struct: cumulative since the task (or its group) was born. `None`: this kernel has no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskDelays {
    /// `version`; exit messages about groups carry 0 on 5.10.
    pub version: u16,
    /// Nanoseconds waited. All but CPU are 0 for tasks born while delay accounting was off.
    pub delay_ns: Delays<u64>,
    /// Waits that ended.
    pub delay_count: Delays<u64>,
    /// `cpu_run_virtual_total`: nanoseconds on a CPU (`se.sum_exec_runtime`).
    pub run_ns: Option<u64>,
    /// `cpu_run_real_total`: user + system time as the tick sees it.
    pub run_ticked_ns: Option<u64>,
    /// `nvcsw`
    pub voluntary_switches: Option<u64>,
    /// `nivcsw`
    pub involuntary_switches: Option<u64>,
    /// `ac_flag`: 1 forked without exec, 8 core dump, 0x10 killed by a signal, [`EXIT_OF_GROUP`].
    pub exit_flags: Option<u8>,
    /// Thread id; answers about one thread and exit messages only.
    pub pid: Option<u32>,
    /// Process of the thread; as `pid`, from version 12.
    pub tgid: Option<u32>,
    /// Process of the parent; as `pid`.
    pub parent: Option<u32>,
    /// `ac_etime`: microseconds since the task began; in answers about a group the sum over its threads, on 5.10 only those
    /// alive.
    pub age_us: Option<u64>,
    /// `ac_tgetime`: microseconds since the group's first thread began; as `pid`, from version 12.
    pub group_age_us: Option<u64>,
    /// Start in seconds since the epoch; as `pid`, from version 10.
    pub begin_s: Option<u64>,
    /// Command name, NUL padded; as `pid`.
    pub comm: [u8; COMM],
}

impl TaskDelays {
    /// Whether anything but CPU delay was ever counted: then delay accounting was on when one of the tasks was born.
    #[must_use]
    pub fn others_counted(&self) -> bool {
        self.delay_count.known().any(|(kind, count)| kind != DelayKind::Cpu && count > 0)
    }
}

/// Why bytes are no taskstats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskstatsError {
    /// Not even a version.
    #[error("taskstats struct of {0} bytes is too short to hold its version")]
    TooShort(usize),
}

/// Byte offsets of one layout.
struct Layout {
    /// Count and total of each [`DelayKind`].
    delays: [(usize, usize); 8],
    run_ticked: usize,
    run: usize,
    comm: usize,
    pid: usize,
    parent: usize,
    age: usize,
    switches: (usize, usize),
    begin: usize,
    tgid: usize,
    group_age: usize,
}

/// Versions 8 to 14 and 16 onwards.
const APPENDED: Layout = Layout {
    delays: [(16, 24), (32, 40), (48, 56), (312, 320), (352, 360), (328, 336), (400, 408), (416, 424)],
    run_ticked: 64,
    run: 72,
    comm: 80,
    pid: 128,
    parent: 132,
    age: 144,
    switches: (272, 280),
    begin: 344,
    tgid: 368,
    group_age: 376,
};

/// Version 15: maximum and minimum stand behind each total.
const FIFTEEN: Layout = Layout {
    delays: [(16, 24), (48, 56), (80, 88), (360, 368), (432, 440), (392, 400), (496, 504), (528, 536)],
    run_ticked: 112,
    run: 120,
    comm: 128,
    pid: 176,
    parent: 180,
    age: 192,
    switches: (320, 328),
    begin: 424,
    tgid: 464,
    group_age: 472,
};

/// `ac_flag`: before anything that ever moved.
const FLAG: usize = 8;

/// Reads one struct.
pub fn taskstats(bytes: &[u8]) -> Result<TaskDelays, TaskstatsError> {
    let version = array(bytes, 0).map(u16::from_ne_bytes).ok_or(TaskstatsError::TooShort(bytes.len()))?;
    let layout = if version == 15 { &FIFTEEN } else { &APPENDED };
    let wide = |at| array(bytes, at).map(u64::from_ne_bytes);
    let narrow = |at| array(bytes, at).map(u32::from_ne_bytes);

    let mut delays = TaskDelays { version, ..TaskDelays::default() };
    for (kind, (count, total)) in DelayKind::ALL.into_iter().zip(layout.delays) {
        delays.delay_count.set(kind, wide(count));
        delays.delay_ns.set(kind, wide(total));
    }
    delays.run_ticked_ns = wide(layout.run_ticked);
    delays.run_ns = wide(layout.run);
    delays.voluntary_switches = wide(layout.switches.0);
    delays.involuntary_switches = wide(layout.switches.1);
    delays.exit_flags = bytes.get(FLAG).copied();
    // Answers about a group leave these 0, which no task has.
    delays.pid = narrow(layout.pid).filter(|pid| *pid != 0);
    delays.tgid = narrow(layout.tgid).filter(|tgid| *tgid != 0);
    delays.parent = narrow(layout.parent).filter(|_| delays.pid.is_some());
    delays.age_us = wide(layout.age);
    delays.group_age_us = wide(layout.group_age).filter(|_| delays.tgid.is_some());
    delays.begin_s = wide(layout.begin).filter(|begin| *begin != 0);
    delays.comm = array(bytes, layout.comm).unwrap_or_default();
    Ok(delays)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A struct whose every 8-byte word holds its own offset, so that a wrong offset shows.
    fn numbered(version: u16, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|word| (word as u64 * 8).to_ne_bytes()).collect();
        bytes.truncate(len);
        bytes[..2].copy_from_slice(&version.to_ne_bytes());
        bytes
    }

    fn totals(version: u16, len: usize) -> [Option<u64>; 8] {
        taskstats(&numbered(version, len)).unwrap().delay_ns.0
    }

    #[test]
    fn each_version_has_the_delays_it_came_with() {
        fn check(version: u16, len: usize, expected: [Option<u64>; 8]) {
            assert_eq!(totals(version, len), expected, "version {version}");
        }
        let base = [Some(24), Some(40), Some(56), Some(320), None, None, None, None];
        check(8, 328, base);
        let mut with = base;
        with[DelayKind::Thrashing as usize] = Some(336);
        check(9, 344, with);
        check(10, 352, with);
        with[DelayKind::Compaction as usize] = Some(360);
        check(11, 368, with);
        check(12, 400, with);
        with[DelayKind::WriteProtectCopy as usize] = Some(408);
        check(13, 416, with);
        with[DelayKind::Irq as usize] = Some(424);
        check(14, 432, with);
        check(16, 560, with);
        check(17, 688, with);
        check(99, 4096, with);
        check(15, 560, [Some(24), Some(56), Some(88), Some(368), Some(440), Some(400), Some(504), Some(536)]);
    }

    #[test]
    fn counts_stand_before_their_totals() {
        for version in [14, 15, 16] {
            let got = taskstats(&numbered(version, 560)).unwrap();
            for (kind, total) in got.delay_ns.known() {
                assert_eq!(got.delay_count.get(kind), Some(total - 8), "{version} {kind:?}");
            }
        }
    }

    #[test]
    fn fifteen_has_its_own_places() {
        let fifteen = taskstats(&numbered(15, 560)).unwrap();
        assert_eq!((fifteen.run_ticked_ns, fifteen.run_ns), (Some(112), Some(120)));
        assert_eq!((fifteen.voluntary_switches, fifteen.involuntary_switches), (Some(320), Some(328)));
        assert_eq!((fifteen.pid, fifteen.tgid, fifteen.begin_s), (Some(176), Some(464), Some(424)));
        assert_eq!((fifteen.age_us, fifteen.group_age_us), (Some(192), Some(472)));
        let sixteen = taskstats(&numbered(16, 560)).unwrap();
        assert_eq!((sixteen.run_ticked_ns, sixteen.run_ns), (Some(64), Some(72)));
        assert_eq!((sixteen.pid, sixteen.tgid, sixteen.begin_s), (Some(128), Some(368), Some(344)));
        assert_eq!((sixteen.age_us, sixteen.group_age_us), (Some(144), Some(376)));
    }

    #[test]
    fn ids_of_group_answers_are_unknown_and_not_zero() {
        let mut bytes = vec![0; 560];
        bytes[..2].copy_from_slice(&16_u16.to_ne_bytes());
        let got = taskstats(&bytes).unwrap();
        assert_eq!((got.pid, got.tgid, got.begin_s), (None, None, None));
        assert!(!got.others_counted());
        bytes[32] = 1;
        assert!(taskstats(&bytes).unwrap().others_counted());
    }

    #[test]
    fn too_short_for_a_version_is_refused_and_nothing_else() {
        assert_eq!(taskstats(&[]), Err(TaskstatsError::TooShort(0)));
        assert_eq!(taskstats(&[16]), Err(TaskstatsError::TooShort(1)));
        assert_eq!(totals(16, 2), [None; 8]);
        assert_eq!(totals(16, 31), [None; 8]);
        assert_eq!(totals(16, 32)[0], Some(24));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..20), proptest::collection::vec(any::<u8>(), 0..720)], version in 0u16..20) {
            let mut bytes = bytes;
            if bytes.len() >= 2 {
                bytes[..2].copy_from_slice(&version.to_ne_bytes());
            }
            let _ = taskstats(&bytes);
        }

        #[test]
        fn a_longer_struct_only_adds_fields(version in 8u16..18, short in 2usize..700, more in 0usize..100) {
            let long = totals(version, short + more);
            for (kept, all) in totals(version, short).iter().zip(long) {
                prop_assert!(kept.is_none() || *kept == all);
            }
        }
    }
}
