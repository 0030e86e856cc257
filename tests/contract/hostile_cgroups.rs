//! What a container does inside its own cgroup is its own affair: names of any bytes, deep trees, many children.

use std::time::Duration;

use crate::agent::{Agent, to_grpc};
use crate::claims::{bytes, has, resource_of, span, spans_of, text, text_of};
use crate::downstream::{Downstream, until};
use crate::scene::{Container, container_id};
use crate::sender::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// Not UTF-8, and a terminal's escape sequence.
const NOT_TEXT: &[u8] = b"\xff\xfe\x1b[31m (deleted)";
/// The longest name a cgroup may have.
const LONGEST: usize = 255;
/// With the container's own path just below what a path may have, 4096 bytes.
const LEVELS: usize = 14;

async fn told(agent: &Agent, downstream: &Downstream, id: &str) -> (bool, String) {
    let before = downstream.of("traces").len();
    let spans = vec![span(Duration::from_millis(300), Duration::from_millis(10))];
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![text("container.id", id)], spans)).await.status, 200);
    let got = ExportTraceServiceRequest::decode(downstream.of("traces")[before].body.clone()).unwrap();
    let span = spans_of(&got)[0];
    let covered = has(&span.attributes, "stallspan.delay.cpu");
    (covered, text_of(resource_of(&got), "container.id").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_bytes_and_deep_trees_inside_a_container_are_the_containers() {
    let downstream = Downstream::accepting().await;
    let id = container_id();
    let mut container = Container::busy(&format!("/docker/{id}"));
    container.nest(NOT_TEXT);
    for level in 0..LEVELS {
        container.nest(&[b"\xf0x"[level % 2]; LONGEST]);
    }
    let agent = Agent::start_with(&to_grpc(downstream.address), &["--set", "traces.max_hold=5s"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while told(&agent, &downstream, &id).await != (true, id.clone()) {
        assert!(std::time::Instant::now() < deadline, "the container was never known with its waiting");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metric = "stallspan.container.cpu.run.time";
    let of_container = until("its metrics", || {
        let resources = downstream.resource_metrics();
        resources.into_iter().find(|one| {
            one.resource.as_ref().is_some_and(|one| has(&one.attributes, "container.id") && text_of(&one.attributes, "container.id") == id)
        })
    })
    .await;
    assert!(of_container.scope_metrics.iter().flat_map(|scope| &scope.metrics).any(|one| one.name == metric), "{of_container:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_many_children_is_served_like_any_other() {
    let downstream = Downstream::accepting().await;
    let id = container_id();
    let mut container = Container::busy(&format!("/docker/{id}"));
    container.litter(400);
    let agent = Agent::start_with(&to_grpc(downstream.address), &["--set", "traces.max_hold=5s"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while told(&agent, &downstream, &id).await != (true, id.clone()) {
        assert!(std::time::Instant::now() < deadline, "the container was never known with its waiting");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
