//! What a hop usually does, all of it in some seconds: small requests and large ones over gRPC and HTTP, in protobuf and JSON,
//! plain and compressed, to a downstream over gRPC. A test like the others; and what `make release` watches a build do before it
//! builds it once more (profile-guided optimization): what is not done here (TLS, otlp_http, threads) gains nothing from that.

use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::Endpoint;

use crate::figures::load::{Load, drive};
use crate::figures::sink::Sink;
use crate::figures::spans::request;
use crate::figures::systems::{AGE, SENDER, STRANGER, enriched, run_sender};
use crate::lab::Lab;
use crate::lab::agent::{Agent, Setting};
use crate::lab::containers::Containerd;

const SIZES: [usize; 5] = [1, 10, 50, 100, 1000];
/// Of one size on four connections.
const ROUND: Duration = Duration::from_millis(600);
/// Requests of each kind that is rarer. Few: compressing does so much per byte that it is a third of all that is counted as it is.
const SOME: usize = 10;

#[test]
fn requests_of_every_kind() {
    let lab = Lab::new();
    let containerd = run_sender(&lab);
    let sink = Sink::start();
    for (method, source, compression) in [("auto", "bpf", "none"), ("taskstats", "taskstats", "none")] {
        let mut agent = start(&lab, &containerd, &sink, method, compression);
        if source == "bpf" && !agent.sees_every_wait() {
            eprintln!("not done: eBPF programs cannot be loaded here");
            continue;
        }
        enriched(&agent, &sink, source);
        loads(&agent, &sink, Load::Full, ROUND, &SIZES);
        loads(&agent, &sink, Load::Little, ROUND, &[100]);
        assert_eq!(agent.stop(), Some(0));
    }
    let sink = Sink::of_compressed();
    for compression in ["gzip", "zstd"] {
        let agent = start(&lab, &containerd, &sink, "auto", compression);
        loads(&agent, &sink, Load::Full, ROUND / 20, &[50, 1000]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (before, _) = sink.counts();
        let sent = runtime.block_on(async { by_http(&agent).await + by_grpc(&agent).await });
        assert_eq!(sink.counts().0 - before, sent, "each request arrives once");
        assert_eq!(agent.stop(), Some(0));
    }
}

fn start(lab: &Lab, containerd: &Containerd, sink: &Sink, method: &str, compression: &str) -> Agent {
    let set = [format!("sources.method={method}"), format!("exporters.otlp_grpc.compression={compression}")];
    let set = set.each_ref().map(String::as_str);
    Agent::start(lab, &Setting { downstream: &sink.address, containerd: Some(&containerd.socket), interval: "10s", set: &set })
}

/// Spans of a container that is known, and some of one that is not.
fn loads(agent: &Agent, sink: &Sink, load: Load, round: Duration, sizes: &[usize]) {
    for (container, long) in [(SENDER, round), (STRANGER, round / 5)] {
        for size in sizes {
            let mut before = 0;
            let accepted = drive(&agent.grpc, &request(*size, container, AGE), load, long, || before = sink.counts().0);
            assert_eq!(sink.counts().0 - before, accepted, "each request arrives once");
        }
    }
}

/// Both encodings, each with all compressions; how many requests.
async fn by_http(agent: &Agent) -> u64 {
    let stream = TcpStream::connect(&agent.http).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut sent = 0;
    for size in [10, 100, 1000] {
        let message = request(size, SENDER, AGE);
        let json = serde_json::to_vec(&ExportTraceServiceRequest::decode(message.clone()).unwrap()).unwrap();
        for (kind, body) in [("application/x-protobuf", message), ("application/json", json.into())] {
            for (coding, body) in
                [("identity", body.clone()), ("gzip", gzip(&body)), ("zstd", zstd::bulk::compress(&body, 1).unwrap().into())]
            {
                for _ in 0..SOME {
                    let post = http::Request::post("/v1/traces").header("host", "test").header("content-type", kind);
                    let post = post.header("content-encoding", coding).body(Full::new(body.clone())).unwrap();
                    send.ready().await.unwrap();
                    let answer = send.send_request(post).await.unwrap();
                    assert_eq!(answer.status(), 200, "{kind} in {coding}");
                    answer.into_body().collect().await.unwrap();
                    sent += 1;
                }
            }
        }
    }
    sent
}

/// A sender that is not ours, with each compression; how many requests.
async fn by_grpc(agent: &Agent) -> u64 {
    let channel = Endpoint::try_from(format!("http://{}", agent.grpc)).unwrap().connect().await.unwrap();
    let client = TraceServiceClient::new(channel);
    let mut sent = 0;
    for mut client in
        [client.clone(), client.clone().send_compressed(CompressionEncoding::Gzip), client.send_compressed(CompressionEncoding::Zstd)]
    {
        for size in [10, 1000] {
            let message = ExportTraceServiceRequest::decode(request(size, SENDER, AGE)).unwrap();
            for _ in 0..SOME {
                client.export(message.clone()).await.unwrap();
                sent += 1;
            }
        }
    }
    sent
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap().into()
}
