//! Spans of other times: what readings do not cover is told by `coverage`, never by a wrong number, and nobody waits for it.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, double_of, has, span, spans_of, text, text_of, wall};
use crate::downstream::Downstream;
use crate::enriching::{obeys, through, unknown, warmed};
use crate::scene::{Container, container_id};
use crate::sender::post;

const SECOND: u64 = 1_000_000_000;
/// How long a starved machine may take until something holds.
const PATIENCE: Duration = Duration::from_secs(60);

fn coverage(span: &Span) -> f64 {
    double_of(&span.attributes, "stallspan.coverage")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reaches_into_the_future_is_covered_up_to_now_and_not_waited_for() {
    let id = container_id();
    let _container = Container::busy(&format!("/docker/{id}"));
    let downstream = Downstream::accepting().await;
    let agent =
        Agent::start_with(&to_grpc_quietly(downstream.address), &["--set", "traces.max_hold=60s", "--set", "receivers.otlp.max_wait=60s"]);
    warmed(&agent, &downstream, &id).await;
    // An hour ahead: its sender would be kept for a minute if anybody waited for its end.
    let mut ahead = span(Duration::from_millis(400), Duration::ZERO);
    ahead.end_time_unix_nano += 3600 * SECOND;
    let began = Instant::now();
    let got = through(&agent, &downstream, &id, vec![ahead]).await;
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
    let covered = coverage(&got[0]);
    assert!(covered > 0.0 && covered < 0.01, "{covered}");
    assert_eq!(text_of(&got[0].attributes, "stallspan.verdict"), "unknown", "covered by less than a half");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_other_times_do_not_spoil_the_one_beside_them() {
    let id = container_id();
    let _container = Container::busy(&format!("/docker/{id}"));
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    warmed(&agent, &downstream, &id).await;
    let good = || span(Duration::from_millis(200), Duration::from_millis(100));
    let late = span(Duration::from_secs(5 * 3600), Duration::from_secs(5 * 3600 - 1));
    let (mut end_of_time, mut reversed, mut clock_ahead) = (good(), good(), good());
    (end_of_time.start_time_unix_nano, end_of_time.end_time_unix_nano) = (u64::MAX - SECOND, u64::MAX);
    std::mem::swap(&mut reversed.start_time_unix_nano, &mut reversed.end_time_unix_nano);
    // The sender's clock is a day ahead of this node's.
    clock_ahead.start_time_unix_nano += 86_400 * SECOND;
    clock_ahead.end_time_unix_nano += 86_400 * SECOND;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sent = vec![late.clone(), good(), end_of_time.clone(), reversed.clone(), clock_ahead.clone()];
        let got = through(&agent, &downstream, &id, sent).await;
        [0, 2, 3, 4].into_iter().for_each(|other| unknown(&got[other]));
        if coverage(&got[1]) > 0.99 && has(&got[1].attributes, "stallspan.delay.cpu") {
            break;
        }
        // A starved sampler was late for this one.
        assert!(Instant::now() < deadline, "never covered: {:#?}", got[1]);
    }
}

/// Linkerd's proxy sends what it has every 10 s, and the first batch of a quiet service is the first that anybody hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_of_a_container_may_be_as_late_as_a_proxy_is() {
    const LATE: Duration = Duration::from_secs(10);
    let id = container_id();
    let _container = Container::busy(&format!("/docker/{id}"));
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    // Long enough that it has been seen; nobody asks for it meanwhile.
    tokio::time::sleep(LATE + Duration::from_secs(5)).await;
    let batch = vec![
        span(LATE, Duration::from_secs(9)),
        span(Duration::from_secs(5), Duration::from_secs(4)),
        span(Duration::from_secs(1), Duration::ZERO),
    ];
    for got in through(&agent, &downstream, &id, batch).await {
        assert!(coverage(&got) > 0.9 && has(&got.attributes, "stallspan.delay.cpu"), "{got:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_just_began_is_told_as_far_as_it_was_seen() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    for _ in 0..5 {
        let id = container_id();
        // Before it, nobody has read anything of this container; its first spans are older than the process.
        let before = wall(Duration::ZERO);
        let _container = Container::busy(&format!("/docker/{id}"));
        let mut first = span(Duration::ZERO, Duration::ZERO);
        first.start_time_unix_nano = before - SECOND;
        let deadline = Instant::now() + PATIENCE;
        // Held for max_hold at the most, then sent as it is, known or not; `through` sees that it is all there if it is known.
        let mut request = bytes(vec![text("container.id", &id)], vec![first]);
        assert_eq!(post(agent.http(), "/v1/traces", std::mem::take(&mut request)).await.status, 200);
        let got = ExportTraceServiceRequest::decode(downstream.of("traces").last().unwrap().body.clone()).unwrap();
        let got = spans_of(&got)[0].clone();
        if has(&got.attributes, "stallspan.scope") {
            obeys(&got);
            let covered = coverage(&got);
            let told = got.attributes.iter().any(|entry| entry.key.starts_with("stallspan.delay."));
            assert!((covered > 0.0) == told, "a delay and no coverage, or the other way round: {got:#?}");
        }
        warmed(&agent, &downstream, &id).await;
        assert!(Instant::now() < deadline, "readings begin soon");
    }
}
