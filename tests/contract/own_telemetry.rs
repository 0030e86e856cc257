//! `service.telemetry`: the agent's own records, spans and counters leave through its exporters, never through its hop.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, recent, resource_of, spans_of, text_of};
use crate::downstream::{Downstream, until};
use crate::sender::{http, post};

const OWN: &str =
    "logs: { exporters: [otlp_grpc] }, traces: { exporters: [otlp_grpc], sampling_ratio: 1.0 }, metrics: { exporters: [otlp_grpc] }";

#[tokio::test(flavor = "multi_thread")]
async fn its_own_telemetry_arrives_downstream_and_never_passes_its_hop() {
    let downstream = Downstream::accepting().await;
    let configuration = to_grpc_quietly(downstream.address)
        .replace("service: {", &format!("service: {{ telemetry: {{ {OWN} }},"))
        .replace("containers:", "sources: { collection_interval: 1s }\ncontainers:");
    let agent = Agent::start(&configuration);
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![recent(); 3])).await.status, 200);
    let own = |request: &ExportTraceServiceRequest| text_of(resource_of(request), "service.name") == "stallspan";
    let hop = until("a span about the hop's work", || {
        let all = downstream.of("traces").into_iter().map(|got| ExportTraceServiceRequest::decode(got.body).unwrap());
        all.filter(|request| !resource_of(request).is_empty()).find(own)
    })
    .await;
    assert!(spans_of(&hop).iter().any(|span| span.name == "hop"));
    until("own records", || (!downstream.of("logs").is_empty()).then_some(())).await;
    until("own counters", || (!downstream.of("metrics").is_empty()).then_some(())).await;
    let page = http(agent.health(), "GET", "/metrics", &[], "").await;
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(
        text.contains("stallspan_agent_spans_total{stallspan_outcome=\"received\"} 3\n"),
        "its own spans were received by itself:\n{text}"
    );
}
