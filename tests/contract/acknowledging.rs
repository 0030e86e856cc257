//! The sender's answer is downstream's answer (contract §5, "Ack").

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::agent::{Agent, BASE, to_grpc_quietly};
use crate::claims::{bytes, recent};
use crate::downstream::{Answer, Downstream, until};
use crate::passing::status_of;
use crate::sender::{Grpc, LOGS, METRICS, Page, TRACES, post};

/// Both a known partial success and fields nobody knows.
const PARTIAL: &[u8] = &[0x0A, 0x09, 0x08, 0x05, 0x12, 0x03, b'n', b'o', b'!', 0x78, 0x01, 0x9A, 0x06, 0x01, 0xFF];

fn two(first: &Downstream, second: &Downstream) -> String {
    format!(
        "{BASE}exporters:\n  otlp_grpc/one: {{ endpoint: \"http://{}\", retry_on_failure: {{ initial_interval: 50ms }} }}\n  \
         otlp_http/two: {{ endpoint: \"http://{}\", retry_on_failure: {{ initial_interval: 50ms }} }}\n\
         service: {{ pipelines: {{ traces: {{ exporters: [otlp_grpc/one, otlp_http/two] }} }} }}\n",
        first.address, second.address
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_exporters_message_is_relayed_byte_for_byte() {
    let first = Downstream::start(|_, _| Answer::Accept(Bytes::from_static(PARTIAL))).await;
    let second = Downstream::start(|_, _| Answer::Accept(Bytes::from_static(b"\x0A\x02\x08\x01"))).await;
    let agent = Agent::start(&two(&first, &second));
    let reply = Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await;
    assert_eq!((reply.code(), &reply.message()[..]), (0, PARTIAL));
    let reply = post(agent.http(), "/v1/traces", bytes(vec![], vec![recent()])).await;
    assert_eq!((reply.status, &reply.body[..]), (200, PARTIAL));
    assert_eq!((first.got().len(), second.got().len()), (2, 2));
    let agent = Agent::start(&two(&first, &second).replace("[otlp_grpc/one, otlp_http/two]", "[otlp_http/two, otlp_grpc/one]"));
    let reply = Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await;
    assert_eq!(&reply.message()[..], b"\x0A\x02\x08\x01");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_must_accept_and_a_failure_is_retryable_if_any_is() {
    let accepting = Downstream::accepting().await;
    let unauthorized = Downstream::start(|_, _| Answer::Http(401, vec![], Bytes::new())).await;
    let agent = Agent::start(&two(&accepting, &unauthorized));
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 16);
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![recent()])).await.status, 401);
    // One refuses for good, the other for now.
    let unavailable = Downstream::start(|_, _| Answer::Grpc(14, vec![])).await;
    let agent = Agent::start_with(&two(&unavailable, &unauthorized), &["--set", "receivers.otlp.max_wait=5s"]);
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 14);
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![recent()])).await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_may_pass_are_retried_and_the_others_are_not() {
    // gRPC codes that are tried again; RESOURCE_EXHAUSTED (8) only with RetryInfo.
    for code in 1..=16_u16 {
        let downstream =
            Downstream::start(move |number, _| if number == 0 { Answer::Grpc(code, vec![]) } else { Answer::Accept(Bytes::new()) }).await;
        let agent = Agent::start(&to_grpc_quietly(downstream.address));
        let reply = Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await;
        let again = [1, 4, 10, 11, 14, 15].contains(&code);
        assert_eq!((reply.code(), downstream.got().len()), if again { (0, 2) } else { (code, 1) }, "code {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resource_exhausted_is_retried_with_retry_info() {
    // google.rpc.Status { code: 8, details: [RetryInfo { retry_delay: 0.1 s }] }
    let duration: &[u8] = &[0x0A, 0x05, 0x10, 0x80, 0xC2, 0xD7, 0x2F];
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let any = [&[0x0A, url.len() as u8][..], url, &[0x12, duration.len() as u8], duration].concat();
    let status = [&[0x08, 8, 0x1A, any.len() as u8][..], &any].concat();
    let details = base64(&status);
    let downstream = Downstream::start(move |number, _| {
        if number == 0 { Answer::Grpc(8, vec![("grpc-status-details-bin", details.clone())]) } else { Answer::Accept(Bytes::new()) }
    })
    .await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 0);
    let got = downstream.got();
    assert_eq!(got.len(), 2);
    assert!(got[1].at - got[0].at >= Duration::from_millis(95), "the delay asked for is kept: {:?}", got[1].at - got[0].at);
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|digit| out.push(DIGITS[(all >> (18 - 6 * digit) & 63) as usize].into()));
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn http_refusals_that_may_pass_are_retried() {
    for status in [400_u16, 401, 403, 404, 408, 413, 429, 500, 501, 502, 503, 504] {
        let downstream =
            Downstream::start(
                move |number, _| if number == 0 { Answer::Http(status, vec![], Bytes::new()) } else { Answer::Accept(Bytes::new()) },
            )
            .await;
        let agent = Agent::start(&to_grpc_quietly(downstream.address).replace("otlp_grpc", "otlp_http"));
        let reply = Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await;
        let expected = match status {
            429 | 502 | 503 | 504 => (0, 2),
            400 => (3, 1),
            401 => (16, 1),
            403 => (7, 1),
            404 => (12, 1),
            413 => (8, 1),
            _ => (13, 1),
        };
        assert_eq!((reply.code(), downstream.got().len()), expected, "status {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_passes_ends_with_the_last_refusal() {
    let downstream = Downstream::start(|_, _| Answer::Grpc(14, vec![("grpc-message", "later please".to_owned())])).await;
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &["--set", "receivers.otlp.max_wait=5s"]);
    let began = Instant::now();
    let reply = Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await;
    assert_eq!(reply.code(), 14, "{reply:?}");
    assert!(reply.grpc("grpc-message").contains("later please"), "{reply:?}");
    assert!(
        began.elapsed() < Duration::from_secs(40) && downstream.got().len() >= 3,
        "{:?}, {} attempts",
        began.elapsed(),
        downstream.got().len()
    );
    let reply = post(agent.http(), "/v1/traces", bytes(vec![], vec![recent()])).await;
    assert_eq!((reply.status, status_of(&reply).0), (503, 14));
    // The sender's own deadline is nearer.
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &["--set", "receivers.otlp.max_wait=60s"]);
    let began = Instant::now();
    let mut connection = Grpc::connect(agent.grpc()).await;
    let reply = connection.call(TRACES, &[("grpc-timeout", "1S")], &bytes(vec![], vec![recent()])).await;
    assert!([4, 14].contains(&reply.code()), "{reply:?}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn max_elapsed_time_ends_the_attempts_too() {
    let downstream = Downstream::start(|_, _| Answer::Grpc(14, vec![])).await;
    let settings = ["--set", "exporters.otlp_grpc.retry_on_failure.max_elapsed_time=300ms", "--set", "receivers.otlp.max_wait=60s"];
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &settings);
    let began = Instant::now();
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 14);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &["--set", "exporters.otlp_grpc.retry_on_failure.enabled=false"]);
    let before = downstream.got().len();
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 14);
    assert_eq!(downstream.got().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_behind_it_is_a_refusal_that_may_pass() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for exporter in ["otlp_grpc", "otlp_http"] {
        let configuration = to_grpc_quietly(port).replace("otlp_grpc", exporter);
        let agent = Agent::start_with(&configuration, &["--set", "receivers.otlp.max_wait=5s"]);
        assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 14, "{exporter}");
        assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![recent()])).await.status, 503, "{exporter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_goes_away_ends_its_attempts() {
    let downstream = Downstream::start(|_, _| Answer::Grpc(14, vec![])).await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    let address = agent.grpc();
    let sending = tokio::spawn(async move { Grpc::once(address, TRACES, &bytes(vec![], vec![recent()])).await });
    until("an attempt", || (!downstream.got().is_empty()).then_some(())).await;
    sending.abort();
    let _ = sending.await;
    // Attempts that were under way may still arrive; then nothing more.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let settled = downstream.got().len();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(downstream.got().len(), settled);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_while_downstream_is_silent_leaves_nothing_behind() {
    use tokio::io::AsyncWriteExt;

    let silent = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&silent);
    let downstream = Downstream::start(move |_, _| match still.load(Ordering::SeqCst) {
        true => Answer::Silence,
        false => Answer::Accept(Bytes::new()),
    })
    .await;
    let settings = ["--set", "receivers.otlp.max_wait=100s", "--set", "exporters.otlp_grpc.timeout=100s"];
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &settings);
    let body = bytes(vec![], vec![recent()]);
    let mut hung_up = Vec::new();
    for _ in 0..3 {
        let mut stream = tokio::net::TcpStream::connect(agent.http()).await.unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        hung_up.push(stream);
        let (address, body) = (agent.grpc(), body.clone());
        hung_up.push({
            let sending = tokio::spawn(async move { Grpc::once(address, TRACES, &body).await });
            until("downstream", || (downstream.of("traces").len() == hung_up.len() + 1).then_some(())).await;
            sending.abort();
            let _ = sending.await;
            tokio::net::TcpStream::connect(agent.grpc()).await.unwrap()
        });
    }
    drop(hung_up);
    let outcomes = ["forwarded", "refused", "failed"];
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let page = Page::of(agent.health()).await;
        let told = outcomes.map(|outcome| page.spans(outcome));
        let held = [page.active_requests(), page.value("stallspan_agent_request_memory_bytes")];
        if told[1] + told[2] == 6.0 && held == [0.0, 0.0] {
            break;
        }
        assert!(Instant::now() < deadline, "{told:?}, {held:?} of six spans whose senders hung up: {}", page.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    silent.store(false, Ordering::SeqCst);
    assert_eq!(post(agent.http(), "/v1/traces", body.clone()).await.status, 200);
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &body).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_that_was_not_accepted() {
    // Refuses in every way it can, and accepts every fourth request.
    let downstream = Downstream::start(|number, _| match number % 4 {
        0 => Answer::Grpc(14, vec![]),
        1 => Answer::Grpc(3, vec![]),
        2 => Answer::Grpc(8, vec![]),
        _ => Answer::Accept(Bytes::new()),
    })
    .await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    let (grpc, http, working) = (agent.grpc(), agent.http(), Arc::new(AtomicBool::new(true)));
    let senders: Vec<_> = (0..4_u64)
        .map(|sender| {
            let working = Arc::clone(&working);
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0..40_u64 {
                    if !working.load(Ordering::SeqCst) {
                        break;
                    }
                    let mut span = recent();
                    span.name = format!("{sender}-{number}");
                    let sent = bytes(vec![], vec![span]);
                    let accepted = if sender % 2 == 0 {
                        Grpc::once(grpc, TRACES, &sent).await.code() == 0
                    } else {
                        post(http, "/v1/traces", sent.clone()).await.status == 200
                    };
                    if accepted {
                        acknowledged.push(sent);
                    }
                }
                acknowledged
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for sender in senders {
        acknowledged.extend(sender.await.unwrap());
    }
    working.store(false, Ordering::SeqCst);
    let accepted: Vec<_> = downstream.got().into_iter().filter(|got| got.accepted).map(|got| got.body).collect();
    assert!(acknowledged.len() > 20 && acknowledged.len() < 160, "{}", acknowledged.len());
    for sent in &acknowledged {
        assert!(accepted.iter().any(|body| body == sent), "acknowledged, and never accepted downstream");
    }
    assert_eq!(accepted.len(), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_logs_are_acknowledged_the_same_way() {
    let downstream = Downstream::start(|_, _| Answer::Grpc(7, vec![("grpc-message", "no".to_owned())])).await;
    let agent = Agent::start(&crate::agent::to_grpc(downstream.address));
    for path in [METRICS, LOGS] {
        let reply = Grpc::once(agent.grpc(), path, &[]).await;
        assert_eq!((reply.code(), reply.grpc("grpc-message")), (7, "no"));
    }
}
