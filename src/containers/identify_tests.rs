use proptest::prelude::*;

use super::*;
use crate::containers::fixture::{Node, default_rules, hex, in_pod, init, pod_path, process, rule, runtime, sandbox, text};
use crate::containers::{RuntimeTask, resource_stamps};

const UID: &str = "3f0b7a52-9c1d-4e8a-b6f4-2d5e8c7a9b10";

/// A pod `UID` with a pause container, `web` (host pids 10 and 11) and `proxy` (20), an address, and next to it a Docker
/// container (30), a unit (40) and a plain process (50).
struct Street {
    node: Node,
    web: ContainerKey,
    proxy: ContainerKey,
    docker: ContainerKey,
}

fn street() -> Street {
    let mut node = Node::new();
    let id = |start: &str| hex(start);
    node.start(sandbox(&id("a0"), 9, UID, &["10.0.0.7", "fd00::7"]), &pod_path(UID, &id("a0")));
    let web = node.start(in_pod(&id("a1"), 10, UID, "web"), &pod_path(UID, &id("a1")));
    node.spawn(11, &pod_path(UID, &id("a1")), 7);
    let proxy = node.start(in_pod(&id("a2"), 20, UID, "proxy"), &pod_path(UID, &id("a2")));
    let docker = node.start(runtime("moby", &id("d0"), RuntimeTask::Running { pid: 30 }), &format!("/docker/{}", id("d0")));
    node.spawn(40, "/system.slice/cron.service", 40);
    node.spawn(50, "/user.slice/user-0.slice/session-1.scope", 50);
    Street { node, web, proxy, docker }
}

#[test]
fn by_every_name_that_a_rule_may_have_somebody_is_found() {
    let Street { node, .. } = street();
    let container = node.index.live().find(|container| container.name.as_deref() == Some("web")).unwrap().clone();
    let pod = container.pod.clone().unwrap();
    for name in crate::config::meaning::ASSOCIATION_NAMES {
        let value = match name {
            "container.id" => container.id.as_str(),
            "k8s.pod.uid" => pod.uid.as_str(),
            "k8s.container.name" => "web",
            "k8s.pod.ip" => "10.0.0.7",
            "k8s.pod.name" => pod.name.as_deref().unwrap(),
            "k8s.namespace.name" => pod.namespace.as_deref().unwrap(),
            "process.pid" => "10",
            other => panic!("{other} is said to be known"),
        };
        let claims = Claims { attributes: vec![(name.to_owned(), text(value))], peer: Peer::default() };
        assert!(node.index.identify(&claims, &[rule(&[name])]).is_some(), "{name} = {value}");
    }
}

fn subjects(found: Option<&Match>) -> Option<(Scope, Vec<Subject>)> {
    found.map(|found| (found.scope, found.subjects.clone()))
}

fn of_container(key: ContainerKey) -> Option<(Scope, Vec<Subject>)> {
    Some((Scope::Container, vec![Subject::Container(key)]))
}

fn of_process(pid: u32) -> Option<(Scope, Vec<Subject>)> {
    Some((Scope::Process, vec![Subject::Process(process(pid))]))
}

#[test]
fn a_claim_agrees_with_the_connection_of_the_same_container_or_pod() {
    let Street { node, .. } = street();
    let by_pid = |pid| Peer { pid: Some(pid), ..Peer::default() };
    let by_ip = |ip: &str| Peer { ip: Some(ip.parse().unwrap()), ..Peer::default() };
    let check = |claim: (&str, ClaimValue), peer: Peer, expected: bool| {
        let found = node.find(std::slice::from_ref(&claim)).unwrap();
        assert_eq!(node.index.owner_agrees(&found, peer), expected, "{claim:?} {peer:?}");
    };
    let id = |start: &str| ("container.id", text(&hex(start)));
    check(id("a1"), by_pid(11), true);
    check(id("a1"), by_pid(20), false);
    check(id("a1"), by_pid(50), false);
    check(id("a1"), by_pid(99), false);
    check(id("a1"), by_ip("10.0.0.7"), true);
    check(id("a1"), by_ip("::ffff:10.0.0.7"), true);
    check(id("d0"), by_ip("10.0.0.7"), false);
    check(id("a1"), by_ip("127.0.0.1"), false);
    check(id("a1"), Peer::default(), false);
    check(("k8s.pod.uid", text(UID)), by_pid(20), true);
    check(("k8s.pod.uid", text(UID)), by_pid(30), false);
    check(("process.pid", ClaimValue::Int(50)), by_pid(50), true);
    check(("process.pid", ClaimValue::Int(50)), by_pid(11), false);
    check(("process.pid", ClaimValue::Int(30)), by_pid(30), true);
}

#[test]
fn a_container_is_found_by_its_id_however_it_is_written() {
    let Street { node, web, .. } = street();
    let id = hex("a1");
    for (claim, expected) in [
        (id.clone(), of_container(web)),
        (format!("containerd://{id}"), of_container(web)),
        (format!("docker://{id}"), of_container(web)),
        (format!(" {id}\n"), of_container(web)),
        (id[..12].to_owned(), of_container(web)),
        (id[..11].to_owned(), None),
        (hex("ff"), None),
        (String::new(), None),
    ] {
        assert_eq!(subjects(node.find(&[("container.id", text(&claim))]).as_ref()), expected, "{claim:?}");
    }
    assert_eq!(node.find(&[("container.id", ClaimValue::Int(7))]), None);
}

#[test]
fn a_pod_and_a_container_name_are_that_container() {
    let Street { node, web, proxy, .. } = street();
    for (name, expected) in [("web", of_container(web)), ("proxy", of_container(proxy))] {
        let found = node.find(&[("k8s.container.name", text(name)), ("k8s.pod.uid", text(UID))]);
        assert_eq!(subjects(found.as_ref()), expected, "{name}");
        assert_eq!(found.unwrap().container.unwrap().k8s_container_name.as_deref(), Some(name));
    }
    // A name nobody has: the pod is still known.
    let found = node.find(&[("k8s.container.name", text("other")), ("k8s.pod.uid", text(UID))]);
    assert_eq!(found.unwrap().scope, Scope::Pod);
}

#[test]
fn a_pod_is_all_its_containers_but_the_pause_container() {
    let Street { node, web, proxy, .. } = street();
    let pod = Some((Scope::Pod, vec![Subject::Container(web), Subject::Container(proxy)]));
    let pod_name = format!("{UID}-name");
    for claims in [
        &[("k8s.pod.uid", text(UID))][..],
        &[("k8s.pod.ip", text("10.0.0.7"))],
        &[("k8s.pod.ip", text("fd00:0::7"))],
        &[("k8s.pod.name", text(&pod_name)), ("k8s.namespace.name", text("shop"))],
        // What an SDK takes for its own id is often its pod's pause container's.
        &[("container.id", text(&hex("a0")))],
    ] {
        let found = node.find(claims);
        assert_eq!(subjects(found.as_ref()), pod, "{claims:?}");
        let found = found.unwrap();
        assert!(found.container.is_none() && found.process.is_none());
        assert_eq!(found.pod_of.as_ref().unwrap().pod.as_ref().unwrap().uid, UID);
        let stamped: Vec<_> = resource_stamps(&found).into_iter().map(|(key, _)| key).collect();
        assert_eq!(stamped, ["k8s.pod.uid", "k8s.pod.name", "k8s.namespace.name", "k8s.pod.ip"]);
    }
    for claims in [&[("k8s.pod.name", text(&pod_name))][..], &[("k8s.namespace.name", text("shop"))], &[("k8s.pod.ip", text("10.0.0.8"))]] {
        assert_eq!(node.find(claims), None, "{claims:?}");
    }
}

#[test]
fn the_only_container_of_a_pod_is_named() {
    let mut node = Node::new();
    let key = node.start(in_pod(&hex("a1"), 10, UID, "web"), &pod_path(UID, &hex("a1")));
    let found = node.find(&[("k8s.pod.uid", text(UID))]).unwrap();
    assert_eq!((found.scope, found.container.map(|container| container.key)), (Scope::Pod, Some(key)));
}

#[test]
fn an_own_pid_refines_what_an_earlier_claim_found() {
    let Street { node, web, proxy, docker } = street();
    let id = hex("a1");
    for (claims, expected) in [
        (vec![("container.id", text(&id)), ("process.pid", ClaimValue::Int(7))], of_process(11)),
        (vec![("container.id", text(&id)), ("process.pid", text("7"))], of_process(11)),
        (vec![("process.pid", ClaimValue::Int(1)), ("container.id", text(&hex("d0")))], of_process(30)),
        // Host pids and pids that are not in it: the container stands.
        (vec![("container.id", text(&id)), ("process.pid", ClaimValue::Int(11))], of_container(web)),
        (vec![("container.id", text(&id)), ("process.pid", ClaimValue::Int(99))], of_container(web)),
        (vec![("container.id", text(&hex("d0"))), ("process.pid", ClaimValue::Int(-1))], of_container(docker)),
        (vec![("container.id", text(&hex("d0"))), ("process.pid", text("1x"))], of_container(docker)),
        // Inside a pod 7 is unique, 1 is not.
        (vec![("k8s.pod.uid", text(UID)), ("process.pid", ClaimValue::Int(7))], of_process(11)),
        (
            vec![("k8s.pod.uid", text(UID)), ("process.pid", ClaimValue::Int(1))],
            Some((Scope::Pod, vec![Subject::Container(web), Subject::Container(proxy)])),
        ),
    ] {
        let found = node.find(&claims);
        assert_eq!(subjects(found.as_ref()), expected, "{claims:?}");
    }
    let found = node.find(&[("container.id", text(&id)), ("process.pid", ClaimValue::Int(7))]).unwrap();
    assert_eq!((found.container.unwrap().key, found.process), (web, Some(process(11))));
}

#[test]
fn a_pid_alone_is_a_pid_of_the_host() {
    let Street { node, web, .. } = street();
    for (pid, expected_runtime) in [(11, Some(Some("containerd"))), (40, Some(Some("systemd"))), (50, Some(None)), (60, None)] {
        let found = node.find(&[("process.pid", ClaimValue::Int(pid))]);
        let runtime = found.as_ref().map(|found| found.container.as_ref().and_then(|container| container.runtime));
        assert_eq!(runtime, expected_runtime, "{pid}");
        assert!(found.is_none_or(|found| found.scope == Scope::Process), "{pid}");
    }
    assert_eq!(node.find(&[("process.pid", ClaimValue::Int(11))]).unwrap().container.unwrap().key, web);
}

#[test]
fn a_pid_or_a_connection_does_not_outweigh_what_the_resource_says() {
    let Street { node, .. } = street();
    let pid = ("process.pid", ClaimValue::Int(11));
    let from_pod = Peer { ip: Some("10.0.0.7".parse().unwrap()), ..Peer::default() };
    for foreign in [
        ("container.id", hex("ff")),
        ("k8s.pod.uid", "00000000-9c1d-4e8a-b6f4-2d5e8c7a9b10".to_owned()),
        ("k8s.pod.ip", "10.9.9.9".to_owned()),
        ("k8s.pod.name", "of-another-node".to_owned()),
    ] {
        let claims = [(foreign.0, text(&foreign.1)), pid.clone()];
        assert_eq!(node.find_from(&claims, from_pod), None, "{foreign:?}");
    }
    assert_eq!(node.find_from(&[("k8s.pod.uid", text(UID)), ("container.id", text(&hex("d0")))], from_pod), None, "two different ones");
    assert!(node.find(&[("k8s.namespace.name", text("shop")), pid]).is_some());
}

#[test]
fn a_connection_names_its_pod_or_its_process() {
    let Street { node, web, proxy, .. } = street();
    let pod = Some((Scope::Pod, vec![Subject::Container(web), Subject::Container(proxy)]));
    let ip = |ip: &str| Peer { ip: Some(ip.parse().unwrap()), port: Some(4_000), ..Peer::default() };
    let pid = |pid| Peer { pid: Some(pid), ..Peer::default() };
    for (peer, expected) in [
        (ip("10.0.0.7"), pod.clone()),
        (ip("::ffff:10.0.0.7"), pod),
        (ip("127.0.0.1"), None),
        (pid(11), of_process(11)),
        (pid(50), of_process(50)),
        (pid(60), None),
        (Peer::default(), None),
    ] {
        assert_eq!(subjects(node.find_from(&[], peer).as_ref()), expected, "{peer:?}");
    }
}

#[test]
fn a_pod_of_the_hosts_network_has_no_address() {
    let mut node = Node::new();
    node.start(sandbox(&hex("a0"), 9, UID, &[]), &pod_path(UID, &hex("a0")));
    node.start(in_pod(&hex("a1"), 10, UID, "web"), &pod_path(UID, &hex("a1")));
    for ip in ["", "10.0.0.7", "127.0.0.1"] {
        assert_eq!(node.find(&[("k8s.pod.ip", text(ip))]), None, "{ip}");
    }
}

#[test]
fn of_several_lives_the_living_and_then_the_newest_is_meant() {
    let mut node = Node::new();
    let claims = [("k8s.pod.uid", text(UID)), ("k8s.container.name", text("web"))];
    let first = node.start(in_pod(&hex("a1"), 10, UID, "web"), &pod_path(UID, &hex("a1")));
    node.exit(10);
    assert_eq!(subjects(node.find(&claims).as_ref()), of_container(first), "a late span finds the dead");
    let second = node.start(in_pod(&hex("a2"), 20, UID, "web"), &pod_path(UID, &hex("a2")));
    assert_eq!(subjects(node.find(&claims).as_ref()), of_container(second));
    assert_eq!(node.find(&[("k8s.pod.uid", text(UID))]).unwrap().subjects, vec![Subject::Container(second)]);
    node.exit(20);
    assert_eq!(subjects(node.find(&claims).as_ref()), of_container(second));
    assert_eq!(node.find(&[("k8s.pod.uid", text(UID))]).unwrap().subjects, vec![Subject::Container(second)]);
    assert_eq!(subjects(node.find(&[("container.id", text(&hex("a1")))]).as_ref()), of_container(first), "its own id still names the dead");
    node.pass(121);
    assert_eq!(node.find(&claims), None);
}

#[test]
fn an_address_used_again_means_the_living_pod() {
    let mut node = Node::new();
    let other = "11111111-9c1d-4e8a-b6f4-2d5e8c7a9b10";
    for (pid, uid, start) in [(10, UID, "a"), (20, other, "b")] {
        node.start(sandbox(&hex(&format!("{start}0")), pid, uid, &["10.0.0.7"]), &pod_path(uid, &hex(&format!("{start}0"))));
        node.start(in_pod(&hex(&format!("{start}1")), pid + 1, uid, "web"), &pod_path(uid, &hex(&format!("{start}1"))));
        if uid == UID {
            assert_eq!(node.find(&[("k8s.pod.ip", text("10.0.0.7"))]).unwrap().pod_of.unwrap().pod.as_ref().unwrap().uid, UID);
            node.exit(11);
            node.exit(10);
        }
    }
    assert_eq!(node.find(&[("k8s.pod.ip", text("10.0.0.7"))]).unwrap().pod_of.unwrap().pod.as_ref().unwrap().uid, other);
}

#[test]
fn all_sources_of_a_rule_have_to_agree() {
    let Street { node, web, .. } = street();
    let find = |names: &[&str], attributes: &[(&str, &str)]| {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
        subjects(node.index.identify(&Claims { attributes, peer: Peer::default() }, &[rule(names)]).as_ref())
    };
    let web_id = hex("a1");
    assert_eq!(find(&["container.id", "k8s.pod.uid"], &[("container.id", &web_id), ("k8s.pod.uid", UID)]), of_container(web));
    assert_eq!(find(&["container.id", "k8s.pod.uid"], &[("container.id", &hex("d0")), ("k8s.pod.uid", UID)]), None);
    assert_eq!(find(&["container.id", "k8s.pod.uid"], &[("container.id", &web_id)]), None);
    assert_eq!(find(&["container.id", "process.pid"], &[("container.id", &web_id), ("process.pid", "7")]), of_process(11));
    assert_eq!(find(&["container.id", "process.pid"], &[("container.id", &web_id), ("process.pid", "99")]), None);
    assert_eq!(find(&["container.id"], &[("container.id", &web_id), ("process.pid", "7")]), of_container(web), "no rule names the pid");
    assert_eq!(find(&["process.pid", "container.id"], &[("container.id", &web_id), ("process.pid", "1")]), of_process(10));
    assert_eq!(find(&["k8s.container.name"], &[("k8s.container.name", "web")]), of_container(web));
    assert_eq!(find(&["service.name"], &[("service.name", "web")]), None, "a name that says nothing of containers");
    assert_eq!(node.index.identify(&Claims::default(), &[]), None);
}

/// Claims drawn from what the street knows, and a little beyond.
fn claims() -> impl Strategy<Value = Claims> {
    let ids = prop::sample::select(vec![hex("a0"), hex("a1"), hex("a2"), hex("d0"), hex("ff"), hex("a1")[..12].to_owned()]);
    let uids = prop::sample::select(vec![UID.to_owned(), "11111111-9c1d-4e8a-b6f4-2d5e8c7a9b10".to_owned()]);
    let names = prop::sample::select(vec!["web".to_owned(), "proxy".to_owned(), "other".to_owned()]);
    let ips = prop::sample::select(vec!["10.0.0.7".to_owned(), "10.0.0.8".to_owned()]);
    let pids = prop::sample::select(vec![1_i64, 7, 10, 11, 20, 30, 40, 50, 99]);
    let peers = prop::sample::select(vec![None, Some("10.0.0.7"), Some("127.0.0.1")]);
    (prop::option::of(ids), prop::option::of(uids), prop::option::of(names), prop::option::of(ips), prop::option::of(pids), peers).prop_map(
        |(id, uid, name, ip, pid, peer)| {
            let mut attributes = Vec::new();
            for (key, value) in [("container.id", id), ("k8s.pod.uid", uid), ("k8s.container.name", name), ("k8s.pod.ip", ip)] {
                attributes.extend(value.map(|value| (key.to_owned(), ClaimValue::Text(value))));
            }
            attributes.extend(pid.map(|pid| ("process.pid".to_owned(), ClaimValue::Int(pid))));
            Claims { attributes, peer: Peer { ip: peer.map(|ip| ip.parse().unwrap()), ..Peer::default() } }
        },
    )
}

proptest! {
    #[test]
    fn nobody_is_found_whom_a_claim_contradicts(claims in claims(), order in prop::sample::subsequence(default_rules(), 0..=7).prop_shuffle()) {
        let Street { node, .. } = street();
        let Some(found) = node.index.identify(&claims, &order) else { return Ok(()) };
        let container = found.container.as_ref().or(found.pod_of.as_ref());
        let uid = container.and_then(|container| container.pod.as_ref()).map(|pod| pod.uid.as_str());
        if let Some(ClaimValue::Text(claim)) = claims.get("k8s.pod.uid") {
            prop_assert!(uid.is_none_or(|uid| uid == claim), "{found:?}");
        }
        if let Some(ClaimValue::Text(claim)) = claims.get("container.id") {
            let known = [hex("a0"), hex("a1"), hex("a2"), hex("d0")].into_iter().find(|id| id.starts_with(claim.as_str()));
            let known = known.map(|id| (id == hex("d0"), id));
            match (&found.container, known) {
                (Some(container), Some((_, id))) => {
                    prop_assert!(container.id == id || (id == hex("a0") && uid == Some(UID)), "{found:?}");
                }
                (None, Some((is_docker, _))) => prop_assert!(!is_docker && uid == Some(UID), "{found:?}"),
                // An id of nobody here: only the pod itself may have said who it is.
                (_, None) => prop_assert!(claims.get("k8s.pod.uid").is_some() || claims.get("k8s.pod.ip").is_some(), "{found:?}"),
            }
        }
        if let Some(process) = found.process {
            prop_assert_eq!(found.subjects, vec![Subject::Process(process)]);
            prop_assert_eq!(node.index.container_of(process), found.container.map(|container| container.key));
        }
    }

    #[test]
    fn identity_is_told_alike_whatever_was_placed_before(claims in claims()) {
        let mut one = street();
        let other = street();
        one.node.index.reconcile(
            vec![
                (sandbox(&hex("a0"), 9, UID, &["10.0.0.7", "fd00::7"]), Some(init(9, &pod_path(UID, &hex("a0"))))),
                (in_pod(&hex("a2"), 20, UID, "proxy"), Some(init(20, &pod_path(UID, &hex("a2"))))),
                (in_pod(&hex("a1"), 10, UID, "web"), Some(init(10, &pod_path(UID, &hex("a1"))))),
                (runtime("moby", &hex("d0"), RuntimeTask::Running { pid: 30 }), Some(init(30, &format!("/docker/{}", hex("d0"))))),
            ],
            one.node.now,
        );
        prop_assert_eq!(one.node.index.identify(&claims, &default_rules()), other.node.index.identify(&claims, &default_rules()));
    }
}

#[test]
fn a_tcp_sender_of_this_host_is_its_container_and_a_relay_outside_is_nobody() {
    let Street { node, .. } = street();
    let check = |pid: u32, socket: Option<u64>, claims: &[(&str, ClaimValue)], expected: Option<u32>| {
        let peer = Peer { pid: Some(pid), socket, ip: Some([127, 0, 0, 1].into()), ..Peer::default() };
        let found = node.find_from(claims, peer);
        assert_eq!(found.and_then(|found| found.process).map(|process| process.pid), expected, "{pid} {socket:?} {claims:?}");
    };
    check(11, Some(77), &[], Some(11));
    check(40, Some(77), &[], Some(40));
    check(50, Some(77), &[], None);
    check(50, None, &[], Some(50));
    check(99, Some(77), &[], None);
    let own_pid = |pid| [("process.pid", ClaimValue::Int(pid))];
    check(50, Some(77), &own_pid(50), Some(50));
    let other = [("container.id", text(&hex("ff")))];
    check(11, Some(77), &other, None);
    // What the kernel says of the owner holds for claims too, relay or not.
    let found = node.find(&own_pid(50)).unwrap();
    assert!(node.index.owner_agrees(&found, Peer { pid: Some(50), socket: Some(77), ..Peer::default() }));
    assert!(!node.index.owner_agrees(&found, Peer { pid: Some(11), socket: Some(77), ..Peer::default() }));
}

#[test]
fn a_connection_is_its_own_processs_also_where_the_pid_is_given_again() {
    let Street { mut node, web, docker, .. } = street();
    let next = ProcessKey { pid: 11, start_ticks: 9_999 };
    node.index.process_gone(process(11), crate::model::Mono(1));
    node.index.process_seen(next, Some(docker), &[11]);
    let container = |started| {
        let peer = Peer { pid: Some(11), started: Some(started), socket: Some(77), ..Peer::default() };
        node.find_from(&[], peer).and_then(|found| found.process).and_then(|process| node.index.container_of(process))
    };
    assert_eq!(container(process(11).start_ticks), Some(web));
    assert_eq!(container(next.start_ticks), Some(docker));
    assert_eq!(container(5), None, "one that was never seen is nobody");
}

/// Whoever sends over its own connection, whatever it claims, gets its own container's, process's or pod's numbers or none.
fn check_hostile(claims: &[(&str, ClaimValue)], pid: u32, allowed: &[ContainerKey]) {
    let Street { node, .. } = street();
    let peer = Peer { pid: Some(pid), socket: Some(77), ip: Some([127, 0, 0, 1].into()), ..Peer::default() };
    let found = node.find_from(claims, peer).filter(|found| node.index.owner_agrees(found, peer));
    let Some(found) = found else { return };
    let owner = node.index.container_of(process(pid));
    for subject in found.subjects {
        match subject {
            Subject::Container(key) => assert!(allowed.contains(&key), "{claims:?} from {pid}"),
            Subject::Process(process) => assert!(process.pid == pid || node.index.container_of(process) == owner, "{claims:?} from {pid}"),
            Subject::Task(_) => panic!("no tasks here"),
        }
    }
}

#[test]
fn without_trust_nobody_borrows_anothers_delay_over_its_own_connection() {
    let Street { web, proxy, docker, .. } = street();
    let ids = [hex("a0"), hex("a1"), hex("a2"), hex("d0"), hex("ff")];
    let mut claims: Vec<Vec<(&str, ClaimValue)>> = vec![Vec::new()];
    claims.extend(ids.iter().map(|id| vec![("container.id", text(id))]));
    claims.extend([9, 10, 11, 20, 30, 40, 50, 1, 7].map(|pid| vec![("process.pid", ClaimValue::Int(pid))]));
    claims.extend(ids.iter().flat_map(|id| [1, 7, 20].map(|pid| vec![("container.id", text(id)), ("process.pid", ClaimValue::Int(pid))])));
    for more in [
        vec![("k8s.pod.uid", text(UID))],
        vec![("k8s.pod.uid", text(UID)), ("k8s.container.name", text("web"))],
        vec![("k8s.pod.uid", text(UID)), ("k8s.container.name", text("proxy"))],
        vec![("k8s.pod.ip", text("10.0.0.7"))],
        vec![("k8s.pod.ip", text("fd00::7")), ("process.pid", ClaimValue::Int(7))],
        vec![("k8s.pod.name", text(&format!("{UID}-name"))), ("k8s.namespace.name", text("shop"))],
    ] {
        claims.push(more);
    }
    for claims in &claims {
        // The application and its sidecar are one pod: a claim on the pod holds for both of them.
        for (pid, allowed) in
            [(10, &[web, proxy][..]), (11, &[web, proxy]), (20, &[proxy, web]), (30, &[docker]), (40, &[]), (50, &[]), (99, &[])]
        {
            check_hostile(claims, pid, allowed);
        }
    }
}

#[test]
fn sources_of_the_kernel_and_of_the_sender_go_together_in_one_rule() {
    let Street { node, web, proxy, .. } = street();
    let of_pod = Peer { ip: Some("10.0.0.7".parse().unwrap()), ..Peer::default() };
    let by_socket = Peer { pid: Some(11), socket: Some(77), ..Peer::default() };
    let check = |sources: &[&str], attributes: &[(&str, &str)], peer: Peer, expected: Option<(Scope, Vec<Subject>)>| {
        let attributes: Vec<_> = attributes.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
        let found = node.index.identify(&Claims { attributes, peer }, &[rule(sources)]);
        assert_eq!(subjects(found.as_ref()), expected, "{sources:?}");
    };
    let (name, namespace) = (format!("{UID}-name"), ("k8s.namespace.name", "shop"));
    check(&["connection", "k8s.container.name"], &[("k8s.container.name", "proxy")], of_pod, of_container(proxy));
    check(&["connection", "k8s.container.name"], &[("k8s.container.name", "other")], of_pod, None);
    check(&["connection", "k8s.container.name"], &[], of_pod, None);
    check(&["connection", "k8s.container.name"], &[("k8s.container.name", "web")], by_socket, of_process(11));
    check(&["connection", "k8s.container.name"], &[("k8s.container.name", "proxy")], by_socket, None);
    check(
        &["k8s.pod.ip", "k8s.container.name"],
        &[("k8s.pod.ip", "10.0.0.7"), ("k8s.container.name", "web")],
        Peer::default(),
        of_container(web),
    );
    check(
        &["k8s.pod.name", "k8s.namespace.name", "k8s.container.name"],
        &[("k8s.pod.name", &name), namespace, ("k8s.container.name", "web")],
        Peer::default(),
        of_container(web),
    );
    check(&["k8s.pod.name", "k8s.namespace.name"], &[("k8s.pod.name", &name), ("k8s.namespace.name", "other")], Peer::default(), None);
    check(&["k8s.pod.name", "k8s.namespace.name"], &[("k8s.pod.name", &name)], Peer::default(), None);
    check(&["connection", "k8s.pod.ip"], &[("k8s.pod.ip", "10.0.0.8")], of_pod, None);
    check(&["connection"], &[("k8s.pod.uid", UID)], of_pod, Some((Scope::Pod, vec![Subject::Container(web), Subject::Container(proxy)])));
    check(&["connection"], &[("k8s.pod.uid", "another")], of_pod, None);
}
