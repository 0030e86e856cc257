//! Trees of `/proc` and cgroups, one for each kind of node (`tests/fixtures/<kind>`), made by hand from the documented
//! layouts, read by the same rooms as a real host. `expected.json` beside each says what must be found, and what must not:
//! a reading that stands in neither is a failure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test: it reads files, and a panic is how it fails"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use stallspan::containers::{Home, Index};
use stallspan::host::Host;
use stallspan::model::{CgroupLayout, CgroupStat, Facts, Mono, NodeSnapshot};
use stallspan::parse::cgroup::identity::{IdentityKind, identify_all};

/// A tree and what is expected of it.
struct Fixture {
    name: String,
    host: Host,
    expected: Value,
}

fn fixtures() -> Vec<Fixture> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<PathBuf> = all.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    found.sort();
    assert!(found.len() >= 12, "{} trees", found.len());
    let open = |path: &PathBuf| Fixture {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        host: Host::open(&path.join("proc"), &path.join("sys/fs/cgroup")).unwrap(),
        expected: serde_json::from_str(&std::fs::read_to_string(path.join("expected.json")).unwrap()).unwrap(),
    };
    found.iter().map(open).collect()
}

fn pids(host: &Host) -> Vec<u32> {
    let mut pids = Vec::new();
    host.pids(&mut pids).unwrap();
    pids
}

/// What the path of a process says, as `expected.json` has it.
fn identity(host: &Host, pid: u32) -> Value {
    let Some(found) = identify_all(&host.memberships(pid).unwrap()) else { return Value::Null };
    let kind = match found.kind {
        IdentityKind::Unit => "unit",
        IdentityKind::Candidate => "candidate",
        IdentityKind::Container => "container",
    };
    json!({ "kind": kind, "id": found.id, "runtime": found.runtime, "pod": found.pod_uid, "outer": found.outer_id })
}

#[test]
fn every_process_is_known_by_its_paths() {
    for Fixture { name, host, expected } in fixtures() {
        let found: Map<String, Value> = pids(&host).into_iter().map(|pid| (pid.to_string(), identity(&host, pid))).collect();
        assert_eq!(Value::Object(found), expected["processes"], "{name}");
    }
}

/// The index makes containers of what the paths say, and puts every process of one into the same.
#[test]
fn every_process_is_placed_in_its_container() {
    for Fixture { name, host, expected } in fixtures() {
        let mut index = Index::new(Duration::from_secs(120));
        for pid in pids(&host) {
            let home = Home::of(&host.memberships(pid).unwrap());
            let key = index.place(&home, Mono(1));
            let process = host.attach(pid).unwrap();
            index.process_seen(process.key(), key, &host.namespace_pids(pid).unwrap_or_default());
            let told = &expected["processes"][pid.to_string()];
            let container = key.and_then(|key| index.container(key));
            // `/<namespace>/<name>` is a container only where a runtime says so.
            let id = if told["kind"] == "candidate" { &Value::Null } else { &told["id"] };
            assert_eq!(container.map(|container| json!(container.id)).unwrap_or_default(), *id, "{name} {pid}");
            let pod = container.and_then(|container| container.pod.as_ref()).map(|pod| json!(pod.uid)).unwrap_or_default();
            assert_eq!(pod, told["pod"], "{name} {pid}");
        }
        let ids: std::collections::BTreeSet<_> = index.live().map(|container| container.id.clone()).collect();
        assert_eq!(ids.len(), index.live().count(), "{name}: a container was made twice");
    }
}

#[test]
fn processes_inside_a_container_are_found_by_their_own_pids() {
    for Fixture { name, host, expected } in fixtures() {
        for (pid, told) in expected["processes"].as_object().unwrap().iter().filter(|(_, told)| told["kind"] == "container") {
            let pid: u32 = pid.parse().unwrap();
            let own = host.namespace_pids(pid).unwrap();
            assert!(own.len() >= 2 && own[0] == pid, "{name} {pid}: {own:?} {told}");
            let (run, wait) = (u64::from(pid) * 1000, u64::from(pid) * 100);
            let read = host.attach(pid).unwrap().main_schedstat().unwrap();
            assert_eq!((read.run_ns, read.delay_ns, read.timeslices), (run, wait, u64::from(pid)), "{name}");
        }
    }
}

#[test]
fn every_reading_of_a_container_is_as_expected_and_no_other_is_there() {
    for Fixture { name, host, expected } in fixtures() {
        for (id, readings) in expected["readings"].as_object().unwrap() {
            let is_its = |pid: &u32| expected["processes"][pid.to_string()]["id"] == json!(id);
            let pid = pids(&host).into_iter().find(is_its).unwrap();
            let dirs = host.cgroup_dirs(&host.memberships(pid).unwrap(), id);
            assert_eq!(Value::Object(told(&host.cgroup_stat(&dirs))), *readings, "{name}");
            let mut members = Vec::new();
            host.cgroup_pids(&dirs, &mut members).unwrap();
            let all: Vec<u32> = pids(&host).into_iter().filter(is_its).collect();
            assert_eq!(members, all, "{name}");
        }
    }
}

/// Everything that is known, by name; what is not known is not in it.
fn told(stat: &CgroupStat) -> Map<String, Value> {
    let mut named: BTreeMap<String, Option<u64>> = BTreeMap::new();
    let mut put = |name: &str, value: Option<u64>| named.insert(name.to_owned(), value);
    put("cpu_usage_ns", stat.cpu_usage_ns);
    put("cpu_user_ns", stat.cpu_user_ns);
    put("cpu_system_ns", stat.cpu_system_ns);
    put("periods", stat.periods);
    put("throttled_periods", stat.throttled_periods);
    put("throttled_ns", stat.throttled_ns);
    put("throttled_local_ns", stat.throttled_local_ns);
    put("cpu_burst_ns", stat.cpu_burst_ns);
    put("memory_usage", stat.memory_usage);
    put("memory_working_set", stat.memory_working_set);
    put("faults_minor", stat.faults_minor);
    put("faults_major", stat.faults_major);
    for (event, value) in ["low", "high", "max", "oom", "oom_kill"].iter().zip(stat.memory_events) {
        put(&format!("event_{event}"), value);
    }
    for (kind, value) in ["direct_scanned", "direct_reclaimed", "kswapd_scanned", "kswapd_reclaimed"].iter().zip(stat.reclaim_pages) {
        put(&format!("reclaim_{kind}"), value);
    }
    for (resource, [some, full]) in ["cpu", "memory", "io", "irq"].iter().zip(stat.pressure_ns) {
        put(&format!("pressure_{resource}_some_ns"), some);
        put(&format!("pressure_{resource}_full_ns"), full);
    }
    for (page, value) in ["anon", "file"].iter().zip(stat.refaults) {
        put(&format!("refaults_{page}"), value);
    }
    put("cpus", stat.cpus.map(u64::from));
    let mut known: Map<String, Value> = named.into_iter().filter_map(|(name, value)| Some((name, json!(value?)))).collect();
    assert!(stat.cpu_limit.is_none() || stat.cpu_limit_known);
    known.extend(stat.cpu_weight.map(|weight| ("cpu_weight".to_owned(), json!(weight))));
    known.extend(stat.cpu_limit.map(|limit| ("cpu_limit".to_owned(), json!(limit))));
    known
}

#[test]
fn every_node_is_as_expected() {
    for Fixture { name, host, expected } in fixtures() {
        let node = host.node();
        assert_eq!(of_node(&node), expected["node"], "{name}");
        assert_eq!(node.boot.map(|boot| boot.0), Some(1_700_000_000_000_000_000), "{name}");
        assert_eq!(host.identity().host_name.as_deref(), Some(name.as_str()));
    }
}

fn of_node(node: &NodeSnapshot) -> Value {
    let us = |ns: Option<u64>| ns.map(|ns| ns / 1000);
    json!({
        "cpus": node.cpus.iter().map(|cpu| json!([cpu.cpu, cpu.run_ns, cpu.wait_ns, cpu.timeslices])).collect::<Vec<_>>(),
        "pressure_us": node.pressure_ns.map(|pair| pair.map(us)),
        "reclaim_pages": node.reclaim_pages,
        "allocation_stalls": node.allocation_stalls,
        "compaction_stalls": node.compaction_stalls,
        "swap_pages": node.swap_pages,
        "faults": node.faults,
        "dying": node.cgroups_dying,
    })
}

/// What the ladder decides from. taskstats and capabilities are those of the machine that runs this test.
#[test]
fn every_host_is_probed_as_expected() {
    for Fixture { name, host, expected } in fixtures() {
        let facts = host.probe();
        assert_eq!(of_facts(&facts), probed(&expected), "{name}");
        assert!(facts.procfs.is_ok(), "{name}");
    }
}

fn of_facts(facts: &Facts) -> Value {
    let layout = match facts.cgroups.layout {
        CgroupLayout::Missing => "missing",
        CgroupLayout::V1 => "v1",
        CgroupLayout::V2 => "v2",
        CgroupLayout::Hybrid => "hybrid",
    };
    json!({
        "layout": layout,
        "psi_node": facts.psi_node.is_ok(),
        "psi_cgroup": facts.psi_cgroup.is_ok(),
        "proc_schedstat": facts.proc_schedstat.ok(),
        "task_delayacct": facts.task_delayacct,
    })
}

fn probed(expected: &Value) -> Value {
    let names = ["layout", "psi_node", "psi_cgroup", "proc_schedstat", "task_delayacct"];
    Value::Object(names.iter().map(|name| ((*name).to_owned(), expected[*name].clone())).collect())
}
