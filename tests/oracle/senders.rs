//! Four senders that send until they are told to stop, each request as often as it takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::agent::PATIENCE;
use crate::ledger::Ledger;
use crate::request;

const SENDERS: u64 = 4;
/// What a sender gives the hop for one answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// Between an answer that was no acceptance and the next try.
const PAUSE: Duration = Duration::from_millis(10);

/// Where the agent of this moment listens.
#[derive(Clone, Copy, Debug)]
pub struct Doors {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

/// Tells the senders where the agent is; `None` while there is none.
pub type Door = watch::Sender<Option<Doors>>;

pub struct Senders {
    door: Arc<Door>,
    stop: watch::Sender<bool>,
    sending: Vec<JoinHandle<()>>,
}

/// What one try came to.
enum Told {
    Accepted,
    Refused,
    /// No answer: the connection is gone.
    Nothing,
}

impl Senders {
    /// Two over gRPC, two over HTTP; of each pair one says whose its spans are.
    pub fn start(ledger: &Ledger, container: String) -> Self {
        let (door, stop) = (Arc::new(watch::Sender::new(None)), watch::Sender::new(false));
        let sending = (0..SENDERS)
            .map(|sender| {
                let claim = (sender < 2).then(|| container.clone());
                tokio::spawn(send(sender, claim, door.subscribe(), stop.subscribe(), ledger.clone()))
            })
            .collect();
        Self { door, stop, sending }
    }

    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        for sending in self.sending {
            timeout(PATIENCE, sending).await.expect("a sender stops").unwrap();
        }
    }
}

async fn send(sender: u64, claim: Option<String>, mut door: watch::Receiver<Option<Doors>>, stop: watch::Receiver<bool>, ledger: Ledger) {
    let mut connection = None;
    for number in 0_u64.. {
        let name = format!("{sender}-{number}");
        let body = Bytes::from(request::make(&name, number, claim.as_deref()));
        ledger.sent(&name, &body);
        loop {
            if *stop.borrow() {
                return;
            }
            let Some(doors) = *door.borrow_and_update() else {
                let _ = timeout(PAUSE, door.changed()).await;
                continue;
            };
            let told = match timeout(DEADLINE, attempt(&mut connection, sender.is_multiple_of(2), doors, &body)).await {
                Ok(told) => told,
                Err(_) => Told::Nothing,
            };
            match told {
                Told::Accepted => {
                    ledger.acknowledge(&name);
                    break;
                }
                Told::Refused => ledger.refuse(),
                Told::Nothing => {
                    connection = None;
                    ledger.no_answer();
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

enum Connection {
    Grpc(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
    Http(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
}

async fn attempt(connection: &mut Option<Connection>, grpc: bool, doors: Doors, body: &Bytes) -> Told {
    if connection.is_none() {
        *connection = connect(grpc, doors).await;
    }
    let answer = match connection {
        None => None,
        Some(Connection::Grpc(send)) => by_grpc(send, body).await,
        Some(Connection::Http(send)) => by_http(send, body).await,
    };
    answer.unwrap_or(Told::Nothing)
}

async fn connect(grpc: bool, doors: Doors) -> Option<Connection> {
    let address = if grpc { doors.grpc } else { doors.http };
    let io = TokioIo::new(TcpStream::connect(address).await.ok()?);
    if grpc {
        let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.ok()?;
        tokio::spawn(connection);
        return Some(Connection::Grpc(send));
    }
    let (send, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    tokio::spawn(connection);
    Some(Connection::Http(send))
}

/// Accepted is what has status 0 in the trailers, nothing less.
async fn by_grpc(send: &mut hyper::client::conn::http2::SendRequest<Full<Bytes>>, body: &Bytes) -> Option<Told> {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(body.len().try_into().unwrap());
    framed.extend_from_slice(body);
    let request = Request::post("http://hop/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "2S")
        .body(Full::new(framed.freeze()))
        .unwrap();
    let response = send.send_request(request).await.ok()?;
    let in_headers = response.headers().get("grpc-status").cloned();
    let rest = response.into_body().collect().await.ok()?;
    let status = in_headers.or_else(|| rest.trailers()?.get("grpc-status").cloned())?;
    Some(if status == "0" { Told::Accepted } else { Told::Refused })
}

/// Accepted is a 200 read to its end.
async fn by_http(send: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>, body: &Bytes) -> Option<Told> {
    let request = Request::post("/v1/traces").header("host", "hop").header("content-type", "application/x-protobuf");
    send.ready().await.ok()?;
    let response = send.send_request(request.body(Full::new(body.clone())).unwrap()).await.ok()?;
    let status = response.status();
    response.into_body().collect().await.ok()?;
    Some(if status == 200 { Told::Accepted } else { Told::Refused })
}
