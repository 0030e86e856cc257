//! One connection, from its first byte to its last: protocol, limits of hyper, idleness, stopping.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep_until, timeout};

use super::door::Door;
use super::http::Bounds;
use super::reply::Reply;
use super::stream::{Activity, Watched, speaks_http2};
use super::{http, unary};
use crate::config::meaning::ServerKeepalive;
use crate::runtime::clock::{instant_now, later};
use crate::runtime::{Io, Spawner};

/// Time for the first bytes where the protocol sets none, and over gRPC for the rest of a frame, or of a head, that has begun.
pub(super) const FIRST_BYTES: Duration = Duration::from_secs(10);
/// A silent peer is asked for a sign of life after this long …
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// … and given this long for it.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Compressed and plain bytes of request headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Bytes of an HTTP/1.1 head, and of hyper's read buffer.
const MAX_HTTP1_BUFFER: usize = 32 * 1024;
/// Header fields of an HTTP/1.1 request.
const MAX_HTTP1_HEADERS: usize = 100;
/// HTTP/2 bytes a peer may send ahead on one stream …
const STREAM_WINDOW: u32 = 1 << 20;
/// … and on all streams of a connection.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Largest DATA frame taken: hyper keeps it whole until it is complete.
const MAX_FRAME: u32 = 64 * 1024;
/// Response bytes waiting to be written, of one stream. Responses are small.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Streams reset by the peer before they were taken up (rapid reset, CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Streams reset here because of the peer's errors (CVE-2025-8671).
const MAX_OWN_RESETS: usize = 100;
/// How long what a refused sender still writes is read and dropped, so that it gets to read the refusal.
const LINGER: Duration = Duration::from_secs(3);
/// Time for an idle peer to take leave.
const GOODBYE: Duration = Duration::from_millis(500);
/// While requests are served, idleness is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// HTTP/2 streams of one connection over the HTTP port.
const HTTP_STREAMS: u32 = 100;

/// What a listener speaks.
#[derive(Clone, Copy, Debug)]
pub enum Speaks {
    /// OTLP/gRPC.
    Grpc {
        /// Largest message after inflation, bytes.
        message: usize,
        /// HTTP/2 streams a connection.
        streams: u32,
        /// How long it lasts.
        keepalive: ServerKeepalive,
    },
    /// OTLP/HTTP.
    Http {
        /// Of one request.
        bounds: Bounds,
        /// Time for a head.
        head_timeout: Duration,
        /// Time between requests.
        idle_timeout: Duration,
    },
}

/// Serves a connection until it ends.
pub async fn serve(mut io: Box<dyn Io>, speaks: Speaks, door: Arc<Door>, streams: Spawner) {
    let first_bytes = match speaks {
        Speaks::Grpc { .. } => FIRST_BYTES,
        Speaks::Http { head_timeout, .. } => head_timeout,
    };
    let told = tokio::select! {
        told = timeout(first_bytes, speaks_http2(&mut *io)) => told,
        () = door.house.stop.wait() => return,
    };
    let Ok(Ok(Some((is_http2, first)))) = told else {
        door.house.counters.handshakes_failed.add_one();
        return;
    };
    match speaks {
        Speaks::Grpc { message, streams, keepalive } if is_http2 => unary::serve(io, first, message, streams, keepalive, door).await,
        Speaks::Grpc { .. } => door.house.counters.handshakes_failed.add_one(),
        Speaks::Http { bounds, idle_timeout, head_timeout } => {
            let activity = Activity::new();
            let io = Watched::new(first, io, Arc::clone(&activity));
            let connection = Connection { door, bounds, head_timeout, idle_timeout, activity };
            if is_http2 { connection.http2(io, streams).await } else { connection.http1(io).await }
        }
    }
}

/// An OTLP/HTTP connection.
struct Connection {
    door: Arc<Door>,
    bounds: Bounds,
    head_timeout: Duration,
    idle_timeout: Duration,
    activity: Arc<Activity>,
}

impl Connection {
    async fn http2(self, io: Watched, streams: Spawner) {
        let mut builder = http2::Builder::new(Executor(streams));
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(HTTP_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_frame_size(MAX_FRAME)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_OWN_RESETS);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service_fn(|request| self.request(request))));
        let idle = (self.idle_timeout, self.idle_timeout);
        supervise(
            &self,
            idle,
            connection.as_mut(),
            |connection| connection.graceful_shutdown(),
            |connection, context| connection.poll(context).map(|_| ()),
        )
        .await;
    }

    async fn http1(self, io: Watched) {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HTTP1_BUFFER).max_headers(MAX_HTTP1_HEADERS);
        let service = service_fn(|request| Box::pin(self.request(request)));
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(io), service));
        let idle = (self.head_timeout, self.idle_timeout);
        let ended = supervise(
            &self,
            idle,
            connection.as_mut(),
            |connection| connection.graceful_shutdown(),
            |connection, context| connection.get_mut().poll_without_shutdown(context).map(|_| ()),
        )
        .await;
        if ended {
            let io = Pin::into_inner(connection).into_parts().io.into_inner();
            tokio::select! {
                () = hang_up(io, self.activity.has_unread()) => {}
                () = self.door.house.end.wait() => {}
            }
        }
    }

    fn request(&self, request: Request<Incoming>) -> impl Future<Output = Result<Response<Reply>, Infallible>> + Send + 'static {
        let busy = self.activity.request();
        let (door, bounds, activity) = (Arc::clone(&self.door), self.bounds, Arc::clone(&self.activity));
        async move {
            let _busy = busy;
            Ok(http::serve(&door, bounds, &activity, request).await)
        }
    }
}

/// Drives a connection to its end, and no further than idleness and the end of service allow. Whether it ended by itself.
async fn supervise<C>(
    connection: &Connection,
    (head, idle): (Duration, Duration),
    mut driven: Pin<&mut C>,
    mut last_request: impl FnMut(Pin<&mut C>),
    mut poll: impl FnMut(Pin<&mut C>, &mut Context<'_>) -> Poll<()>,
) -> bool {
    let house = &connection.door.house;
    let (mut stopping, mut leave_by) = (false, None);
    loop {
        // Who has not brought a whole head by the end of service has no request in flight.
        let (head, idle) = if stopping { (GOODBYE, GOODBYE) } else { (head, idle) };
        let overdue = || connection.activity.due(head, idle);
        let look_again = leave_by.or_else(overdue).unwrap_or_else(|| later(instant_now(), LOOK_AGAIN));
        tokio::select! {
            () = poll_fn(|context| poll(driven.as_mut(), context)) => return true,
            () = house.stop.wait(), if !stopping => {
                stopping = true;
                last_request(driven.as_mut());
                leave_by = Some(later(instant_now(), GOODBYE));
            }
            () = house.end.wait() => return false,
            () = sleep_until(look_again) => {
                let now = instant_now();
                let unused = overdue().is_some_and(|overdue| overdue <= now);
                match leave_by {
                    Some(_) if unused => return false,
                    None if !unused => {}
                    // HTTP/2 says goodbye; who does not hear it within a moment is left. A request that came in between
                    // is answered.
                    _ => {
                        last_request(driven.as_mut());
                        leave_by = Some(later(instant_now(), GOODBYE));
                    }
                }
            }
        }
    }
}

/// Ends an HTTP/1.1 connection. Closing while the peer still writes would make its kernel throw the answer away
/// (RFC 9112 §9.6), so what is unread is read for a while.
async fn hang_up(mut io: Watched, unread: bool) {
    let linger = async {
        if io.shutdown().await.is_ok() && unread {
            let mut dropped = [0; 4096];
            while io.read(&mut dropped).await.is_ok_and(|length| length > 0) {}
        }
    };
    // Whoever still writes after that does not want to know.
    let _ = timeout(LINGER, linger).await;
}

/// Streams of an HTTP/2 connection are tasks of ours.
#[derive(Clone)]
struct Executor(Spawner);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin as Pinned;

    use tokio::io::DuplexStream;
    use tokio::time::Instant;

    use super::super::budget::{Budget, Share};
    use super::super::door::House;
    use super::super::{Counters, Handler, Request as Taken};
    use super::*;
    use crate::model::{Answer, Peer};
    use crate::runtime::{Buffers, Heavy, Line, Standing, Stop, Task, Tasks};

    struct Accepts;

    impl Handler for Accepts {
        fn handle(&self, _: Taken) -> Pinned<Box<dyn Future<Output = Answer> + Send + '_>> {
            Box::pin(std::future::ready(Ok(bytes::Bytes::new())))
        }
    }

    struct Waits;

    impl Handler for Waits {
        fn handle(&self, _: Taken) -> Pinned<Box<dyn Future<Output = Answer> + Send + '_>> {
            Box::pin(std::future::pending())
        }
    }

    fn door(handler: Arc<dyn Handler>) -> Arc<Door> {
        let house = Arc::new(House {
            handler,
            budget: Budget::new(1 << 20),
            stop: Stop::new(),
            cut: Stop::new(),
            end: Stop::new(),
            max_wait: Duration::from_secs(10),
            heavy: Heavy::new(Tasks::new(), "test"),
            counters: Arc::new(Counters::default()),
            buffers: Buffers::new(0),
            line: Line::new(Tasks::new().named("line")),
        });
        Arc::new(Door { share: Share::new(&house.budget), house, peer: Peer::default(), standing: Standing::default() })
    }

    /// A gRPC connection served on a paused clock.
    fn grpc() -> (DuplexStream, Task<()>) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (door, tasks) = (door(Arc::new(Accepts)), Tasks::new());
        let speaks = Speaks::Grpc { message: 1000, streams: 10, keepalive: ServerKeepalive::default() };
        let streams = tasks.named("stream");
        (client, tasks.spawn("connection", serve(Box::new(server), speaks, door, streams)))
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_waited_for_count_as_running() {
        let grpc = Speaks::Grpc { message: 1000, streams: 10, keepalive: ServerKeepalive::default() };
        let bounds = Bounds { body: 1000, read_timeout: Duration::from_secs(10) };
        let http = Speaks::Http { bounds, head_timeout: FIRST_BYTES, idle_timeout: FIRST_BYTES };
        let over_grpc = ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc", &[0_u8; 5][..]);
        for (speaks, (path, kind, body)) in [(grpc, over_grpc), (http, ("/v1/traces", "application/x-protobuf", &[]))] {
            let (door, tasks) = (door(Arc::new(Waits)), Tasks::new());
            let (client, server) = tokio::io::duplex(1 << 16);
            let _serving = tasks.spawn("connection", serve(Box::new(server), speaks, Arc::clone(&door), tasks.named("stream")));
            let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            let (mut send, connection) = builder.handshake(TokioIo::new(client)).await.unwrap();
            let _client = tasks.spawn("client", connection);
            let mut asked = Vec::new();
            for running in 1..4 {
                let request = ::http::Request::post(format!("http://test{path}")).header("content-type", kind);
                let request = request.body(http_body_util::Full::new(bytes::Bytes::copy_from_slice(body)));
                asked.push(tasks.spawn("request", send.send_request(request.unwrap())));
                let runs = async {
                    while door.standing.calls() < running {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                assert!(tokio::time::timeout(Duration::from_secs(5), runs).await.is_ok(), "{} of {running}: {kind}", door.standing.calls());
            }
            drop(asked);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_after_the_time_for_its_first_bytes() {
        let start = Instant::now();
        let (client, serving) = grpc();
        serving.await.unwrap();
        assert_eq!(start.elapsed(), FIRST_BYTES);
        drop(client);
    }

    const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// When a peer is hung up on that says these bytes, the last of them again and again, at most for a minute.
    async fn hung_up_on(first: &[u8], again: &[u8]) -> Option<Duration> {
        let start = Instant::now();
        let (mut client, serving) = grpc();
        client.write_all(&[HELLO, first].concat()).await.unwrap();
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if serving.is_finished() {
                return Some(start.elapsed());
            }
            // It may be hung up on meanwhile.
            let _gone = client.write_all(again).await;
            let _said = tokio::time::timeout(Duration::ZERO, client.read(&mut [0; 1000])).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_has_to_be_whole_within_the_time_for_first_bytes() {
        let in_time =
            |ended: Option<Duration>| ended.is_some_and(|after| after >= FIRST_BYTES && after <= FIRST_BYTES + Duration::from_secs(2));
        let (head, more) = (b"\0\0\x01\x01\0\0\0\0\x01\x83", b"\0\0\x01\x09\0\0\0\0\x01\x83");
        assert!(in_time(hung_up_on(head, more).await), "CONTINUATION without end");
        assert!(in_time(hung_up_on(b"\0\x20\0\x06\0\0\0\0\0", b"x").await), "a PING byte by byte");
        assert!(in_time(hung_up_on(b"\0\0", b"").await), "a part of a frame's head");
        let ping = b"\0\0\x08\x06\x01\0\0\0\0pingpong";
        assert_eq!(hung_up_on(ping, ping).await, None, "whole frames");
        let (half, other) = (&[&ping[..], &ping[..5]].concat(), &[&ping[5..], &ping[..5]].concat());
        assert_eq!(hung_up_on(half, other).await, None, "each read ends amid a frame, but goes on");
    }

    /// A body of which no more comes than this.
    struct Stalls(Option<bytes::Bytes>);

    impl hyper::body::Body for Stalls {
        type Data = bytes::Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |first| Poll::Ready(Some(Ok(hyper::body::Frame::data(first)))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_go_on_is_refused_by_its_deadline_and_after_half_a_minute() {
        for (asked, after) in [("500m", Duration::from_millis(500)), ("1H", Duration::from_secs(30))] {
            let (client, _serving) = grpc();
            let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            let (mut send, connection) = builder.handshake(TokioIo::new(client)).await.unwrap();
            let _client = Tasks::new().spawn("client", connection);
            let start = Instant::now();
            let request = Request::post("http://test/opentelemetry.proto.collector.trace.v1.TraceService/Export")
                .header("content-type", "application/grpc")
                .header("grpc-timeout", asked)
                .body(Stalls(Some(bytes::Bytes::from_static(b"\0\0\0\0\x64abc"))));
            let refused = tokio::time::timeout(FIRST_BYTES * 10, send.send_request(request.unwrap())).await.expect("refused").unwrap();
            assert_eq!(refused.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
            assert!(start.elapsed() >= after && start.elapsed() < after + Duration::from_secs(1), "{:?} of {asked}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_vanished_is_noticed_by_its_missing_sign_of_life() {
        let start = Instant::now();
        let (mut client, serving) = grpc();
        client.write_all(HELLO).await.unwrap();
        serving.await.unwrap();
        let keepalive = ServerKeepalive::default();
        assert!(start.elapsed() <= keepalive.time + keepalive.timeout + Duration::from_secs(1), "{:?}", start.elapsed());
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_lives_may_be_idle_over_grpc() {
        let (client, serving) = grpc();
        let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let (send, connection) = builder.handshake::<_, Reply>(TokioIo::new(client)).await.unwrap();
        let client = Tasks::new().spawn("client", connection);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!serving.is_finished() && !send.is_closed());
        drop((send, client));
    }
}
