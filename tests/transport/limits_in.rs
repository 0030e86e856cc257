//! Bounds of the server: bytes in flight, connections, time.

use std::time::Duration;

use bytes::Bytes;
use stallspan::config::meaning::{Compression, Exporter, Limits, OtlpExporter};
use stallspan::export::Exporters;
use stallspan::runtime::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::downstream::{Act, Downstream, exporters};
use crate::rig::{
    Forward, Hop, Http2, PATIENCE, PROTOBUF, Recorder, TRACES, bytes, call, framed, gate, gzip, http1, http2, limits, post, receiver, until,
};

const KB: usize = 1000;

/// Calls in the background, one stream each.
fn calls(client: &Http2, count: usize, length: usize) -> Vec<tokio::task::JoinHandle<crate::rig::Reply>> {
    let one = || {
        let mut client = client.clone();
        tokio::spawn(async move { call(&mut client, TRACES, &[], framed(false, &bytes(length))).await })
    };
    (0..count).map(|_| one()).collect()
}

#[tokio::test]
async fn one_connection_gets_a_quarter_and_others_are_still_served() {
    let (recorder, gate) = gate();
    let hop = Hop::start_with(recorder.clone(), receiver(), Limits { memory: 400 * KB, max_connections: 10 }).await;
    let greedy = http2(hop.grpc()).await;
    let waiting = calls(&greedy, 10, 10 * KB);
    until("a quarter is held", || recorder.count() == 10).await;
    assert_eq!(hop.running.bytes_in_flight(), 100 * KB);
    let reply = call(&mut greedy.clone(), TRACES, &[], framed(false, b"x")).await;
    assert_eq!(reply.code(), "8");
    let details = stallspan::otlp::status::from_details_header(reply.header("grpc-status-details-bin").as_bytes()).unwrap();
    assert!(details.retry_delay.is_some(), "over budget is worth another try");
    let mut modest = http2(hop.grpc()).await;
    let other = calls(&modest, 1, 10 * KB);
    until("another connection is served", || recorder.count() == 11).await;
    gate.add_permits(11);
    for reply in waiting.into_iter().chain(other) {
        assert_eq!(reply.await.unwrap().code(), "0");
    }
    assert_eq!((hop.running.bytes_in_flight(), hop.counters.over_budget.get()), (0, 1));
    gate.add_permits(2);
    assert_eq!(call(&mut modest, TRACES, &[], framed(false, b"x")).await.code(), "0");
    assert_eq!(call(&mut greedy.clone(), TRACES, &[], framed(false, b"x")).await.code(), "0", "the greedy connection stays usable");
}

#[tokio::test]
async fn over_http_no_room_is_429_with_a_delay() {
    let (recorder, gate) = gate();
    let hop = Hop::start_with(recorder.clone(), receiver(), Limits { memory: 50 * KB, max_connections: 10 }).await;
    let first = tokio::spawn({
        let address = hop.http();
        async move { post(&mut http1(address).await, "POST", "/v1/traces", &[PROTOBUF], bytes(45 * KB)).await }
    });
    until("the budget is used", || recorder.count() == 1).await;
    for body in [bytes(10 * KB), gzip(&bytes(10 * KB))] {
        let coding = if body.len() == 10 * KB { "identity" } else { "gzip" };
        let reply = post(&mut http1(hop.http()).await, "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", coding)], body).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, "1"), "{coding}");
    }
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(hop.running.bytes_in_flight(), 0);
}

#[tokio::test]
async fn a_request_alone_on_its_connection_may_exceed_the_quarter() {
    let recorder = Recorder::accepting();
    let hop = Hop::start_with(recorder.clone(), receiver(), Limits { memory: 100 * KB, max_connections: 10 }).await;
    assert_eq!(call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, &bytes(90 * KB))).await.code(), "0");
}

#[tokio::test]
async fn the_connection_too_many_is_closed_and_a_place_freed_is_taken() {
    let hop = Hop::start_with(Recorder::accepting(), receiver(), Limits { max_connections: 3, ..limits() }).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut client = http1(hop.http()).await;
        assert_eq!(post(&mut client, "POST", "/v1/traces", &[PROTOBUF], Bytes::new()).await.status, 200);
        kept.push(client);
    }
    let mut refused = TcpStream::connect(hop.http()).await.unwrap();
    assert_eq!(refused.read(&mut [0; 10]).await.unwrap_or(0), 0, "closed without a word");
    until("it is counted", || hop.counters.connections_refused.get() == 1).await;
    kept.pop();
    until("its place is free", || hop.counters.connections_ended.get() == 1).await;
    assert_eq!(post(&mut http1(hop.http()).await, "POST", "/v1/traces", &[PROTOBUF], Bytes::new()).await.status, 200);
}

/// Reads until the server closes; what it said and how long it took.
async fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let start = Instant::now();
    let mut said = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("closed").unwrap_or(0);
    (String::from_utf8_lossy(&said).into_owned(), start.elapsed())
}

#[tokio::test]
async fn silent_and_slow_heads_end_at_the_head_timeout() {
    let hop = Hop::start(Recorder::accepting()).await;
    for sent in ["", "PRI * HTTP/2.0\r\n", "POST /v1/traces HTTP/1.1\r\ncontent-"] {
        let mut stream = TcpStream::connect(hop.http()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let (_, took) = until_closed(&mut stream).await;
        assert!(took >= Duration::from_millis(900), "{sent:?}: {took:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_lasts_longer_than_a_head_may_take() {
    let hop = Hop::start(Recorder::accepting()).await;
    let mut stream = TcpStream::connect(hop.http()).await.unwrap();
    let request = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let (said, took) = until_closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    assert!(took >= Duration::from_millis(2900), "{took:?}");
}

#[tokio::test]
async fn an_idle_http2_connection_over_the_http_port_is_closed() {
    let hop = Hop::start(Recorder::accepting()).await;
    let client = http2(hop.http()).await;
    until("idle for three seconds", || client.is_closed()).await;
}

#[tokio::test]
async fn a_slow_body_ends_at_the_read_timeout() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let mut stream = TcpStream::connect(hop.http()).await.unwrap();
    let head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 100\r\n\r\nabc";
    stream.write_all(head).await.unwrap();
    until("some of it is there", || hop.running.bytes_in_flight() == 3).await;
    let (said, _) = until_closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert_eq!((recorder.count(), hop.running.bytes_in_flight(), hop.counters.incomplete.get()), (0, 0, 1));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_forgotten() {
    let recorder = Recorder::accepting();
    let hop = Hop::start(recorder.clone()).await;
    let mut stream = TcpStream::connect(hop.http()).await.unwrap();
    let head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 100\r\n\r\nabc";
    stream.write_all(head).await.unwrap();
    until("some of it is there", || hop.running.bytes_in_flight() == 3).await;
    drop(stream);
    until("it is forgotten", || hop.running.bytes_in_flight() == 0).await;
    assert_eq!(recorder.count(), 0);
}

#[tokio::test]
async fn a_sender_still_writing_gets_to_read_the_refusal() {
    let hop = Hop::start(Recorder::accepting()).await;
    for framing in ["content-length: 30000000", "transfer-encoding: chunked"] {
        let mut stream = TcpStream::connect(hop.http()).await.unwrap();
        let head = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("{:x}\r\n{}\r\n", 50_000, "x".repeat(50_000));
        for _ in 0..100 {
            stream.write_all(chunk.as_bytes()).await.expect("what it writes is still taken");
        }
        stream.shutdown().await.unwrap();
        let (said, _) = until_closed(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 413"), "{framing}: {said}");
        assert!(said.to_lowercase().contains("connection: close"), "{said}");
    }
}

#[tokio::test]
async fn one_that_waits_to_be_asked_for_its_body_is_refused_without_it() {
    let hop = Hop::start(Recorder::accepting()).await;
    let mut stream = TcpStream::connect(hop.http()).await.unwrap();
    let head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 300000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let (said, _) = until_closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
}

#[tokio::test]
async fn connections_that_die_in_the_queue_do_not_end_the_listener() {
    let hop = Hop::start(Recorder::accepting()).await;
    for _ in 0..50 {
        let stream = TcpStream::connect(hop.grpc()).await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
    }
    assert_eq!(call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, b"x")).await.code(), "0");
}

const AS_SERVER: &str = "TRANSPORT_TEST_AS_SERVER";

/// The other half of the test below: does nothing unless started by it. Serves with few file descriptors until its
/// standard input ends.
#[tokio::test]
async fn a_server_with_few_descriptors() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if std::env::var_os(AS_SERVER).is_none() {
        return;
    }
    let hop = Hop::start_with(Recorder::accepting(), receiver(), Limits { max_connections: 1000, ..limits() }).await;
    setrlimit(Resource::Nofile, Rlimit { current: Some(40), maximum: Some(40) }).unwrap();
    println!("PORT {}", hop.grpc().port());
    let waited = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await;
    waited.unwrap().unwrap();
    assert!(hop.counters.accept_errors.get() > 0, "it did run out");
}

#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["limits_in::a_server_with_few_descriptors", "--exact", "--nocapture"])
        .env(AS_SERVER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.by_ref().map(Result::unwrap).find_map(|line| Some(line.split_once("PORT ")?.1.parse::<u16>().unwrap())).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut many = Vec::new();
    for _ in 0..60 {
        many.push(TcpStream::connect(address).await.unwrap());
    }
    // Those that found a descriptor are silent until their time is over; the listener pauses and tries again.
    drop(many);
    let mut client = http2(address).await;
    let reply = timeout(PATIENCE, call(&mut client, TRACES, &[], framed(false, b"x"))).await.expect("served again");
    assert_eq!(reply.code(), "0");
    drop((client, server.stdin.take()));
    let said: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(server.wait().unwrap().success(), "{said:?}");
}

/// Downstream keeps a request until it is let go; the hop compresses what it sends there.
async fn hop_before(downstream: &Downstream, memory: usize, names: &[&str]) -> Hop {
    let out = |name| {
        let config = OtlpExporter { compression: Compression::Gzip, timeout: Duration::from_secs(2), ..downstream.grpc_exporter() };
        (name, Exporter::OtlpGrpc(config))
    };
    let exporters = Exporters::open(&exporters(names.iter().copied().map(out).collect()), &Tasks::new()).unwrap();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Hop::start_with(Forward { exporters, names }, receiver(), Limits { memory, ..limits() }).await
}

/// Bytes that no coding makes smaller.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(next).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn copies_on_the_way_out_are_bytes_in_flight_too() {
    let downstream = Downstream::start(|_| Act::Hang).await;
    let hop = hop_before(&downstream, 4 << 20, &["one", "two"]).await;
    let client = http2(hop.grpc()).await;
    let held = calls(&client, 1, 50 * KB);
    let body = bytes(50 * KB);
    until("both were sent", || downstream.count() == 2).await;
    let copy = gzip(&body).len();
    assert_eq!(hop.running.bytes_in_flight(), body.len() + 2 * copy, "the request and a compressed copy for each exporter");
    held.into_iter().for_each(|call| call.abort());
    drop(client);
    until("all of it comes back", || hop.running.bytes_in_flight() == 0).await;
}

#[tokio::test]
async fn past_the_budget_copies_are_refused_unless_the_request_is_alone() {
    let downstream = Downstream::start(|number| if number == 0 { Act::Hang } else { Act::Accept(Bytes::new()) }).await;
    // Room for four on a connection, without their copies.
    let hop = hop_before(&downstream, 16 * 50 * KB, &["one"]).await;
    let mut client = http2(hop.grpc()).await;
    let send = |mut client: Http2, length: usize| async move { call(&mut client, TRACES, &[], framed(false, &noise(length))).await };
    let first = tokio::spawn(send(client.clone(), 98 * KB));
    until("the first one downstream", || downstream.count() == 1).await;
    let refused = call(&mut client, TRACES, &[], framed(false, &noise(50 * KB))).await;
    assert_eq!((refused.code(), refused.header("grpc-status-details-bin").is_empty()), ("8", false), "{refused:?}");
    first.abort();
    until("the first one is gone", || hop.running.bytes_in_flight() == 0).await;
    let small = hop_before(&downstream, 100 * KB, &["one"]).await;
    let alone = call(&mut http2(small.grpc()).await, TRACES, &[], framed(false, &noise(99 * KB))).await;
    assert_eq!(alone.code(), "0", "{alone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_requests_their_room_comes_back_and_the_bound_holds() {
    let downstream = Downstream::start(|number| match number % 7 {
        0 => Act::Unavailable,
        1 => Act::Hang,
        2 => Act::Drop,
        3 => Act::Grpc(vec![("grpc-status", "3".to_owned())]),
        _ => Act::Accept(Bytes::new()),
    })
    .await;
    const MEMORY: usize = 1 << 20;
    let hop = hop_before(&downstream, MEMORY, &["one", "two"]).await;
    let address = hop.grpc();
    let senders: Vec<_> = (0..8_usize)
        .map(|sender| {
            tokio::spawn(async move {
                let mut answers = std::collections::BTreeMap::<String, usize>::new();
                for round in 0..12_usize {
                    let mut client = http2(address).await;
                    let body = if round % 2 == 0 { noise(30 * KB) } else { bytes(99 * KB) };
                    let headers = [("grpc-timeout", if round % 3 == 0 { "200m" } else { "3S" })];
                    let calling = call(&mut client, TRACES, &headers, framed(false, &body));
                    // Some do not wait.
                    if (sender + round) % 5 == 0 {
                        let _gone = timeout(Duration::from_millis(20), calling).await;
                    } else {
                        *answers.entry(calling.await.code().to_owned()).or_default() += 1;
                    }
                }
                answers
            })
        })
        .collect();
    while !senders.iter().all(tokio::task::JoinHandle::is_finished) {
        // A compressed copy may be larger than a quarter of its body, of which room was asked for: never more than all of them.
        assert!(hop.running.bytes_in_flight() <= 2 * MEMORY, "{}", hop.running.bytes_in_flight());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut answers = std::collections::BTreeMap::<String, usize>::new();
    for sender in senders {
        sender.await.unwrap().into_iter().for_each(|(code, count)| *answers.entry(code).or_default() += count);
    }
    assert!(answers.contains_key("0") && answers.len() > 1, "{answers:?}");
    until("all of it comes back", || hop.running.bytes_in_flight() == 0).await;
}
