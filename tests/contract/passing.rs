//! What passes as it came, what is refused, and what goes along.

use std::time::Duration;

use prost::Message;

use crate::agent::{Agent, BASE, to_grpc, to_grpc_quietly};
use crate::claims::{bytes, recent};
use crate::downstream::{Answer, Downstream, until};
use crate::sender::{Grpc, LOGS, METRICS, PROTOBUF, Reply, TRACES, http, post};
use crate::session::written;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_logs_pass_byte_for_byte() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc(downstream.address));
    // Not even protobuf: nobody looks.
    let bodies: [&[u8]; 4] = [b"", b"\xFF\xFF\xFF", b"plain text", &[0x0A, 0x02, 0x0A, 0x00]];
    for (path, route, signal) in [(METRICS, "/v1/metrics", "metrics"), (LOGS, "/v1/logs", "logs")] {
        for body in bodies {
            assert_eq!(Grpc::once(agent.grpc(), path, body).await.code(), 0);
            assert_eq!(post(agent.http(), route, body.to_vec()).await.status, 200);
            let same = downstream.of(signal).iter().filter(|got| got.body == body).count();
            assert_eq!(same, 2, "{signal} {body:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_without_a_pipeline_is_refused() {
    let downstream = Downstream::accepting().await;
    let only_logs = format!(
        "{BASE}exporters: {{ otlp_grpc: {{ endpoint: \"http://{}\" }} }}\nservice: {{ pipelines: {{ logs: {{ exporters: [otlp_grpc] }} }} }}\n",
        downstream.address
    );
    let agent = Agent::start(&only_logs);
    for (path, route) in [(TRACES, "/v1/traces"), (METRICS, "/v1/metrics")] {
        let refused = Grpc::once(agent.grpc(), path, &[]).await;
        assert_eq!(refused.code(), 12, "{path}");
        assert!(!refused.grpc("grpc-message").is_empty());
        assert_eq!(post(agent.http(), route, vec![]).await.status, 404, "{route}");
    }
    assert_eq!(Grpc::once(agent.grpc(), LOGS, &[]).await.code(), 0);
    assert!(downstream.of("traces").is_empty() && downstream.of("metrics").is_empty());
}

/// Puts a broken message where its level is.
type Wrap<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_protobuf_is_refused_and_not_forwarded() {
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    // Each level in a message of the level above: request, ResourceSpans, Resource, ScopeSpans, Span.
    let within = |tag: u8, inner: &[u8]| [&[tag, inner.len() as u8], inner].concat();
    let group = |inner: &[u8]| within(0x0A, inner);
    let levels: [(&str, Wrap<'_>); 5] = [
        ("request", Box::new(|inner| inner.to_vec())),
        ("ResourceSpans", Box::new(move |inner| group(inner))),
        ("Resource", Box::new(move |inner| group(&within(0x0A, inner)))),
        ("ScopeSpans", Box::new(move |inner| group(&within(0x12, inner)))),
        ("Span", Box::new(move |inner| group(&within(0x12, &within(0x12, inner))))),
    ];
    let broken: [(&str, &[u8]); 10] = [
        ("a cut varint", &[0xF8, 0x3F, 0x80]),
        ("a cut tag", &[0x80]),
        ("a length past the end", &[0xFA, 0x3F, 0x05, 0x01]),
        ("a cut fixed64", &[0xF9, 0x3F, 1, 2, 3]),
        ("a cut fixed32", &[0xFD, 0x3F, 1, 2, 3]),
        ("field number 0", &[0x00, 0x01]),
        ("an unmatched end of a group", &[0xF4, 0x3F]),
        ("an open group", &[0xF3, 0x3F]),
        ("a varint of 65 bits", &[0xF8, 0x3F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02]),
        ("wire type 7", &[0xFF, 0x3F, 0x01]),
    ];
    for (level, wrap) in &levels {
        for (what, inner) in broken {
            let sent = wrap(inner);
            let refused = Grpc::once(agent.grpc(), TRACES, &sent).await;
            assert_eq!(refused.code(), 3, "{what} in {level}");
            let refused = post(agent.http(), "/v1/traces", sent).await;
            assert_eq!(refused.status, 400, "{what} in {level}");
            assert_eq!(refused.headers["content-type"], "application/x-protobuf");
            assert!(status_of(&refused).0 == 3 && !status_of(&refused).1.is_empty());
        }
        let legal: [(&str, &[u8]); 6] = [
            ("a balanced group", &[0xF3, 0x3F, 0x08, 0x01, 0xF4, 0x3F]),
            ("a varint longer than need be", &[0xF8, 0x3F, 0x81, 0x80, 0x00]),
            ("a length longer than need be", &[0xFA, 0x3F, 0x81, 0x00, 0x01]),
            ("a known field of another wire type", &[0x08, 0x01, 0x10, 0x01]),
            ("the largest varint", &[0xF8, 0x3F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
            ("bad UTF-8", &[0xFA, 0x3F, 0x02, 0xC3, 0x28]),
        ];
        for (what, inner) in legal {
            let (sent, before) = (wrap(inner), downstream.of("traces").len());
            assert_eq!(Grpc::once(agent.grpc(), TRACES, &sent).await.code(), 0, "{what} in {level}");
            assert_eq!(&downstream.of("traces")[before].body[..], &sent[..], "{what} in {level}");
        }
    }
    let span = |inner: &[u8]| levels[4].1(inner);
    // Attribute, event and link of a span, each of them nonsense inside.
    for tag in [0x4A, 0x5A, 0x6A] {
        let (sent, before) = (span(&[tag, 2, 0x80, 0x80]), downstream.of("traces").len());
        assert_eq!(Grpc::once(agent.grpc(), TRACES, &sent).await.code(), 0);
        assert_eq!(&downstream.of("traces")[before].body[..], &sent[..]);
    }
}

/// `google.rpc.Status` of an HTTP refusal: code and message.
pub fn status_of(reply: &Reply) -> (i32, String) {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
    }
    let status = Status::decode(reply.body.clone()).unwrap();
    (status.code, status.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn own_headers_go_along_and_the_senders_do_not() {
    let downstream = Downstream::accepting().await;
    for exporter in ["otlp_grpc", "otlp_http"] {
        let agent = Agent::start(&format!(
            "{BASE}exporters: {{ {exporter}: {{ endpoint: \"http://{}\", headers: {{ authorization: \"Bearer $$x\", x-tenant: blue }} }} }}\n\
             service: {{ pipelines: {{ traces: {{ exporters: [{exporter}] }} }} }}\n",
            downstream.address
        ));
        let before = downstream.of("traces").len();
        let theirs = [("authorization", "Bearer theirs"), ("x-sender", "cart"), ("user-agent", "theirs/1"), ("tracestate", "a=b")];
        assert_eq!(Grpc::connect(agent.grpc()).await.call(TRACES, &theirs, &bytes(vec![], vec![recent()])).await.code(), 0);
        let with_type: Vec<(&str, &str)> = theirs.into_iter().chain([PROTOBUF]).collect();
        assert_eq!(http(agent.http(), "POST", "/v1/traces", &with_type, bytes(vec![], vec![recent()])).await.status, 200);
        let got = downstream.of("traces");
        assert_eq!(got.len(), before + 2);
        for got in &got[before..] {
            assert_eq!(got.headers["authorization"], "Bearer $x");
            assert_eq!(got.headers["x-tenant"], "blue");
            assert!(!got.headers.contains_key("x-sender") && !got.headers.contains_key("tracestate"), "{:?}", got.headers);
            let version = env!("CARGO_PKG_VERSION");
            assert_eq!(got.headers["user-agent"], format!("OTel-OTLP-Exporter-Rust/{version} stallspan/{version}"));
            let (kind, coding, path) = if exporter == "otlp_grpc" {
                ("application/grpc", "grpc-encoding", TRACES)
            } else {
                ("application/x-protobuf", "content-encoding", "/v1/traces")
            };
            assert_eq!(got.headers["content-type"], kind);
            assert_eq!(got.headers[coding], "gzip");
            assert_eq!(got.path, path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn codings_are_understood_and_unknown_ones_refused() {
    use std::io::Write;
    let downstream = Downstream::accepting().await;
    let agent = Agent::start(&to_grpc_quietly(downstream.address));
    let sent = bytes(vec![], vec![recent(); 20]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&sent).unwrap();
    let packed = [("gzip", gzip.finish().unwrap()), ("zstd", zstd::encode_all(&sent[..], 1).unwrap())];
    for (coding, body) in &packed {
        let before = downstream.of("traces").len();
        assert_eq!(http(agent.http(), "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", coding)], body.clone()).await.status, 200);
        let frame = [&[1], &u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
        let reply = Grpc::connect(agent.grpc()).await.call_raw(TRACES, &[("grpc-encoding", coding)], frame.into()).await;
        assert_eq!(reply.code(), 0, "{coding}");
        for got in &downstream.of("traces")[before..] {
            assert_eq!(&got.body[..], &sent[..], "{coding}");
        }
    }
    let before = downstream.got().len();
    let refused = http(agent.http(), "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "br")], sent.clone()).await;
    assert_eq!(refused.status, 415);
    let frame = [&[1], &u32::try_from(sent.len()).unwrap().to_be_bytes()[..], &sent].concat();
    let refused = Grpc::connect(agent.grpc()).await.call_raw(TRACES, &[("grpc-encoding", "br")], frame.into()).await;
    assert_eq!(refused.code(), 12);
    // Not what it says it is.
    let refused = http(agent.http(), "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], sent.clone()).await;
    assert_eq!(refused.status, 400);
    let refused = http(agent.http(), "POST", "/v1/traces", &[("content-type", "text/plain")], sent).await;
    assert_eq!(refused.status, 415);
    assert_eq!(http(agent.http(), "GET", "/v1/traces", &[], "").await.status, 405);
    assert_eq!(post(agent.http(), "/v1/profiles", "").await.status, 404);
    assert_eq!(Grpc::once(agent.grpc(), "/no.such.Service/Export", &[]).await.code(), 12);
    assert_eq!(downstream.got().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_count_after_inflation() {
    use std::io::Write;
    let downstream = Downstream::accepting().await;
    let small = to_grpc_quietly(downstream.address)
        .replace("grpc: { endpoint: \"127.0.0.1:0\"", "grpc: { max_recv_msg_size_mib: 1, endpoint: \"127.0.0.1:0\"")
        .replace("http: { endpoint: \"127.0.0.1:0\"", "http: { max_request_body_size: 1048576, endpoint: \"127.0.0.1:0\"");
    let agent = Agent::start(&small);
    let packed = |length: usize| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        // One unknown field of that length in all.
        let head = [0xFA, 0x3F];
        let payload = length - 5;
        gzip.write_all(&head).unwrap();
        gzip.write_all(&[(payload & 0x7F) as u8 | 0x80, (payload >> 7 & 0x7F) as u8 | 0x80, (payload >> 14) as u8]).unwrap();
        gzip.write_all(&vec![0; payload]).unwrap();
        gzip.finish().unwrap()
    };
    for (length, fits) in [(1 << 20, true), ((1 << 20) + 1, false), (200 << 10, true), (2 << 20, false)] {
        let body = packed(length);
        let frame = [&[1], &u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat();
        let mut connection = Grpc::connect(agent.grpc()).await;
        let reply = connection.call_raw(TRACES, &[("grpc-encoding", "gzip")], frame.into()).await;
        assert_eq!(reply.code(), if fits { 0 } else { 8 }, "gRPC, {length} bytes");
        assert_eq!(connection.call(TRACES, &[], &[]).await.code(), 0, "the connection goes on");
        let reply = http(agent.http(), "POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], body).await;
        assert_eq!(reply.status, if fits { 200 } else { 413 }, "HTTP, {length} bytes");
    }
    // A prefix that lies about 2 GiB.
    let lie = [&[0u8][..], &0x7FFF_FFFF_u32.to_be_bytes(), b"short"].concat();
    assert_eq!(Grpc::connect(agent.grpc()).await.call_raw(TRACES, &[], lie.into()).await.code(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_past_the_budget_is_told_to_come_again() {
    let downstream = Downstream::start(|_, _| Answer::Later(Duration::from_secs(10))).await;
    let patient = ["receivers.otlp.max_wait=60s", "exporters.otlp_grpc.timeout=60s"];
    let settings = ["--set", "limits.memory_mib=1", "--set", patient[0], "--set", patient[1]];
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &settings);
    let big = [&[0xFA, 0x3F, 0x80, 0x80, 0x30][..], &vec![0; 0x30 << 14]].concat();
    let (address, first) = (agent.http(), big.clone());
    let holding = tokio::spawn(async move { post(address, "/v1/traces", first).await });
    crate::downstream::until("the first one downstream", || (!downstream.got().is_empty()).then_some(())).await;
    let refused = post(agent.http(), "/v1/traces", big.clone()).await;
    assert_eq!(refused.status, 429);
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(status_of(&refused).0, 8);
    let refused = Grpc::once(agent.grpc(), TRACES, &big).await;
    assert_eq!(refused.code(), 8);
    assert!(!refused.grpc("grpc-status-details-bin").is_empty(), "RetryInfo");
    assert_eq!(holding.await.unwrap().status, 200);
}

/// A peer that opens more streams than it was told it may (RFC 9113 §5.1.2).
#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_are_configured_are_announced_and_refused() {
    use stallspan::framing::{Event, Limits, Role, Session, put_field};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMITS: Limits = Limits { streams: 100, stream_window: 65_535, connection_window: 65_535, header_list: 16_384 };
    let downstream = Downstream::start(|_, _| Answer::Silence).await;
    let most = ["--set", "receivers.otlp.protocols.grpc.max_concurrent_streams=2", "--set", "receivers.otlp.max_wait=100s"];
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), &most);
    let mut head = vec![0x83, 0x86];
    for (name, value) in [(":path", TRACES), (":authority", "test"), ("content-type", "application/grpc"), ("te", "trailers")] {
        put_field(&mut head, name.as_bytes(), value.as_bytes(), false);
    }
    let mut session = Session::new(Role::Client, LIMITS);
    let streams: Vec<u32> = (0..3).map(|_| session.open(LIMITS.stream_window, &head)).collect();
    streams.iter().for_each(|stream| session.data(*stream, &[0; 5], bytes::Bytes::new(), true));
    let mut stream = tokio::net::TcpStream::connect(agent.grpc()).await.unwrap();
    stream.write_all(&written(&mut session)).await.unwrap();
    let mut came = Vec::new();
    let refused = loop {
        assert!(stream.read_buf(&mut came).await.unwrap() > 0, "the connection goes on");
        // From the beginning each time: a session reads what it is given once.
        let (mut reader, mut rest) = (Session::new(Role::Client, LIMITS), &came[..]);
        streams.iter().for_each(|_| _ = reader.open(LIMITS.stream_window, &head));
        if let Some(Event::Reset { stream, code }) = reader.next(&mut rest).unwrap() {
            break (stream, code);
        }
    };
    assert_eq!(refused, (5, 7), "REFUSED_STREAM: it may come again");
    let settings = &came[9..9 + usize::from(came[2])];
    assert!(came[3] == 4 && settings.chunks(6).any(|one| one == [0, 3, 0, 0, 0, 2]), "SETTINGS_MAX_CONCURRENT_STREAMS: {settings:?}");
    until("the others are taken", || (downstream.of("traces").len() == 2).then_some(())).await;
}
