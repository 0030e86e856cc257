//! Containers of a real containerd, through its death, hanging and return.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: it drives processes and clocks of its own, and a panic is how it fails"
)]

#[path = "support/file_agent.rs"]
mod file_agent;
#[path = "support/private_containerd.rs"]
mod private_containerd;

use std::fs;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use file_agent::{FileAgent, value_of};
use private_containerd::{DEADLINE, PrivateContainerd};
use rustix::process::Signal;
use stallspan::config::meaning::{AssociationRule, AssociationSource, Containerd};
use stallspan::containers::{Home, Index, Init, RuntimeContainer, RuntimeTask, RuntimeUpdate, containerd, resource_stamps};
use stallspan::model::{Absence, ClaimValue, Claims, ContainerKey, Match, Mono, Peer, ProcessKey, Scope};
use stallspan::parse::cgroup::membership::memberships;
use stallspan::parse::process::{process_stat, process_status};
use stallspan::runtime::clock::mono_now;
use tokio::task::JoinHandle;

/// What a wiring would keep.
struct Seen {
    index: Index,
    statuses: Vec<(Instant, Result<(), Absence>)>,
    reconciled: usize,
}

struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

fn process_of(pid: u32) -> Option<ProcessKey> {
    let stat = process_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?).ok()?;
    Some(ProcessKey { pid, start_ticks: stat.start_ticks })
}

fn home_of(pid: u32) -> Option<Home> {
    Some(Home::of(&memberships(&fs::read(format!("/proc/{pid}/cgroup")).ok()?)))
}

fn with_init(container: RuntimeContainer) -> (RuntimeContainer, Option<Init>) {
    let init = match container.task {
        RuntimeTask::Running { pid } => process_of(pid).zip(home_of(pid)).map(|(process, home)| Init { process, home, started: None }),
        _ => None,
    };
    (container, init)
}

impl Seen {
    fn take(&mut self, update: RuntimeUpdate, now: Mono) {
        match update {
            RuntimeUpdate::Status(status) => self.statuses.push((Instant::now(), status)),
            RuntimeUpdate::Reconcile(list) => {
                self.index.reconcile(list.into_iter().map(with_init).collect(), now);
                self.reconciled += 1;
            }
            RuntimeUpdate::Upsert(container) => {
                let (container, init) = with_init(container);
                self.index.upsert(container, init, now);
            }
            RuntimeUpdate::Gone { namespace, id } => self.index.remove(&namespace, &id, now),
        }
    }

    /// What a sampler would do for one process.
    fn scan(&mut self, pid: u32) -> Option<ContainerKey> {
        let key = self.index.place(&home_of(pid)?, mono_now());
        let status = process_status(&fs::read(format!("/proc/{pid}/status")).ok()?);
        self.index.process_seen(process_of(pid)?, key, &status.ns_pids);
        key
    }

    fn find(&self, claims: &[(&str, ClaimValue)]) -> Option<Match> {
        let rule = |names: &[&str]| AssociationRule {
            sources: names.iter().map(|name| AssociationSource::ResourceAttribute((*name).to_owned())).collect(),
        };
        let rules = [rule(&["container.id"]), rule(&["k8s.pod.uid", "k8s.container.name"]), rule(&["k8s.pod.ip"]), rule(&["process.pid"])];
        let attributes = claims.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        self.index.identify(&Claims { attributes, peer: Peer::default() }, &rules)
    }

    fn is_live(&self, id: &str) -> bool {
        self.index.live().any(|container| container.id == id)
    }
}

impl Watch {
    fn of(server: &PrivateContainerd) -> Self {
        let seen = Arc::new(Mutex::new(Seen { index: Index::new(Duration::from_secs(120)), statuses: Vec::new(), reconciled: 0 }));
        let settings = Containerd { socket: server.socket(), timeout: Duration::from_millis(500), namespaces: Vec::new() };
        let told = Arc::clone(&seen);
        let sink = move |update| told.lock().unwrap().take(update, mono_now());
        Self { seen, task: tokio::spawn(containerd::watch(settings, sink, std::future::pending())) }
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&mut Seen) -> bool) -> Duration {
        let begun = Instant::now();
        while !holds(&mut self.seen.lock().unwrap()) {
            assert!(begun.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}; statuses {:?}", self.seen.lock().unwrap().statuses);
            assert!(!self.task.is_finished(), "the watch ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    async fn until_status(&self, status: Result<(), Absence>) -> Duration {
        self.until(&format!("{status:?}"), |seen| seen.statuses.last().map(|(_, last)| *last) == Some(status)).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn text(value: &str) -> ClaimValue {
    ClaimValue::Text(value.to_owned())
}

const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];

fn pod_labels<'a>(uid: &'a str, name: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("io.kubernetes.pod.name", "web-0"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", uid),
        ("io.kubernetes.container.name", name),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_every_namespace_are_known_and_followed() {
    let server = PrivateContainerd::start();
    let uid = "3f0b7a52-9c1d-4e8a-b6f4-2d5e8c7a9b10";
    let (web, plain) = (server.fresh_id("web"), server.fresh_id("plain"));
    let web_pid = server.run("k8s.io", &web, &pod_labels(uid, "web"), &SLEEP);
    server.run("stallspan-live", &plain, &pod_labels(uid, "impostor"), &SLEEP);
    let watch = Watch::of(&server);
    watch.until("both are listed", |seen| seen.is_live(&web) && seen.is_live(&plain)).await;
    {
        let mut seen = watch.seen.lock().unwrap();
        let found = seen.find(&[("k8s.pod.uid", text(uid)), ("k8s.container.name", text("web"))]).unwrap();
        let container = found.container.clone().unwrap();
        assert_eq!((container.display_name().as_str(), container.runtime), ("shop/web-0/web", Some("containerd")));
        assert!(container.started.is_some());
        assert!(resource_stamps(&found).contains(&("container.id", web.as_str())));
        assert_eq!(seen.scan(web_pid), Some(container.key), "found through the cgroup of its first process");
        let process = seen.find(&[("container.id", text(&web)), ("process.pid", ClaimValue::Int(1))]).unwrap();
        assert_eq!((process.scope, process.process), (Scope::Process, process_of(web_pid)));
        let by_host_pid = seen.find(&[("process.pid", ClaimValue::Int(i64::from(web_pid)))]).unwrap();
        assert_eq!(by_host_pid.container.unwrap().key, container.key);
        let impostor = seen.find(&[("container.id", text(&plain))]).unwrap().container.unwrap();
        assert_eq!((impostor.pod.clone(), impostor.name.as_deref()), (None, Some(plain.as_str())), "labels count in k8s.io only");
    }
    // Past the second listing, only events can tell of these in time.
    watch.until("the second listing", |seen| seen.reconciled >= 2).await;
    let later = server.fresh_id("later");
    server.run("k8s.io", &later, &pod_labels(uid, "later"), &SLEEP);
    let told = watch.until("a container started", |seen| seen.is_live(&later)).await;
    assert!(told < Duration::from_secs(2), "{told:?}");
    let first = watch.seen.lock().unwrap().find(&[("container.id", text(&later))]).unwrap().container.unwrap().key;
    server.stop_task("k8s.io", &later);
    watch.until("its task ended", |seen| !seen.is_live(&later)).await;
    let dead = watch.seen.lock().unwrap().find(&[("container.id", text(&later))]).unwrap();
    assert_eq!(dead.container.unwrap().key, first, "a late span finds the dead");
    server.start_again("k8s.io", &later);
    watch.until("it runs again", |seen| seen.is_live(&later)).await;
    let second = watch.seen.lock().unwrap().find(&[("container.id", text(&later))]).unwrap().container.unwrap().key;
    assert_ne!(first, second, "a new life");
    server.remove("k8s.io", &later);
    watch.until("it was deleted", |seen| !seen.is_live(&later)).await;
    assert_eq!(watch.seen.lock().unwrap().reconciled, 2, "events alone told it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_of_a_pod_comes_from_its_sandbox() {
    let server = PrivateContainerd::start();
    let uid = "5a0b7a52-9c1d-4e8a-b6f4-2d5e8c7a9b10";
    let (pause, web) = (server.fresh_id("pause"), server.fresh_id("web"));
    let mut labels = pod_labels(uid, "");
    labels.pop();
    labels.push(("io.cri-containerd.kind", "sandbox"));
    server.run("k8s.io", &pause, &labels, &SLEEP);
    server.run("k8s.io", &web, &pod_labels(uid, "web"), &SLEEP);
    let watch = Watch::of(&server);
    watch.until("the pod is known", |seen| seen.is_live(&web) && seen.is_live(&pause)).await;
    assert_eq!(watch.seen.lock().unwrap().find(&[("k8s.pod.ip", text("10.11.12.13"))]), None);

    server.address(&pause, "web-0", "10.11.12.13").await;

    watch.until("the address is known", |seen| seen.find(&[("k8s.pod.ip", text("10.11.12.13"))]).is_some()).await;
    let found = watch.seen.lock().unwrap().find(&[("k8s.pod.ip", text("10.11.12.13"))]).unwrap();
    let container = found.container.clone().unwrap();
    assert_eq!((found.scope, container.id.as_str()), (Scope::Pod, web.as_str()), "the pause container is nobody's");
    let ip: IpAddr = container.pod.as_ref().unwrap().ip.as_ref().unwrap().parse().unwrap();
    assert_eq!(ip.to_string(), "10.11.12.13");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_containerd_is_followed_again_within_five_seconds() {
    let server = PrivateContainerd::start();
    let (stays, goes) = (server.fresh_id("stays"), server.fresh_id("goes"));
    let stays_pid = server.run("default", &stays, &[], &SLEEP);
    let goes_pid = server.run("default", &goes, &[], &SLEEP);
    let watch = Watch::of(&server);
    watch.until("both are listed", |seen| seen.is_live(&stays) && seen.is_live(&goes)).await;
    let key = watch.seen.lock().unwrap().scan(stays_pid);
    for round in 0..3 {
        server.kill();
        watch.until_status(Err(Absence::Unreachable)).await;
        {
            let seen = watch.seen.lock().unwrap();
            assert_eq!(
                seen.find(&[("container.id", text(&stays))]).unwrap().container.map(|container| container.key),
                key,
                "known stays known"
            );
        }
        if round == 0 {
            let pid = rustix::process::Pid::from_raw(goes_pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
        let reconciled = watch.seen.lock().unwrap().reconciled;
        server.launch();
        let back = Instant::now();
        watch.until("listed again", |seen| seen.reconciled > reconciled).await;
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
        watch.until_status(Ok(())).await;
        watch.until("what ended meanwhile is gone", |seen| !seen.is_live(&goes)).await;
        assert_eq!(watch.seen.lock().unwrap().scan(stays_pid), key, "the same life");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_containerd_that_hangs_is_told_and_followed_again() {
    let server = PrivateContainerd::start();
    let id = server.fresh_id("web");
    server.run("default", &id, &[], &SLEEP);
    let watch = Watch::of(&server);
    watch.until("it is listed", |seen| seen.is_live(&id)).await;
    server.signal(Signal::STOP);
    watch.until_status(Err(Absence::Timeout)).await;
    assert!(watch.seen.lock().unwrap().is_live(&id));
    server.signal(Signal::CONT);
    let back = watch.until_status(Ok(())).await;
    assert!(back < Duration::from_secs(5), "{back:?}");
    assert!(watch.seen.lock().unwrap().is_live(&id));
}

#[test]
fn a_mesh_pods_application_and_proxy_are_told_apart() {
    let server = PrivateContainerd::start();
    let labels = |name: &'static str| {
        let pod = [("io.kubernetes.pod.uid", "mesh-uid"), ("io.kubernetes.pod.name", "web-0"), ("io.kubernetes.pod.namespace", "shop")];
        [&pod[..], &[("io.kubernetes.container.name", name)]].concat()
    };
    // More than the CPUs can run at once: the application waits, and the proxy with it.
    let loops = std::thread::available_parallelism().unwrap().get() + 1;
    let crowd = format!("for number in $(seq {loops}); do while :; do :; done & done; wait");
    server.run("k8s.io", &server.fresh_id("web"), &labels("web"), &["/bin/sh", "-c", &crowd]);
    server.run("k8s.io", &server.fresh_id("proxy"), &labels("linkerd-proxy"), &["/bin/sh", "-c", "while :; do :; done"]);
    let agent = FileAgent::start(&server, None);
    let attribute = |key: &str, value: &str| serde_json::json!({"key": key, "value": {"stringValue": value}});
    let resource = |container: &str| serde_json::json!([attribute("k8s.pod.uid", "mesh-uid"), attribute("k8s.container.name", container)]);
    let begun = Instant::now();
    let told = loop {
        assert!(begun.elapsed() < DEADLINE, "never told apart: {:?}", agent.written().last());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let (start, end) = ((now - 300_000_000).to_string(), (now - 20_000_000).to_string());
        // Time in the application, as its proxy sees it.
        let span = serde_json::json!({"name": "/", "kind": 3, "startTimeUnixNano": start, "endTimeUnixNano": end, "attributes": [attribute("direction", "inbound")]});
        if agent.send(&resource("linkerd-proxy"), &span) {
            let spans = agent.written().into_iter().filter_map(|line| {
                let group = line["resourceSpans"].get(0)?.clone();
                Some((group["resource"]["attributes"].clone(), group["scopeSpans"][0]["spans"][0]["attributes"].clone()))
            });
            let both = |attributes: &serde_json::Value| {
                ["stallspan.app.delay.cpu", "stallspan.proxy.delay.cpu", "stallspan.delay.cpu"]
                    .map(|key| value_of(attributes, key)?.as_f64())
            };
            // A reading that comes between two looks at a span not yet covered may tell them apart: the next span is asked then.
            let charged = |[app, proxy, own]: &[Option<f64>; 3]| app > &Some(0.0) && own == app && proxy.is_some();
            let whole = spans.map(|(resource, attributes)| (resource, both(&attributes), attributes)).find(|(_, both, _)| charged(both));
            if let Some(whole) = whole {
                break whole;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let (resource, _, attributes) = told;
    assert_eq!(value_of(&attributes, "stallspan.scope"), Some("container".into()));
    assert_eq!(value_of(&resource, "k8s.pod.name"), Some("web-0".into()));
    let proxies = || {
        agent.written().iter().any(|line| {
            let text = line.to_string();
            text.contains("stallspan.node.mesh.proxies") && text.contains("linkerd-proxy")
        })
    };
    while !proxies() {
        assert!(begun.elapsed() < 2 * DEADLINE, "the proxy was never counted");
        std::thread::sleep(Duration::from_millis(100));
    }
}
