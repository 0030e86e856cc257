//! Whose a span is: the default order, each rule with real processes in cgroups of the documented forms.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message;

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, has, int, resource_of, span, spans_of, text, text_of};
use crate::downstream::Downstream;
use crate::scene::{Container, Hierarchy, container_id, pod_uid};
use crate::sender::post;

struct Node {
    downstream: Downstream,
    agent: Agent,
}

impl Node {
    async fn start() -> Self {
        let downstream = Downstream::accepting().await;
        // A busy machine may take longer than usual to look around: that is not what is tried here.
        let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &["--set", "traces.max_hold=5s"]);
        Self { downstream, agent }
    }

    async fn ask(&self, claims: &[KeyValue]) -> ExportTraceServiceRequest {
        let before = self.downstream.of("traces").len();
        let spans = vec![span(Duration::from_millis(60), Duration::from_millis(10))];
        assert_eq!(post(self.agent.http(), "/v1/traces", bytes(claims.to_vec(), spans)).await.status, 200);
        ExportTraceServiceRequest::decode(self.downstream.of("traces")[before].body.clone()).unwrap()
    }

    /// The scope of a span with these claims, and the `container.id` its resource goes on with.
    async fn whose(&self, claims: &[KeyValue]) -> Option<(String, Option<String>)> {
        let got = self.ask(claims).await;
        let span = spans_of(&got)[0];
        let id = has(resource_of(&got), "container.id").then(|| text_of(resource_of(&got), "container.id").to_owned());
        has(&span.attributes, "stallspan.scope").then(|| (text_of(&span.attributes, "stallspan.scope").to_owned(), id))
    }
}

fn told(scope: &str, id: &str) -> Option<(String, Option<String>)> {
    Some((scope.to_owned(), Some(id.to_owned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_every_path_form_are_known_by_their_id_at_once() {
    let node = Node::start().await;
    let forms: [fn(&str, &str) -> String; 8] = [
        |id, _| format!("/docker/{id}"),
        |id, _| format!("/system.slice/docker-{id}.scope"),
        |id, pod| format!("/kubepods/burstable/pod{pod}/{id}"),
        |id, pod| format!("/kubepods/pod{pod}/{id}"),
        |id, pod| {
            let pod = pod.replace('-', "_");
            format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{pod}.slice/cri-containerd-{id}.scope")
        },
        |id, pod| {
            let pod = pod.replace('-', "_");
            format!("/kubepods.slice/kubepods-pod{pod}.slice/crio-{id}.scope")
        },
        |id, _| format!("/machine.slice/libpod-{id}.scope"),
        |id, _| format!("/machine.slice/libpod-{id}.scope/container"),
    ];
    for hierarchies in [&Hierarchy::ALL[..], &[Hierarchy::Cpu], &[Hierarchy::Unified]] {
        for (number, form) in forms.iter().enumerate() {
            let (id, uid) = (container_id(), pod_uid());
            let path = form(&id, &uid);
            let _container = Container::of(&path, hierarchies, &["sleep", "600"]);
            assert_eq!(node.whose(&[text("container.id", &id)]).await, told("container", &id), "form {number}: {path} in {hierarchies:?}");
            if path.starts_with("/kubepods") {
                let got = node.ask(&[text("container.id", &id)]).await;
                assert_eq!(text_of(resource_of(&got), "k8s.pod.uid"), uid, "{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_uid_names_the_pod_and_with_one_container_that_one() {
    let node = Node::start().await;
    let (uid, first) = (pod_uid(), container_id());
    let _one = Container::idle(&format!("/kubepods/burstable/pod{uid}/{first}"));
    assert_eq!(node.whose(&[text("k8s.pod.uid", &uid)]).await, told("pod", &first));
    let _two = Container::idle(&format!("/kubepods/burstable/pod{uid}/{}", container_id()));
    // Both are in the sum once the second one has been seen; nothing tells which one the sender is.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while node.whose(&[text("k8s.pod.uid", &uid)]).await != Some(("pod".to_owned(), None)) {
        assert!(std::time::Instant::now() < deadline, "the second container of the pod was never seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(node.whose(&[text("k8s.pod.uid", &pod_uid())]).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pid_is_the_hosts_where_no_container_is_claimed() {
    let node = Node::start().await;
    let id = container_id();
    let container = Container::idle(&format!("/docker/{id}"));
    let pid = i64::from(container.pid());
    for claim in [int("process.pid", pid), text("process.pid", &pid.to_string())] {
        assert_eq!(node.whose(&[claim]).await, told("process", &id));
    }
    for nobody in
        [int("process.pid", 0), int("process.pid", -1), int("process.pid", 1 << 40), text("process.pid", "x"), text("process.pid", "")]
    {
        assert_eq!(node.whose(&[nobody]).await, None);
    }
    let gone = {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    assert_eq!(node.whose(&[int("process.pid", gone.into())]).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_outside_of_containers_is_known_by_its_host_pid() {
    let node = Node::start().await;
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let whose = node.whose(&[int("process.pid", child.id().into())]).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(whose.map(|(scope, _)| scope).as_deref(), Some("process"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pid_beside_a_container_is_the_containers_own() {
    let node = Node::start().await;
    let id = container_id();
    let namespaced = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", "sleep 600 & wait"];
    let _container = Container::of(&format!("/docker/{id}"), &Hierarchy::ALL, &namespaced);
    let claim = |pid: KeyValue| vec![text("container.id", &id), pid];
    // Pid 1 inside is the shell, pid 2 its child; unshare itself is outside of the namespace.
    for pid in [int("process.pid", 1), text("process.pid", "1"), int("process.pid", 2)] {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while node.whose(&claim(pid.clone())).await != told("process", &id) {
            assert!(std::time::Instant::now() < deadline, "{pid:?} was never found");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // No such process inside: the container is still known.
    assert_eq!(node.whose(&claim(int("process.pid", 4_000_000))).await, told("container", &id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_container_is_found_by_a_late_span() {
    let node = Node::start().await;
    let id = container_id();
    let mut container = Container::busy(&format!("/docker/{id}"));
    assert_eq!(node.whose(&[text("container.id", &id)]).await, told("container", &id));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (began, ended) = (crate::claims::wall(Duration::from_millis(500)), crate::claims::wall(Duration::from_millis(100)));
    container.end();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = node.downstream.of("traces").len();
    let mut late = span(Duration::ZERO, Duration::ZERO);
    (late.start_time_unix_nano, late.end_time_unix_nano) = (began, ended);
    assert_eq!(post(node.agent.http(), "/v1/traces", bytes(vec![text("container.id", &id)], vec![late])).await.status, 200);
    let got = ExportTraceServiceRequest::decode(node.downstream.of("traces")[before].body.clone()).unwrap();
    let span = spans_of(&got)[0];
    assert_eq!(text_of(&span.attributes, "stallspan.scope"), "container");
    assert!(crate::claims::double_of(&span.attributes, "stallspan.coverage") > 0.5, "{span:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_groups_of_a_request_are_two_senders() {
    let node = Node::start().await;
    let (one, two) = (container_id(), container_id());
    let _containers = [Container::idle(&format!("/docker/{one}")), Container::idle(&format!("/docker/{two}"))];
    let recent = || vec![span(Duration::from_millis(60), Duration::from_millis(10))];
    let mut message = crate::claims::request(vec![text("container.id", &one)], recent());
    for claims in [vec![text("container.id", &container_id())], vec![text("container.id", &two)], vec![]] {
        message.resource_spans.extend(crate::claims::request(claims, recent()).resource_spans);
    }
    assert_eq!(post(node.agent.http(), "/v1/traces", message.encode_to_vec()).await.status, 200);
    let got = node.downstream.only_trace();
    let scopes: Vec<bool> = spans_of(&got).iter().map(|span| has(&span.attributes, "stallspan.scope")).collect();
    assert_eq!(scopes, [true, false, true, false]);
    assert_eq!(got.resource_spans[1], message.resource_spans[1]);
    assert_eq!(got.resource_spans[3], message.resource_spans[3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_trust_a_claim_needs_the_connections_owner() {
    let id = container_id();
    let _container = Container::idle(&format!("/docker/{id}"));
    let directory = tempfile::TempDir::new().unwrap();
    let socket = directory.path().join("http.sock");
    let configuration = to_grpc_quietly(Downstream::accepting().await.address);
    for (trust, borrowed) in [(true, true), (false, false)] {
        let downstream = Downstream::accepting().await;
        let (trust, listen) =
            (format!("traces.trust_claims={trust}"), format!("receivers.otlp.protocols.http.endpoint=unix://{}", socket.display()));
        let to = format!("exporters.otlp_grpc.endpoint=http://{}", downstream.address);
        let agent = Agent::start_with(&configuration, &["--set", "traces.max_hold=5s", "--set", &trust, "--set", &listen, "--set", &to]);
        let scope = async |claims: Vec<KeyValue>| {
            let before = downstream.of("traces").len();
            let body = bytes(claims, vec![span(Duration::from_millis(60), Duration::from_millis(10))]);
            assert_eq!(crate::sender::post_to_unix(&socket, "/v1/traces", body).await.status, 200);
            let got = ExportTraceServiceRequest::decode(downstream.of("traces")[before].body.clone()).unwrap();
            let span = spans_of(&got)[0];
            has(&span.attributes, "stallspan.scope").then(|| text_of(&span.attributes, "stallspan.scope").to_owned())
        };
        // The connection is this very process, which is not in the container.
        assert_eq!(scope(vec![text("container.id", &id)]).await, borrowed.then(|| "container".to_owned()), "{trust}");
        assert_eq!(scope(vec![int("process.pid", std::process::id().into())]).await.as_deref(), Some("process"), "{trust}");
        assert_eq!(scope(vec![]).await.as_deref(), Some("process"), "{trust}: the connection alone");
        drop(agent);
    }
}

/// Sends one request over TCP from inside a container, whose shell stays.
fn sender(path: &str, agent: std::net::SocketAddr, claims: Vec<KeyValue>, directory: &std::path::Path) -> Container {
    let body = bytes(claims, vec![span(Duration::from_millis(60), Duration::from_millis(10))]);
    let head = "POST /v1/traces HTTP/1.1\r\nhost: agent\r\ncontent-type: application/x-protobuf\r\nconnection: close\r\n";
    let mut request = format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend(body);
    let file = directory.join("request");
    std::fs::write(&file, request).unwrap();
    let script = format!("exec 3<>/dev/tcp/{}/{}; cat '{}' >&3; cat <&3; exec 3<&-; sleep 600", agent.ip(), agent.port(), file.display());
    Container::of(path, &Hierarchy::ALL, &["bash", "-c", &script])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_this_host_is_known_by_its_tcp_connection_and_cannot_borrow_anothers_delay() {
    let (victim, own) = (container_id(), container_id());
    let _victim = Container::idle(&format!("/docker/{victim}"));
    let path = format!("/docker/{own}");
    let configuration = to_grpc_quietly(Downstream::accepting().await.address);
    let pid = i64::from(_victim.pid());
    for (trust, claims, expected) in [
        ("true", vec![], Some(("process", &own))),
        ("true", vec![text("container.id", &victim)], Some(("container", &victim))),
        ("false", vec![], Some(("process", &own))),
        ("false", vec![text("container.id", &own)], Some(("container", &own))),
        ("false", vec![text("container.id", &victim)], None),
        ("false", vec![int("process.pid", pid)], None),
        ("false", vec![text("container.id", &victim), int("process.pid", 1)], None),
    ] {
        let downstream = Downstream::accepting().await;
        let directory = tempfile::TempDir::new().unwrap();
        let (trust, to) = (format!("traces.trust_claims={trust}"), format!("exporters.otlp_grpc.endpoint=http://{}", downstream.address));
        let agent = Agent::start_with(&configuration, &["--set", "traces.max_hold=8s", "--set", &trust, "--set", &to]);
        let _sender = sender(&path, agent.http(), claims.clone(), directory.path());
        crate::downstream::until("the request", || downstream.of("traces").len().checked_sub(1)).await;
        let got = downstream.only_trace();
        let span = spans_of(&got)[0];
        let scope = has(&span.attributes, "stallspan.scope").then(|| text_of(&span.attributes, "stallspan.scope"));
        let told = scope.map(|scope| (scope, text_of(resource_of(&got), "container.id")));
        assert_eq!(told, expected.map(|(scope, id)| (scope, id.as_str())), "{trust} {claims:?}");
    }
}
