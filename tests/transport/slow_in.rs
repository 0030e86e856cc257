//! Messages that begin, hold room and do not go on: they are let go for others that come.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stallspan::config::meaning::{Limits, Receiver};
use stallspan::runtime::slow::LOOK;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::hostile::{END_HEADERS, HEADERS, block, frame, raw};
use crate::rig::{
    Hop, PATIENCE, PROTOBUF, Recorder, Reply, TRACES, bytes, call, framed, gate, http1, http2, limits, post, receiver, until,
};

const KB: usize = 1000;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

/// Begins a call with a message of `length` bytes, of which so many come.
async fn begin_grpc(hop: &Hop, length: usize, come: usize) -> TcpStream {
    let mut stream = raw(hop).await;
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &block(TRACES))).await.unwrap();
    for piece in framed(false, &bytes(length))[..5 + come].chunks(16 * KB) {
        stream.write_all(&frame(DATA, 0, 1, piece)).await.unwrap();
    }
    stream
}

/// The same over HTTP/1.1.
async fn begin_http(hop: &Hop, length: usize, come: usize) -> TcpStream {
    let mut stream = TcpStream::connect(hop.http()).await.unwrap();
    let head = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes(come)).await.unwrap();
    stream
}

/// A body of pieces that come one by one.
struct Coming(UnboundedReceiver<Bytes>);

impl Body for Coming {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A request over HTTP/2 on the port of OTLP/HTTP.
struct Begun {
    connection: SendRequest<Coming>,
    /// Takes the rest of the body; its end is that of the body.
    rest: UnboundedSender<Bytes>,
    response: JoinHandle<hyper::Result<Response<Incoming>>>,
}

impl Begun {
    fn on(mut connection: SendRequest<Coming>, begin: Bytes) -> Self {
        let (rest, coming) = unbounded_channel();
        rest.send(begin).unwrap();
        let request = http::Request::post("http://test/v1/traces").header(PROTOBUF.0, PROTOBUF.1).body(Coming(coming)).unwrap();
        let response = tokio::spawn(connection.send_request(request));
        Self { connection, rest, response }
    }

    /// `come` bytes of a body whose length is not told.
    async fn new(hop: &Hop, come: usize) -> Self {
        let io = TokioIo::new(TcpStream::connect(hop.http()).await.unwrap());
        let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self::on(send, bytes(come))
    }

    async fn response(self) -> Response<Incoming> {
        drop(self.rest);
        timeout(PATIENCE, self.response).await.expect("an answer").unwrap().unwrap()
    }
}

/// What is said on a connection until it says `last` or ends.
async fn said(stream: &mut TcpStream, last: &str) -> String {
    let reading = async {
        let mut all = Vec::new();
        while stream.read_buf(&mut all).await.unwrap_or(0) > 0 && !String::from_utf8_lossy(&all).contains(last) {}
        String::from_utf8_lossy(&all).into_owned()
    };
    timeout(PATIENCE, reading).await.expect("an answer, or the end")
}

/// Sends until it is accepted; whoever is refused meanwhile was told to try again.
async fn accepted(hop: &Hop, send: impl AsyncFn() -> (String, bool)) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (answer, worth_another_try) = send().await;
        if answer == "0" || answer == "200" {
            return;
        }
        assert!(worth_another_try && Instant::now() < deadline, "{answer}; {} bytes in flight", hop.running.bytes_in_flight());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn over_grpc(hop: &Hop, length: usize) -> (String, bool) {
    let reply = call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, &bytes(length))).await;
    (reply.code().to_owned(), is_retryable(&reply))
}

async fn over_http(hop: &Hop, length: usize) -> (String, bool) {
    let reply = post(&mut http1(hop.http()).await, "POST", "/v1/traces", &[PROTOBUF], bytes(length)).await;
    (reply.status.to_string(), reply.status == 429 && reply.header("retry-after") == "1")
}

fn is_retryable(reply: &Reply) -> bool {
    let details = stallspan::otlp::status::from_details_header(reply.header("grpc-status-details-bin").as_bytes());
    reply.code() == "8" && details.is_some_and(|details| details.retry_delay.is_some())
}

/// A server whose bodies may take longer than any test: whoever is let go, is let go for others.
async fn patient_hop(recorder: Recorder, memory: usize) -> Hop {
    let mut receiver = Receiver { max_wait: PATIENCE * 2, ..receiver() };
    if let Some(http) = &mut receiver.http {
        http.read_timeout = PATIENCE * 2;
    }
    Hop::start_with(recorder, receiver, Limits { memory, ..limits() }).await
}

/// The one of those that began, by how much of them came, that is not there any more.
fn gone<T>(hop: &Hop, begun: &mut BTreeMap<usize, T>) -> T {
    let all: usize = begun.keys().sum();
    let size = all - hop.running.bytes_in_flight();
    begun.remove(&size).unwrap_or_else(|| panic!("{size} bytes came back: not of one of {:?}", begun.keys()))
}

#[tokio::test]
async fn stalled_messages_that_use_all_room_up_are_let_go_for_others() {
    let recorder = Recorder::accepting();
    let hop = patient_hop(recorder.clone(), 400 * KB).await;
    let mut begun = BTreeMap::new();
    for size in [95, 96, 97, 98] {
        begun.insert(size * KB, begin_grpc(&hop, 99 * KB, size * KB).await);
    }
    until("they hold it", || hop.running.bytes_in_flight() == begun.keys().sum::<usize>()).await;
    // Each needs the room of one.
    accepted(&hop, async || over_grpc(&hop, 90 * KB).await).await;
    let mut first = gone(&hop, &mut begun);
    accepted(&hop, async || over_http(&hop, 190 * KB).await).await;
    let mut second = gone(&hop, &mut begun);
    for stream in [&mut first, &mut second] {
        let told = said(stream, "grpc-status-details-bin").await;
        assert!(told.contains("grpc-status\u{1}8") && told.contains("let go for others") && told.contains("details-bin"), "{told:?}");
    }
    // The others go on as if nothing had been.
    for (size, mut stream) in begun {
        let rest = framed(false, &bytes(99 * KB)).split_off(5 + size);
        stream.write_all(&frame(DATA, END_STREAM, 1, &rest)).await.unwrap();
        assert!(said(&mut stream, "grpc-status\u{1}0").await.contains("grpc-status\u{1}0"));
    }
    assert_eq!(recorder.count(), 4);
    assert!(recorder.bodies().iter().all(|body| *body == bytes(body.len())), "none of them is mixed up with another");
    until("all of it comes back", || hop.running.bytes_in_flight() == 0).await;
}

#[tokio::test]
async fn over_http_they_are_told_429_and_the_connection_ends() {
    let hop = patient_hop(Recorder::accepting(), 400 * KB).await;
    let mut begun = BTreeMap::new();
    for size in [180, 190] {
        begun.insert(size * KB, begin_http(&hop, 200 * KB, size * KB).await);
    }
    until("they hold it", || hop.running.bytes_in_flight() == 370 * KB).await;
    accepted(&hop, async || over_http(&hop, 100 * KB).await).await;
    let told = said(&mut gone(&hop, &mut begun), "let go").await;
    assert!(told.starts_with("HTTP/1.1 429") && told.contains("retry-after: 1") && told.contains("connection: close"), "{told}");
    for (size, mut stream) in begun {
        stream.write_all(&bytes(200 * KB)[size..]).await.unwrap();
        assert!(said(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }
    until("all of it comes back", || hop.running.bytes_in_flight() == 0).await;
}

#[tokio::test]
async fn over_http2_on_the_http_port_they_are_told_429_and_the_connection_goes_on() {
    let recorder = Recorder::accepting();
    let hop = patient_hop(recorder.clone(), 400 * KB).await;
    let mut begun = BTreeMap::new();
    for size in [180, 190] {
        begun.insert(size * KB, Begun::new(&hop, size * KB).await);
    }
    until("they hold it", || hop.running.bytes_in_flight() == 370 * KB).await;
    accepted(&hop, async || over_http(&hop, 100 * KB).await).await;
    let Begun { connection, rest: _does_not_end, response } = gone(&hop, &mut begun);
    let told = timeout(PATIENCE, response).await.expect("an answer").unwrap().unwrap();
    assert_eq!((told.status().as_u16(), told.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    let told = told.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&told).contains("let go for others"), "{told:?}");
    assert_eq!(Begun::on(connection, bytes(KB)).response().await.status(), 200, "the connection carries another one");
    for (size, other) in begun {
        other.rest.send(bytes(200 * KB).slice(size..)).unwrap();
        assert_eq!(other.response().await.status(), 200);
    }
    assert_eq!(recorder.bodies(), [bytes(100 * KB), bytes(KB), bytes(200 * KB)]);
    until("all of it comes back", || hop.running.bytes_in_flight() == 0).await;
}

#[tokio::test]
async fn a_byte_now_and_then_keeps_nobody() {
    let hop = patient_hop(Recorder::accepting(), 100 * KB).await;
    let mut http = begin_http(&hop, 99 * KB, 80 * KB).await;
    let trickle = tokio::spawn(async move {
        for _ in 0..10 * KB {
            if http.write_all(b"x").await.is_err() || http.try_read(&mut [0; 1]).is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    until("it holds most", || hop.running.bytes_in_flight() > 75 * KB).await;
    accepted(&hop, async || over_grpc(&hop, 50 * KB).await).await;
    let mut grpc = begin_grpc(&hop, 99 * KB, 80 * KB).await;
    let trickle_grpc = tokio::spawn(async move {
        let mut told = Vec::new();
        while !String::from_utf8_lossy(&told).contains("let go for others") {
            let _gone = grpc.write_all(&frame(DATA, 0, 1, b"x")).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let _nothing_yet = grpc.try_read_buf(&mut told);
        }
    });
    until("it holds most", || hop.running.bytes_in_flight() > 75 * KB).await;
    accepted(&hop, async || over_http(&hop, 50 * KB).await).await;
    for trickle in [trickle, trickle_grpc] {
        timeout(PATIENCE, trickle).await.expect("both were told").unwrap();
    }
    until("all of it comes back", || hop.running.bytes_in_flight() == 0).await;
}

/// Others come again and again while one that was slow, and then came whole, is answered.
async fn come_in_vain(hop: &Hop, recorder: &Recorder, gate: &Semaphore, mut stream: TcpStream, rest: &[u8], accepted: &str) {
    until("most of it came", || hop.running.bytes_in_flight() == 80 * KB).await;
    tokio::time::sleep(LOOK * 3).await;
    let before = recorder.count();
    stream.write_all(rest).await.unwrap();
    until("it is on its way", || recorder.count() == before + 1).await;
    let deadline = Instant::now() + LOOK * 3;
    while Instant::now() < deadline {
        for (answer, worth_another_try) in [over_grpc(hop, 50 * KB).await, over_http(hop, 50 * KB).await] {
            assert!((answer == "8" || answer == "429") && worth_another_try, "{answer}");
        }
    }
    assert_eq!(hop.running.bytes_in_flight(), 90 * KB);
    gate.add_permits(1);
    assert!(said(&mut stream, accepted).await.contains(accepted), "it was answered");
    until("all of it comes back", || hop.running.bytes_in_flight() == 0).await;
}

#[tokio::test]
async fn what_has_come_whole_is_never_let_go() {
    let (recorder, gate) = gate();
    let hop = patient_hop(recorder.clone(), 100 * KB).await;
    let rest = framed(false, &bytes(90 * KB)).split_off(5 + 80 * KB);
    let grpc = begin_grpc(&hop, 90 * KB, 80 * KB).await;
    come_in_vain(&hop, &recorder, &gate, grpc, &frame(DATA, END_STREAM, 1, &rest), "grpc-status\u{1}0").await;
    let http = begin_http(&hop, 90 * KB, 80 * KB).await;
    come_in_vain(&hop, &recorder, &gate, http, &rest, "HTTP/1.1 200").await;
    assert_eq!(recorder.bodies(), [bytes(90 * KB), bytes(90 * KB)]);
}

#[tokio::test]
async fn each_that_is_let_go_is_counted_as_refused_for_want_of_room() {
    let hop = patient_hop(Recorder::accepting(), 400 * KB).await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(begin_grpc(&hop, 99 * KB, 98 * KB).await);
    }
    until("they hold it", || hop.running.bytes_in_flight() == 392 * KB).await;
    let refused = std::cell::Cell::new(0);
    let send = async || {
        let (answer, again) = over_http(&hop, 150 * KB).await;
        refused.set(refused.get() + u64::from(answer != "200"));
        (answer, again)
    };
    accepted(&hop, send).await;
    until("two went", || hop.counters.over_budget.get() == refused.get() + 2).await;
    assert_eq!((hop.running.bytes_in_flight(), hop.counters.handled.get()), (196 * KB, 1));
    drop(stalled);
    until("and the others", || hop.running.bytes_in_flight() == 0).await;
}
