//! Whose a span is, where only a pod's address or name tells: the agent, a real containerd, and a sender in a pod's network.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test: it drives processes and clocks of its own, and a panic is how it fails"
)]

#[path = "support/file_agent.rs"]
#[expect(dead_code, reason = "shared with tests that ask over a unix socket")]
mod file_agent;
#[path = "support/private_containerd.rs"]
#[expect(dead_code, reason = "shared with tests in which containerd ends and begins again")]
mod private_containerd;

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use file_agent::{FileAgent, send_over, value_of};
use private_containerd::{DEADLINE, PrivateContainerd};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The network of one pod: a namespace with one address, and a cable to the host.
struct PodNetwork {
    name: String,
    /// The first three numbers of its addresses.
    net: String,
}

impl PodNetwork {
    fn new() -> Self {
        let pid = std::process::id();
        // Of the networks for benchmarks (RFC 2544), which nobody here has.
        let network = Self { name: format!("stallspan-{pid}"), net: format!("198.18.{}", pid % 250) };
        let (name, net, host, pod) = (&network.name, &network.net, format!("ssh{pid}"), format!("ssp{pid}"));
        ip(&format!("netns add {name}"));
        ip(&format!("link add {host} type veth peer name {pod} netns {name}"));
        ip(&format!("addr add {net}.1/24 dev {host}"));
        ip(&format!("link set {host} up"));
        ip(&format!("-n {name} addr add {net}.13/24 dev {pod}"));
        ip(&format!("-n {name} link set {pod} up"));
        network
    }

    fn host(&self) -> SocketAddr {
        let address = format!("{}.1:0", self.net);
        TcpListener::bind(address).unwrap().local_addr().unwrap()
    }

    /// A connection from within it.
    fn connect(&self, to: SocketAddr) -> TcpStream {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let connecting = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            TcpStream::connect(to).unwrap()
        };
        // The thread ends in the namespace that it went to.
        std::thread::spawn(connecting).join().unwrap()
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        // The cable goes with its one end.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

struct Pod {
    uid: &'static str,
    name: &'static str,
    ip: String,
}

impl Pod {
    async fn run(&self, server: &PrivateContainerd) {
        let labels = [("io.kubernetes.pod.name", self.name), ("io.kubernetes.pod.namespace", "shop"), ("io.kubernetes.pod.uid", self.uid)];
        let pause = server.fresh_id("pause");
        server.run("k8s.io", &pause, &[&labels[..], &[("io.cri-containerd.kind", "sandbox")]].concat(), &SLEEP);
        server.run("k8s.io", &server.fresh_id("web"), &[&labels[..], &[("io.kubernetes.container.name", "web")]].concat(), &SLEEP);
        server.address(&pause, self.name, &self.ip).await;
    }

    fn node_id(&self) -> String {
        format!("sidecar~{}~{}.shop~shop.svc.cluster.local", self.ip, self.name)
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Asks the agent whose a span is.
struct Asking {
    agent: FileAgent,
    address: SocketAddr,
    network: PodNetwork,
    asked: usize,
    /// As the last one's went on.
    resource: Value,
}

/// From where.
#[derive(Clone, Copy, Debug)]
enum From {
    Host,
    Pod,
}

impl Asking {
    /// The uid of the pod that a span with these attributes of its resource and of its own was given to.
    fn once(&mut self, from: From, resource: &[Value], span: &[Value]) -> Option<String> {
        self.asked += 1;
        let name = format!("number {}", self.asked);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let (start, end) = ((now - 200_000_000).to_string(), (now - 20_000_000).to_string());
        let span = json!({"name": name, "kind": 2, "startTimeUnixNano": start, "endTimeUnixNano": end, "attributes": span});
        let stream = match from {
            From::Host => TcpStream::connect(self.address).unwrap(),
            From::Pod => self.network.connect(self.address),
        };
        assert!(send_over(stream, &json!(resource), &span), "not accepted: {resource:?}");
        let written = self.agent.written();
        let mut groups = written.iter().filter_map(|line| line["resourceSpans"].get(0));
        let group =
            groups.find(|group| group["scopeSpans"][0]["spans"][0]["name"] == name.as_str()).expect("written before it is acknowledged");
        let scope = value_of(&group["scopeSpans"][0]["spans"][0]["attributes"], "stallspan.scope");
        self.resource = group["resource"]["attributes"].clone();
        let uid = value_of(&self.resource, "k8s.pod.uid")?;
        scope.map(|_| uid.as_str().unwrap().to_owned())
    }

    /// Until containerd's word on the pods has come.
    fn until(&mut self, pod: &Pod, from: From, resource: &[Value], span: &[Value]) {
        let begun = Instant::now();
        while self.once(from, resource, span).as_deref() != Some(pod.uid) {
            assert!(begun.elapsed() < DEADLINE, "never {}'s: from {from:?} {resource:?} {span:?}", pod.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_known_by_its_address_its_name_its_proxys_word_and_its_connection() {
    let server = PrivateContainerd::start();
    let network = PodNetwork::new();
    let web = Pod { uid: "0b6c5d1e-0000-4000-8000-000000000001", name: "web-0", ip: format!("{}.13", network.net) };
    let cart = Pod { uid: "0b6c5d1e-0000-4000-8000-000000000002", name: "cart-0", ip: format!("{}.14", network.net) };
    for pod in [&web, &cart] {
        pod.run(&server).await;
    }
    let address = network.host();
    let agent = FileAgent::start(&server, Some(address));
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < DEADLINE, "nobody listens");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut asking = Asking { agent, address, network, asked: 0, resource: Value::Null };

    let name = |pod: &Pod| [text("k8s.pod.name", pod.name), text("k8s.namespace.name", "shop")];
    let ip = |ip: &str| text("k8s.pod.ip", ip);
    for pod in [&web, &cart] {
        asking.until(pod, From::Host, &[ip(&pod.ip)], &[]);
        asking.until(pod, From::Host, &name(pod), &[]);
        asking.until(pod, From::Host, &[text("node_id", &pod.node_id())], &[]);
        asking.until(pod, From::Host, &[], &[text("node_id", &pod.node_id())]);
    }
    asking.until(&web, From::Pod, &[], &[]);
    // A Collector behind the hop sees our address: the pod's own stands on the resource.
    let stamped = ["k8s.pod.ip", "k8s.pod.name", "k8s.namespace.name", "k8s.container.name", "container.runtime.name"]
        .map(|key| value_of(&asking.resource, key).unwrap_or_default());
    assert_eq!(stamped, [web.ip.as_str(), web.name, "shop", "web", "containerd"].map(Value::from));

    // All that can be known is known by now. In conflict the stronger claim is followed, in the order of the documentation.
    let mut check = |from, resource: &[Value], span: &[Value], expected: Option<&Pod>| {
        assert_eq!(asking.once(from, resource, span).as_deref(), expected.map(|pod| pod.uid), "from {from:?} {resource:?} {span:?}");
    };
    let [pod, namespace] = name(&cart);
    check(From::Host, &[ip(&web.ip), pod.clone(), namespace.clone()], &[], Some(&web));
    check(From::Host, &[pod, namespace], &[text("node_id", &web.node_id())], Some(&cart));
    check(From::Host, &[text("k8s.pod.uid", cart.uid), ip(&web.ip)], &[], Some(&cart));
    check(From::Host, &[text("k8s.pod.uid", cart.uid)], &[text("node_id", &web.node_id())], Some(&cart));
    check(From::Pod, &[ip(&cart.ip)], &[], Some(&cart));
    // Nobody's: of a pod elsewhere, of the host, of a name in no namespace.
    check(From::Host, &[ip("198.19.255.99")], &[], None);
    check(From::Pod, &[ip("198.19.255.99")], &[], None);
    check(From::Host, &[], &[], None);
    check(From::Host, &[text("k8s.pod.name", web.name)], &[], None);
}
