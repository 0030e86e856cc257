//! A sender that means well: a hundred requests a second of a hundred spans.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpStream;

use crate::frames::{field, request};

const EVERY: Duration = Duration::from_millis(10);
const SPANS: u64 = 100;

pub struct Legit {
    address: SocketAddr,
    container: Option<String>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What it noticed, milliseconds.
pub struct Noticed {
    pub p50: f64,
    pub p99: f64,
    pub sent: usize,
    pub refused: usize,
}

impl Legit {
    pub fn new(address: SocketAddr, container: Option<String>) -> Self {
        Self { address, container, connection: None }
    }

    /// Sends on schedule, and at once what is due already.
    pub async fn send_for(&mut self, long: Duration) -> Noticed {
        let (begin, mut took, mut refused) = (Instant::now(), Vec::new(), 0);
        for number in 0.. {
            let due = begin + EVERY * number;
            if due.max(Instant::now()) > begin + long && !took.is_empty() {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            let message = self.message();
            let sent = Instant::now();
            refused += usize::from(!self.send(message).await);
            took.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        let of = |share: f64| took[((took.len() as f64 * share) as usize).min(took.len() - 1)];
        Noticed { p50: of(0.5), p99: of(0.99), sent: took.len(), refused }
    }

    pub async fn until_accepted(&mut self) {
        while !self.send(self.message()).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn message(&self) -> Bytes {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap() - 300_000_000;
        let span = |number: u64| Span {
            trace_id: vec![1; 16],
            span_id: number.to_be_bytes().to_vec(),
            name: format!("POST /api/v2/carts/{number}/checkout {}", "x".repeat(300)),
            kind: 2,
            start_time_unix_nano: now - 20_000_000,
            end_time_unix_nano: now,
            ..Span::default()
        };
        let spans: Vec<u8> = (0..SPANS).flat_map(|number| field(2, &span(number).encode_to_vec())).collect();
        request(self.container.as_deref(), &spans).into()
    }

    /// Whether it was accepted.
    async fn send(&mut self, message: Bytes) -> bool {
        self.try_send(message).await.unwrap_or_else(|_lost| {
            self.connection = None;
            false
        })
    }

    async fn try_send(&mut self, message: Bytes) -> Result<bool, Box<dyn std::error::Error>> {
        if self.connection.is_none() {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            self.connection = Some(send);
        }
        let Some(send) = &mut self.connection else { return Ok(false) };
        let framed = [&[0][..], &u32::try_from(message.len())?.to_be_bytes(), &message].concat();
        let request = Request::post("http://test/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(framed)))?;
        send.ready().await?;
        let (head, body) = send.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        let status = head.headers.get("grpc-status").or(body.trailers().and_then(|trailers| trailers.get("grpc-status")));
        Ok(status.is_some_and(|status| status == "0"))
    }
}
