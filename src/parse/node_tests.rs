//! Layouts as documented for each version (Documentation/scheduler/sched-stats.rst).

use proptest::prelude::*;

use super::*;

const NUMBERS: [&str; 3] = ["31 2 3", "0 0 0 0 0 0 0 0", "1 1 1 1 1 1 1 1 1 1 1 1"];

fn file(version: u32, leading: &str, domain: &str) -> String {
    format!(
        "version {version}\ntimestamp 4295678901\ncpu0 {leading} 5000000000 700000000 1234\n{domain}\ncpu12 {leading} 1 2 3\n{domain}\n"
    )
}

#[test]
fn every_version_yields_run_wait_and_timeslices() {
    fn check(version: u32, leading: &str, domain: &str) {
        let got = proc_schedstat(file(version, leading, domain).as_bytes()).unwrap();
        assert_eq!(got.version, version);
        let expected = [
            NodeCpu { cpu: 0, wait_ns: 700_000_000, run_ns: 5_000_000_000, timeslices: 1234 },
            NodeCpu { cpu: 12, wait_ns: 2, run_ns: 1, timeslices: 3 },
        ];
        assert_eq!(got.cpus, expected, "version {version}");
    }
    let idle_types = format!("{0} {0} {0}", NUMBERS[1]);
    let old = format!("domain0 00000003 {idle_types} {}", NUMBERS[2]);
    check(14, "0 0 0 0 9 8 7 6 5", &old);
    check(14, "0 0 9 8 7 6", &old);
    check(15, "0 0 9 8 7 6", &old);
    check(16, "0 0 9 8 7 6", &old);
    let split = "0 0 0 0 0 0 0 0 0 0 0";
    check(17, "0 0 9 8 7 6", &format!("domain0 MC 00000003 {split} {split} {split} {}", NUMBERS[2]));
}

#[test]
fn damaged_schedstat_loses_its_own_cpu_only() {
    fn check(text: &str, expected: Result<&[u32], ProcSchedstatError>) {
        let got = proc_schedstat(text.as_bytes()).map(|stat| stat.cpus.iter().map(|cpu| cpu.cpu).collect::<Vec<_>>());
        assert_eq!(got, expected.map(<[u32]>::to_vec), "{text:?}");
    }
    check("", Err(ProcSchedstatError::NoVersion));
    check("cpu0 1 2 3", Err(ProcSchedstatError::NoVersion));
    check("version\n", Err(ProcSchedstatError::NoVersion));
    check("version x\n", Err(ProcSchedstatError::NoVersion));
    check("version 13\n", Err(ProcSchedstatError::UnknownVersion(13)));
    check("version 18\n", Err(ProcSchedstatError::UnknownVersion(18)));
    check("version 15\ncpu0 0 0 0 0 0 0 1 2\ncpu1 0 0 0 0 0 0 1 2 3 4\n", Ok(&[1]));
    check("version 15\ncpu0 0 0 0 0 0 0 1 99999999999999999999 3\n", Ok(&[]));
    check("version 15\ncpux 0 0 0 0 0 0 1 2 3\n", Ok(&[]));
}

#[test]
fn vmstat_of_new_and_old_kernels() {
    let new = vmstat(
        b"pgscan_kswapd 30\npgscan_direct 10\npgscan_khugepaged 9\npgscan_direct_throttle 77\npgscan_anon 5\npgsteal_kswapd 40\npgsteal_direct 20\n\
          allocstall_dma 0\nallocstall_dma32 1\nallocstall_normal 2\nallocstall_movable 3\nallocstall_device 4\ncompact_stall 5\n\
          pswpin 6\npswpout 7\npgfault 100\npgmajfault 8\n",
    );
    assert_eq!(new.reclaim_pages, [Some(10), Some(20), Some(30), Some(40)]);
    assert_eq!((new.allocation_stalls, new.compaction_stalls), (Some(10), Some(5)));
    assert_eq!(new.swap_pages, [Some(6), Some(7)]);
    assert_eq!((new.minor_faults(), new.major_faults), (Some(92), Some(8)));

    let old = vmstat(b"pgscan_kswapd_dma 1\npgscan_kswapd_normal 2\npgscan_direct_normal 3\npgscan_direct_throttle 9\nallocstall 4\n");
    assert_eq!(old.reclaim_pages, [Some(3), None, Some(3), None]);
    assert_eq!(old.allocation_stalls, Some(4));
    assert_eq!(old.compaction_stalls, None);
}

#[test]
fn sums_that_do_not_fit_are_unknown() {
    let text = format!("allocstall_dma {0}\nallocstall_normal {0}\n", u64::MAX);
    assert_eq!(vmstat(text.as_bytes()).allocation_stalls, None);
}

#[test]
fn boot_time_of_proc_stat() {
    let text = b"cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5 1\nctxt 9\nbtime 1700000000\nprocesses 5\nprocs_running 1\nprocs_blocked 0\n";
    assert_eq!(boot_time(text), Some(1_700_000_000));
    assert_eq!(boot_time(b"btime x\n"), None);
    assert_eq!(boot_time(b""), None);
}

#[test]
fn drops_of_one_socket() {
    let text = b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                 000000009c28fb28 16  0          00000000 0        0        0     2        0        4       \n\
                 00000000aaaaaaaa 16  12345      00000000 8192     0        0     2        94       777     \n";
    assert_eq!(netlink_drops(text, 777), Some(94));
    assert_eq!(netlink_drops(text, 4), Some(0));
    assert_eq!(netlink_drops(text, 5), None);
    assert_eq!(netlink_drops(b"short line\n", 5), None);
}

proptest! {
    #[test]
    fn never_panics(version in 10u32..20, lines in proptest::collection::vec("(cpu[0-9]{0,11}|domain0|pgscan_direct|btime|ctxt)( [0-9a-z]{0,21}){0,12}", 0..6)) {
        let text = format!("version {version}\n{}", lines.join("\n"));
        let _ = (proc_schedstat(text.as_bytes()), vmstat(text.as_bytes()), boot_time(text.as_bytes()), netlink_drops(text.as_bytes(), 1));
    }

    #[test]
    fn more_lines_never_change_a_cpu(cpus in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..5), junk in "[a-z0-9 ]{0,40}") {
        let mut text = "version 15\n".to_owned();
        for (cpu, (run, wait, slices)) in cpus.iter().enumerate() {
            text.push_str(&format!("cpu{cpu} 0 0 0 0 0 0 {run} {wait} {slices}\nx{junk}\n"));
        }
        let got: Vec<_> = proc_schedstat(text.as_bytes()).unwrap().cpus.iter().map(|cpu| (cpu.run_ns, cpu.wait_ns, cpu.timeslices)).collect();
        prop_assert_eq!(got, cpus);
    }
}
