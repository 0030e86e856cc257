//! SIGTERM: no new work, answers for what is in flight, retryable refusals for the rest.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::rig::{Hop, PATIENCE, PROTOBUF, Recorder, TRACES, call, framed, gate, http1, http2, post, until};

#[tokio::test]
async fn requests_in_flight_are_answered_and_nothing_new_is_taken() {
    let (recorder, gate) = gate();
    let hop = Hop::start(recorder.clone()).await;
    let (grpc, http) = (hop.grpc(), hop.http());
    let mut other = http2(grpc).await;
    let mut stream = other.clone();
    let by_grpc = tokio::spawn(async move { call(&mut stream, TRACES, &[], framed(false, b"x")).await });
    let by_http = tokio::spawn(async move { post(&mut http1(http).await, "POST", "/v1/traces", &[PROTOBUF], Bytes::new()).await });
    let idle = http1(http).await;
    until("both are in flight", || recorder.count() == 2).await;
    let tasks = hop.tasks.clone();
    let running = hop.running;
    let stopping = tokio::spawn(async move { running.shutdown(Duration::from_secs(10)).await });
    until("idle connections are closed", || idle.is_closed()).await;
    for address in [grpc, http] {
        let start = Instant::now();
        while TcpStream::connect(address).await.is_ok() {
            assert!(start.elapsed() < PATIENCE, "still listening on {address}");
        }
    }
    let request = http::Request::post(format!("http://test{TRACES}")).header("content-type", "application/grpc");
    // The connection says goodbye, or the call is refused on it.
    if let Ok(late) = other.send_request(request.body(http_body_util::Full::new(framed(false, b"x"))).unwrap()).await {
        assert_eq!(late.headers()["grpc-status"], "14");
    }
    assert_eq!(recorder.count(), 2);
    gate.add_permits(2);
    assert_eq!(by_grpc.await.unwrap().code(), "0");
    assert_eq!(by_http.await.unwrap().status, 200);
    stopping.await.unwrap();
    until("every task has ended", || tasks.open() == 0).await;
}

#[tokio::test]
async fn what_is_not_answered_in_time_is_refused_as_retryable() {
    let recorder = Recorder::answering(|_| std::future::pending());
    let hop = Hop::start(recorder.clone()).await;
    let (grpc, http) = (hop.grpc(), hop.http());
    let by_grpc = tokio::spawn(async move { call(&mut http2(grpc).await, TRACES, &[], framed(false, b"x")).await });
    let by_http = tokio::spawn(async move { post(&mut http1(http).await, "POST", "/v1/traces", &[PROTOBUF], Bytes::new()).await });
    until("both are in flight", || recorder.count() == 2).await;
    let start = Instant::now();
    hop.running.shutdown(Duration::from_millis(300)).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < PATIENCE, "{took:?}");
    assert_eq!(by_grpc.await.unwrap().code(), "14");
    assert_eq!(by_http.await.unwrap().status, 503);
    until("every task has ended", || hop.tasks.open() == 0).await;
}

#[tokio::test]
async fn peers_that_do_not_move_do_not_keep_it() {
    let hop = Hop::start(Recorder::accepting()).await;
    let silent = TcpStream::connect(hop.grpc()).await.unwrap();
    let half = TcpStream::connect(hop.http()).await.unwrap();
    half.try_write(b"POST /v1/tra").unwrap();
    until("both are taken", || hop.counters.connections_accepted.get() == 2).await;
    let start = Instant::now();
    hop.running.shutdown(Duration::from_millis(300)).await;
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    until("every task has ended", || hop.tasks.open() == 0).await;
    drop((silent, half));
}
