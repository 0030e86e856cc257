//! `memory.stat`, `memory.events`, `memory.oom_control` (mm/memcontrol.c, mm/memcontrol-v1.c).

use super::super::text::{pairs, value};

/// What `memory.stat` says of the whole subtree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStat {
    /// Bytes of file pages on the inactive list; the kubelet takes them off the usage for its working set.
    pub inactive_file: Option<u64>,
    /// Page faults, major ones among them.
    pub faults: Option<u64>,
    /// Major page faults.
    pub major_faults: Option<u64>,
    /// Pages: direct scanned, direct reclaimed, kswapd scanned, kswapd reclaimed. Version 2 from 6.0; version 1 never.
    pub reclaim_pages: [Option<u64>; 4],
    /// Pages read again soon after they had been evicted: anonymous, file. Before 5.9 the kernel does not tell them apart.
    pub refaults: [Option<u64>; 2],
}

/// Reads either version. In version 1 plain keys speak of this cgroup alone and `total_` keys of its subtree, which
/// is what version 2's plain keys mean: `total_` wins.
#[must_use]
pub fn memory_stat(text: &[u8]) -> MemoryStat {
    let mut own = MemoryStat::default();
    let mut subtree = MemoryStat::default();
    for (key, count) in pairs(text) {
        match key.strip_prefix(b"total_") {
            Some(key) => subtree.set(key, count),
            None => own.set(key, count),
        }
    }
    MemoryStat {
        inactive_file: subtree.inactive_file.or(own.inactive_file),
        faults: subtree.faults.or(own.faults),
        major_faults: subtree.major_faults.or(own.major_faults),
        reclaim_pages: own.reclaim_pages,
        refaults: [0, 1].map(|which| subtree.refaults.get(which).copied().flatten().or(own.refaults.get(which).copied().flatten())),
    }
}

impl MemoryStat {
    fn set(&mut self, key: &[u8], count: u64) {
        let [direct_scanned, direct_reclaimed, kswapd_scanned, kswapd_reclaimed] = &mut self.reclaim_pages;
        let [anon_refaults, file_refaults] = &mut self.refaults;
        let field = match key {
            b"inactive_file" => &mut self.inactive_file,
            b"pgfault" => &mut self.faults,
            b"pgmajfault" => &mut self.major_faults,
            b"workingset_refault_anon" => anon_refaults,
            b"workingset_refault_file" => file_refaults,
            b"pgscan_direct" => direct_scanned,
            b"pgsteal_direct" => direct_reclaimed,
            b"pgscan_kswapd" => kswapd_scanned,
            b"pgsteal_kswapd" => kswapd_reclaimed,
            _ => return,
        };
        *field = Some(count);
    }

    /// Minor faults: all less major.
    #[must_use]
    pub fn minor_faults(&self) -> Option<u64> {
        Some(self.faults?.saturating_sub(self.major_faults?))
    }

    /// Usage less inactive file pages, as the kubelet computes it.
    #[must_use]
    pub fn working_set(&self, usage: Option<u64>) -> Option<u64> {
        Some(usage?.saturating_sub(self.inactive_file?))
    }
}

/// `memory.events`: low, high, max, oom, oom_kill.
#[must_use]
pub fn memory_events(text: &[u8]) -> [Option<u64>; 5] {
    [&b"low"[..], b"high", b"max", b"oom", b"oom_kill"].map(|key| value(text, key))
}

/// Version 1: `memory.failcnt` is what `max` counts, `memory.oom_control` has `oom_kill` (4.13+); low, high and oom
/// have no counter there.
#[must_use]
pub fn memory_events_v1(failcnt: &[u8], oom_control: &[u8]) -> [Option<u64>; 5] {
    [None, None, super::super::text::single(failcnt), None, value(oom_control, b"oom_kill")]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_two() {
        let text = b"anon 4096\nfile 8192\ninactive_file 1000\npgfault 50\npgmajfault 5\npgscan 9\npgsteal 8\n\
                     workingset_refault_anon 6\nworkingset_refault_file 7\nworkingset_refault 9\npgscan_kswapd 3\npgscan_direct 1\npgsteal_kswapd 4\npgsteal_direct 2\npgscan_khugepaged 9\n";
        let stat = memory_stat(text);
        assert_eq!((stat.minor_faults(), stat.major_faults), (Some(45), Some(5)));
        assert_eq!(stat.reclaim_pages, [Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(stat.refaults, [Some(6), Some(7)]);
        assert_eq!(stat.working_set(Some(5000)), Some(4000));
        assert_eq!(stat.working_set(Some(500)), Some(0));
        assert_eq!(stat.working_set(None), None);
    }

    #[test]
    fn version_one_means_its_subtree() {
        let stat = memory_stat(
            b"inactive_file 1\npgfault 2\npgmajfault 1\ntotal_inactive_file 10\ntotal_pgfault 20\ntotal_pgmajfault 3\n\
            workingset_refault_file 1\ntotal_workingset_refault_file 4\nworkingset_refault_anon 2\n",
        );
        assert_eq!((stat.inactive_file, stat.minor_faults(), stat.major_faults), (Some(10), Some(17), Some(3)));
        assert_eq!((stat.reclaim_pages, stat.refaults), ([None; 4], [Some(2), Some(4)]));
    }

    #[test]
    fn before_six_there_is_no_split() {
        let stat = memory_stat(b"pgscan 9\npgsteal 8\n");
        assert_eq!(stat.reclaim_pages, [None; 4]);
        assert_eq!(stat.minor_faults(), None);
    }

    #[test]
    fn events_of_both_versions() {
        let text = b"low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\nsock_throttled 7\n";
        assert_eq!(memory_events(text), [Some(1), Some(2), Some(3), Some(4), Some(5)]);
        assert_eq!(memory_events(b"max 3\n"), [None, None, Some(3), None, None]);
        assert_eq!(
            memory_events_v1(b"303934\n", b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            [None, None, Some(303_934), None, Some(2)]
        );
        assert_eq!(memory_events_v1(b"", b""), [None; 5]);
    }

    proptest! {
        #[test]
        fn never_panics(lines in proptest::collection::vec(("(total_)?(inactive_file|pgfault|pgmajfault|max|oom_kill)", "[0-9]{0,22}"), 0..8)) {
            let text: String = lines.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
            let stat = memory_stat(text.as_bytes());
            let _ = (stat.minor_faults(), stat.working_set(Some(1)), memory_events(text.as_bytes()));
        }
    }
}
