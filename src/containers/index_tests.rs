use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::containers::fixture::{Node, SECOND, hex, home, in_pod, init, pod_path, process, runtime, sandbox};
use crate::containers::processes::{MAX_DEAD_PROCESSES, MAX_PROCESSES};
use crate::containers::{MAX_CONTAINERS, MAX_TOMBSTONES, RuntimeTask};
use crate::model::Wall;

fn facts(node: &Node, key: ContainerKey) -> (String, Option<&'static str>, Option<String>) {
    let container = node.index.container(key).unwrap();
    (container.id.clone(), container.runtime, container.pod.as_ref().map(|pod| pod.uid.clone()))
}

#[test]
fn a_container_without_a_runtime_is_known_by_its_path() {
    let uid = "3f0b7a52-9c1d-4e8a-b6f4-2d5e8c7a9b10";
    let id = hex("ab");
    for (path, expected_id, expected_runtime, expected_uid) in [
        (format!("/docker/{id}"), id.as_str(), Some("docker"), None),
        (format!("/system.slice/docker-{id}.scope"), &id, Some("docker"), None),
        (format!("/machine.slice/libpod-{id}.scope/container"), &id, Some("podman"), None),
        (format!("/system.slice/nerdctl-{id}.scope"), &id, Some("containerd"), None),
        (pod_path(uid, &format!("crio-{id}")), &id, Some("cri-o"), Some(uid)),
        (pod_path(uid, &id), &id, None, Some(uid)),
        ("/system.slice/cron.service".to_owned(), "cron.service", Some("systemd"), None),
    ] {
        let mut node = Node::new();
        let key = node.spawn(100, &path, 1).unwrap();
        assert_eq!(facts(&node, key), (expected_id.to_owned(), expected_runtime, expected_uid.map(str::to_owned)), "{path}");
        assert_eq!(node.spawn(101, &path, 2), Some(key), "{path}");
        assert_eq!(node.index.live().count(), 1, "{path}");
    }
}

#[test]
fn a_host_process_has_no_container() {
    let mut node = Node::new();
    for path in ["/", "/init.scope", "/user.slice/user-0.slice/session-1.scope", "/default/nobody-knows", "/mine"] {
        assert_eq!(node.spawn(100, path, 100), None, "{path}");
    }
    assert_eq!(node.index.counts().live, 0);
}

#[test]
fn the_inner_of_nested_containers_is_meant() {
    let mut node = Node::new();
    let (outer, inner) = (hex("aa"), hex("bb"));
    let outer_path = format!("/docker/{outer}");
    let outer_key = node.start(runtime("moby", &outer, RuntimeTask::Running { pid: 10 }), &outer_path);
    let inner_key = node.spawn(20, &format!("{outer_path}/docker/{inner}"), 1).unwrap();
    assert_ne!(inner_key, outer_key);
    assert_eq!(facts(&node, inner_key).0, inner);
    assert_eq!(node.spawn(11, &format!("{outer_path}/system.slice/kubelet.service"), 9), Some(outer_key));
}

#[test]
fn a_runtime_names_what_a_path_found_without_a_new_key() {
    let mut node = Node::new();
    let id = hex("ab");
    let path = pod_path("u", &id);
    let key = node.spawn(10, &path, 1).unwrap();
    node.index.upsert(in_pod(&id, 10, "u", "web"), Some(init(10, &path)), node.now);
    let container = node.index.container(key).unwrap();
    assert_eq!((container.key, container.display_name().as_str(), container.started), (key, "shop/u-name/web", Some(Wall(10))));
    assert_eq!(node.spawn(11, &path, 2), Some(key));
    assert_eq!(node.index.live().count(), 1);
}

#[test]
fn an_id_of_the_users_choice_is_matched_through_the_first_process() {
    let mut node = Node::new();
    for (number, path, inside) in
        [(1, "/default/victim", true), (2, "/mine/victim.d", true), (3, "/system.slice/containerd.service", false)]
    {
        let id = format!("victim-{number}");
        let path = path.replace("victim", &id);
        node.index.upsert(runtime("default", &id, RuntimeTask::Running { pid: number }), Some(init(number, &path)), node.now);
        let key = node.index.live_life_of(&("default".to_owned(), id.clone())).unwrap();
        for path in [path.clone(), format!("{path}/child")] {
            assert_eq!(node.spawn(number + 10, &path, 1) == Some(key), inside, "{path}");
        }
    }
    node.index.upsert(runtime("default", "early", RuntimeTask::Unknown), None, node.now);
    let early = node.spawn(50, "/default/early/init.scope", 1).unwrap();
    assert_eq!(facts(&node, early).0, "early");
    node.index.upsert(runtime("default", "early", RuntimeTask::Running { pid: 50 }), Some(init(50, "/default/early/init.scope")), node.now);
    assert!(node.index.is_live(early));
    assert_eq!(node.spawn(51, "/default/early", 2), Some(early));
}

#[test]
fn equal_ids_in_two_namespaces_are_two_containers() {
    let mut node = Node::new();
    let id = hex("ab");
    let one = node.start(runtime("default", &id, RuntimeTask::Running { pid: 1 }), &format!("/default/{id}"));
    let two = node.start(runtime("k8s.io", &id, RuntimeTask::Running { pid: 2 }), &format!("/k8s.io/{id}"));
    assert_ne!(one, two);
    assert_eq!(node.spawn(3, &format!("/default/{id}"), 3), Some(one));
    node.index.remove("default", &id, node.now);
    assert!(!node.index.is_live(one) && node.index.is_live(two));
}

#[test]
fn the_dead_stay_known_for_the_retention_time() {
    let mut node = Node::new();
    let id = hex("ab");
    let key = node.start(in_pod(&id, 10, "u", "web"), &pod_path("u", &id));
    node.exit(10);
    node.index.remove("k8s.io", &id, node.now);
    assert!(!node.index.is_live(key));
    node.pass(120);
    assert_eq!(node.index.container(key).unwrap().id, id);
    node.pass(1);
    assert_eq!(node.index.container(key), None);
    assert_eq!(node.index.counts(), Counts::default());
    assert_eq!(node.index.tags.len(), 0, "nothing of it is left");
    assert!(node.index.by_path.is_empty() && node.index.sandbox_ips.is_empty());
}

/// What ends a life.
type Restart = fn(&mut Node, &str);

#[test]
fn the_same_id_started_again_is_a_new_life() {
    let (id, path) = (hex("ab"), format!("/docker/{}", hex("ab")));
    let restarts: [(&str, Restart); 4] = [
        ("its first process went", |node, _| node.exit(10)),
        ("the runtime says stopped", |node, id| {
            node.exit(10);
            node.index.upsert(runtime("moby", id, RuntimeTask::Stopped), None, node.now);
        }),
        ("the runtime deleted it", |node, id| {
            node.exit(10);
            node.index.remove("moby", id, node.now);
        }),
        ("nobody noticed", |_, _| {}),
    ];
    for (how, restart) in restarts {
        let mut node = Node::new();
        let first = node.start(runtime("moby", &id, RuntimeTask::Running { pid: 10 }), &path);
        restart(&mut node, &id);
        let second = node.start(runtime("moby", &id, RuntimeTask::Running { pid: 20 }), &path);
        assert_ne!(first, second, "{how}");
        assert!(!node.index.is_live(first) && node.index.is_live(second), "{how}");
        assert_eq!(node.index.container(second).unwrap().runtime, Some("docker"), "{how}");
    }
}

#[test]
fn a_restart_while_the_runtime_is_away_is_a_new_life_with_the_known_names() {
    let mut node = Node::new();
    let id = hex("ab");
    let path = pod_path("u", &id);
    let first = node.start(in_pod(&id, 10, "u", "web"), &path);
    node.exit(10);
    let second = node.spawn(20, &path, 1).unwrap();
    assert_ne!(first, second);
    assert_eq!(node.index.container(second).unwrap().display_name(), "shop/u-name/web");
    // Back again, the runtime confirms it.
    node.index.reconcile(vec![(in_pod(&id, 20, "u", "web"), Some(init(20, &path)))], node.now);
    assert!(node.index.is_live(second));
    assert_eq!(node.index.live().count(), 1);
}

#[test]
fn old_news_does_not_bring_back_the_dead() {
    let mut node = Node::new();
    let id = hex("ab");
    let path = pod_path("u", &id);
    let key = node.start(in_pod(&id, 10, "u", "web"), &path);
    node.exit(10);
    for init in [None, Some(init(10, &path))] {
        node.index.reconcile(vec![(in_pod(&id, 10, "u", "web"), init)], node.now);
        assert_eq!((node.index.is_live(key), node.index.live().count()), (false, 0));
    }
}

#[test]
fn a_runtime_that_forgot_a_container_for_a_while_finds_the_same_life() {
    let mut node = Node::new();
    let id = hex("ab");
    let path = pod_path("u", &id);
    let key = node.start(in_pod(&id, 10, "u", "web"), &path);
    node.index.reconcile(Vec::new(), node.now);
    assert!(!node.index.is_live(key));
    assert_eq!(node.spawn(11, &path, 2), Some(key), "its processes are still there");
    node.index.reconcile(vec![(in_pod(&id, 10, "u", "web"), Some(init(10, &path)))], node.now);
    assert!(node.index.is_live(key));
}

#[test]
fn what_a_list_does_not_tell_of_tasks_changes_nothing() {
    let mut node = Node::new();
    let id = hex("ab");
    let key = node.start(in_pod(&id, 10, "u", "web"), &pod_path("u", &id));
    let mut untold = in_pod(&id, 0, "u", "renamed");
    untold.task = RuntimeTask::Unknown;
    node.index.reconcile(vec![(untold, None)], node.now);
    assert!(node.index.is_live(key));
    assert_eq!(node.index.container(key).unwrap().k8s_container_name.as_deref(), Some("renamed"));
}

#[test]
fn a_pid_that_another_container_took_is_not_believed() {
    let mut node = Node::new();
    let (one, other) = (hex("aa"), hex("bb"));
    node.start(in_pod(&other, 10, "u", "other"), &pod_path("u", &other));
    node.index.upsert(in_pod(&one, 10, "u", "one"), Some(init(10, &pod_path("u", &other))), node.now);
    assert_eq!(node.spawn(11, &pod_path("u", &other), 2).map(|key| facts(&node, key).0), Some(other));
}

#[test]
fn the_pod_address_comes_from_the_sandbox_whenever_it_is_told() {
    let ip = |node: &Node, key| node.index.container(key).unwrap().pod.as_ref().unwrap().ip.clone();
    let (pause, web) = (hex("aa"), hex("bb"));
    let mut node = Node::new();
    let key = node.start(in_pod(&web, 10, "u", "web"), &pod_path("u", &web));
    assert_eq!(ip(&node, key), None);
    node.start(sandbox(&pause, 9, "u", &["10.0.0.7", "fd00::7"]), &pod_path("u", &pause));
    assert_eq!(ip(&node, key).as_deref(), Some("10.0.0.7"));
    node.index.upsert(sandbox(&hex("ac"), 8, "v", &["10.0.0.9"]), None, node.now);
    node.index.upsert(sandbox(&hex("ac"), 8, "w", &["10.0.0.9"]), None, node.now);
    assert_eq!(node.index.sandbox_ips.len(), 2, "a sandbox has one pod");
    node.exit(10);
    node.exit(9);
    node.index.reconcile(Vec::new(), node.now);
    assert_eq!(ip(&node, key).as_deref(), Some("10.0.0.7"), "the dead keep what they had");
}

#[test]
fn a_unit_lives_as_long_as_its_processes() {
    let mut node = Node::new();
    let first = node.spawn(10, "/system.slice/cron.service", 10).unwrap();
    node.exit(10);
    assert!(!node.index.is_live(first));
    let second = node.spawn(11, "/system.slice/cron.service/sub", 11).unwrap();
    assert_ne!(first, second);
    let of_user = node.spawn(12, "/user.slice/user-1000.slice/user@1000.service/app.slice/cron.service", 12).unwrap();
    assert_ne!(second, of_user, "the path decides between units of the same name");
}

#[test]
fn a_placed_path_whose_process_never_came_is_swept() {
    let mut node = Node::new();
    let key = node.index.place(&home("/system.slice/cron.service"), node.now).unwrap();
    node.pass(0);
    assert!(node.index.is_live(key), "it may still come in this scan");
    node.pass(1);
    assert!(!node.index.is_live(key));
}

#[test]
fn a_pod_may_run_on_the_most_that_one_of_its_containers_may() {
    let mut node = Node::new();
    let [one, two] = ["aa", "bb"].map(|start| node.start(in_pod(&hex(start), 10, "u", start), &pod_path("u", &hex(start))));
    let of = |node: &Node, claims: &[(&str, &str)]| {
        let claims: Vec<_> = claims.iter().map(|(name, value)| (*name, crate::containers::fixture::text(value))).collect();
        node.index.allowed_cpus(&node.find(&claims).unwrap())
    };
    let (pod, container) = (("k8s.pod.uid", "u"), ("k8s.container.name", "bb"));
    assert_eq!(of(&node, &[pod]), None);
    node.index.note_cpus(one, Some(4));
    assert_eq!(of(&node, &[pod]), None, "one of them may run on more");
    node.index.note_cpus(two, Some(2));
    assert_eq!((of(&node, &[pod]), of(&node, &[pod, container])), (Some(4), Some(2)));
    node.index.note_cpus(two, None);
    assert_eq!(of(&node, &[pod, container]), None);
}

#[test]
fn the_epoch_moves_whenever_a_placement_could() {
    let mut node = Node::new();
    let mut last = node.index.placement_epoch();
    let mut moved = |node: &Node| {
        let before = std::mem::replace(&mut last, node.index.placement_epoch());
        before != last
    };
    node.spawn(10, "/default/victim", 1);
    assert!(!moved(&node));
    node.index.upsert(runtime("default", "victim", RuntimeTask::Running { pid: 10 }), Some(init(10, "/default/victim")), node.now);
    assert!(moved(&node), "a runtime named it");
    let key = node.spawn(10, "/default/victim", 1).unwrap();
    node.index.upsert(runtime("default", "victim", RuntimeTask::Running { pid: 10 }), Some(init(10, "/default/victim")), node.now);
    assert!(!moved(&node), "nothing new");
    node.exit(10);
    assert!(moved(&node) && !node.index.is_live(key), "it died");
}

#[test]
fn bounds_hold_under_a_flood() {
    let mut node = Node::new();
    for number in 0..u32::try_from(MAX_CONTAINERS + 50).unwrap() {
        node.spawn(number, &format!("/docker/{}", hex(&format!("{number:08x}f"))), 1);
        node.index.upsert(runtime("default", &format!("c{number}"), RuntimeTask::Unknown), None, node.now);
    }
    assert_eq!(node.index.counts().live, MAX_CONTAINERS);
    assert_eq!(node.index.records.len(), MAX_CONTAINERS);
    assert!(node.index.counts().refused >= 100);
    for number in 0..u32::try_from(MAX_CONTAINERS).unwrap() {
        node.exit(number);
    }
    assert_eq!((node.index.counts().live, node.index.counts().dead), (0, MAX_TOMBSTONES));
    assert!(node.index.lives.len() <= MAX_TOMBSTONES && node.index.tags.len() <= MAX_TOMBSTONES);
}

/// Something that happens on a node.
#[derive(Clone, Debug)]
enum Act {
    Spawn { pid: u32, path: u8 },
    Exit { pid: u32 },
    Upsert { id: u8, pid: Option<u32>, readable: bool },
    Remove { id: u8 },
    Reconcile { ids: Vec<u8> },
    Pass { seconds: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    let pid = 1..12_u32;
    prop_oneof![
        (pid.clone(), 0..8_u8).prop_map(|(pid, path)| Act::Spawn { pid, path }),
        pid.clone().prop_map(|pid| Act::Exit { pid }),
        (0..6_u8, prop::option::of(pid), any::<bool>()).prop_map(|(id, pid, readable)| Act::Upsert { id, pid, readable }),
        (0..6_u8).prop_map(|id| Act::Remove { id }),
        prop::collection::vec(0..6_u8, 0..4).prop_map(|ids| Act::Reconcile { ids }),
        (0..100_u64).prop_map(|seconds| Act::Pass { seconds }),
    ]
}

fn path_of(number: u8) -> String {
    match number {
        0..3 => pod_path("u", &hex(&format!("a{number}"))),
        3..6 => format!("/k8s.io/c{number}"),
        _ => format!("/system.slice/s{number}.service"),
    }
}

fn container_of(id: u8, pid: Option<u32>) -> RuntimeContainer {
    let name = if id < 3 { hex(&format!("a{id}")) } else { format!("c{id}") };
    let task = pid.map_or(RuntimeTask::Stopped, |pid| RuntimeTask::Running { pid });
    match id {
        5 => RuntimeContainer { task, ..sandbox(&name, 0, "u", &["10.0.0.7"]) },
        _ => RuntimeContainer { task, ..in_pod(&name, 0, "u", &format!("n{id}")) },
    }
}

fn apply(node: &mut Node, act: &Act) {
    match act {
        Act::Spawn { pid, path } => drop(node.spawn(*pid, &path_of(*path), *pid % 3 + 1)),
        Act::Exit { pid } => node.exit(*pid),
        Act::Upsert { id, pid, readable } => {
            let init = pid.filter(|_| *readable).map(|pid| init(pid, &path_of(*id)));
            node.index.upsert(container_of(*id, *pid), init, node.now);
        }
        Act::Remove { id } => node.index.remove("k8s.io", &container_of(*id, None).id, node.now),
        Act::Reconcile { ids } => {
            let list = ids.iter().map(|id| (container_of(*id, Some(u32::from(*id) + 1)), None)).collect();
            node.index.reconcile(list, node.now);
        }
        Act::Pass { seconds } => node.pass(*seconds),
    }
}

fn all_is_swept_after(acts: &[Act]) -> Result<(), TestCaseError> {
    let mut node = Node::new();
    for act in acts {
        apply(&mut node, act);
    }
    for pid in 0..12 {
        node.exit(pid);
    }
    node.index.reconcile(Vec::new(), node.now);
    node.pass(121);
    node.pass(121);
    prop_assert_eq!(Counts { refused: 0, ..node.index.counts() }, Counts::default());
    prop_assert_eq!((node.index.tags.len(), node.index.by_path.len(), node.index.sandbox_ips.len(), node.index.dead.len()), (0, 0, 0, 0));
    prop_assert!(node.index.lives.is_empty() && node.index.records.is_empty());
    Ok(())
}

#[test]
fn a_container_forgotten_by_its_runtime_and_found_by_path_is_one_when_the_runtime_remembers() {
    let told = Act::Upsert { id: 1, pid: Some(11), readable: true };
    let lives = Act::Spawn { pid: 1, path: 1 };
    let acts = [told.clone(), Act::Reconcile { ids: Vec::new() }, lives.clone(), told, lives];
    let mut node = Node::new();
    for act in &acts {
        apply(&mut node, act);
    }
    assert_eq!(node.index.live().count(), 1);
    all_is_swept_after(&acts).unwrap();
}

#[test]
fn equal_ids_whose_path_does_not_say_which_are_told_by_their_first_process_or_not_at_all() {
    let mut node = Node::new();
    let id = hex("ab");
    let one = node.start(runtime("default", &id, RuntimeTask::Running { pid: 1 }), &format!("/mine/{id}"));
    let two = node.start(runtime("other", &id, RuntimeTask::Running { pid: 2 }), &format!("/yours/{id}"));
    assert_ne!(one, two);
    for (path, expected) in [("mine", Some(one)), ("yours", Some(two)), ("theirs", None), ("theirs", None)] {
        assert_eq!(node.spawn(9, &format!("/{path}/{id}"), 9), expected, "{path}");
    }
    assert_eq!(node.index.live().count(), 2);
}

proptest! {
    #[test]
    fn keys_are_never_used_again_and_never_mean_another_container(acts in prop::collection::vec(act(), 1..80)) {
        let mut node = Node::new();
        let mut ids = std::collections::BTreeMap::new();
        let mut ended = BTreeSet::new();
        for act in &acts {
            apply(&mut node, act);
            let forgotten: Vec<_> = ids.keys().copied().filter(|key| node.index.container(*key).is_none()).collect();
            ended.extend(forgotten);
            for (key, life) in &node.index.lives {
                prop_assert!(!ended.contains(key), "{key:?} came back");
                let id = ids.entry(*key).or_insert_with(|| life.container.id.clone());
                prop_assert_eq!(&*id, &life.container.id);
                prop_assert_eq!(*key, life.container.key);
            }
        }
    }

    #[test]
    fn everything_is_swept_in_the_end(acts in prop::collection::vec(act(), 1..80)) {
        all_is_swept_after(&acts)?;
    }

    #[test]
    fn every_table_stays_consistent(acts in prop::collection::vec(act(), 1..80)) {
        let mut node = Node::new();
        for act in &acts {
            apply(&mut node, act);
            let dead = node.index.lives.values().filter(|life| life.died.is_some()).count();
            prop_assert_eq!(dead, node.index.dead.len());
            for record in node.index.records.keys() {
                let living = node.index.lives_of_id(&record.1).filter(|(_, life)| life.died.is_none() && life.record.as_ref() == Some(record));
                prop_assert!(living.count() <= 1, "two lives of {record:?}");
            }
            let counts = node.index.counts();
            prop_assert!(counts.live <= MAX_CONTAINERS && counts.dead <= MAX_TOMBSTONES && counts.processes <= MAX_PROCESSES + MAX_DEAD_PROCESSES);
        }
        prop_assert!(node.now.0 >= SECOND && node.index.process_by_pid(99).is_none());
        prop_assert_eq!(node.index.container_of(process(99)), None);
    }
}
