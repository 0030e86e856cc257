//! Peers that mean no good: the rest is still served, memory stays, connections end.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::rig::{Hop, PATIENCE, Recorder, TRACES, call, framed, http2, until};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One HTTP/2 frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_uint(u64::try_from(payload.len()).unwrap(), 3);
    frame.put_u8(kind);
    frame.put_u8(flags);
    frame.put_u32(stream);
    frame.extend_from_slice(payload);
    frame.freeze()
}

pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const CONTINUATION: u8 = 9;
pub const END_HEADERS: u8 = 4;

/// HPACK without Huffman or tables: literal fields, names and values below 127 bytes.
pub fn block(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let literal = |block: &mut Vec<u8>, name: &str, value: &str| {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    };
    literal(&mut block, ":path", path);
    literal(&mut block, ":authority", "test");
    literal(&mut block, "content-type", "application/grpc");
    block
}

pub async fn raw(hop: &Hop) -> TcpStream {
    let mut stream = TcpStream::connect(hop.grpc()).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Whether the server hangs up while `flood` is written over and over.
async fn hangs_up(stream: TcpStream, flood: Vec<u8>) -> bool {
    let (mut read, mut write) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut sink = vec![0; 65536];
        while read.read(&mut sink).await.is_ok_and(|length| length > 0) {}
    });
    let writing = async {
        while write.write_all(&flood).await.is_ok() && !reading.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, writing).await.is_ok()
}

#[tokio::test]
async fn floods_end_their_connection_and_others_are_served() {
    let hop = Hop::start(Recorder::accepting()).await;
    let resets: Vec<u8> = (0..1000_u32)
        .flat_map(|number| {
            let stream = number * 2 + 1;
            [frame(HEADERS, END_HEADERS, stream, &block(TRACES)), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        })
        .collect();
    assert!(hangs_up(raw(&hop).await, resets).await, "rapid reset");
    let endless = [frame(HEADERS, 0, 1, &block(TRACES)), Bytes::from(frame(CONTINUATION, 0, 1, &[0; 10]).repeat(5000))].concat();
    assert!(hangs_up(raw(&hop).await, endless).await, "CONTINUATION without end");
    let mut headers = block(TRACES);
    for _ in 0..5000 {
        headers.extend_from_slice(b"\0\x03abc\x03def");
    }
    let mut many = frame(HEADERS, 0, 1, &headers[..10_000]).to_vec();
    for piece in headers[10_000..].chunks(10_000) {
        many.extend_from_slice(&frame(CONTINUATION, 0, 1, piece));
    }
    many.extend_from_slice(&frame(CONTINUATION, END_HEADERS, 1, &[]));
    let mut stream = raw(&hop).await;
    stream.write_all(&many).await.unwrap_or(());
    assert_eq!(call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, b"x")).await.code(), "0", "others are served");
    drop(stream);
    assert!(hangs_up(raw(&hop).await, b"no frames at all, just text".repeat(1000)).await, "not HTTP/2");
    assert_eq!(hop.running.bytes_in_flight(), 0);
}

#[tokio::test]
async fn pings_and_settings_without_end_cost_no_memory() {
    let hop = Hop::start(Recorder::accepting()).await;
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut stream = raw(&hop).await;
        // Never reads: the server stops reading once its answers pile up.
        let written = timeout(Duration::from_secs(2), async {
            let many = flood.repeat(10_000);
            let mut total = 0_usize;
            while stream.write_all(&many).await.is_ok() && total < (200 << 20) {
                total += many.len();
            }
            total
        })
        .await;
        assert!(written.is_err() || written.unwrap() < (200 << 20), "back pressure or the end");
        assert_eq!(call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, b"x")).await.code(), "0");
    }
}

#[tokio::test]
async fn announced_lengths_hold_no_memory_on_any_number_of_streams() {
    let hop = Hop::start(Recorder::accepting()).await;
    let mut stream = raw(&hop).await;
    for number in 0..90_u32 {
        let id = number * 2 + 1;
        stream.write_all(&frame(HEADERS, END_HEADERS, id, &block(TRACES))).await.unwrap();
        stream.write_all(&frame(0, 0, id, b"\0\0\x01\x80\x00x")).await.unwrap();
    }
    until("what arrived is counted", || hop.running.bytes_in_flight() == 90).await;
    drop(stream);
    until("and given back", || hop.running.bytes_in_flight() == 0).await;
}

#[tokio::test]
async fn heads_over_http1_are_bounded() {
    let hop = Hop::start(Recorder::accepting()).await;
    let many = (0..1000).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
    for fields in [many, long] {
        let mut stream = TcpStream::connect(hop.http()).await.unwrap();
        let head = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        let mut said = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("closed");
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test]
async fn a_thousand_silent_connections_do_not_keep_others_out() {
    let mut limits = crate::rig::limits();
    limits.max_connections = 1024;
    let hop = Hop::start_with(Recorder::accepting(), crate::rig::receiver(), limits).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(hop.http()).await.unwrap());
        silent.push(TcpStream::connect(hop.grpc()).await.unwrap());
    }
    assert_eq!(call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, b"x")).await.code(), "0");
    drop(silent);
    until("all are gone", || hop.counters.connections_ended.get() >= 800).await;
}
