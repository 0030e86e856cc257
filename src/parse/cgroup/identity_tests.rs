//! Every row of the table of runtimes and drivers.

use proptest::prelude::*;

use super::*;

const ID: &str = "4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d4f2e0c1d";
const NODE: &str = "99999999aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffff00000000";
const UID: &str = "0b1c2d3e-1111-2222-3333-444455556666";
const UID_: &str = "0b1c2d3e_1111_2222_3333_444455556666";
const STATIC: &str = "0b1c2d3e111122223333444455556666";

/// `{id}`, `{node}`, `{uid}`, `{uid_}`, `{static}` stand for the constants; `|` marks where the container's path ends.
fn fill(pattern: &str) -> String {
    let texts = [("{id}", ID), ("{node}", NODE), ("{uid}", UID), ("{uid_}", UID_), ("{static}", STATIC)];
    texts.into_iter().fold(pattern.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn container(pattern: &str, runtime: Option<&str>, pod: Option<&str>) -> CgroupIdentity {
    let marked = fill(pattern);
    let (head, tail) = marked.split_once('|').unwrap_or((&marked, ""));
    let path = format!("{head}{tail}");
    let found = identify(path.as_bytes()).unwrap_or_else(|| panic!("nothing found in {path}"));
    assert_eq!(found.kind, IdentityKind::Container, "{path}");
    assert_eq!(found.runtime, runtime, "{path}");
    assert_eq!(found.pod_uid.as_deref(), pod, "{path}");
    assert_eq!(String::from_utf8_lossy(&found.path), head, "{path}");
    found
}

fn check(pattern: &str, runtime: Option<&str>, pod: Option<&str>) {
    let found = container(pattern, runtime, pod);
    assert_eq!((found.id.as_str(), found.outer_id), (ID, None), "{pattern}");
}

fn check_nested(pattern: &str, runtime: Option<&str>, pod: Option<&str>) {
    let found = container(pattern, runtime, pod);
    assert_eq!((found.id.as_str(), found.outer_id.as_deref()), (ID, Some(NODE)), "{pattern}");
}

fn check_named(path: &str, id: &str, runtime: Option<&str>) {
    assert_eq!(container(path, runtime, None).id, id, "{path}");
}

fn check_unit(path: &str, id: &str, runtime: &str) {
    let found = identify(path.as_bytes()).unwrap_or_else(|| panic!("nothing found in {path}"));
    assert_eq!((found.kind, found.id.as_str(), found.runtime), (IdentityKind::Unit, id, Some(runtime)), "{path}");
}

fn check_nothing(pattern: &str) {
    assert_eq!(identify(fill(pattern).as_bytes()), None, "{pattern}");
}

#[test]
fn kubelet_with_cgroupfs() {
    check("/kubepods/burstable/pod{uid}/{id}", None, Some(UID));
    check("/kubepods/besteffort/pod{uid}/{id}", None, Some(UID));
    check("/kubepods/pod{uid}/{id}", None, Some(UID));
    check("/kubepods/burstable/pod{static}/{id}", None, Some(STATIC));
}

#[test]
fn kubelet_with_systemd() {
    let burstable = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_}.slice";
    check(&format!("{burstable}/cri-containerd-{{id}}.scope"), Some("containerd"), Some(UID));
    check(&format!("{burstable}/crio-{{id}}.scope"), Some("cri-o"), Some(UID));
    check(&format!("{burstable}/docker-{{id}}.scope"), Some("docker"), Some(UID));
    check("/kubepods.slice/kubepods-pod{uid_}.slice/cri-containerd-{id}.scope", Some("containerd"), Some(UID));
    check("/kubepods.slice/kubepods-pod{static}.slice/cri-containerd-{id}.scope", Some("containerd"), Some(STATIC));
}

#[test]
fn drivers_that_do_not_match() {
    check("/system.slice/containerd.service/kubepods-burstable-pod{uid_}.slice:cri-containerd:{id}", Some("containerd"), Some(UID));
    check("/kubepods-besteffort-pod{uid_}.slice:cri-containerd:{id}", Some("containerd"), Some(UID));
    check("/kubepods-pod{static}.slice:cri-containerd:{id}", Some("containerd"), Some(STATIC));
}

#[test]
fn cri_o_and_its_monitor() {
    let pod = "/kubepods.slice/kubepods-pod{uid_}.slice";
    check(&format!("{pod}/crio-{{id}}.scope|/container"), Some("cri-o"), Some(UID));
    check("/kubepods/burstable/pod{uid}/crio-{id}", Some("cri-o"), Some(UID));
    check_nothing(&format!("{pod}/crio-conmon-{{id}}.scope"));
    check_nothing("/kubepods/pod{uid}/crio-conmon-{id}");
}

#[test]
fn docker() {
    check("/docker/{id}", Some("docker"), None);
    check("/system.slice/docker-{id}.scope", Some("docker"), None);
    check("/custom.slice/docker-{id}.scope", Some("docker"), None);
    check("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{id}.scope", Some("docker"), None);
    let parent = container("/mine/{id}", None, None);
    assert_eq!(parent.namespace.as_deref(), Some("mine"), "may be a cgroup parent or a containerd namespace");
}

#[test]
fn podman_and_its_monitor() {
    check("/machine.slice/libpod-{id}.scope", Some("podman"), None);
    check("/machine.slice/libpod-{id}.scope|/container", Some("podman"), None);
    check("/libpod_parent/libpod-{id}", Some("podman"), None);
    check("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope|/container", Some("podman"), None);
    check("/system.slice/web.service/libpod-payload-{id}", Some("podman"), None);
    check("/machine.slice/machine-libpod_pod_{node}.slice/libpod-{id}.scope|/container", Some("podman"), None);
    check_nothing("/machine.slice/libpod-conmon-{id}.scope");
    check_nothing("/machine.slice/machine-libpod_pod_{id}.slice");
    check_unit("/system.slice/web.service/supervisor", "web.service", "systemd");
}

#[test]
fn containerd_and_nerdctl() {
    for namespace in ["default", "k8s.io", "moby"] {
        let found = container(&format!("/{namespace}/{{id}}"), Some("containerd"), None);
        assert_eq!((found.id.as_str(), found.namespace.as_deref()), (ID, Some(namespace)));
    }
    check("/system.slice/nerdctl-{id}.scope", Some("containerd"), None);
    check("/default/{id}|/init.scope", Some("containerd"), None);
}

#[test]
fn containerd_names_are_candidates_only() {
    fn check(path: &str, expected: Option<(&str, &str, &str)>) {
        let found = identify(path.as_bytes());
        let got = found.as_ref().map(|found| {
            assert_eq!((found.kind, found.runtime), (IdentityKind::Candidate, None), "{path}");
            (found.namespace.as_deref().unwrap(), found.id.as_str(), std::str::from_utf8(&found.path).unwrap())
        });
        assert_eq!(got, expected, "{path}");
    }
    check("/default/web", Some(("default", "web", "/default/web")));
    check("/k8s.io/pause-1", Some(("k8s.io", "pause-1", "/k8s.io/pause-1")));
    check("/default/web/child", Some(("default", "web", "/default/web")));
    check("/default", None);
    check("/default/we b", None);
    check("/default/-web", None);
    check("/docker/buildkit", None);
}

#[test]
fn kind_minikube_and_k3d_nest() {
    let kubelet = "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{uid_}.slice";
    check(&format!("/{kubelet}/cri-containerd-{{id}}.scope"), Some("containerd"), Some(UID));
    check_nested(&format!("/system.slice/docker-{{node}}.scope/{kubelet}/cri-containerd-{{id}}.scope"), Some("containerd"), Some(UID));
    check_nested(&format!("/docker/{{node}}/{kubelet}/cri-containerd-{{id}}.scope"), Some("containerd"), Some(UID));
    check_nested("/docker/{node}/kubelet/kubepods/burstable/pod{uid}/{id}", None, Some(UID));
    check_nested("/docker/{node}/kubepods/burstable/pod{uid}/{id}", None, Some(UID));
    check_nested(
        "/system.slice/docker-{node}.scope/kubepods.slice/kubepods-pod{uid_}.slice/cri-containerd-{id}.scope",
        Some("containerd"),
        Some(UID),
    );
    check_nested("/docker/{node}/docker/{id}", Some("docker"), None);
    // What runs in the node container beside the pods belongs to the node container.
    let node = container("/docker/{node}|/system.slice/kubelet.service", Some("docker"), None);
    assert_eq!((node.id.as_str(), node.outer_id), (NODE, None));
    let node = container("/docker/{node}|/kubelet/kubepods/pod{uid}/crio-conmon-{id}", Some("docker"), None);
    assert_eq!(node.id, NODE);
}

#[test]
fn k3s_eks_bottlerocket_gke() {
    check_unit("/system.slice/k3s.service", "k3s.service", "systemd");
    check("/kubepods/burstable/pod{uid}/{id}", None, Some(UID));
    check_unit("/runtime.slice/kubelet.service", "kubelet.service", "systemd");
    check_unit("/runtime.slice/containerd.service", "containerd.service", "systemd");
}

#[test]
fn ecs() {
    check("/ecs/{static}/{id}", None, None);
    check("/ecstasks.slice/ecstasks-{static}.slice/docker-{id}.scope", Some("docker"), None);
    check_named(&format!("/ecs/{STATIC}/{STATIC}-2360712382"), &format!("{STATIC}-2360712382"), None);
}

#[test]
fn others() {
    check_named("/lxc/web", "web", Some("lxc"));
    check_named("/lxc/web|/system.slice/nginx.service", "web", Some("lxc"));
    check_named("/lxc.payload.web|/init.scope", "web", Some("lxc"));
    check_named(r"/machine.slice/systemd-nspawn@my\x2dbox.service|/payload", "my-box", Some("systemd-nspawn"));
    check_named(r"/machine.slice/machine-qemu\x2d1\x2dvm.scope|/libvirt", "qemu-1-vm", Some("systemd-machined"));
    check_named(r"/machine.slice/machine-a\x2.scope", r"a\x2", Some("systemd-machined"));
    check_named(&format!("/nomad.slice/share.slice/{UID}.web.scope"), &format!("{UID}.web"), Some("nomad"));
    check_unit("/podruntime/kubelet", "kubelet", "talos");
    check_unit("/system/apid", "apid", "talos");
}

#[test]
fn services_of_the_host() {
    check_unit("/system.slice/nginx.service", "nginx.service", "systemd");
    check_unit("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", "systemd");
    check_unit("/user.slice/user-1000.slice/user@1000.service/app.slice/app.service", "app.service", "systemd");
    check_unit("/azure.slice/walinuxagent.service", "walinuxagent.service", "systemd");
    check_unit("/../../system.slice/nginx.service", "nginx.service", "systemd");
}

#[test]
fn what_is_no_container() {
    for path in [
        "",
        "/",
        "/init.scope",
        "/..",
        "/../..",
        "/system.slice",
        "/user.slice/user-1000.slice/session-3.scope",
        "/kubepods",
        "/kubepods/burstable/pod{uid}",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_}.slice",
        "/x{id}",
        "/docker",
    ] {
        check_nothing(path);
    }
}

#[test]
fn a_foreign_namespace_hides_the_front_only() {
    check("/../../pod{uid}/{id}", None, Some(UID));
    check("/../{id}", None, None);
    check("/../cri-containerd-{id}.scope", Some("containerd"), None);
}

#[test]
fn the_best_of_all_hierarchies_counts() {
    let membership =
        |hierarchy, path: &str| Membership { hierarchy, controllers: Vec::new(), path: fill(path).into_bytes(), deleted: false };
    let all = [membership(0, "/system.slice/containerd.service"), membership(3, "/"), membership(4, "/docker/{id}")];
    assert_eq!(identify_all(&all).unwrap().id, ID);
    assert_eq!(identify_all(&all[..2]).unwrap().id, "containerd.service");
    assert_eq!(identify_all(&all[1..2]), None);
}

#[test]
fn a_path_is_cut_behind_its_mark() {
    fn check(path: &str, mark: &str, expected: Option<&str>) {
        let (path, expected) = (fill(path), expected.map(fill));
        let got = cut_at(path.as_bytes(), mark).map(|path| std::str::from_utf8(path).unwrap().to_owned());
        assert_eq!(got, expected, "{path}");
    }
    check("/machine.slice/libpod-{id}.scope/container", ID, Some("/machine.slice/libpod-{id}.scope"));
    check("/docker/{node}/docker/{id}", NODE, Some("/docker/{node}"));
    check("/default/web/x", "web", Some("/default/web"));
    check("/system.slice/nginx.service", "nginx.service", Some("/system.slice/nginx.service"));
    check("/kubepods/pod{uid}/crio-conmon-{id}", ID, None);
    check("/default/myweb", "web", None);
    check("/", ID, None);
}

/// Components near the interesting place: ids, pods, monitors, escapes, and damaged forms of them.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let forms = [
        "{id}",
        "{node}",
        "docker-{id}.scope",
        "crio-conmon-{id}.scope",
        "pod{uid}",
        "kubepods-pod{uid_}.slice",
        "..",
        "lxc",
        "machine.slice",
        r"machine.slice/machine-a\x.scope",
        r"machine.slice/machine-a\x2d",
        "kubepods-pod{uid_}.slice:cri-containerd:{id}",
        "web",
        "nginx.service",
        "nomad.slice",
    ];
    let whole = proptest::sample::select(forms.to_vec()).prop_map(|form| fill(form).into_bytes());
    (whole, any::<prop::sample::Index>(), any::<u8>(), 0..3).prop_map(|(mut bytes, at, byte, damage)| {
        let at = at.index(bytes.len());
        match damage {
            0 => bytes[at] = byte,
            1 => bytes.truncate(at),
            _ => {}
        }
        bytes
    })
}

proptest! {
    #[test]
    fn never_panics_and_never_invents(parts in proptest::collection::vec(component(), 0..6)) {
        let path = [b"/".to_vec(), parts.join(&b'/')].concat();
        if let Some(found) = identify(&path) {
            prop_assert!(path.starts_with(&found.path));
            if found.id.len() == 64 && found.kind == IdentityKind::Container {
                prop_assert!(path.windows(64).any(|window| window == found.id.as_bytes()));
                prop_assert_eq!(cut_at(&path, &found.id), Some(found.path.as_slice()));
            }
            let again = identify(&found.path).unwrap();
            prop_assert_eq!(again.id, found.id, "what was cut off did not matter");
        }
    }
}
