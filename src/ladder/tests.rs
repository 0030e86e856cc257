//! Facts of the usual hosts, and what becomes of them.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use crate::model::{BpfFacts, Capabilities, CgroupFacts, Namespaces};

use super::*;

fn sources(method: Method) -> Sources {
    Sources {
        collection_interval: Duration::from_secs(10),
        method,
        task_delayacct: TaskDelayacct::Leave,
        retention: Duration::from_secs(120),
        resolution: Duration::from_millis(100),
        history_memory: 64 << 20,
        procfs_root: PathBuf::from("/proc"),
        cgroupfs_root: PathBuf::from("/sys/fs/cgroup"),
    }
}

/// A host that lacks nothing.
fn fit() -> Facts {
    Facts {
        kernel_release: Some("6.18.0".to_owned()),
        procfs: Ok(()),
        taskstats: Ok(TaskstatsFacts { version: 16, len: 560, counting: true }),
        exits: Ok(()),
        schedstat: Ok(()),
        task_delayacct: Some(true),
        task_delayacct_writable: true,
        sched_schedstats: Some(false),
        proc_schedstat: Ok(17),
        psi_node: Ok(()),
        psi_cgroup: Ok(()),
        irq_time: Some(true),
        cgroups: CgroupFacts {
            layout: CgroupLayout::V2,
            v1: Vec::new(),
            v2: vec!["cpu".to_owned(), "memory".to_owned()],
            relative_paths: false,
        },
        bpf: Err(Absence::NotSupported),
        bpf_loaded: None,
        btf: true,
        capabilities: Capabilities(u64::MAX),
        namespaces: Namespaces { pid: Some(true), net: Some(true), user: Some(true), cgroup: Some(true) },
    }
}

/// Delays by the words of kind and source.
fn delays(facts: &Facts, method: Method) -> Vec<(&'static str, &'static str)> {
    let plan = plan(facts, &sources(method));
    DelayKind::ALL.into_iter().map(|kind| (kind.word(), plan.delay(kind).map_or_else(Absence::word, Evidence::word))).collect()
}

#[test]
fn a_fit_host_supplies_everything_from_the_best_rung_it_has() {
    let got = plan(&fit(), &sources(Method::Auto));
    assert_eq!(got.delays, [Ok(Evidence::Taskstats); 8]);
    assert_eq!((got.run_time, got.throttling, got.memory), (Ok(Evidence::Taskstats), Ok(Evidence::Cgroup), Ok(Evidence::Cgroup)));
    assert_eq!((got.best(), got.method_missing), (Some(Evidence::Taskstats), None));
    assert!(got.uses(SourceName::Taskstats) && got.uses(SourceName::Psi) && got.uses(SourceName::Node));
    assert_eq!(got.source(SourceName::Bpf), Err(Absence::NotSupported));
}

#[test]
fn on_top_stands_what_sees_every_wait() {
    let seen = Facts { bpf: Ok(()), ..fit() };
    for method in [Method::Auto, Method::Bpf] {
        let got = plan(&seen, &sources(method));
        assert_eq!((got.best(), got.source(SourceName::Bpf), got.method_missing), (Some(Evidence::Bpf), Ok(()), None));
        assert_eq!((got.delay(DelayKind::Cpu), got.delay(DelayKind::Reclaim)), (Ok(Evidence::Bpf), Ok(Evidence::Taskstats)));
    }
    let uncounted = plan(&Facts { task_delayacct: Some(false), ..seen }, &sources(Method::Auto));
    assert_eq!((uncounted.delay(DelayKind::Reclaim), uncounted.delay(DelayKind::Compaction)), (Ok(Evidence::Bpf), Ok(Evidence::Bpf)));
    assert_eq!(uncounted.delay(DelayKind::BlockIo), Err(Absence::NotSupported));
}

#[test]
fn exits_are_told_where_taskstats_answers_and_listening_worked() {
    fn check(facts: &Facts, method: Method, expected: Result<(), Absence>) {
        assert_eq!(plan(facts, &sources(method)).source(SourceName::TaskstatsExits), expected, "{method:?}");
    }
    check(&fit(), Method::Auto, Ok(()));
    check(&fit(), Method::Bpf, Ok(()));
    check(&fit(), Method::Schedstat, Err(Absence::Disabled));
    check(&Facts { exits: Err(Absence::NotSupported), ..fit() }, Method::Taskstats, Err(Absence::NotSupported));
    check(&Facts { taskstats: Err(Absence::NoPermission), ..fit() }, Method::Auto, Err(Absence::NoPermission));
}

#[test]
fn without_delay_accounting_only_the_cpu_is_known() {
    let facts = Facts { task_delayacct: Some(false), ..fit() };
    let expected: Vec<_> =
        DelayKind::ALL.map(|kind| (kind.word(), if kind == DelayKind::Cpu { "taskstats" } else { "not_supported" })).to_vec();
    assert_eq!(delays(&facts, Method::Auto), expected);
}

#[test]
fn the_configuration_may_switch_it_on_where_that_is_allowed() {
    fn check(writable: bool, configured: TaskDelayacct, found: Option<bool>, expected: bool) {
        let facts = Facts { task_delayacct: found, task_delayacct_writable: writable, ..fit() };
        let plan = plan(&facts, &Sources { task_delayacct: configured, ..sources(Method::Auto) });
        assert_eq!(plan.switch_delayacct_on, expected);
        let known = expected || found != Some(false);
        assert_eq!(plan.delay(DelayKind::BlockIo).is_ok(), known);
    }
    check(true, TaskDelayacct::On, Some(false), true);
    check(false, TaskDelayacct::On, Some(false), false);
    check(true, TaskDelayacct::Leave, Some(false), false);
    check(true, TaskDelayacct::On, Some(true), false);
    check(true, TaskDelayacct::On, None, false);
    let rootless = Facts { task_delayacct: Some(false), capabilities: Capabilities(0), ..fit() };
    assert!(!plan(&rootless, &Sources { task_delayacct: TaskDelayacct::On, ..sources(Method::Auto) }).switch_delayacct_on);
}

#[test]
fn what_stands_in_the_way_of_switching_it_on_or_of_programs_has_its_own_cure() {
    let cure = |facts: &Facts, id: &str| {
        let sources = Sources { task_delayacct: TaskDelayacct::On, ..sources(Method::Auto) };
        let item = checks(facts, &plan(facts, &sources), &sources).into_iter().find(|item| item.id == id).unwrap();
        // Delay accounting was asked for; the programs are only the best of several sources.
        let expected = if id == "task_delayacct" { CheckStatus::Fail } else { CheckStatus::Warn };
        assert_eq!(item.status, expected, "{item:?}");
        format!("{} | {}", item.detail, item.cure.unwrap())
    };
    let off = Facts { task_delayacct: Some(false), task_delayacct_writable: false, ..fit() };
    assert!(cure(&off, "task_delayacct").contains("read-only"), "with the capability it is the mount");
    let without = Facts { capabilities: Capabilities(0), ..off };
    let text = cure(&without, "task_delayacct");
    assert!(text.contains("CAP_SYS_ADMIN") && !text.contains("read-only"), "{text}");
    let inside = Facts { bpf: Err(Absence::NoPermission), namespaces: Namespaces { user: Some(false), ..fit().namespaces }, ..fit() };
    let text = cure(&inside, "bpf");
    assert!(text.contains("initial user namespace") && !text.contains("setcap"), "{text}");
    assert!(cure(&Facts { bpf: Err(Absence::NoPermission), ..fit() }, "bpf").contains("setcap"));
}

#[test]
fn each_struct_version_knows_its_delays() {
    fn check(version: u16, known: usize) {
        let facts = Facts { taskstats: Ok(TaskstatsFacts { version, len: 0, counting: true }), ..fit() };
        assert_eq!(plan(&facts, &sources(Method::Auto)).delays.iter().filter(|delay| delay.is_ok()).count(), known, "{version}");
    }
    check(8, 4);
    check(9, 5);
    check(10, 5);
    check(11, 6);
    check(13, 7);
    check(14, 8);
    check(15, 8);
    check(17, 8);
}

#[test]
fn irq_delay_is_known_only_where_the_kernel_accounts_it() {
    for (irq_time, expected) in [(Some(true), true), (Some(false), false), (None, false)] {
        let got = plan(&Facts { irq_time, ..fit() }, &sources(Method::Auto));
        assert_eq!(got.delay(DelayKind::Irq).is_ok(), expected);
    }
}

#[test]
fn below_taskstats_stands_schedstat_and_below_it_cgroups() {
    fn check(taskstats: Result<TaskstatsFacts, Absence>, schedstat: Result<(), Absence>, cpu: &str, run: &str) {
        let got = plan(&Facts { taskstats, schedstat, ..fit() }, &sources(Method::Auto));
        assert_eq!(got.delay(DelayKind::Cpu).map_or_else(Absence::word, Evidence::word), cpu);
        assert_eq!(got.run_time.map_or_else(Absence::word, Evidence::word), run);
    }
    check(Err(Absence::NoPermission), Ok(()), "schedstat", "schedstat");
    check(Err(Absence::NoPermission), Err(Absence::NotSupported), "no_permission", "cgroup");
    check(Ok(TaskstatsFacts { version: 8, len: 328, counting: false }), Ok(()), "schedstat", "schedstat");
    let nothing = plan(&Facts::nothing(), &sources(Method::Auto));
    assert_eq!((nothing.best(), nothing.run_time), (None, Err(Absence::Absent)));
}

#[test]
fn a_method_starts_the_ladder_at_its_rung() {
    fn check(method: Method, bpf: Absence, cpu: &str) {
        assert_eq!(plan(&fit(), &sources(method)).source(SourceName::Bpf), Err(bpf), "{method:?}");
        assert_eq!(delays(&fit(), method)[0].1, cpu, "{method:?}");
    }
    check(Method::Auto, Absence::NotSupported, "taskstats");
    check(Method::Bpf, Absence::NotSupported, "taskstats");
    check(Method::Taskstats, Absence::Disabled, "taskstats");
    check(Method::Schedstat, Absence::Disabled, "schedstat");
    assert_eq!(delays(&fit(), Method::Schedstat)[1].1, "disabled");
}

#[test]
fn an_explicit_method_that_is_missing_is_told_and_not_fatal() {
    fn check(facts: &Facts, method: Method, missing: Option<Absence>, fails: &[&str]) {
        let sources = sources(method);
        let plan = plan(facts, &sources);
        assert_eq!(plan.method_missing, missing.map(|absence| (method, absence)), "{method:?}");
        assert!(plan.delay(DelayKind::Cpu).is_ok(), "{method:?}");
        let items = checks(facts, &plan, &sources);
        let failed: Vec<_> = items.iter().filter(|item| item.status == CheckStatus::Fail).map(|item| item.id).collect();
        assert_eq!(failed, fails, "{method:?}");
    }
    check(&fit(), Method::Bpf, Some(Absence::NotSupported), &["bpf"]);
    check(&Facts { taskstats: Err(Absence::NoPermission), ..fit() }, Method::Taskstats, Some(Absence::NoPermission), &["taskstats"]);
    check(&Facts { taskstats: Err(Absence::NoPermission), ..fit() }, Method::Auto, None, &[]);
    check(&Facts { schedstat: Err(Absence::NotSupported), ..fit() }, Method::Taskstats, None, &[]);
    check(&fit(), Method::Schedstat, None, &[]);
}

fn statuses(facts: &Facts, method: Method) -> Vec<(&'static str, &'static str)> {
    let sources = sources(method);
    checks(facts, &plan(facts, &sources), &sources).into_iter().map(|item| (item.id, item.status.word())).collect()
}

#[test]
fn on_a_fit_host_nothing_is_lost() {
    assert!(statuses(&Facts { bpf: Ok(()), ..fit() }, Method::Auto).iter().all(|(_, status)| *status == "pass"));
    let warned: Vec<_> = statuses(&fit(), Method::Auto).into_iter().filter(|(_, status)| *status != "pass").collect();
    assert_eq!(warned, [("bpf", "warn")]);
    let ids: Vec<_> = statuses(&fit(), Method::Auto).into_iter().map(|(id, _)| id).collect();
    assert_eq!(
        ids,
        ["procfs", "bpf", "taskstats", "taskstats_exits", "task_delayacct", "schedstat", "cgroup", "psi", "proc_schedstat", "capabilities"]
    );
    assert!(statuses(&fit(), Method::Taskstats).iter().all(|(_, status)| *status == "pass"));
}

#[test]
fn what_the_programs_cannot_tell_here_is_told_with_what_they_take() {
    let loaded = BpfFacts { map_bytes: 10 << 20, raw: false, throttled_lost: None, memory: true, waiting: true };
    let check = |loaded: BpfFacts| {
        let facts = Facts { bpf: Ok(()), bpf_loaded: Some(loaded), ..fit() };
        let sources = sources(Method::Auto);
        checks(&facts, &plan(&facts, &sources), &sources).into_iter().find(|item| item.id == "bpf").unwrap()
    };
    let whole = check(loaded);
    assert!(whole.status == CheckStatus::Pass && whole.detail.contains("10.0 MiB") && whole.detail.contains("CAP_PERFMON"), "{whole:?}");
    assert!(check(BpfFacts { raw: true, ..loaded }).detail.contains("older kernels"));
    let poor = check(BpfFacts { throttled_lost: Some("the throttled part"), memory: false, waiting: false, ..loaded });
    assert_eq!(poor.status, CheckStatus::Warn);
    assert_eq!(
        poor.lost.as_deref(),
        Some("the throttled part; reclaim and compaction as single events; waits still in progress when a span ends")
    );
}

#[test]
fn each_loss_has_its_item() {
    fn check(facts: Facts, id: &str, status: &str, cure: &str) {
        let sources = sources(Method::Taskstats);
        let items = checks(&facts, &plan(&facts, &sources), &sources);
        let item = items.iter().find(|item| item.id == id).unwrap();
        assert_eq!(item.status.word(), status, "{id}");
        assert!(item.cure.as_deref().is_some_and(|text| text.contains(cure)), "{id}: {:?}", item.cure);
    }
    let inside = |namespaces| Facts { namespaces, ..fit() };
    check(Facts { task_delayacct: Some(false), ..fit() }, "task_delayacct", "warn", "sysctl -w kernel.task_delayacct=1");
    let asked = Sources { task_delayacct: TaskDelayacct::On, ..sources(Method::Auto) };
    for (writable, status) in [(false, CheckStatus::Fail), (true, CheckStatus::Pass)] {
        let facts = Facts { task_delayacct: Some(false), task_delayacct_writable: writable, ..fit() };
        let items = checks(&facts, &plan(&facts, &asked), &asked);
        let found = items.iter().find(|item| item.id == "task_delayacct").map(|item| item.status);
        assert_eq!(found, Some(status), "the configuration asks for it; writable: {writable}");
    }
    check(
        Facts { exits: Err(Absence::NotSupported), namespaces: Namespaces { net: Some(false), ..fit().namespaces }, ..fit() },
        "taskstats_exits",
        "warn",
        "hostNetwork",
    );
    check(Facts { exits: Err(Absence::Timeout), ..fit() }, "taskstats_exits", "warn", "start the agent again");
    check(Facts { psi_node: Err(Absence::NotSupported), ..fit() }, "psi", "warn", "psi=1");
    check(Facts { psi_cgroup: Err(Absence::NotSupported), ..fit() }, "psi", "warn", "cgroupfs.root");
    check(Facts { proc_schedstat: Err(Absence::NotSupported), ..fit() }, "proc_schedstat", "warn", "CONFIG_SCHEDSTATS");
    check(Facts { schedstat: Err(Absence::NotSupported), ..fit() }, "schedstat", "warn", "CONFIG_SCHED_INFO");
    check(Facts { taskstats: Err(Absence::NoPermission), ..fit() }, "taskstats", "fail", "setcap cap_net_admin");
    check(
        Facts { taskstats: Err(Absence::NoPermission), namespaces: Namespaces { user: Some(false), ..fit().namespaces }, ..fit() },
        "taskstats",
        "fail",
        "hostUsers",
    );
    check(
        Facts { taskstats: Err(Absence::NotSupported), namespaces: Namespaces { net: Some(false), ..fit().namespaces }, ..fit() },
        "taskstats",
        "fail",
        "hostNetwork",
    );
    check(inside(Namespaces { pid: Some(false), ..fit().namespaces }), "procfs", "warn", "hostPID");
    check(Facts { procfs: Err(Absence::NoPermission), ..fit() }, "procfs", "fail", "hidepid=0");
    check(Facts { procfs: Err(Absence::Absent), ..fit() }, "procfs", "fail", "sources.procfs.root");
    check(Facts { cgroups: CgroupFacts::default(), ..fit() }, "cgroup", "warn", "sources.cgroupfs.root");
    check(Facts { cgroups: CgroupFacts { relative_paths: true, ..fit().cgroups }, ..fit() }, "cgroup", "warn", "cgroupns=host");
    check(
        Facts { taskstats: Err(Absence::NoPermission), capabilities: Capabilities(0), ..fit() },
        "capabilities",
        "warn",
        "setcap cap_net_admin",
    );
}

#[test]
fn where_no_rung_is_left_it_fails() {
    let failed: Vec<_> =
        statuses(&Facts::nothing(), Method::Auto).into_iter().filter(|(_, status)| *status == "fail").map(|(id, _)| id).collect();
    assert_eq!(failed, ["procfs", "taskstats", "schedstat", "cgroup"]);
}

fn absence() -> impl Strategy<Value = Absence> {
    proptest::sample::select(vec![Absence::NoPermission, Absence::NotSupported, Absence::Absent, Absence::Garbage, Absence::Timeout])
}

fn any_state() -> impl Strategy<Value = Result<(), Absence>> {
    prop_oneof![Just(Ok(())), absence().prop_map(Err)]
}

prop_compose! {
    fn any_facts()(
        states in proptest::collection::vec(any_state(), 5),
        version in 0u16..20,
        counting in any::<bool>(),
        switch in any::<Option<bool>>(),
        layout in proptest::sample::select(vec![CgroupLayout::Missing, CgroupLayout::V1, CgroupLayout::V2, CgroupLayout::Hybrid]),
        capabilities in any::<u64>(),
        namespace in any::<Option<bool>>(),
    ) -> Facts {
        Facts {
            taskstats: states[0].map(|()| TaskstatsFacts { version, len: 560, counting }),
            schedstat: states[1],
            psi_node: states[2],
            psi_cgroup: states[3],
            procfs: states[4],
            task_delayacct: switch,
            irq_time: namespace,
            cgroups: CgroupFacts { layout, v1: Vec::new(), v2: vec!["cpu".to_owned()], relative_paths: counting },
            capabilities: Capabilities(capabilities),
            namespaces: Namespaces { pid: namespace, net: switch, user: namespace, cgroup: switch },
            ..fit()
        }
    }
}

proptest! {
    #[test]
    fn what_is_lost_has_a_cure_and_what_is_not_has_none(
        facts in any_facts(),
        method in proptest::sample::select(vec![Method::Auto, Method::Bpf, Method::Taskstats, Method::Schedstat]),
    ) {
        let sources = sources(method);
        let plan = plan(&facts, &sources);
        for item in checks(&facts, &plan, &sources) {
            let lossless = item.status == CheckStatus::Pass;
            prop_assert_eq!(item.lost.is_none(), lossless);
            prop_assert_eq!(item.cure.is_none(), lossless);
            prop_assert!(!item.detail.is_empty());
        }
        // No field comes from a source that is off.
        for field in plan.delays.iter().chain([&plan.run_time]).filter_map(|field| field.ok()) {
            let name = match field {
                Evidence::Bpf => SourceName::Bpf,
                Evidence::Taskstats => SourceName::Taskstats,
                Evidence::Schedstat => SourceName::Schedstat,
                Evidence::Cgroup => SourceName::Cgroup,
            };
            prop_assert!(plan.uses(name));
        }
        if matches!(method, Method::Taskstats | Method::Schedstat) {
            prop_assert_eq!(plan.source(SourceName::Bpf), Err(Absence::Disabled));
        }
    }
}
