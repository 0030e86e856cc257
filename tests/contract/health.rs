//! `/livez`, `/readyz`, `/metrics`, `/debug/spans`.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, recent, spans_of, text};
use crate::downstream::{Answer, Downstream, Got, until};
use crate::scene::{Container, container_id};
use crate::sender::{Grpc, Page, TRACES, http, post};

#[tokio::test(flavor = "multi_thread")]
async fn pages_tell_that_it_lives_is_ready_and_what_it_counted() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    for page in ["/livez", "/readyz"] {
        assert_eq!(http(agent.health(), "GET", page, &[], "").await.status, 200, "{page}");
    }
    for page in ["/nothing", "/debug/spans"] {
        assert_eq!(http(agent.health(), "GET", page, &[], "").await.status, 404, "{page}");
    }
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![recent(); 5])).await.status, 200);
    let page = http(agent.health(), "GET", "/metrics", &[], "").await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let told = String::from_utf8(page.body.to_vec()).unwrap();
    let value = |line: &str| told.lines().find_map(|found| found.strip_prefix(line)).map(str::trim).map(str::to_owned);
    assert_eq!(value("stallspan_agent_spans_total{stallspan_outcome=\"received\"}").as_deref(), Some("5"), "{told}");
    for line in told.lines() {
        let comment = line.starts_with("# HELP ") || line.starts_with("# TYPE ");
        let sample = line.rsplit_once(' ').is_some_and(|(name, value)| name.starts_with("stallspan_") && value.parse::<f64>().is_ok());
        assert!(comment || sample || line.is_empty(), "no line of the text format: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_counted_once_what_becomes_of_them_is_known() {
    // The first is never answered.
    let downstream = Downstream::start(|number, _| match number {
        0 => Answer::Silence,
        number if number % 3 == 2 => Answer::Grpc(3, vec![]),
        _ => Answer::Accept(bytes::Bytes::new()),
    })
    .await;
    let settings = ["--set", "receivers.otlp.max_wait=100s", "--set", "exporters.otlp_grpc.timeout=100s"];
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &settings);
    let counted = async || {
        let page = Page::of(agent.health()).await;
        (["received", "forwarded", "refused", "failed"].map(|outcome| page.spans(outcome) as u64), page.active_requests() as u64)
    };
    let address = agent.http();
    let waiting = tokio::spawn(async move { post(address, "/v1/traces", bytes(vec![], vec![recent(); 4])).await });
    until("downstream", || (downstream.of("traces").len() == 1).then_some(())).await;
    assert_eq!(counted().await, ([0; 4], 1), "in flight");
    waiting.abort();
    let mut sent = 0;
    for spans in 1..20 {
        let reply = post(agent.http(), "/v1/traces", bytes(vec![], vec![recent(); spans])).await;
        assert!([200, 400].contains(&reply.status), "{reply:?}");
        sent += spans as u64;
    }
    let accepted: usize = downstream.of("traces").into_iter().filter(|got| got.accepted).map(spans_in).sum();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let ([received, forwarded, refused, failed], active) = counted().await;
        assert_eq!(received, forwarded + refused + failed, "at every instant");
        assert_eq!(forwarded, accepted as u64);
        if active == 0 {
            assert_eq!((received, refused + failed), (sent + 4, sent + 4 - accepted as u64));
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the one that hung up is counted");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn spans_in(got: Got) -> usize {
    spans_of(&ExportTraceServiceRequest::decode(got.body).unwrap()).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_not_taken_are_counted_by_reason() {
    let downstream = Downstream::accepting().await;
    let set = ["--set", "receivers.otlp.protocols.http.max_request_body_size=1000"];
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &set);
    assert_eq!(post(agent.http(), "/v1/traces", vec![0x7a; 2000]).await.status, 413);
    let json = [("content-type", "application/json")];
    for _ in 0..2 {
        assert_eq!(http(agent.http(), "POST", "/v1/traces", &json, "no JSON").await.status, 400);
    }
    // More fields than are read.
    let long = "y".repeat(40_000);
    let reply = Grpc::connect(agent.grpc()).await.call(TRACES, &[("x", &long)], &[]).await;
    assert_eq!(reply.status, 431, "{reply:?}");
    // Nobody takes metrics here.
    assert_eq!(post(agent.http(), "/v1/metrics", bytes::Bytes::new()).await.status, 404);
    let page = http(agent.health(), "GET", "/metrics", &[], "").await;
    let told = String::from_utf8(page.body.to_vec()).unwrap();
    for line in [
        "stallspan_agent_turned_away_requests_total{stallspan_reason=\"too_large\"} 1",
        "stallspan_agent_turned_away_requests_total{stallspan_reason=\"malformed\"} 3",
        "stallspan_agent_turned_away_connections_total{stallspan_reason=\"too_many\"} 0",
        "stallspan_agent_requests_total{stallspan_signal=\"metrics\",stallspan_outcome=\"refused\"} 1",
    ] {
        assert!(told.lines().any(|found| found == line), "{line}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_spans_tells_senders_and_what_became_of_their_spans() {
    let downstream = Downstream::start(|number, _| match number {
        0 => Answer::Accept(bytes::Bytes::new()),
        _ => Answer::Grpc(3, vec![("grpc-message", "not again".to_owned())]),
    })
    .await;
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &["--set", "extensions.health_check.debug_spans=true"]);
    let id = container_id();
    let _container = Container::idle(&format!("/docker/{id}"));
    let mine = |spans| bytes(vec![text("container.id", &id)], vec![recent(); spans]);
    assert_eq!(post(agent.http(), "/v1/traces", mine(5)).await.status, 200);
    assert_eq!(post(agent.http(), "/v1/traces", mine(2)).await.status, 400);
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![text("container.id", "none")], vec![recent()])).await.status, 400);
    let page = http(agent.health(), "GET", "/debug/spans", &[], "").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let row = |sender: &str| page.lines().find(|line| line.contains(sender)).unwrap_or_else(|| panic!("{sender}: {page}")).to_owned();
    let counts = |line: &str| line.split_whitespace().skip(4).take(4).map(|count| count.parse().unwrap()).collect::<Vec<u64>>();
    assert_eq!(counts(&row(&id[..12])), [2, 5, 2, 0], "{page}");
    assert!(row(&id[..12]).ends_with("InvalidArgument: not again"), "{page}");
    assert_eq!(page.lines().count(), 5, "two senders: {page}");
}
