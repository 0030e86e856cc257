//! SIGTERM under load (contract §3).

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::agent::{Agent, to_grpc, to_grpc_quietly};
use crate::claims::{bytes, recent};
use crate::downstream::{Answer, Downstream, until};
use crate::sender::{Grpc, Page, TRACES, http, post};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_answered_and_nothing_new_taken() {
    let downstream = Downstream::start(|_, got| match got.path.contains("TraceService") {
        true => Answer::Later(Duration::from_millis(1_500)),
        false => Answer::Accept(bytes::Bytes::new()),
    })
    .await;
    let mut agent = Agent::start(&to_grpc(downstream.address));
    let (grpc, http) = (agent.grpc(), agent.http());
    let first = tokio::spawn(async move { Grpc::once(grpc, TRACES, &bytes(vec![], vec![recent()])).await.code() });
    let second = tokio::spawn(async move { post(http, "/v1/traces", bytes(vec![], vec![recent()])).await.status });
    until("both downstream", || (downstream.of("traces").len() == 2).then_some(())).await;
    let mut idle = Grpc::connect(grpc).await;
    assert_eq!(idle.call(crate::sender::LOGS, &[], &[]).await.code(), 0);
    let metrics = downstream.of("metrics").len();
    agent.signal(Signal::TERM);
    let refused = until("no more connections", || std::net::TcpStream::connect(http).err()).await;
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (0, 200));
    let waiting = std::thread::spawn(move || (agent.ended().code(), agent));
    let (code, _agent) = tokio::task::spawn_blocking(|| waiting.join().unwrap()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(downstream.of("metrics").len() > metrics, "a last export of metrics");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_stopping_it_lives_and_is_not_ready() {
    let downstream = Downstream::start(|_, _| Answer::Silence).await;
    let settings =
        ["--set", "service.shutdown_timeout=20s", "--set", "receivers.otlp.max_wait=60s", "--set", "exporters.otlp_grpc.timeout=60s"];
    let mut agent = Agent::start_with(&to_grpc_quietly(downstream.address), &settings);
    let (pages, otlp) = (agent.health(), agent.http());
    let waiting = tokio::spawn(async move { post(otlp, "/v1/traces", bytes(vec![], vec![recent()])).await.status });
    until("downstream", || (downstream.of("traces").len() == 1).then_some(())).await;
    assert_eq!(http(pages, "GET", "/readyz", &[], "").await.status, 200);
    let page = Page::of(pages).await;
    for name in ["stallspan_agent_active_requests", "stallspan_agent_request_memory_bytes", "stallspan_agent_active_connections"] {
        assert!(page.value(name) >= 1.0, "{name} while a request is in flight: {}", page.0);
    }
    agent.signal(Signal::TERM);
    until("no more connections", || std::net::TcpStream::connect(otlp).err()).await;
    for (page, status) in [("/readyz", 503), ("/livez", 200), ("/metrics", 200)] {
        assert_eq!(http(pages, "GET", page, &[], "").await.status, status, "{page}");
    }
    assert_eq!(waiting.await.unwrap(), 503);
    let code = tokio::task::spawn_blocking(move || agent.ended().code()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(std::net::TcpStream::connect(pages).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_answered_in_time_is_refused_as_retryable() {
    let downstream = Downstream::start(|_, _| Answer::Silence).await;
    let settings =
        ["--set", "service.shutdown_timeout=500ms", "--set", "receivers.otlp.max_wait=60s", "--set", "exporters.otlp_grpc.timeout=60s"];
    let mut agent = Agent::start_with(&to_grpc_quietly(downstream.address), &settings);
    let (grpc, http) = (agent.grpc(), agent.http());
    let first = tokio::spawn(async move { Grpc::once(grpc, TRACES, &bytes(vec![], vec![recent()])).await.code() });
    let second = tokio::spawn(async move { post(http, "/v1/traces", bytes(vec![], vec![recent()])).await.status });
    until("both downstream", || (downstream.of("traces").len() == 2).then_some(())).await;
    let began = Instant::now();
    agent.signal(Signal::TERM);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (14, 503));
    assert!(began.elapsed() >= Duration::from_millis(450) && began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    let code = tokio::task::spawn_blocking(move || agent.ended().code()).await.unwrap();
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_what_is_set_by_default_it_ends_within_fifteen_seconds_whoever_does_not_answer() {
    const DRAIN: Duration = Duration::from_secs(15);
    // What a starved machine takes beyond that.
    const LATE: Duration = Duration::from_secs(10);
    let downstream = Downstream::start(|_, _| Answer::Silence).await;
    let settings = ["--set", "receivers.otlp.max_wait=60s", "--set", "exporters.otlp_grpc.timeout=60s"];
    let mut agent = Agent::start_with(&to_grpc_quietly(downstream.address), &settings);
    let (grpc, http) = (agent.grpc(), agent.http());
    let first = tokio::spawn(async move { Grpc::once(grpc, TRACES, &bytes(vec![], vec![recent()])).await.code() });
    let second = tokio::spawn(async move { post(http, "/v1/traces", bytes(vec![], vec![recent()])).await.status });
    until("both downstream", || (downstream.of("traces").len() == 2).then_some(())).await;
    // Says nothing and stays.
    let _mute = tokio::net::TcpStream::connect(http).await.unwrap();
    let began = Instant::now();
    agent.signal(Signal::TERM);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (14, 503), "retryable");
    let (code, took) = tokio::task::spawn_blocking(move || (agent.ended().code(), began.elapsed())).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(took > DRAIN / 2 && took < DRAIN + LATE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_it_ends_in_time_and_loses_nothing_acknowledged() {
    let downstream = Downstream::accepting().await;
    let mut agent = Agent::start(&to_grpc(downstream.address));
    let (grpc, http) = (agent.grpc(), agent.http());
    let senders: Vec<_> = (0..6_u32)
        .map(|sender| {
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0..100_000_u32 {
                    let mut span = recent();
                    span.name = format!("{sender}-{number}");
                    let sent = bytes(vec![], vec![span]);
                    let body = sent.clone();
                    let sending = tokio::spawn(async move {
                        if sender % 2 == 0 {
                            Grpc::once(grpc, TRACES, &body).await.code() == 0
                        } else {
                            post(http, "/v1/traces", body).await.status == 200
                        }
                    });
                    match sending.await {
                        Ok(true) => acknowledged.push(sent),
                        Ok(false) => {}
                        // Not even connected: it has gone.
                        Err(_) => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    until("some load", || (downstream.of("traces").len() > 200).then_some(())).await;
    agent.signal(Signal::TERM);
    let code = tokio::task::spawn_blocking(move || agent.ended().code()).await.unwrap();
    assert_eq!(code, Some(0));
    let accepted: std::collections::HashSet<_> =
        downstream.of("traces").into_iter().filter(|got| got.accepted).map(|got| got.body).collect();
    for sender in senders {
        for sent in sender.await.unwrap() {
            assert!(accepted.contains(&sent[..]), "acknowledged, and never accepted downstream");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_request_in_flight_does_not_keep_it_and_nothing_else_does() {
    // Tasks are given a second at the end, which a starved machine may not have for them; what never ends is there each time.
    for _ in 0..3 {
        if stopped_among_idle_peers().await {
            return;
        }
    }
    panic!("some task never ends");
}

/// Whether all of the agent's tasks ended before it did.
async fn stopped_among_idle_peers() -> bool {
    let downstream = Downstream::accepting().await;
    let settings = ["--set", "service.shutdown_timeout=600s", "--set", "service.telemetry.logs.level=debug"];
    let mut agent = Agent::start_with(&to_grpc(downstream.address), &settings);
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![recent()])).await.status, 200);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let begun = |address, first: &[u8]| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, first).unwrap();
        stream
    };
    let (grpc, http) = (agent.grpc(), agent.http());
    // None of them reads what it is told.
    let kept = [(http, &preface[..]), (grpc, preface), (http, b"POST /v1/tra"), (http, b""), (grpc, b""), (agent.health(), b"GET")]
        .map(|(address, first)| begun(address, first));
    let mut idle = Grpc::connect(http).await;
    let _any_answer = idle.call("/v1/traces", &[], &[]).await;
    agent.signal(Signal::TERM);
    let (code, log) = tokio::task::spawn_blocking(move || (agent.ended().code(), agent.log())).await.unwrap();
    assert_eq!(code, Some(0));
    drop(kept);
    !log.iter().any(|line| line.contains("before all of its tasks"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_changes_nothing_and_quit_is_a_stop() {
    let downstream = Downstream::accepting().await;
    let mut agent = Agent::start(&to_grpc_quietly(downstream.address));
    agent.signal(Signal::HUP);
    until("a line about it", || agent.log().iter().any(|line| line.contains("SIGHUP") && line.contains("restart to apply")).then_some(()))
        .await;
    assert_eq!(post(agent.http(), "/v1/traces", bytes(vec![], vec![recent()])).await.status, 200);
    agent.signal(Signal::QUIT);
    let code = tokio::task::spawn_blocking(move || agent.ended().code()).await.unwrap();
    assert_eq!(code, Some(0));
}
