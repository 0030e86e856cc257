//! How long connections last, as configured: age, idleness, signs of life asked and signs of life refused.

use std::time::Duration;

use bytes::Bytes;
use stallspan::config::meaning::{ClientKeepalive, Exporter, OtlpExporter, Retry, ServerKeepalive};
use stallspan::export::Exporters;
use stallspan::model::{Code, Signal};
use stallspan::runtime::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use crate::downstream::{Act, Downstream, exporters, otlp};
use crate::hostile::{END_HEADERS, HEADERS, PING, block, frame, raw};
use crate::peers;
use crate::rig::{Hop, PATIENCE, Recorder, TRACES, call, framed, gate, http2, limits, receiver, until};

async fn hop(keepalive: ServerKeepalive, handler: Recorder) -> Hop {
    let mut receiver = receiver();
    if let Some(grpc) = &mut receiver.grpc {
        grpc.keepalive = keepalive;
    }
    receiver.max_wait = PATIENCE;
    Hop::start_with(handler, receiver, limits()).await
}

const AGED: ServerKeepalive = ServerKeepalive {
    max_connection_age: Some(Duration::from_millis(100)),
    max_connection_idle: None,
    max_connection_age_grace: None,
    time: PATIENCE,
    timeout: PATIENCE,
    min_time: Duration::ZERO,
    permit_without_stream: true,
};

/// Accepts after a moment, so that calls run while connections take leave.
fn thoughtful() -> Recorder {
    Recorder::answering(|_| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Bytes::new())
    })
}

/// Eight calls at a time until twenty connections have taken leave; how many there were.
async fn calls_over_twenty_connections<F>(hop: &Hop, call: impl Fn() -> F) -> usize
where
    F: Future<Output = ()> + Send + 'static,
{
    let (begun, mut calls) = (Instant::now(), 0);
    while hop.counters.connections_accepted.get() < 20 {
        assert!(begun.elapsed() < PATIENCE, "only {} connections", hop.counters.connections_accepted.get());
        for sent in (0..8).map(|_| tokio::spawn(call())).collect::<Vec<_>>() {
            sent.await.unwrap();
            calls += 1;
        }
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_age_take_leave_and_no_request_is_lost() {
    let recorder = thoughtful();
    let hop = hop(AGED, recorder.clone()).await;
    let base = otlp(format!("http://{}", hop.grpc()));
    let once = OtlpExporter { retry: Retry { enabled: false, ..base.retry }, ..base };
    let exporters = Exporters::open(&exporters(vec![("out", Exporter::OtlpGrpc(once))]), &Tasks::new()).unwrap();
    let calls = calls_over_twenty_connections(&hop, || {
        let exporters = exporters.clone();
        async move {
            let answer = exporters.send(&["out".to_owned()], Signal::Traces, Bytes::new(), Instant::now() + PATIENCE).await;
            answer.expect("no call is lost, without any retry");
        }
    });
    let calls = calls.await;
    assert_eq!(recorder.count(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_a_client_nobody_here_wrote_lose_what_it_has_sent() {
    let recorder = thoughtful();
    let hop = hop(AGED, recorder.clone()).await;
    let (client, request) = (peers::client(hop.grpc()).await, peers::spans(10));
    let calls = calls_over_twenty_connections(&hop, || {
        let (mut client, request) = (client.clone(), request.clone());
        async move {
            // hyper cancels what it was given and had not sent yet when the connection was told to end, and tells what it
            // opened behind the last stream as an error of transport. Neither was taken up.
            while let Err(status) = client.export(request.clone()).await {
                assert!(matches!(status.code(), tonic::Code::Cancelled | tonic::Code::Unknown), "{status}");
            }
        }
    });
    let calls = calls.await;
    assert_eq!(recorder.count(), calls, "none was taken and not answered");
}

#[tokio::test]
async fn calls_of_an_old_connection_have_the_grace_and_are_refused_as_retryable_then() {
    let keepalive = ServerKeepalive {
        max_connection_age: Some(Duration::from_millis(300)),
        max_connection_age_grace: Some(Duration::from_millis(300)),
        ..ServerKeepalive::default()
    };
    let hop = hop(keepalive, Recorder::answering(|_| std::future::pending())).await;
    let reply = timeout(PATIENCE, async { call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, b"x")).await }).await.unwrap();
    assert_eq!(reply.code(), "14", "{reply:?}");
    assert!(reply.header("grpc-message").contains("max_connection_age"), "{reply:?}");
    until("the connection has ended", || hop.counters.connections_ended.get() == 1).await;
}

#[tokio::test]
async fn an_unused_connection_is_closed_and_one_with_a_call_is_not() {
    let keepalive = ServerKeepalive { max_connection_idle: Some(Duration::from_millis(200)), ..ServerKeepalive::default() };
    let (recorder, gate) = gate();
    let hop = hop(keepalive, recorder.clone()).await;
    let client = http2(hop.grpc()).await;
    let mut stream = client.clone();
    let running = tokio::spawn(async move { call(&mut stream, TRACES, &[], framed(false, b"x")).await });
    until("the call is there", || recorder.count() == 1).await;
    let unused = http2(hop.grpc()).await;
    until("the unused one is closed", || unused.is_closed()).await;
    assert!(!client.is_closed(), "idle means without calls");
    gate.add_permits(1);
    assert_eq!(running.await.unwrap().code(), "0");
    until("and so is the other one after its call", || client.is_closed()).await;
}

/// Everything a server says until it hangs up.
async fn last_words(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it hangs up").unwrap();
    said
}

#[tokio::test]
async fn who_pings_too_often_is_told_to_be_calm() {
    let hop = hop(ServerKeepalive::default(), Recorder::accepting()).await;
    let mut stream = raw(&hop).await;
    stream.write_all(&frame(PING, 0, 0, &[7; 8]).repeat(4)).await.unwrap();
    let said = last_words(&mut stream).await;
    // GOAWAY, ENHANCE_YOUR_CALM, and the word gRPC clients know.
    assert!(said.ends_with(b"\0\0\0\x0btoo_many_pings"), "{said:?}");
    let patient = ServerKeepalive { min_time: Duration::ZERO, ..ServerKeepalive::default() };
    let hop = self::hop(patient, Recorder::accepting()).await;
    let mut stream = raw(&hop).await;
    stream.write_all(&frame(PING, 0, 0, &[7; 8]).repeat(100)).await.unwrap();
    let mut head = frame(HEADERS, END_HEADERS, 1, &block(TRACES)).to_vec();
    head.extend_from_slice(&frame(0, 1, 1, &framed(false, b"x")));
    stream.write_all(&head).await.unwrap();
    let mut said = Vec::new();
    let accepted = b"grpc-status";
    let reading =
        async { while !said.windows(accepted.len()).any(|piece| piece == accepted) && stream.read_buf(&mut said).await.unwrap() > 0 {} };
    timeout(PATIENCE, reading).await.unwrap();
    let pong = frame(PING, 1, 0, &[7; 8]);
    assert_eq!(said.windows(pong.len()).filter(|piece| *piece == &pong[..]).count(), 100, "each is answered");
}

fn watched(endpoint: String, milliseconds: u64) -> Exporters {
    let every = Duration::from_millis(milliseconds);
    let keepalive = Some(ClientKeepalive { time: every, timeout: every, permit_without_stream: false });
    let base = otlp(endpoint);
    let config = OtlpExporter { keepalive, timeout: PATIENCE, retry: Retry { enabled: false, ..base.retry }, ..base };
    Exporters::open(&exporters(vec![("out", Exporter::OtlpGrpc(config))]), &Tasks::new()).unwrap()
}

#[tokio::test]
async fn a_downstream_without_a_sign_of_life_is_given_up_long_before_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let taking = tokio::spawn(async move {
        let (mut stream, _) = silent.accept().await.unwrap();
        let mut got = Vec::new();
        let _ended = stream.read_to_end(&mut got).await;
        got
    });
    let exporters = watched(format!("http://{address}"), 200);
    let begun = Instant::now();
    let answer = exporters.send(&["out".to_owned()], Signal::Traces, Bytes::new(), begun + 2 * PATIENCE).await;
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.code, Code::Unavailable);
    assert!(refusal.message.contains("no sign of life"), "{refusal:?}");
    let got = timeout(PATIENCE, taking).await.unwrap().unwrap();
    let ping = frame(PING, 0, 0, b"stallspn");
    assert_eq!(got.windows(ping.len()).filter(|piece| *piece == &ping[..]).count(), 1);
}

#[tokio::test]
async fn a_downstream_that_lives_may_think_for_as_long_as_the_deadline_allows() {
    let downstream = Downstream::start(|number| if number == 0 { Act::Hang } else { Act::Accept(Bytes::new()) }).await;
    let exporters = watched(format!("http://{}", downstream.address), 100);
    let out = ["out".to_owned()];
    let hanging = exporters.send(&out, Signal::Traces, Bytes::new(), Instant::now() + Duration::from_secs(2)).await;
    assert_eq!(hanging.unwrap_err().code, Code::DeadlineExceeded, "many signs of life later");
    exporters.send(&out, Signal::Traces, Bytes::new(), Instant::now() + PATIENCE).await.unwrap();
}
