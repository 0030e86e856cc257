//! The sender: a closed loop of requests made ready beforehand, over several connections.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::net::TcpStream;

use super::meter::{OTHERS, on_cpu};
use super::sink::Pieces;
use super::spans::framed;

const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 4;
/// Before anything counts: connections made, buffers grown.
const WARM_UP: Duration = Duration::from_millis(150);
const PATH: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Sends a message again and again for so long; `begin` is called once everything is warm. How many requests were
/// accepted between the two calls: every one is asserted to be.
pub fn drive(address: &str, message: &[u8], long: Duration, begin: impl FnOnce()) -> u64 {
    let pieces = framed(message);
    on_runtime(async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(connect(address).await);
        }
        loops(&connections, address, &pieces, WARM_UP).await;
        begin();
        loops(&connections, address, &pieces, long).await
    })
}

/// Requests one after the other with a pause between: what each of them took, as its sender sees it.
pub fn one_by_one(address: &str, requests: usize, message: impl Fn() -> Bytes) -> Vec<Duration> {
    const PAUSE: Duration = Duration::from_millis(2);
    on_runtime(async {
        let mut connection = connect(address).await;
        let mut took = Vec::new();
        for number in 0..requests + 5 {
            tokio::time::sleep(PAUSE).await;
            let pieces = framed(&message());
            let begin = Instant::now();
            send(&mut connection, address, &pieces).await;
            // The first ones find cold connections.
            if number >= 5 {
                took.push(begin.elapsed());
            }
        }
        took
    })
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    on_cpu(OTHERS, || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
}

async fn loops(connections: &[SendRequest<Pieces>], address: &str, pieces: &[Bytes], long: Duration) -> u64 {
    let end = Instant::now() + long;
    let mut running = tokio::task::JoinSet::new();
    for connection in connections {
        for _ in 0..IN_FLIGHT {
            let (mut connection, address, pieces) = (connection.clone(), address.to_owned(), pieces.to_vec());
            running.spawn(async move {
                let mut accepted = 0_u64;
                while Instant::now() < end {
                    send(&mut connection, &address, &pieces).await;
                    accepted += 1;
                }
                accepted
            });
        }
    }
    running.join_all().await.into_iter().sum()
}

async fn connect(address: &str) -> SendRequest<Pieces> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (send, connection) = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    // It ends with its last sender.
    tokio::spawn(async move { drop(connection.await) });
    send
}

/// Panics with anything but an acceptance of all spans.
async fn send(connection: &mut SendRequest<Pieces>, address: &str, pieces: &[Bytes]) {
    let request = Request::post(format!("http://{address}/{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "OTel OTLP Exporter Go/1.38.0 grpc-go/1.76.0")
        .header("grpc-timeout", "10S")
        .body(Pieces { data: pieces.iter().cloned().collect(), trailers: None })
        .unwrap();
    connection.ready().await.unwrap();
    let response = connection.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let status = head.headers.get("grpc-status").or(body.trailers().and_then(|trailers| trailers.get("grpc-status")));
    assert!(status.is_some_and(|status| status == "0"), "{address} refused: {head:?} {:?}", body.trailers());
    // The Collector always writes a partial success, an empty one when all were accepted.
    let answer = ExportTraceServiceResponse::decode(body.to_bytes().slice(5..)).unwrap();
    assert_eq!(answer.partial_success.map_or(0, |partial| partial.rejected_spans), 0, "{address} rejected spans");
}
